"""Real processes sleep and are killed, and schedulers, which are killed too, wake their executions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import nbformat
import pytest

from cerebelum_nb._core.events import (
    SleepStarted,
    StepCompleted,
    StepStarted,
    WorkflowAwakened,
    WorkflowPaused,
)
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._engine.approvals import decide_approval
from cerebelum_nb._store.sqlite import SqliteStore

from ..programs import Popen
from ..waiting import wait_for

SLEEPERS = Path(__file__).with_name("sleepers.py")


class Place:
    """A folder with a log, and the processes that work on it."""

    def __init__(self, folder: Path) -> None:
        self.log, self.marks = folder / "log.db", folder / "marks"
        self.output = folder / "output"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.env = {
            **os.environ,
            "MARKS": str(self.marks),
            "PYTHONPATH": os.pathsep.join([str(SLEEPERS.parent), os.environ.get("PYTHONPATH", "")]),
        }

    def spawn(self, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        with self.output.open("ab") as out:
            process = Popen(
                [sys.executable, "-W", "error", str(SLEEPERS), str(self.log), *arguments],
                env={**self.env, **env},
                stdout=out,
                stderr=out,
            )
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def until(self, holds) -> None:
        wait_for(holds, self.output.read_text)

    def read(self, ask):
        if not self.log.exists():
            return None
        with SqliteStore(self.log) as store:
            return ask(store)

    def events(self, execution_id: str):
        return self.read(lambda store: store.events(execution_id)) or []

    def state(self, execution_id: str) -> str | None:
        def ask(store):
            rows = [row for row in store.executions()[0] if row.execution_id == execution_id]
            return rows[0].summary.state if rows else None

        return self.read(ask)


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.end()


def test_a_sleep_outlives_its_process_and_two_schedulers(place: Place) -> None:
    first = place.spawn("start", "campaign", "s1", HIBERNATE_MS="3600000")
    place.until(lambda: any(isinstance(e, SleepStarted) for e in place.events("s1")))
    first.kill()
    first.wait()
    one = place.spawn("schedule")
    place.until(lambda: any(isinstance(e, WorkflowAwakened) for e in place.events("s1")))
    one.kill()
    one.wait()
    place.spawn("schedule")
    place.until(lambda: place.state("s1") == "COMPLETED")
    events = place.events("s1")
    check(fold(events))
    assert Counter(e.step for e in events if isinstance(e, StepCompleted)) == {"before": 1, "nap": 1, "after": 1}
    assert sum(isinstance(e, StepStarted) and e.step == "before" for e in events) == 1
    assert Counter(place.marks.read_text().split("\n"))["mail s1"] == 1


def test_a_hibernated_execution_is_woken_on_time_although_its_scheduler_was_killed(place: Place) -> None:
    assert place.spawn("start", "campaign", "s1", "s2").wait(120) == 0
    assert place.output.read_text() == "SLEEPING SLEEPING\n"
    one = place.spawn("schedule")
    place.until(lambda: place.output.stat().st_size > 0)
    one.kill()
    place.spawn("schedule")
    place.until(lambda: {place.state("s1"), place.state("s2")} == {"COMPLETED"})
    for name in ("s1", "s2"):
        assert Counter(place.marks.read_text().split("\n"))[f"mail {name}"] == 1


def test_sigterm_lets_running_steps_finish_and_leaves_the_rest_to_other_schedulers(place: Place) -> None:
    assert place.spawn("start", "campaign", "s1").wait(120) == 0
    one = place.spawn("schedule", HIBERNATE_MS="3600000")
    place.until(lambda: any(isinstance(e, WorkflowAwakened) for e in place.events("s1")))
    one.send_signal(signal.SIGTERM)
    assert one.wait(120) == 0
    row = place.read(lambda store: store.execution("s1"))
    assert row.holder is None
    place.spawn("schedule")
    place.until(lambda: place.state("s1") == "COMPLETED")
    assert not [e for e in place.events("s1") if isinstance(e, WorkflowPaused)]


def test_an_execution_that_kills_every_process_is_paused(place: Place) -> None:
    assert place.spawn("start", "crashing", "s1").wait(120) == 0
    place.until(lambda: (wake := place.read(lambda s: s.next_wake())) is not None and wake < time.time() * 1e6)
    deaths = 0
    while place.state("s1") != "PAUSED":
        place.spawn("schedule", DEADLY="1", MAX_DEATHS="2")
        process = place.processes[-1]
        place.until(lambda process=process: process.poll() is not None or place.state("s1") == "PAUSED")
        deaths += 1
        assert deaths < 8
    (paused,) = [e for e in place.events("s1") if isinstance(e, WorkflowPaused)]
    assert "died 3 times in a row in step 'deadly'" in paused.reason
    check(fold(place.events("s1")))


def waits_for_approval(place: Place) -> subprocess.Popen[bytes]:
    process = place.spawn("start", "asking", "s1", HIBERNATE_MS="3600000")
    place.until(lambda: place.state("s1") == "WAITING_FOR_APPROVAL")
    return process


def test_another_process_decides_while_the_run_waits(place: Place) -> None:
    process = waits_for_approval(place)
    with SqliteStore(place.log) as store:
        decide_approval(store, "s1", approve=True, by="ana")
    assert process.wait(120) == 0
    assert place.state("s1") == "COMPLETED"


def test_an_approval_outlives_the_process_that_asked(place: Place) -> None:
    process = waits_for_approval(place)
    process.kill()
    process.wait()
    with SqliteStore(place.log) as store:
        decide_approval(store, "s1", approve=True, by="ana")
    place.spawn("schedule")
    place.until(lambda: place.state("s1") == "COMPLETED")
    assert place.marks.read_text() == "released s1\n"


NOTEBOOK = [
    "from datetime import timedelta\nfrom pathlib import Path\nimport cerebelum_nb",
    "store = cerebelum_nb.connect('log.db', hibernate_after=timedelta(0))",
    "PAUSE = '700ms'",
    "@cerebelum_nb.step\nasync def nap(inputs):\n    await cerebelum_nb.sleep(PAUSE)\n    return inputs['n'] + 1",
    "@cerebelum_nb.step\ndef report(nap):\n    Path('reported').write_text(str(nap))",
    "@cerebelum_nb.workflow\ndef campaign(wf):\n    wf.timeline(nap >> report)",
    "result = await campaign.execute({'n': 41}, execution_id='from-notebook')\nassert result.status == 'SLEEPING'",
    "with Path('cells').open('a') as file:\n    file.write('run ')",
]


def test_an_execution_of_a_notebook_is_woken_with_its_definitions_alone(place: Place, tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in NOTEBOOK]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "campaign.ipynb")
    jupyter = [sys.executable, "-m", "jupyter", "execute", "campaign.ipynb", "--kernel_name=python3"]
    subprocess.run(jupyter, cwd=tmp_path, check=True, capture_output=True)  # then its kernel is gone
    assert place.state("from-notebook") == "SLEEPING"
    with place.output.open("ab") as out:
        command = [sys.executable, "-W", "error", "-m", "cerebelum_nb", "scheduler", "--db", str(place.log)]
        place.processes.append(Popen([*command, "--notebook", "campaign.ipynb"], cwd=tmp_path, stdout=out, stderr=out))
    place.until(lambda: place.state("from-notebook") == "COMPLETED")
    assert (tmp_path / "reported").read_text() == "42"
    assert (tmp_path / "cells").read_text() == "run ", "the other cells were not run again"
    assert "from-notebook of campaign: resumed, as it is due" in place.output.read_text()
