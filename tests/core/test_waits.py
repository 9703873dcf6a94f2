"""When a run that only waits leaves its process: the rule for one attempt, and for all that is in flight."""

from __future__ import annotations

import pytest

from cerebelum_nb._core.step_state import Operation
from cerebelum_nb._core.waits import AttemptWaits, Wait, long_wait_from, may_hibernate_at, may_leave, wake_at

SLEEP = "sleep:5m:493e0:0"
ASKED = "approval:manual:35079b73f7e5:0"
ASKED_BEFORE_THE_BODY = "approval:@manual:35079b73f7e5:0"


def waiting(
    op: str = SLEEP,
    *,
    since: int = 0,
    due_at: int | None = 300,
    whole: bool = True,
    external: bool = False,
    **known: object,
) -> AttemptWaits:
    operation = Operation(op=op, at=since, **known)  # type: ignore[arg-type]
    return AttemptWaits([Wait(since, due_at, whole, op)], {op: operation}, external)


AT_WORK = AttemptWaits([], {}, False)


def test_a_sleep_is_long_while_more_than_the_limit_remains():
    assert [long_wait_from(waiting(), after=100, now=now) for now in (0, 199, 200)] == [0, 199, None]


def test_an_approval_is_long_once_it_has_lasted_so_long():
    assert long_wait_from(waiting(ASKED, since=50, due_at=None), after=100, now=60) == 150
    assert long_wait_from(waiting(ASKED, since=50, due_at=150), after=100, now=60) is None, "it is over by then"


def test_an_approval_that_somebody_has_decided_is_not_a_wait():
    assert long_wait_from(waiting(ASKED, due_at=None, done=True), after=100, now=500) is None


@pytest.mark.parametrize("attempt", [AT_WORK, waiting(whole=False), waiting(external=True)])
def test_a_step_that_runs_or_must_not_run_twice_is_not_in_a_long_wait(attempt):
    assert long_wait_from(attempt, after=100, now=0) is None


def test_a_step_with_an_external_effect_may_leave_only_before_its_body():
    assert may_leave(waiting(ASKED_BEFORE_THE_BODY, external=True))
    assert not may_leave(waiting(ASKED, external=True))


def test_a_run_may_hibernate_once_its_last_wait_is_long():
    attempts = [waiting(), waiting(ASKED, since=20, due_at=None)]
    assert may_hibernate_at(attempts, [], in_flight=2, after=100, now=30) == 120
    assert may_hibernate_at([*attempts, AT_WORK], [], in_flight=3, after=100, now=30) is None
    assert may_hibernate_at(attempts, [], in_flight=3, after=100, now=30) is None, (
        "a step in flight is neither here nor waiting"
    )


def test_a_retry_that_is_due_soon_keeps_the_run_in_its_process():
    assert [may_hibernate_at([], [due], in_flight=1, after=100, now=0) for due in (101, 100)] == [0, None]
    assert may_hibernate_at([], [], in_flight=0, after=100, now=0) is None


def test_a_run_is_woken_when_the_first_of_its_waits_ends():
    assert wake_at([waiting(), waiting(ASKED, due_at=None)], [250], now=0) == 250
    assert wake_at([waiting(ASKED, due_at=None)], [], now=0) is None
    assert wake_at([waiting(), waiting(ASKED, due_at=None, done=True)], [], now=7) == 7, "it has been decided"
