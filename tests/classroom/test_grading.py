"""Grades come from the log alone: an untrusted log of a student, or those of a class."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cerebelum_nb import WorkflowError, history, step, workflow
from cerebelum_nb._classroom import grading
from cerebelum_nb._cli.roster import _lines
from cerebelum_nb._core import events as e
from cerebelum_nb._core.value import Value
from cerebelum_nb.archive import verify
from cerebelum_nb.classroom import Evidence, Lesson, RecordedRun, grade, roster

DIARY = [("reserve", {}), ("charge", {}), ("ship", "shipped")]


class Bomb:
    """A value that records when it is unpickled."""

    went_off: list[int] = []  # noqa: RUF012 - shared on purpose

    def __reduce__(self) -> Any:
        return Bomb.went_off.append, (1,)


@step
def explode():
    return Bomb()


@step
def fail(explode):
    raise ValueError("the price is missing")


@workflow
def attack(wf):
    wf.timeline(explode >> fail)


def do_two(lesson: Lesson) -> None:
    for _ in range(2):
        lesson.world.note("charge 40 EUR")
    lesson.check(1, 2)
    lesson.world.clear()
    lesson.world.note("charge 40 EUR")
    lesson.check(2, DIARY)


def test_a_grade_is_derived_again_from_the_log(begin: Callable[..., Lesson]) -> None:
    lesson = begin("lesson-1")
    do_two(lesson)
    score = grade(lesson.log)
    assert (score.done, score.total, str(score), bool(score)) == (2, 4, "2 of 4", False)
    assert [bool(verdict) for verdict in score.verdicts.values()] == [True, True, False, False]


def test_an_answer_is_recorded_once_and_the_log_is_as_it_was_written(begin: Callable[..., Lesson]) -> None:
    lesson = begin("lesson-1")
    for answer in (1, 1, 2, 2, 1):
        lesson.check(1, answer)
    assert len(history.executions("exercise")) == 3
    assert Evidence(lesson.store).answer("lesson-1", 1).value == 1
    assert verify(store=lesson.log).ok


def test_a_lesson_that_was_begun_continues(begin: Callable[..., Lesson]) -> None:
    do_two(begin("lesson-1"))
    assert str(begin("lesson-1").score()) == "2 of 4"


def test_an_answer_that_was_edited_is_found(begin: Callable[..., Lesson]) -> None:
    lesson = begin("lesson-1")
    lesson.check(1, 1)
    lesson.close()
    with closing(sqlite3.connect(lesson.log)) as db:
        guards = db.execute("select name from sqlite_master where type = 'trigger' and tbl_name = 'event'").fetchall()
        for (name,) in guards:
            db.execute(f'drop trigger "{name}"')
        db.execute("update event set data = replace(data, '1', '2') where type = 'StepCompleted'")
        db.commit()
    score = grade(lesson.log)
    assert not score and "\n".join(score.findings)


def test_nothing_in_a_student_s_log_is_unpickled(begin: Callable[..., Lesson]) -> None:
    lesson = begin("lesson-1")
    lesson.check(1, 1)
    with pytest.raises(WorkflowError):
        attack.run()
    Bomb.went_off.clear()
    assert str(grade(lesson.log)) == "0 of 4"
    shown = roster([lesson.log])
    assert shown.iloc[0, 0] == "0 of 4, attack failed: ValueError: the price is missing"
    assert Bomb.went_off == []


def test_grade_asks_for_the_lesson_if_it_is_not_clear(begin: Callable[..., Lesson]) -> None:
    lesson = begin("lesson-1")
    with pytest.raises(ValueError, match="holds answers of no lesson"):
        grade(lesson.log)
    with pytest.raises(ValueError, match="There is no lesson 'lesson-9'"):
        grade(lesson.log, "lesson-9")


def test_a_class_of_twenty_five_is_shown_at_once(begin: Callable[..., Lesson], tmp_path: Path) -> None:
    busy = begin("lesson-1", tmp_path / "made" / "busy")
    do_two(busy)
    busy.close()
    for number in range(24):
        shutil.copytree(busy.folder, tmp_path / "class" / f"s{number:02}" / "lesson-1")
    broken = tmp_path / "class" / "s24" / "lesson-1"
    broken.mkdir(parents=True)
    (broken / "history.db").write_text("not a log, but long enough to look like a file of some kind " * 20)
    shown = roster(str(tmp_path / "class" / "*" / "lesson-1" / "history.db"))
    assert list(shown.index) == [f"s{number:02}" for number in range(25)]
    assert list(shown["lesson-1"]) == [*["2 of 4"] * 24, "-"]
    assert "history.db" in shown["log"].iloc[24] and list(shown["log"])[:24] == ["-"] * 24


def test_only_changed_logs_of_a_class_are_read_again(
    begin: Callable[..., Lesson], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana, ben = (begin("lesson-1", tmp_path / "class" / name / "lesson-1") for name in ("ana", "ben"))
    for lesson in (ana, ben):
        lesson.check(1, 1)
    register = grading.Register(tmp_path / "class")
    assert {name: str(row["lesson-1"]) for name, row in register.look().items()} == {"ana": "0 of 4", "ben": "0 of 4"}
    read: list[str] = []
    made = grading._standings
    monkeypatch.setattr(grading, "_standings", lambda path: read.append(path) or made(path))
    do_two(ben)  # its log is still open, as in a student's kernel
    eva = begin("lesson-1", tmp_path / "class" / "eva" / "lesson-1")
    eva.check(1, 1)
    told = {name: str(row["lesson-1"]) for name, row in register.look().items()}
    assert told == {"ana": "0 of 4", "ben": "2 of 4", "eva": "0 of 4"}
    assert {Path(path).parts[-3] for path in read} == {"ben", "eva"}


def test_a_class_that_is_longer_than_the_screen_is_shown_in_two_halves() -> None:
    stands = {f"s{n:02}": {"lesson-1": grading.Standing("4 of 4", is_done=n < 9)} for n in range(25)}
    assert len(_lines(stands, 100, None)) == 28
    lines = _lines(stands, 100, 20)
    assert len(lines) == 16 and lines[0] == "lesson-1: 9 done, 16 at it"
    assert "s00" in lines[3] and "s13" in lines[3]


def test_a_pattern_that_finds_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no log at"):
        roster(str(tmp_path / "*" / "history.db"))


def test_a_step_that_starts_after_it_has_completed_is_a_rerun() -> None:
    started = e.StepStarted(at=1, step="charge")
    events = [started, started, e.StepCompleted(at=2, step="charge", output=Value("json", "1")), started]
    assert RecordedRun("k1", "shop", events[:3]).no_rerun() and not RecordedRun("k1", "shop", events).no_rerun()
