"""Lesson 5: each check catches a wrong answer and accepts the right one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cerebelum_nb import WorkflowError, step, workflow
from cerebelum_nb.classroom import Lesson

code = {"average": "fails", "divisor": 1}


@step
def read(inputs):
    return inputs["readings"]


@step
def convert(read):
    return [None if text == "n/a" else (float(text) - 32) * 5 / code["divisor"] for text in read]


@step
def average(convert):
    known = convert if code["average"] == "fails" else [value for value in convert if value is not None]
    return sum(known) / len(convert if code["average"] == "divides by all" else known)


@step
def report(average):
    return f"{average:.0f} degrees"


@workflow
def weather(wf):
    wf.timeline(read >> convert >> average >> report)


@pytest.fixture
def lesson(begin: Callable[[str], Lesson]) -> Lesson:
    code.update(average="fails", divisor=1)
    return begin("lesson-5")


def fail() -> str:
    with pytest.raises(WorkflowError) as failed:
        weather.run({"readings": ["50", "59", "n/a", "68"]})
    return failed.value.execution_id


def repaired() -> str:
    execution_id = fail()
    code["average"] = "works"
    weather.resume_sync(execution_id, rerun=["average"])  # from its top: it had the values of the failed attempt
    return execution_id


def test_the_step_that_failed_was_repaired_and_the_run_resumed(lesson: Lesson) -> None:
    assert "has to fail, and to be resumed" in repr(lesson.check(1))
    execution_id = fail()
    assert "has to fail, and to be resumed" in repr(lesson.check(1))
    with pytest.raises(WorkflowError):
        weather.resume_sync(execution_id)
    assert "`average` failed again (TypeError" in repr(lesson.check(1))
    code["average"] = "divides by all"
    weather.resume_sync(execution_id, rerun=["average"])
    assert "returned 101.25: add up the 3 values that are known, and divide by 3" in repr(lesson.check(1))
    code["average"] = "works"
    weather.resume_sync(execution_id, rerun=["average"])
    assert lesson.check(1)


def test_stale_are_the_changed_step_and_those_that_use_its_result(lesson: Lesson) -> None:
    right = ["convert", "average", "report"]
    execution_id = repaired()
    assert 'with rerun="stale"' in repr(lesson.check(2, right))
    weather.resume_sync(execution_id, rerun=["convert"])
    for wrong in (["convert"], ["read", *right], ["average", "report"], "convert"):
        assert "who calls `celsius`" in repr(lesson.check(2, wrong))
    assert lesson.check(2, right)


def test_a_fork_with_other_inputs_begins_where_they_are_used(lesson: Lesson) -> None:
    assert "fork the run" in repr(lesson.check(3, "read"))
    execution_id = repaired()
    with pytest.raises(WorkflowError):
        weather.fork_sync(execution_id, from_step="read", inputs={"readings": ["n/a"]})
    assert "the fork failed: ZeroDivisionError" in repr(lesson.check(3, "read"))
    weather.fork_sync(execution_id, from_step="convert", inputs={"readings": ["68", "59"]})
    assert "you said 'convert'" in repr(lesson.check(3, "convert"))
    assert lesson.check(3, "read")


def test_only_what_depends_on_the_order_differs(lesson: Lesson) -> None:
    assert "fork the run from the first step" in repr(lesson.check(4, ["read", "convert"]))
    execution_id = repaired()
    weather.fork_sync(execution_id, from_step="read", inputs={"readings": ["68", "n/a", "59", "50"]})
    for wrong in (["read"], ["read", "convert", "average"], []):
        assert "column `difference`" in repr(lesson.check(4, wrong))
    assert lesson.check(4, ["convert", "read"])
