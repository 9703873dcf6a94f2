"""Lesson 6: each check catches a wrong answer and accepts the right one, which agrees with the recorded year."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cerebelum_nb import archive, history
from cerebelum_nb.classroom import Lesson, forged_copy, recorded_year

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_year(tmp_path_factory.mktemp("case") / "year.db")


@pytest.fixture
def lesson(begin: Callable[[str], Lesson]) -> Lesson:
    return begin("lesson-6")


def test_the_first_failure_is_the_last_row(lesson: Lesson, year: Path) -> None:
    first = history.open(year).executions(state="failed")["execution_id"].iloc[-1]
    assert "not the first" in repr(lesson.check(1, "week-52"))
    assert "an id is text" in repr(lesson.check(1, 23))
    assert lesson.check(1, first)


def test_one_step_fails_for_one_reason(lesson: Lesson, year: Path) -> None:
    failed = history.open(year).steps(state="failed")
    (culprit,), (error,) = failed["step"].unique(), failed["error"].unique()
    limit = next(int(word) for word in error.split() if word.isdigit())
    assert "not 'collect'" in repr(lesson.check(2, ["collect", limit]))
    assert "not 999" in repr(lesson.check(2, [culprit, 999]))
    assert "cannot be read" in repr(lesson.check(2, culprit[:1]))
    assert lesson.check(2, [culprit, limit])


def test_the_log_kept_what_was_known(lesson: Lesson, year: Path) -> None:
    known = history.open(year).state_at("week-42").results["collect"]["subscribers"]
    assert "you said 811" in repr(lesson.check(3, 811))
    assert lesson.check(3, known)


def test_the_forged_run_is_found_and_the_original_is_as_it_was(lesson: Lesson, year: Path) -> None:
    assert archive.verify(store=year).ok
    found = {finding.execution_id for finding in archive.verify(store=forged_copy(year)).findings}
    assert len(found) == 1
    assert "you said 'week-01'" in repr(lesson.check(4, "week-01"))
    assert lesson.check(4, found.pop())


def test_a_year_that_is_there_is_kept(year: Path) -> None:
    before = year.stat().st_mtime_ns
    assert recorded_year(year) == year and year.stat().st_mtime_ns == before
