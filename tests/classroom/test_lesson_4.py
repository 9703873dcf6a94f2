"""Lesson 4: each check catches a wrong answer and accepts the right one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from cerebelum_nb import (
    ExecutionClient,
    PollTimeoutError,
    WorkflowError,
    poll,
    scheduler,
    sleep,
    step,
    wait_for_approval,
    workflow,
)
from cerebelum_nb.classroom import FastClock, Lesson
from cerebelum_nb.testing import FakeClock

power = {"on": True}


@pytest.fixture
def lesson(begin: Callable[[str], Lesson]) -> Lesson:
    made = begin("lesson-4")
    made.store.hibernate_after = timedelta(days=365)
    return made


@pytest.fixture
def jumping() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock


@step
async def mails(context):
    for day in range(1, 6):
        await context.run(f"mail {day}", str, day)
        if day == 3 and not power["on"]:
            raise OSError("no power")
        await sleep("1d")


@workflow
def campaign(wf):
    wf.timeline(mails)


def test_the_next_mail_is_the_first_that_was_not_recorded(lesson: Lesson, jumping: FakeClock) -> None:
    assert "resume the campaign first" in repr(lesson.check(1, 4))
    power["on"] = False
    with pytest.raises(WorkflowError) as failed:
        campaign.run()
    power["on"] = True
    assert "resume the campaign first" in repr(lesson.check(1, 4))
    campaign.resume_sync(failed.value.execution_id)
    for wrong in (1, 3, 5, "4"):
        assert "3 mails were recorded" in repr(lesson.check(1, wrong))
    assert lesson.check(1, 4)


@step
def hand_over():
    return "here"


@step
def apologise():
    return "sorry"


@pytest.mark.parametrize(
    ("limits", "comes_at", "hint"),
    [
        ({"max_attempts": 100}, 12, "no deadline"),
        ({"max_attempts": 2}, 12, "no deadline"),
        ({"timeout": "3d"}, 20, "two days"),
        ({"timeout": "2d"}, 1, "nobody apologised"),
        ({"timeout": "2d"}, 12, ""),
    ],
)
def test_the_wait_for_the_parcel_has_a_deadline(
    lesson: Lesson, jumping: FakeClock, limits, comes_at: int, hint: str
) -> None:
    @step
    async def wait_for_parcel():
        looks = iter(range(1000))
        return await poll(lambda: next(looks) == comes_at or None, interval="6h", **limits)

    @workflow
    def delivery(wf):
        wf.timeline(wait_for_parcel >> hand_over)
        wf.diverge(from_step=wait_for_parcel, patterns={PollTimeoutError: apologise})

    assert "run the cell" in repr(lesson.check(2))
    delivery.run()
    assert bool(lesson.check(2)) is not bool(hint) and hint in repr(lesson.check(2))


@step
async def ask():
    return await wait_for_approval("trip")


@workflow
def trip(wf):
    wf.timeline(ask)


@pytest.mark.parametrize(("who", "hint"), [("Ana", ""), ("nobody", "nobody approved it")])
def test_somebody_approved_the_trip_with_their_name(lesson: Lesson, who: str, hint: str) -> None:
    async def approve() -> None:
        run = trip.start()
        await lesson.until(run, "waiting for approval")
        assert "the trip still waits" in repr(lesson.check(3))
        await ExecutionClient().approve(run.execution_id, {"nights": 3}, by=who)
        await run

    asyncio.run(approve())
    assert bool(lesson.check(3)) is not bool(hint) and hint in repr(lesson.check(3))


@step
async def wait_ten_days():
    await sleep("10d")


@workflow
def sleeper(wf):
    wf.timeline(wait_ten_days)


def test_no_process_ran_a_run_while_it_hibernated(lesson: Lesson) -> None:
    with FakeClock():
        sleeper.run()
    assert "let a scheduler wake it" in repr(lesson.check(4, 0)), "it never hibernated"
    lesson.store.hibernate_after = timedelta(hours=1)

    async def sleep_and_wake() -> None:
        asleep = await sleeper.execute()
        assert lesson.wakes_at(asleep) is not None
        assert "let a scheduler wake it" in repr(lesson.check(4, 0))
        alarm = scheduler()
        await lesson.until(asleep)
        await alarm.stop()
        assert lesson.wakes_at(asleep) is None

    with FastClock("50d/s"):
        asyncio.run(sleep_and_wake())
    assert "you said 1" in repr(lesson.check(4, 1))
    assert lesson.check(4, 0)
