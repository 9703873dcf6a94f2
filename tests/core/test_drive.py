"""The driver without a loop: hand it a message, compare the exact events and commands."""

from __future__ import annotations

import pytest

from cerebelum_nb._core import events as e
from cerebelum_nb._core.drive import MOST_LOST, Driver
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.graph import Policy
from cerebelum_nb._core.invariants import check
from cerebelum_nb._core.limits import OneStage
from cerebelum_nb._core.messages import (
    AskRoute,
    Begin,
    CancelAttempts,
    Drain,
    Due,
    End,
    Leave,
    Lost,
    Recorded,
    Released,
    Restored,
    Routed,
    SetTimer,
    Settled,
    Start,
    Stop,
    Woken,
)
from cerebelum_nb._core.settle import Raised, ReturnedError, settle, tries_again
from cerebelum_nb._core.state import State
from cerebelum_nb._core.value import ErrorInfo, Value

NULL = Value("json", "null")
BAD = ErrorInfo(type="Bad", message="no")
STARTED = e.WorkflowStarted(at=1, workflow="w", inputs=Value("json", "{}"), total_steps=1)


class Driven:
    """A driver with a clock and a log: its events are committed at once."""

    def __init__(self, plan, history=(), limit=None):
        self.history = list(history)
        self.driver = Driver(plan, fold(self.history), limit)
        self.now = self.driver.state.updated_at

    def tell(self, *messages):
        """Take messages that arrive together; return what the shell must do."""
        self.now += 1
        for message in messages:
            self.driver.take(message, self.now)
        commands = self.driver.advance(self.now)
        self.history += self.driver.committed()
        check(self.driver.state)
        assert fold(self.history) == self.driver.state
        return commands

    def begin(self):
        return self.tell(Begin([STARTED]))

    def done(self, step, output="null", **how):
        visit, attempt = self.driver.running[step]
        event = e.StepCompleted(at=self.now, step=step, visit=visit, attempt=attempt, output=Value("json", output))
        return Settled(step, visit, attempt, [event], **how)

    def fails(self, step, retry_at=None, **how):
        visit, attempt = self.driver.running[step]
        header = {"at": self.now, "step": step, "visit": visit, "attempt": attempt}
        failed = e.StepFailed(**header, error=BAD)
        event = failed if retry_at is None else e.StepRetried(**header, error=BAD, due_at=retry_at)
        return Settled(step, visit, attempt, [event], **how)

    @property
    def kinds(self):
        return [type(event).__name__ for event in self.history]


@pytest.fixture
def driven(plan_of):
    def make(timeline, **how):
        limit = how.pop("limit", None)
        return Driven(plan_of(timeline, **how), limit=limit)

    return make


def test_the_end_of_a_step_and_the_start_of_the_next_are_one_batch(driven):
    run = driven("a >> b")
    run.begin()
    run.driver.take(run.done("a"), 2)
    assert run.driver.advance(2) == [Start("b", 1, 1)]
    assert [type(event).__name__ for event in run.driver.batch] == ["StepCompleted", "StepStarted"]


def test_a_group_starts_together_and_joins(driven):
    run = driven("[a, b] >> c")
    assert run.begin() == [Start("a", 1, 1), Start("b", 1, 1)]
    assert run.tell(run.done("b")) == []
    assert run.tell(run.done("a")) == [Start("c", 1, 1)]


def test_outcomes_that_arrive_together_are_decided_together(driven):
    run = driven("[a, b] >> c")
    run.begin()
    assert run.tell(run.done("b"), run.done("a")) == [Start("c", 1, 1)]


def test_the_end_is_reported_once_and_nothing_counts_after_it(driven):
    run = driven("a")
    run.begin()
    late = run.done("a")
    assert run.tell(late) == [End()]
    assert not run.driver.take(late, 9)
    assert run.tell(Stop("too late")) == []
    assert run.kinds[-1] == "WorkflowCompleted"


def test_a_retry_waits_for_its_time_and_starts_once(driven):
    run = driven("a >> b")
    run.begin()
    assert run.tell(run.fails("a", retry_at=100)) == [SetTimer("a", 100)]
    assert run.tell() == []
    assert run.tell(Due("a")) == [Start("a", 1, 2)]
    assert run.tell(Due("a")) == []


def test_a_timer_counts_although_the_wall_clock_was_set_back(driven):
    run = driven("a")
    run.begin()
    run.tell(run.fails("a", retry_at=10_000))
    assert run.now < 10_000
    assert run.tell(Due("a")) == [Start("a", 1, 2)]


def test_no_attempt_starts_while_the_thread_of_an_earlier_one_runs(driven):
    run = driven("a")
    run.begin()
    assert run.tell(run.fails("a", retry_at=9, alive=True)) == []
    assert run.tell(Released("a")) == [SetTimer("a", 9)]
    assert run.tell(Due("a")) == [Start("a", 1, 2)]


def test_nothing_is_decided_until_the_shell_has_chosen_a_route(driven):
    run = driven("a >> b", diverge={"a": {"x": "p"}})
    run.begin()
    assert run.tell(run.done("a")) == [AskRoute("a")]
    assert run.tell() == []
    assert run.tell(Routed(e.DivergeTaken(at=3, step="a", choice="x"))) == [Start("p", 1, 1)]


def test_a_route_that_raises_fails_the_run(driven):
    run = driven("a >> b", branch={"a": ("p", None)})
    run.begin()
    run.tell(run.done("a"))
    assert run.tell(Routed(e.WorkflowFailed(at=3, error=BAD, failed_step="a"))) == [End()]
    assert run.driver.finishing


def test_a_jump_back_invalidates_results_and_starts_a_new_visit(driven):
    run = driven("a >> b", diverge={"b": {"again": "back_to a"}})
    run.begin()
    run.tell(run.done("a"))
    run.tell(run.done("b"))
    run.driver.take(Routed(e.DivergeTaken(at=9, step="b", choice="again")), 9)
    assert run.driver.advance(9) == [Start("a", 2, 1)]
    assert run.driver.forgotten == {"a", "b"}


def test_a_stop_interrupts_what_is_in_flight_and_keeps_what_is_finished(driven):
    run = driven("[a, b] >> c")
    run.begin()
    run.tell(run.done("a"))
    assert run.tell(Stop("by hand")) == [CancelAttempts(), End()]
    assert run.kinds[-2:] == ["StepInterrupted", "WorkflowPaused"]
    assert list(run.driver.state.finished) == ["a"]


def test_a_stop_that_comes_with_an_outcome_starts_nothing_more(driven):
    run = driven("a >> b")
    run.begin()
    assert run.tell(run.done("a"), Stop("by hand")) == [CancelAttempts(), End()]
    assert "b" not in run.driver.state.steps


def test_a_request_to_cancel_counts_whichever_process_appended_it(driven):
    run = driven("a >> b")
    run.begin()
    others = fold([*run.history, e.CancelRequested(at=5, reason="wrong", by="ana")])
    run.history.append(e.CancelRequested(at=5, reason="wrong", by="ana"))
    run.driver.rebase(others)
    assert run.tell() == [CancelAttempts(), End()]
    assert run.kinds[-2:] == ["StepInterrupted", "WorkflowCancelled"]


def test_what_an_attempt_records_counts_only_while_it_runs(driven):
    run = driven("a")
    run.begin()
    slept = e.SleepStarted(at=2, step="a", visit=1, attempt=1, op="sleep:1s:0:0", duration_ms=1, due_at=9)
    assert run.driver.take(Recorded(slept), 2)
    run.tell(run.fails("a", retry_at=1))
    assert not run.driver.take(Recorded(slept), 9)


def test_a_run_that_only_waits_leaves_its_process(driven):
    run = driven("a")
    run.begin()
    assert run.tell(Leave(99)) == [End()]
    assert run.driver.state.hibernated
    assert run.driver.state.wake_at == 99


def test_a_failure_that_no_route_handles_ends_the_wait_of_its_siblings(driven):
    run = driven("[a, b]")
    run.begin()
    run.tell(run.fails("a"))
    run.tell(Leave(99))
    assert run.kinds[-2:] == ["StepInterrupted", "WorkflowFailed"]


def test_a_hibernation_is_undone_if_something_has_happened_meanwhile(driven):
    run = driven("a")
    run.begin()
    op = "approval:x:0:0"
    run.tell(Recorded(e.ApprovalRequested(at=2, step="a", op=op, approval_type="x")))
    run.driver.take(Leave(None), 3)
    approved = e.ApprovalReceived(at=3, step="a", op=op, response=NULL)
    run.driver.rebase(fold([*run.history, approved]))
    assert not run.driver.finishing
    assert run.driver.batch == []
    assert run.driver.advance(4) == []
    assert run.driver.running == {"a": (1, 1)}


def test_a_timeout_is_undone_if_somebody_decided_before_it(driven):
    run = driven("a")
    run.begin()
    op = "approval:x:0:0"
    run.tell(Recorded(e.ApprovalRequested(at=2, step="a", op=op, approval_type="x", due_at=3)))
    run.driver.take(Recorded(e.ApprovalTimedOut(at=3, step="a", op=op)), 3)
    run.driver.rebase(fold([*run.history, e.ApprovalReceived(at=3, step="a", op=op, response=NULL)]))
    assert run.driver.batch == []


def test_a_draining_run_starts_nothing_and_says_that_it_held_something_back(driven):
    run = driven("a >> b")
    run.begin()
    run.tell(Drain())
    assert run.tell(run.done("a")) == []
    assert run.driver.held_back
    assert run.tell(Leave(run.now)) == [End()]


def test_a_limit_pauses_before_the_next_stage(driven):
    run = driven("a >> b", limit=OneStage())
    run.begin()
    assert run.tell(run.done("a")) == [End()]
    assert run.driver.limited
    assert run.kinds[-1] == "WorkflowPaused"


def test_deferred_events_are_recorded_with_the_next_event_and_before_it(driven):
    run = driven("a")
    run.begin()
    assert run.driver.defer_event(lambda: e.StepProgressed(at=2, step="a", percent=50.0))
    assert not run.driver.defer_event(lambda: None)
    assert run.driver.batch == []
    run.tell(run.done("a"))
    assert run.kinds[-3:] == ["StepProgressed", "StepCompleted", "WorkflowCompleted"]


def test_a_resume_interrupts_what_no_process_runs_and_continues(driven):
    run = driven("a >> b")
    run.begin()
    run.tell(run.done("a"))
    again = Driven(run.driver.plan, run.history)
    assert again.tell(Begin([e.WorkflowResumed(at=9)])) == [Start("b", 1, 2)]
    assert again.kinds[-3:] == ["StepInterrupted", "WorkflowResumed", "StepStarted"]


@pytest.mark.parametrize(
    ("last_heartbeat", "ended_at"),
    [(None, 1), (40, 40), (0, 1), (10**9, 100)],
    ids=["its last event", "its last heartbeat", "a clock behind", "a clock ahead"],
)
def test_an_attempt_ended_no_later_than_its_process(driven, last_heartbeat, ended_at):
    run = driven("a")
    run.begin()
    by_others = e.CancelRequested(at=60)  # its process was dead by then
    again = Driven(run.driver.plan, [*run.history, by_others])
    again.driver.take(Begin([e.WorkflowResumed(at=100)], "its process ended", last_heartbeat), 100)
    interrupted = again.driver.batch[0]
    assert (interrupted.at, interrupted.ended_at) == (100, ended_at)
    assert again.driver.state.updated_at == 100, "times of events never go backwards"


def test_an_attempt_that_hibernated_ended_when_it_left_its_process(driven):
    run = driven("a")
    run.begin()
    run.tell(Leave(wake_at=50))
    again = Driven(run.driver.plan, run.history)
    again.driver.take(Begin([e.WorkflowAwakened(at=60)], "it hibernated"), 60)
    assert again.driver.batch[0].ended_at == run.driver.state.updated_at == 2


def test_a_lost_attempt_runs_again_at_once_and_a_second_loss_in_a_row_waits(driven):
    run = driven("a")
    run.begin()
    assert run.tell(Lost("a", 1, 1, "its worker died")) == [Start("a", 1, 2)]
    (timer,) = run.tell(Lost("a", 1, 2, "its worker died"))
    assert isinstance(timer, SetTimer) and timer.due_at > run.now
    assert run.tell(Due("a")) == [Start("a", 1, 3)]


def test_a_step_whose_workers_are_all_lost_pauses_the_run(driven):
    run = driven("a")
    run.begin()
    for attempt in range(1, MOST_LOST + 1):
        commands = run.tell(Lost("a", 1, attempt, "its worker died"))
        if attempt < MOST_LOST and "a" in run.driver.timers:
            run.tell(Due("a"))
    assert commands == [CancelAttempts(), End()]
    assert "its worker died" in run.driver.state.reason


def test_losses_are_counted_for_each_step_and_forgotten_when_it_settles(driven):
    run = driven("[a, b]")
    run.begin()
    assert run.tell(Lost("a", 1, 1, "died"), Lost("b", 1, 1, "died")) == [Start("a", 1, 2), Start("b", 1, 2)]
    run.tell(run.fails("a", retry_at=1))
    run.tell(Due("a"))
    assert run.tell(Lost("a", 1, 3, "died")) == [Start("a", 1, 4)]


def test_a_lost_attempt_with_an_external_effect_pauses_the_run(plan_of, spec_of):
    plan = plan_of("a", specs=[spec_of("a", policy=Policy(effect="external"))])
    run = Driven(plan)
    run.begin()
    assert run.tell(Lost("a", 1, 1, "its worker died")) == [CancelAttempts(), End()]
    assert "outcome is unknown" in run.driver.state.reason


def test_an_outcome_of_an_attempt_that_was_lost_is_refused(driven):
    run = driven("a")
    run.begin()
    late = run.done("a")
    run.tell(Lost("a", 1, 1, "its worker died"))
    assert not run.driver.take(late, run.now)


HEADER = {"at": 5, "step": "a", "visit": 1, "attempt": 2}


def test_a_returned_value_completes_the_step():
    assert settle(NULL, **HEADER) == e.StepCompleted(**HEADER, output=NULL)


def test_a_returned_error_fails_without_another_attempt():
    verdict = ReturnedError(NULL, "limit")
    assert not tries_again(Policy(retries=3), 0, verdict)
    event = settle(verdict, **HEADER)
    assert isinstance(event, e.StepFailed)
    assert (event.error.reason, event.output) == ("limit", NULL)


def test_an_exception_is_retried_as_often_as_the_policy_says():
    assert [tries_again(Policy(retries=2), failures, Raised(BAD, True)) for failures in (0, 1, 2)] == [
        True,
        True,
        False,
    ]


def test_an_attempt_that_is_not_the_last_is_recorded_with_the_time_of_the_next():
    assert settle(Raised(BAD, True), due_at=9, **HEADER) == e.StepRetried(**HEADER, error=BAD, due_at=9)


def test_an_exception_that_retry_on_does_not_name_is_not_retried():
    assert not tries_again(Policy(retries=2), 0, Raised(BAD, False))
    assert isinstance(settle(Raised(BAD, False), **HEADER), e.StepFailed)


def test_an_empty_driver_has_nothing_to_commit(plan_of):
    driver = Driver(plan_of("a"), State())
    assert (driver.batch, driver.running, driver.finishing) == ([], {}, False)


def test_an_attempt_that_hibernated_on_a_worker_starts_again_and_does_not_count_as_lost(driven):
    run = driven("a")
    run.begin()
    for attempt in range(1, 2 * MOST_LOST):
        assert run.tell(Woken("a", 1, attempt)) == [Start("a", 1, attempt + 1)]
    assert run.history[-2].reason == "it hibernated"
    assert not run.driver.take(Woken("a", 1, 1), run.now)


def test_a_shell_that_stays_wakes_one_step_of_a_hibernating_run_and_says_so(driven):
    run = driven("[a, b]")
    run.begin()
    assert run.tell(Leave(wake_at=99, stays=True)) == [] and not run.driver.finishing
    assert run.driver.state.hibernated
    assert run.tell(Woken("a", 1, 1)) == [Start("a", 1, 2)]
    assert run.kinds[-4:] == ["WorkflowHibernated", "StepInterrupted", "WorkflowAwakened", "StepStarted"]
    assert not run.driver.state.hibernated and run.driver.running["b"] == (1, 1)


def test_a_retry_that_comes_due_wakes_a_run_whose_shell_stayed(driven):
    run = driven("a")
    run.begin()
    run.tell(run.fails("a", retry_at=90))
    run.tell(Leave(wake_at=90, stays=True))
    assert run.tell(Due("a")) == [Start("a", 1, 2)]
    assert run.kinds[-2:] == ["WorkflowAwakened", "StepStarted"]


def test_a_result_lost_with_its_worker_is_made_again_before_a_step_uses_it(driven):
    run = driven("a >> b")
    run.begin()
    run.tell(run.done("a"))
    assert run.tell(Woken("b", 1, 1, "gone"), Restored(("a",))) == [Start("a", 2, 1)]
    assert run.tell(run.done("a")) == [Start("b", 1, 2)]
    assert run.tell(run.done("b")) == [End()]
