"""Run copies of a lesson as a kernel does, in IPython's shell: python run_lesson.py NUMBER FOLDER student solution

A kernel awaits each cell on a loop that is always running; so does this.

It prints one JSON object: what each cell of each copy showed, and what failed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from cerebelum_nb import ExecutionClient, ExecutionState
from cerebelum_nb._classroom import build


async def run(number: str | int, copy: str, folder: Path) -> dict[str, object]:
    """Run a copy in a new shell and a new folder, where its notebook is saved."""
    folder.mkdir()
    os.chdir(folder)
    build.write(number, folder / build.file_name(number), getattr(build, copy))
    shell = InteractiveShell.instance()
    shown: dict[str, str] = {}
    error = ""
    for cell in build.notebook(number, getattr(build, copy))["cells"]:
        if cell["cell_type"] != "code":
            continue
        source = "".join(cell["source"]).replace('"10d/s"', '"60d/s"')  # nothing in a lesson depends on speed
        with capture_output() as captured:
            cell_is_run = shell.run_cell_async(
                source, store_history=True, transformed_cell=shell.transform_cell(source)
            )
            result = await cell_is_run
            shell.events.trigger("post_run_cell", result)
        outputs = [output.data.get("text/plain", "") for output in captured.outputs]
        shown[cell["id"]] = "\n".join([captured.stdout, captured.stderr, *outputs])
        if not result.success:
            error = f"{cell['id']}: {result.error_before_exec or result.error_in_exec!r}"
            break
    if "lesson" not in shell.user_ns:  # its first cell failed
        return {"shown": shown, "error": error}
    lesson = shell.user_ns["lesson"]
    for row in lesson.store.executions(states=[ExecutionState.WAITING_FOR_APPROVAL])[0]:
        await ExecutionClient().cancel(row.execution_id)  # which a student would leave to the end of the kernel
        await asyncio.wait([shell.user_ns["run"].execution.done])
    lesson.close()
    InteractiveShell.clear_instance()
    return {"shown": shown, "error": error}


if __name__ == "__main__":
    number, room, *copies = sys.argv[1:]
    print(json.dumps({copy: asyncio.run(run(number, copy, Path(room, copy))) for copy in copies}))
