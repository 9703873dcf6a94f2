"""A process killed after any of its commits loses nothing that was committed."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from cerebelum_nb._core.events import OperationCompleted, SleepCompleted, StepCompleted, StepStarted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._store.sqlite import SqliteStore

from ..programs import run

MORTAL = Path(__file__).with_name("mortal.py")
RESULTS = {
    "create": {"id": "create s"},
    "wait_for_ip": "10.0.0.1",
    "configure": "configured 10.0.0.1",
    "migrate": ["m1", "m2"],
    "certificate": "cert",
    "check": {"status": "degraded", "migrations": 2},
    "repair": "repair",
    "notify": ("degraded", "repair"),
}
SIDE_EFFECTS = {"create s", "configure", "reload", "backup", "repair"}
MORE_THAN_ENOUGH = 52


def go(folder: Path, mode: str, die_after: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(MORTAL), str(folder / "log.db"), str(folder / "marks"), mode, str(die_after)]
    return run(command, capture_output=True, text=True)


def events_of(folder: Path, execution_id: str = "the-one"):
    with SqliteStore(folder / "log.db") as store:
        return store.events(execution_id)


def marks_of(folder: Path) -> Counter[str]:
    marks = folder / "marks"
    return Counter(marks.read_text().split("\n")[:-1]) if marks.exists() else Counter()


def die_and_resume(folder: Path, die_after: int) -> str:
    """Let the process die once, resume, and check; return "lived" if it ended before it could die."""
    folder.mkdir()
    first = go(folder, "start", die_after)
    if first.returncode == 0:
        return "lived"
    assert first.returncode == -9, first.stderr
    before, marks_before = events_of(folder), marks_of(folder)
    check(fold(before))
    state = fold(before)
    if state.lifecycle.is_final:  # the last commit: there is nothing left to do
        return "died at the end"
    second = go(folder, "resume", 0)
    assert second.returncode == 0, f"death after commit {die_after}: {second.stderr}"
    assert eval(second.stdout) == RESULTS
    judge(before, marks_before, events_of(folder), marks_of(folder))
    return "resumed"


def judge(before, marks_before, after, marks_after) -> None:
    """Check that nothing committed was done again, and that the history only grew."""
    assert after[: len(before)] == before
    completed = Counter((e.step, e.visit) for e in after if isinstance(e, StepCompleted))
    assert set(completed.values()) == {1}, completed
    done = {e.step for e in before if isinstance(e, StepCompleted)}
    assert not [e for e in after[len(before) :] if isinstance(e, StepStarted) and e.step in done]
    finished = [(e.step, e.visit, e.op) for e in after if isinstance(e, OperationCompleted | SleepCompleted)]
    assert len(finished) == len(set(finished)), "an operation was done twice"
    recorded = {fold_mark(e) for e in before if isinstance(e, OperationCompleted) and e.op.startswith("run:")}
    for mark in recorded:
        assert marks_after[mark] == marks_before[mark] == 1, f"the side effect {mark!r} was repeated"
    assert set(marks_after) == SIDE_EFFECTS
    check(fold(after))


def fold_mark(event: OperationCompleted) -> str:
    return event.output.json.strip('"')


def test_a_process_killed_after_any_single_commit_resumes_to_the_same_end(tmp_path: Path) -> None:
    with ThreadPoolExecutor(max_workers=2) as pool:
        ends = list(pool.map(lambda n: die_and_resume(tmp_path / str(n), n), range(1, MORE_THAN_ENOUGH + 1)))
    deaths = ends.count("resumed")
    assert deaths >= 35, Counter(ends)
    assert set(ends[deaths:]) <= {"died at the end", "lived"} and "lived" in ends, "some commit was not died after"


def test_a_process_that_is_killed_repeatedly_still_comes_to_the_same_end(tmp_path: Path) -> None:
    folder = tmp_path / "often"
    folder.mkdir()
    assert go(folder, "start", 2).returncode == -9
    deaths = 1
    while (ended := go(folder, "resume", 12)).returncode == -9:
        deaths += 1
        check(fold(events_of(folder)))
        assert deaths < 60, "no progress"
    assert deaths >= 3
    assert ended.returncode == 0 or "is completed" in ended.stderr, ended.stderr
    state = fold(events_of(folder))
    assert state.lifecycle == "COMPLETED"
    completed = Counter((e.step, e.visit) for e in events_of(folder) if isinstance(e, StepCompleted))
    assert set(completed.values()) == {1}


def test_a_fork_whose_process_is_killed_continues_and_its_parent_stays_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "fork"
    folder.mkdir()
    assert go(folder, "start", 0).returncode == 0
    parent = events_of(folder)
    assert go(folder, "fork", 3).returncode == -9
    deaths = 1
    while (ended := go(folder, "resume-fork", 9)).returncode == -9:
        deaths += 1
        assert deaths < 20, "no progress"
    assert deaths >= 2
    fork = events_of(folder, "the-fork")
    assert fold(fork).lifecycle == "COMPLETED", ended.stderr
    assert events_of(folder) == parent
    outputs = {name: step.output for name, step in fold(parent).steps.items()}
    assert {name: step.output for name, step in fold(fork).steps.items()} == outputs
    marks = marks_of(folder)
    assert marks["create s"] == 1, "a side effect before the fork was repeated"
    assert {marks[mark] for mark in SIDE_EFFECTS - {"create s"}} == {2}, "each run has its own"


@pytest.mark.parametrize("table", ["event", "events"])
def test_a_killed_log_is_whole_for_sqlite_itself(tmp_path: Path, table: str) -> None:
    folder = tmp_path / "whole"
    folder.mkdir()
    assert go(folder, "start", 9).returncode == -9
    with SqliteStore(folder / "log.db") as store, closing(store.read_connection()) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (count, last) = connection.execute(f"SELECT count(*), max(version) FROM {table}").fetchone()
        assert count == last
