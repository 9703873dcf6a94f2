"""Lesson 3: each check catches a wrong answer and accepts the right one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cerebelum_nb import WorkflowError, step, workflow
from cerebelum_nb.classroom import Lesson

trouble = {"before": False, "after": False}


def pay(amount, key=None):
    if trouble["before"]:
        raise ConnectionError("before the payment is recorded")
    return "paid"


@step
def reserve(inputs):
    return inputs["item"]


@step
async def charge(reserve, context):
    paid = await context.run("pay", pay, 40)
    if trouble["after"]:
        raise ConnectionError("after the payment is recorded")
    return paid


@workflow
def shop(wf):
    wf.timeline(reserve >> charge)


@workflow
def careful_shop(wf):
    wf.timeline(reserve >> charge)


@pytest.fixture
def lesson(begin: Callable[[str], Lesson]) -> Lesson:
    return begin("lesson-3")


def fail_and_resume(flow, when: str) -> None:
    """Stop before or after the payment is recorded, as by a crash there, and resume."""
    trouble[when] = True
    with pytest.raises(WorkflowError) as failed:
        flow.run({"item": "lamp"})
    trouble[when] = False
    flow.resume_sync(failed.value.execution_id)


def test_what_was_recorded_is_not_paid_again(lesson: Lesson) -> None:
    assert "run the two cells" in repr(lesson.check(1, 1))
    fail_and_resume(shop, "before")
    assert "run the two cells" in repr(lesson.check(1, 1))
    fail_and_resume(shop, "after")
    assert "you said 2" in repr(lesson.check(1, 2))
    assert lesson.check(1, 1)


def test_what_was_not_recorded_is_paid_again(lesson: Lesson) -> None:
    fail_and_resume(shop, "after")
    assert "run the two cells" in repr(lesson.check(2, 2))
    fail_and_resume(shop, "before")
    assert "you said 1" in repr(lesson.check(2, 1))
    assert lesson.check(2, 2)


@pytest.mark.parametrize(
    ("notes", "hint"),
    [
        ([], "nobody paid 40 EUR"),
        (["charge o:charge:1 EUR", "charge 40 EURO"], "nobody paid 40 EUR"),
        (["charge 40 EUR", "charge 40 EUR"], "paid 2 times"),
        (["charge 40 EUR"], "got no key"),
        (["charge 40 EUR, key "], "got no key"),
        (["charge 40 EUR, key a", "charge 40 EUR, key b"], "paid 2 times"),
        (["charge 40 EUR, key o:charge:1"], ""),
    ],
)
def test_the_bank_gets_a_key_and_is_paid_once(lesson: Lesson, notes: list[str], hint: str) -> None:
    assert "run the cell above" in repr(lesson.check(3))
    fail_and_resume(careful_shop, "before")
    for note in notes:
        lesson.world.note(note)
    verdict = lesson.check(3)
    assert bool(verdict) is not bool(hint) and hint in repr(verdict)


def test_a_payment_that_is_not_recorded_at_all_is_named(lesson: Lesson) -> None:
    @step
    def charge(reserve):
        return "paid"

    @workflow
    def careful_shop(wf):
        wf.timeline(reserve >> charge)

    careful_shop.run({"item": "lamp"})
    assert "not in the log at all" in repr(lesson.check(3))


def test_at_least_once_is_the_answer(lesson: Lesson) -> None:
    assert "click an answer" in repr(lesson.check(4))
    question = lesson.quiz(4, "What happens?", {letter: letter for letter in "abcd"})
    for letter in "abd":
        assert not question.choose(letter)
    with pytest.raises(ValueError, match="none of them"):
        question.choose("e")
    assert "choose a, b, c or d" in repr(lesson.check(4, "x"))
    assert question.choose("c") and lesson.check(4)
    assert not question.choose("a") and str(lesson.score()) == "1 of 4", "what was done stays done"
