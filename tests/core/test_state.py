"""What the events of an execution say, folded."""

from __future__ import annotations

import pytest

from cerebelum_nb._core import events as e
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._core.step_state import Phase
from cerebelum_nb._core.value import ErrorInfo, Value

ONE = Value("json", "1")
NO = ErrorInfo(type="ValueError", message="no")
BEGUN = e.WorkflowStarted(at=1, workflow="w", inputs=Value("json", "{}"), total_steps=3, module="m")


def story(*events):
    """Fold events at 1, 2, 3 ... µs; every prefix keeps the invariants."""
    for length in range(len(events) + 1):
        check(fold(events[:length]))
    return fold(events)


def started(step, at=2, **header):
    return e.StepStarted(at=at, step=step, **header)


def completed(step, at=3, output=ONE, **header):
    return e.StepCompleted(at=at, step=step, output=output, **header)


def failed(step, at=3, **header):
    return e.StepFailed(at=at, step=step, error=NO, **header)


def slept(step, op="sleep:5s:1388:0", at=3):
    return e.SleepStarted(at=at, step=step, op=op, duration_ms=5000, due_at=5_000_000)


def asked(step, op="approval:manual:0:0", at=3):
    return e.ApprovalRequested(at=at, step=step, op=op, approval_type="manual")


# -- the execution ------------------------------------------------------------------------------------------


def test_the_fold_of_no_events_is_an_empty_state():
    assert story().lifecycle is ExecutionState.UNSPECIFIED


def test_the_version_counts_the_events():
    assert story(BEGUN, started("a"), completed("a")).version == 3


def test_a_started_execution_runs():
    state = story(BEGUN)
    assert (state.status, state.workflow, state.module, state.started_at) == ("RUNNING", "w", "m", 1)


def test_a_completed_execution_has_the_output_of_its_last_step():
    end = e.WorkflowCompleted(at=9, last_step="a")
    state = story(BEGUN, started("a"), completed("a"), end)
    assert (state.status, state.output, state.completed_at) == ("COMPLETED", ONE, 9)


def test_an_execution_in_which_nothing_ran_has_no_output():
    assert story(BEGUN, e.WorkflowCompleted(at=2)).output is None


def test_a_failed_execution_names_the_step_and_its_error():
    state = story(BEGUN, started("a"), failed("a"), e.WorkflowFailed(at=4, error=NO, failed_step="a"))
    assert (state.status, state.failed_step, state.error) == ("FAILED", "a", NO)


def test_a_pause_has_a_reason_and_is_not_final():
    interrupted = e.StepInterrupted(at=3, step="a", reason="stopped")
    state = story(BEGUN, started("a"), interrupted, e.WorkflowPaused(at=4, reason="stopped"))
    assert (state.status, state.reason, state.completed_at) == ("PAUSED", "stopped", None)


def test_a_request_to_cancel_is_kept_until_the_execution_is_cancelled():
    request = e.CancelRequested(at=2, reason="wrong size", by="ana")
    assert story(BEGUN, request).cancel == request


def test_a_cancelled_execution_is_over():
    state = story(BEGUN, e.WorkflowCancelled(at=2, reason="wrong size"))
    assert (state.status, state.reason, state.completed_at) == ("CANCELLED", "wrong size", 2)


def test_a_resume_forgets_the_failure():
    ended = e.WorkflowFailed(at=4, error=NO, failed_step="a")
    state = story(BEGUN, started("a"), failed("a"), ended, e.WorkflowResumed(at=5, retried=("a",)))
    assert (state.status, state.error, state.failed_step, state.completed_at) == ("RUNNING", None, None, None)


def test_a_resume_may_replace_the_inputs():
    other = Value("json", '{"size":2}')
    assert story(BEGUN, e.WorkflowResumed(at=2, inputs=other)).inputs == other


def test_a_resume_keeps_the_inputs_otherwise():
    assert story(BEGUN, e.WorkflowResumed(at=2)).inputs == BEGUN.inputs


def test_a_fork_has_its_parent():
    state = story(BEGUN, e.WorkflowForked(at=2, parent="k1", parent_version=7))
    assert (state.parent, state.parent_version) == ("k1", 7)


def test_a_step_began_with_its_first_attempt_since_the_last_resume():
    asleep = (BEGUN, started("a", at=2), slept("a"), e.WorkflowHibernated(at=4, wake_at=5_000_000))
    left = e.StepInterrupted(at=50, step="a", reason="it hibernated")
    woken = left, e.WorkflowAwakened(at=50, reason="due"), started("a", at=60, attempt=2)
    assert story(*asleep, *woken).steps["a"].began_at == 2
    again = e.WorkflowResumed(at=90, retried=("a",))
    assert (
        story(BEGUN, started("a"), failed("a"), e.WorkflowFailed(at=4, error=NO), again, started("a", at=95))
        .steps["a"]
        .began_at
        == 95
    )


def test_a_hibernating_execution_says_when_it_wakes():
    assert story(BEGUN, e.WorkflowHibernated(at=2, wake_at=99)).wake_at == 99


def test_an_awakened_execution_has_no_time_to_wake():
    state = story(BEGUN, e.WorkflowHibernated(at=2, wake_at=99), e.WorkflowAwakened(at=3))
    assert state.wake_at is None


# -- steps --------------------------------------------------------------------------------------------------


def test_a_started_step_is_in_flight():
    state = story(BEGUN, started("a"))
    assert list(state.in_flight) == ["a"] and state.current_step == "a"


@pytest.mark.parametrize(
    ("events", "current"),
    [
        ([started("a"), completed("a")], None),
        ([started("a"), completed("a"), started("b")], "b"),
        ([started("a"), started("b"), completed("b")], "a"),
        ([started("a"), started("b"), completed("a")], "b"),
        ([started("a"), started("b"), failed("b")], "a"),
        ([started("a"), e.StepInterrupted(at=3, step="a", attempt=1, reason="stopped")], "a"),
        ([started("a"), e.StepRetried(at=3, step="a", attempt=1, error=NO, due_at=9)], "a"),
    ],
)
def test_the_current_step_is_the_last_to_begin_of_those_not_done(events, current):
    assert story(BEGUN, *events).current_step == current


def test_a_completed_step_has_a_result():
    state = story(BEGUN, started("a"), completed("a"))
    assert state.steps["a"].has_result and state.steps["a"].output == ONE and not state.in_flight


def test_completed_steps_are_in_order_of_completion():
    state = story(BEGUN, started("a"), started("b"), completed("b"), completed("a"))
    assert list(state.finished) == ["b", "a"]


def test_a_failed_step_is_settled_without_a_result():
    step = story(BEGUN, started("a"), failed("a")).steps["a"]
    assert step.settled and not step.has_result and step.error == NO


def test_a_retried_step_is_due_and_stays_in_flight():
    state = story(BEGUN, started("a"), e.StepRetried(at=3, step="a", error=NO, due_at=50))
    step = state.steps["a"]
    assert (step.phase, step.due_at, step.failures) == (Phase.RETRYING, 50, 1)
    assert "a" in state.in_flight


def test_an_interrupted_attempt_is_not_a_failure():
    step = story(BEGUN, started("a"), e.StepInterrupted(at=3, step="a", reason="stopped")).steps["a"]
    assert (step.phase, step.failures, step.interrupted) == (Phase.PENDING, 0, True)


def test_progress_is_the_progress_of_the_current_attempt():
    told = e.StepProgressed(at=3, step="a", percent=40.0, message="half-way")
    again = (e.StepRetried(at=4, step="a", error=NO, due_at=5), started("a", attempt=2))
    assert story(BEGUN, started("a"), told).steps["a"].percent == 40.0
    assert story(BEGUN, started("a"), told, *again).steps["a"].percent is None


def test_a_retried_failure_starts_its_retries_again():
    history = (
        BEGUN,
        started("a"),
        e.StepRetried(at=3, step="a", error=NO, due_at=4),
        started("a", attempt=2),
        failed("a", attempt=2),
        e.WorkflowFailed(at=6, error=NO, failed_step="a"),
        e.WorkflowResumed(at=7, retried=("a",)),
    )
    step = story(*history).steps["a"]
    assert (step.phase, step.failures, step.attempt, step.visit) == (Phase.PENDING, 0, 2, 1)


# -- visits -------------------------------------------------------------------------------------------------


def test_a_jump_opens_a_new_visit():
    jump = e.Jumped(at=5, step="b", kind="back_to", to="a", reset=("a", "b"))
    state = story(BEGUN, started("a"), completed("a"), started("b"), completed("b"), jump)
    assert (state.steps["a"].visit, state.steps["a"].phase) == (2, Phase.PENDING)
    assert not state.finished and state.jumps == 1 and state.last_step is None


def test_a_jump_does_not_change_earlier_steps():
    jump = e.Jumped(at=5, step="b", kind="back_to", to="b", reset=("b",))
    state = story(BEGUN, started("a"), completed("a"), started("b"), completed("b"), jump)
    assert list(state.finished) == ["a"] and state.last_step == "a"


def test_a_new_visit_forgets_operations_and_routes():
    run = e.OperationCompleted(at=3, step="a", op="run:mail:0:0", output=ONE)
    route = e.DivergeTaken(at=5, step="a", choice="x")
    jump = e.Jumped(at=6, step="a", kind="back_to", to="a", reset=("a",))
    step = story(BEGUN, started("a"), run, failed("a"), route, jump).steps["a"]
    assert not step.operations and not step.diverge_chosen and step.attempt == 0


def test_a_retry_by_route_counts_tries():
    jump = e.Jumped(at=6, step="a", kind="retry", to="a", reset=("a",))
    assert story(BEGUN, started("a"), completed("a"), jump).steps["a"].route_retries == 1


def test_a_restored_step_keeps_its_route():
    history = (
        BEGUN,
        started("a"),
        completed("a"),
        e.BranchTaken(at=4, step="a", choice=True),
        e.WorkflowPaused(at=5, reason="stopped"),
        e.WorkflowResumed(at=6, restored=("a",)),
    )
    step = story(*history).steps["a"]
    assert (step.visit, step.branch, step.phase) == (2, True, Phase.PENDING)


def test_a_rerouted_step_keeps_its_result():
    history = (
        BEGUN,
        started("a"),
        completed("a"),
        e.DivergeTaken(at=4, step="a", choice="x"),
        e.WorkflowFailed(at=5, error=NO, failed_step="a"),
        e.WorkflowResumed(at=6, rerouted=("a",)),
    )
    step = story(*history).steps["a"]
    assert step.has_result and not step.diverge_chosen


# -- operations ---------------------------------------------------------------------------------------------


def test_a_finished_sleep_is_done():
    op = slept("a").op
    state = story(BEGUN, started("a"), slept("a"), e.SleepCompleted(at=4, step="a", op=op))
    assert state.steps["a"].operations[op].done and not state.waiting


def test_an_open_sleep_survives_an_interruption():
    state = story(BEGUN, started("a"), slept("a"), e.StepInterrupted(at=4, step="a", reason="stopped"))
    (operation,) = state.steps["a"].operations.values()
    assert (operation.kind, operation.due_at, operation.done) == ("sleep", 5_000_000, False)


def test_a_poll_has_its_tries_and_deadline():
    op = "poll:check:0:0"
    first = e.PollStarted(at=3, step="a", op=op, deadline=900)
    tried = e.PollAttempted(at=4, step="a", op=op, number=1, due_at=44)
    operation = story(BEGUN, started("a"), first, tried).steps["a"].operations[op]
    assert (operation.number, operation.due_at, operation.deadline) == (1, 44, 900)


def test_an_operation_that_raised_is_forgotten():
    op = "retry:connect:0:0"
    tried = e.RetryAttempted(at=3, step="a", op=op, number=1, due_at=9, error=NO)
    raised = e.OperationFailed(at=4, step="a", op=op, error=NO)
    assert not story(BEGUN, started("a"), tried, raised).steps["a"].operations


def test_a_side_effect_survives_a_failure_of_its_step():
    run = e.OperationCompleted(at=3, step="a", op="run:mail:0:0", output=ONE)
    ended = e.WorkflowFailed(at=5, error=NO, failed_step="a")
    resumed = e.WorkflowResumed(at=6, retried=("a",))
    state = story(BEGUN, started("a"), run, failed("a"), ended, resumed)
    assert state.steps["a"].operations["run:mail:0:0"].done


def test_a_completed_step_keeps_no_operations():
    run = e.OperationCompleted(at=3, step="a", op="run:mail:0:0", output=ONE)
    assert not story(BEGUN, started("a"), run, completed("a")).steps["a"].operations


def test_an_approval_is_answered():
    op = asked("a").op
    yes = e.ApprovalReceived(at=4, step="a", op=op, response=ONE, by="ana")
    operation = story(BEGUN, started("a"), asked("a"), yes).steps["a"].operations[op]
    assert operation.done and operation.result == ONE


def test_a_rejected_approval_is_not_done():
    no = e.ApprovalRejected(at=4, step="a", op=asked("a").op, reason="too dear", by="ana")
    state = story(BEGUN, started("a"), asked("a"), no)
    (operation,) = state.steps["a"].operations.values()
    assert not operation.done and operation.error.message == "too dear" and not state.waiting


def test_an_approval_that_timed_out_starts_from_scratch():
    late = e.ApprovalTimedOut(at=4, step="a", op=asked("a").op)
    assert story(BEGUN, started("a"), asked("a"), late).steps["a"].operations[asked("a").op].is_decided
    told = e.OperationFailed(at=5, step="a", op=asked("a").op, error=ErrorInfo(type="ApprovalTimeoutError", message=""))
    assert not story(BEGUN, started("a"), asked("a"), late, told).steps["a"].operations


# -- status -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waits", "status"),
    [
        ((slept("a"),), "SLEEPING"),
        ((asked("a"),), "WAITING_FOR_APPROVAL"),
        ((slept("a"), started("b")), "RUNNING"),
        ((slept("a"), started("b"), slept("b")), "SLEEPING"),
        ((slept("a"), started("b"), asked("b")), "WAITING_FOR_APPROVAL"),
        ((slept("a"), e.SleepCompleted(at=4, step="a", op=slept("a").op)), "RUNNING"),
        ((slept("a"), completed("a")), "RUNNING"),
        ((slept("a"), e.StepRetried(at=4, step="a", error=NO, due_at=5)), "RUNNING"),
    ],
    ids=[
        "it sleeps",
        "it asks",
        "another works",
        "both sleep",
        "one sleeps, one asks",
        "it slept",
        "it is over",
        "it failed in its sleep",
    ],
)
def test_an_execution_waits_when_every_step_in_flight_waits(waits, status):
    assert story(BEGUN, started("a"), *waits).status == status


# -- invariants ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.in_flight.clear(),
        lambda state: state.finished.update(a=None),
        lambda state: state.waiting.update({"sleep@z": "z"}),
        lambda state: setattr(state, "completed_at", 1),
        lambda state: setattr(state, "last_step", "z"),
        lambda state: setattr(state.steps["a"], "due_at", 1),
        lambda state: setattr(state, "lifecycle", ExecutionState.PAUSED),
    ],
)
def test_check_notices_a_state_that_no_history_has(spoil):
    state = story(BEGUN, started("a"))
    spoil(state)
    with pytest.raises(AssertionError):
        check(state)


def test_a_fold_continues_from_a_state():
    history = (BEGUN, started("a"), completed("a"))
    assert fold(history[1:], fold(history[:1])) == fold(history)


def test_a_state_is_found_by_its_name_in_any_case():
    assert ExecutionState("Waiting for approval") is ExecutionState.WAITING_FOR_APPROVAL


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ("faild", ValueError, "Did you mean 'FAILED'"),
        ("x", ValueError, "Available: QUEUED"),
        (7, TypeError, "not 7"),
    ],
)
def test_what_is_not_a_state_is_refused(given, error, told):
    with pytest.raises(error, match=told):
        ExecutionState(given)
