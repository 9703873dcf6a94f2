"""Lesson 2: each check catches a wrong answer and accepts the right one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cerebelum_nb import WorkflowError, step, workflow
from cerebelum_nb.classroom import Lesson

door = {"open": False}


@step
def buy():
    return "lemons"


@step
async def mix(buy):
    await asyncio.sleep(0)
    return "dough"


@step
async def heat():
    await asyncio.sleep(0)
    if door["open"]:
        raise RuntimeError("the oven door is open")
    return "180 degrees"


@step
def bake(mix, heat):
    return "cake"


@step
def cool(bake):
    return "cold cake"


@pytest.fixture
def lesson(begin: Callable[[str], Lesson]) -> Lesson:
    return begin("lesson-2")


def run(name, timeline, inputs=None):
    """Run a workflow of this name with this timeline."""

    @workflow(name=name)
    def flow(wf):
        wf.timeline(timeline)

    flow.run(inputs)
    return flow


def test_all_five_steps_are_in_order(lesson: Lesson) -> None:
    assert "no cake is finished yet" in repr(lesson.check(1))
    run("cake", buy >> mix >> heat >> bake)
    assert "missing: cool" in repr(lesson.check(1))
    run("cake", buy >> mix >> heat >> bake >> cool)
    assert lesson.check(1)


@pytest.mark.parametrize(
    ("output", "guests", "hint"),
    [(24, 6, ""), (8, 2, ""), (4, 6, "6 guests at 4 each, and the invoice says 4"), (24, None, "run the cell")],
)
def test_every_guest_pays(lesson: Lesson, output: int, guests: int | None, hint: str) -> None:
    assert "run the cell" in repr(lesson.check(2))

    @step
    def invoice():
        return output

    run("party", invoice, {"guests": guests} if guests else {})
    assert bool(lesson.check(2)) is not bool(hint) and hint in repr(lesson.check(2))


def test_an_invoice_that_fails_is_not_done(lesson: Lesson) -> None:
    @step
    def invoice():
        raise TypeError("no price")

    with pytest.raises(WorkflowError):
        run("party", invoice, {"guests": 6})
    hint = repr(lesson.check(2))
    assert "the party failed: TypeError: no price" in hint and 'inputs["guests"]' in hint


def test_the_log_says_whether_two_steps_were_at_work_at_once(lesson: Lesson) -> None:
    assert "if its cell shows a problem, repair the order" in repr(lesson.check(3))
    run("faster_cake", buy >> mix >> heat >> bake >> cool)
    assert "put both into one pair of [ ]" in repr(lesson.check(3))
    run("faster_cake", buy >> [mix, heat] >> bake)
    assert "missing: cool" in repr(lesson.check(3))
    run("faster_cake", buy >> [mix, heat] >> bake >> cool)
    assert lesson.check(3)


def test_the_work_of_the_other_step_is_kept(lesson: Lesson) -> None:
    @workflow
    def unlucky_cake(wf):
        wf.timeline(buy >> [mix, heat] >> bake)

    assert "close the door and resume" in repr(lesson.check(4, ["buy", "mix"]))
    door["open"] = True
    with pytest.raises(WorkflowError) as failed:
        unlucky_cake.run()
    door["open"] = False
    assert "close the door and resume" in repr(lesson.check(4, ["buy", "mix"]))
    unlucky_cake.resume_sync(failed.value.execution_id)
    assert "you said ['buy']" in repr(lesson.check(4, ["buy"]))
    assert "you said" in repr(lesson.check(4, ["buy", "mix", "heat"]))
    assert lesson.check(4, ["mix", "buy"])
