"""A failure of a run in the background, or in a script that does not wait for it, is reported."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pytest

from cerebelum_nb import WorkflowError, step, workflow
from cerebelum_nb.testing import MemoryStore

from ..programs import run


@step
async def upload():
    raise ValueError("the other side is full")


@workflow
def plan(wf):
    wf.timeline(upload)


def test_a_failure_that_nobody_waits_for_is_logged_with_how_to_go_on(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        run = plan.start(store=MemoryStore(), execution_id="k1")
        while not caplog.records:
            await asyncio.sleep(0.01)
        assert str(run.status) == "FAILED"

    with caplog.at_level(logging.ERROR, "cerebelum_nb"):
        asyncio.run(asyncio.wait_for(work(), 30))
    told = caplog.text
    assert "step 'upload' of execution k1" in told and "the other side is full" in told
    assert 'await plan.resume("k1")' in told


def test_a_failure_that_somebody_waits_for_is_raised_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        run = plan.start(store=MemoryStore())
        with pytest.raises(WorkflowError):
            await run
        await asyncio.sleep(0.3)

    with caplog.at_level(logging.WARNING, "cerebelum_nb"):
        asyncio.run(work())
    assert not caplog.records


@pytest.mark.process
def test_a_script_that_ends_without_waiting_tells_it_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        """
import asyncio
from cerebelum_nb import step, workflow
from cerebelum_nb.testing import MemoryStore

@step
async def upload():
    raise ValueError("the other side is full")

@workflow
def plan(wf):
    wf.timeline(upload)

async def main():
    run = plan.start(store=MemoryStore(), execution_id="k1")
    while str(run.status) != "FAILED":
        await asyncio.sleep(0)

asyncio.run(main())
"""
    )
    done = run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "step 'upload' of execution k1" in done.stderr
