"""Run copies of a lesson, cell by cell, in IPython's own shell: python run_lesson.py NUMBER FOLDER student solution

It prints one JSON object: of each copy, what each cell showed, and what failed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from cerebelum_nb._classroom import build


def run(number: int, copy: str, folder: Path) -> dict[str, object]:
    """Run a copy in a new shell and a new folder."""
    folder.mkdir()
    os.chdir(folder)
    shell = InteractiveShell.instance()
    shown: dict[str, str] = {}
    error = ""
    for cell in build.notebook(number, getattr(build, copy))["cells"]:
        if cell["cell_type"] != "code":
            continue
        with capture_output() as captured:
            result = shell.run_cell("".join(cell["source"]), store_history=True)
        outputs = [output.data.get("text/plain", "") for output in captured.outputs]
        shown[cell["id"]] = "\n".join([captured.stdout, captured.stderr, *outputs])
        if not result.success:
            error = f"{cell['id']}: {result.error_before_exec or result.error_in_exec!r}"
            break
    for made in [value for value in shell.user_ns.values() if type(value).__name__ == "Lesson"]:
        made.close()
    InteractiveShell.clear_instance()
    return {"shown": shown, "error": error}


if __name__ == "__main__":
    number, room, *copies = sys.argv[1:]
    print(json.dumps({copy: run(int(number), copy, Path(room, copy)) for copy in copies}))
