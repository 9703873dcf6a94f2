"""The card in a real terminal: what steps print is shown above it, and the log has it without the card."""

from __future__ import annotations

import os
import pty
import sys
from pathlib import Path

import pytest

from ..programs import Popen

SCRIPT = """
import asyncio
from pathlib import Path
from cerebelum_nb import ProgressReporter, step, workflow
from cerebelum_nb.testing import MemoryStore

@step
async def work(context):
    bar = ProgressReporter(context)
    for number in range(5):
        bar.update(number * 20, "so far")
        print("line", number)
        await asyncio.sleep(0.15)

@workflow
def shown(wf):
    wf.timeline(work)

store = MemoryStore()
asyncio.run(shown.execute(store=store, execution_id="k1"))
texts = [event.text for event in store.events("k1") if type(event).__name__ == "StepPrinted"]
Path("printed.txt").write_text("".join(texts))
"""


@pytest.mark.process
def test_bars_in_a_terminal_are_not_what_the_step_printed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with Popen(
        [sys.executable, "script.py"], cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while piece := os.read(ours, 65_536):
                seen += piece
        except OSError:  # the other end is closed
            pass
        assert process.wait(timeout=120) == 0, seen.decode()
    os.close(ours)
    assert (tmp_path / "printed.txt").read_text() == "".join(f"line {number}\n" for number in range(5))
    shown = seen.decode()
    assert "so far" in shown and "line 4" in shown
    assert "shown: completed, 1 of 1 steps" in shown
