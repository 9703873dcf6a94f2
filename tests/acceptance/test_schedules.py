"""Real schedulers share a log and one is killed: each time of a schedule is started once."""

from __future__ import annotations

import os
import sys
import time
from itertools import pairwise

import pytest

from cerebelum_nb._core.schedule import ScheduleStarted
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._store.sqlite import SqliteStore

from ..programs import Popen, run
from ..waiting import wait_for

CODE = """
from pathlib import Path
from cerebelum_nb import step, workflow

@step
def note(context):
    with Path("notes").open("a") as file:
        file.write(context.execution_id + "\\n")

@workflow
def tick(wf):
    wf.timeline(note)
"""
CEREBELUM = [sys.executable, "-W", "error", "-m", "cerebelum_nb"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tick.py").write_text(CODE)
    return tmp_path


@pytest.fixture
def spawn(folder):
    """Start schedulers; those that still run at the end are ended."""
    started = []

    def start():
        with (folder / "told").open("ab") as out:
            command = [*CEREBELUM, "scheduler", "tick.py"]
            process = Popen(command, cwd=folder, env={**os.environ}, stdout=out, stderr=out)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def until(holds, folder):
    wait_for(holds, (folder / "told").read_text, every=0.05)


def test_two_schedulers_and_a_kill_start_each_time_once(folder, spawn):
    add = [*CEREBELUM, "schedule", "add", "tick.py", "--every", "1s", "--catch-up", "5m", "--overlap", "queue"]
    assert run(add, cwd=folder, capture_output=True, text=True).returncode == 0
    with SqliteStore(folder / ".cerebelum" / "history.db") as log:

        def started():
            return [event for event in log.schedule_events("tick") if isinstance(event, ScheduleStarted)]

        first, second = spawn(), spawn()
        until(lambda: len(started()) >= 2, folder)
        first.kill()
        first.wait()
        second.kill()
        second.wait()
        before = len(started())
        time.sleep(1.5)  # times pass while no scheduler runs
        spawn()
        spawn()
        until(lambda: len(started()) >= before + 4, folder)
        delete = [*CEREBELUM, "schedule", "delete", "tick"]
        assert run(delete, cwd=folder, capture_output=True, text=True).returncode == 0
        count = len(started())
        until(lambda: log.executions(states=[ExecutionState.COMPLETED])[1] == count, folder)
        assert {later.due_at - earlier.due_at for earlier, later in pairwise(started())} == {1_000_000}
        assert log.executions()[1] == count
        noted = (folder / "notes").read_text().split()
        assert set(noted) == {event.execution_id for event in started()}
