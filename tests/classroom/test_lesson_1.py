"""Lesson 1: each check catches a wrong answer and accepts the right one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cerebelum_nb import WorkflowError, step, workflow
from cerebelum_nb.classroom import Lesson

courier = {"answers": True}


@step
def reserve(inputs):
    return inputs["item"]


@step
def charge(reserve):
    return "paid"


@step
def ship(reserve, charge):
    if not courier["answers"]:
        raise ConnectionError("the courier does not answer")
    return f"{reserve} shipped"


@workflow
def shop(wf):
    wf.timeline(reserve >> charge >> ship)


@pytest.fixture
def lesson(begin: Callable[[str], Lesson]) -> Lesson:
    return begin("lesson-1")


@pytest.fixture
def resumed(lesson: Lesson) -> Lesson:
    """Make an order that failed at `ship` and was resumed."""
    courier["answers"] = False
    with pytest.raises(WorkflowError) as failed:
        shop.run({"item": "lamp"})
    courier["answers"] = True
    shop.resume_sync(failed.value.execution_id)
    return lesson


def pay(lesson: Lesson, times: int) -> None:
    lesson.world.clear()
    for _ in range(times):
        lesson.world.note("charge 40 EUR")


def test_the_customer_paid_twice(lesson: Lesson) -> None:
    pay(lesson, 1)
    assert "has not happened yet" in repr(lesson.check(1, 2))
    pay(lesson, 2)
    assert "you said 1" in repr(lesson.check(1, 1))
    assert "write a number, without quotes" in repr(lesson.check(1, "2"))
    assert lesson.check(1, 2)


def test_after_a_third_run_two_and_three_payments_are_right(lesson: Lesson) -> None:
    pay(lesson, 3)
    assert not lesson.check(1, 1)
    assert lesson.check(1, 2)
    assert lesson.check(1, 3)


@pytest.mark.parametrize(
    ("diary", "paid", "hint"),
    [
        ([], 2, "the diary is empty"),
        ([("reserve", {}), ("charge", {})], 1, "in this order; it names reserve, charge"),
        ([("reserve", {}), ("charge", {}), ("ship", "shipped")], 2, "should pay once, and paid 2 times"),
        (["reserve", "charge", "ship"], 1, "it names r, c, s"),
        ([1, 2, 3], 1, "cannot be read (TypeError"),
        ([("reserve", object())], 1, "it holds: object"),
        ([("reserve", {}), ("charge", {}), ("ship", "shipped")], 1, ""),
    ],
)
def test_the_diary_names_the_three_steps_and_saves_a_payment(
    lesson: Lesson, diary: object, paid: int, hint: str
) -> None:
    pay(lesson, paid)
    verdict = lesson.check(2, diary)
    assert bool(verdict) is not bool(hint)
    assert hint in repr(verdict)


def test_only_what_was_not_finished_runs_after_a_resume(resumed: Lesson) -> None:
    assert "have a StepStarted after WorkflowResumed" in repr(resumed.check(3, ["charge", "ship"]))
    assert resumed.check(3, ["ship"])
    assert resumed.check(3, "ship"), "a name by itself is understood"


def test_before_the_resume_it_cannot_be_answered(lesson: Lesson) -> None:
    assert "resume the order first" in repr(lesson.check(3, ["ship"]))
    assert "resume the order" in repr(lesson.check(4, lambda events: []))


def test_the_fold_is_called_at_every_event(resumed: Lesson) -> None:
    def started(events):
        return [step for kind, step in events if kind == "StepStarted"]

    def completed(events):
        return [step for kind, step in events if kind == "StepCompleted"]

    assert "after event 2, StepStarted reserve" in repr(resumed.check(4, started))
    assert "after event 3, StepCompleted reserve" in repr(resumed.check(4, lambda events: []))
    assert "your function returns nothing" in repr(resumed.check(4, lambda events: None))
    assert "after event 1, WorkflowStarted" in repr(resumed.check(4, lambda events: ["reserve", "charge", "ship"]))
    assert "your answer raised ZeroDivisionError" in repr(resumed.check(4, lambda events: 1 / 0))
    assert resumed.check(4, completed)


def test_code_in_a_hint_is_shown_as_code(lesson: Lesson) -> None:
    assert "after <code>payments =</code>, run that cell" in lesson.check(1, ...)._repr_html_()
    pay(lesson, 2)
    assert "you said '&lt;b&gt;'" in lesson.check(1, "<b>")._repr_html_().replace("&#x27;", "'")


def test_a_place_that_was_not_filled_in_is_no_answer(lesson: Lesson) -> None:
    assert "write your number" in repr(lesson.check(1, ...))
    assert "write the names" in repr(lesson.check(3, [...]))
    assert "add the missing line to `run_with_diary`" in repr(lesson.score())
    assert not lesson.store.executions()[1]
