"""The fold: what each event changes in the state of an execution.

Everything known about an execution is in its events. ``evolve`` changes the state in place, which the caller owns, so
that an event costs O(1); for an earlier state, fold a prefix again. It uses no clock, file or plan. What a step forgets
and keeps when it runs again is in visits.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from ..errors import StoreError
from . import events as e
from .graph import UNDO, undone_by
from .labels import changed_tags
from .state import State
from .state_copy import unshare_steps
from .state_name import ExecutionState
from .step_state import COMPLETED, RUNNING, Checkpoint, Items, Operation, Phase, StepState, waits_for_signal
from .value import ErrorInfo
from .visits import begin_rollback, end_rollback, keep_unchanged_items, mark_undone, relist, reopen, restore, revisit

__all__ = ["evolve", "fold"]

_LAST_PRINTED = 4_000
"""How many characters of what a step prints its state keeps."""


def fold(events: Iterable[e.Event], state: State | None = None) -> State:
    """Fold events, in order, into a state.

    Raises:
        StoreError: they do not fit together, as in a log that was damaged or forged.

    Example:
        >>> fold([]).version
        0
    """
    state = State() if state is None else state
    event = None
    try:
        for event in events:
            evolve(state, event)
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise StoreError(
            f"Event {state.version} of an execution, {type(event).__name__}, does not fit those before it: something "
            f"else has written to the log. `cerebelum verify` says more; restore the log from a copy."
        ) from error
    return state


def evolve(state: State, event: e.Event) -> State:
    """Fold one event into ``state``, in place, and return it."""
    if state.shared:
        unshare_steps(state, event)
    state.version += 1
    state.updated_at = event.at
    if type(event) not in e.SIGNALS:
        state.active_at = event.at
    match event:
        case e.StepStarted():
            step = state.steps.get(event.step) or _step(state, event)
            if step.attempt:  # what the last attempt left
                step.due_at = step.percent = None
                step.worker = step.printed = ""
                step.interrupted = False
            step.attempt = event.attempt
            step.phase = RUNNING
            step.started_at = event.at
            step.began_at = step.began_at or event.at
            step.code, step.inputs = event.code, state.inputs
            state.in_flight[event.step] = None
            state.current_step = event.step
            if event.step not in state.steps and event.step[0] != UNDO:
                state.items_of(event.step).running[event.step] = None
        case e.StepCompleted():  # with `_end_attempt` inlined, because every step passes here
            step = state.steps.get(event.step) or _step(state, event)
            step.phase, step.ended_at, step.due_at = COMPLETED, event.at, None
            state.in_flight.pop(event.step, None)
            if state.waiting:
                state.end_waits(event.step, step)
            step.output = event.output
            step.error = None
            step.by_hand, step.worker, step.source = event.by_hand, event.worker, event.source
            if event.by_hand:
                step.inputs = None
            if step.operations:
                step.operations = {}
            step.checkpoints = step.counts = ()
            step.dropped = ""
            state.deaths = 0
            if state.current_step == event.step:
                state.current_step = next(reversed(state.in_flight), None)
            if event.step not in state.steps:
                step.settled_at = state.version
                if event.step[0] == UNDO:
                    mark_undone(state, undone_by(event.step))
                    return state
                state.items_of(event.step).running.pop(event.step, None)
                state.items_of(event.step).done += event.step.endswith("]")  # the last step of the body is the item's
                return state
            state.finished[event.step] = None
            if event.step in state.restoring:
                del state.restoring[event.step]
            else:
                step.settled_at = state.version
                state.last_step = event.step
        case e.StepFailed():
            step = _step(state, event)
            _end_attempt(state, event.step, step, Phase.FAILED, event.at)
            step.attempt, step.worker = event.attempt, event.worker
            step.error, step.settled_at = event.error, state.version
            step.output = event.output
            _choose_current_step(state, event.step)
            if event.step not in state.steps and event.step[0] != UNDO:
                state.items_of(event.step).running.pop(event.step, None)
                state.items_of(event.step).failed[event.step] = None
        case e.StepRetried():
            step = _step(state, event)
            step.failures += 1
            step.error, step.worker = event.error, event.worker
            step.phase = Phase.RETRYING
            # A retry starts at the top; only after an interruption does the next attempt continue at a checkpoint.
            step.checkpoints, step.counts, step.dropped = (), (), ""
            step.due_at = event.due_at
            state.end_waits(event.step, step)
        case e.StepInterrupted():
            step = _step(state, event)
            _end_attempt(state, event.step, step, Phase.PENDING, event.at if event.ended_at is None else event.ended_at)
            step.interrupted, step.worker = True, event.worker
            if event.step not in state.steps and event.step[0] != UNDO:
                state.items_of(event.step).running.pop(event.step, None)
            if not state.hibernated:  # a step's duration includes hibernation, but not a pause
                step.began_at = 0
        case e.StepProgressed():
            step = _step(state, event)
            step.percent, step.message = event.percent, event.message
        case e.StepNoted():
            step = _step(state, event)
            if step.visit == event.visit:
                step.notes = {**(step.notes or {}), event.name: event.value}
        case e.StepPrinted():
            step = _step(state, event)
            step.printed = (step.printed + event.text)[-_LAST_PRINTED:]
        case e.StepCheckpointed():
            step = _step(state, event)
            if (step.visit, step.attempt) == (event.visit, event.attempt):
                _keep_checkpoint(step, event)
        case e.ItemsListed():
            step = _step(state, event)
            keys = {key: place for place, key in enumerate(event.keys)}
            digests = zip(event.keys, event.digests, strict=False)
            step.items = Items(keys, {key: digest for key, digest in digests if digest})
            if step.before is not None:
                keep_unchanged_items(step.items, step.before, event.step)
                step.before = None
            step.attempt, step.code, step.inputs = event.attempt, event.code, state.inputs
            step.began_at = step.started_at = event.at
        case e.DivergeTaken():
            step = _step(state, event)
            step.diverge, step.diverge_chosen, step.routed_at = event.choice, True, state.version
        case e.BranchTaken():
            step = _step(state, event)
            step.branch, step.routed_at = event.choice, state.version
        case e.Jumped():
            state.jumps += 1
            retries = _step(state, event).route_retries
            for name in event.reset:
                revisit(state, name)
            if event.kind == "retry":
                state.steps[event.to].route_retries = retries + 1
            elif event.kind == "back_to":
                for name in (*event.reset, event.to):
                    state.landings.pop(name, None)
                state.landings[event.to] = state.version
        case e.SleepStarted():
            operation = _operation(state, event)  # if it waits again after an interruption, it keeps its start
            operation.due_at, operation.duration_ms, operation.data = event.due_at, event.duration_ms, event.data
            state.start_wait(_wait_key(event), event.step)
        case e.SleepCompleted():
            _operation(state, event).done = True
            state.end_wait(_wait_key(event))
            state.deaths = 0
        case e.PollStarted():
            _step(state, event).operations[event.op] = Operation(event.op, event.at, deadline=event.deadline)
        case e.PollAttempted() | e.RetryAttempted():
            operation = _operation(state, event)
            operation.number, operation.due_at = event.number, event.due_at
        case e.OperationCompleted():
            operation = _operation(state, event)
            operation.result, operation.number, operation.done = event.output, event.number, True
            if state.waiting:
                state.end_wait(_wait_key(event))
            state.deaths = 0
        case e.OperationFailed():
            _step(state, event).operations.pop(event.op, None)
            state.end_wait(_wait_key(event))
        case e.OperationMismatched():
            pass
        case e.ApprovalRequested():
            operation = _operation(state, event)
            operation.due_at, operation.data, operation.digest = event.due_at, event.data, event.digest
            operation.approval_type, operation.validated = event.approval_type, event.validated
            state.start_wait(_wait_key(event), event.step)
        case e.ApprovalReceived():
            operation = _operation(state, event)
            operation.result = event.response
            step_decides = operation.validated or operation.is_before_body
            operation.done = not step_decides
            _end_decided_wait(state, event)
        case e.ApprovalRejected():
            operation = _operation(state, event)
            operation.error = ErrorInfo(type="ApprovalRejectedError", message=event.reason)
            operation.rejected_by = event.by
            _end_decided_wait(state, event)
        case e.ApprovalRefused():
            operation = _operation(state, event)
            operation.result = None
            if event.step in state.in_flight:
                state.start_wait(_wait_key(event), event.step)
        case e.ApprovalTimedOut():
            _operation(state, event).error = ErrorInfo(type="ApprovalTimeoutError", message="nobody decided in time")
            _end_decided_wait(state, event)
        case e.SignalReceived():
            if event.signal_id not in state.signal_ids:
                if event.signal_id:
                    state.signal_ids[event.signal_id] = None
                state.signals[state.version], state.last_signal = event, state.version
                if state.hibernated and any(waits_for_signal(key, event.name) for key in state.waiting):
                    state.wake_at = event.at
        case e.SignalAwaited():
            operation = _operation(state, event)
            operation.due_at = event.due_at
            state.start_wait(_wait_key(event), event.step)
        case e.SignalTaken():
            if (taken := state.signals.pop(event.received, None)) is not None:  # otherwise another step took it first
                operation = _operation(state, event)
                operation.result, operation.done = taken.data, True
                state.end_wait(_wait_key(event))
                state.deaths = 0
        case e.ChildStarted():
            operation = _operation(state, event)
            operation.child, operation.ended = event.child, False
            step = _step(state, event)
            if event.child not in step.children:
                step.children += (event.child,)
            state.start_wait(_wait_key(event), event.step)
        case e.ChildEnded():
            _operation(state, event).ended = True
            _end_decided_wait(state, event)
        case e.WorkflowStarted():
            state.lifecycle = ExecutionState.RUNNING
            state.workflow, state.inputs = event.workflow, event.inputs
            state.module, state.qualname, state.source = event.module, event.qualname, event.source
            state.plan = event.plan
            state.origin, state.slot = event.origin, event.slot
            state.name, state.tags, state.refresh = event.name, event.tags, event.refresh
            state.scheduled_at, state.timezone = event.scheduled_at, event.timezone
            state.caller, state.caller_step, state.depth = event.caller, event.caller_step, event.depth
            state.total_steps, state.started_at, state.resumed_at = event.total_steps, event.at, event.at
        case e.WorkflowQueued():
            state.lifecycle, state.behind = ExecutionState.QUEUED, event.behind
            state.queued_at = event.at if state.queued_at is None else state.queued_at
        case e.WorkflowAdmitted():
            state.lifecycle, state.queued_at, state.behind = ExecutionState.RUNNING, None, ""
            state.resumed_at = event.at
        case e.WorkflowPaused():
            state.lifecycle, state.reason, state.queued_at = ExecutionState.PAUSED, event.reason, None
            state.hibernated, state.wake_at, state.deaths = False, None, 0
        case e.WorkflowResumed():
            _continue(state, event)
        case e.WorkflowHibernated():
            state.hibernated, state.wake_at, state.deaths = True, event.wake_at, 0
        case e.WorkflowAwakened():
            state.hibernated, state.wake_at = False, None
            state.deaths += event.died
        case e.WorkflowCompleted():
            _finish(state, ExecutionState.COMPLETED, event.at)
            state.last_step = event.last_step
        case e.WorkflowFailed():
            _finish(state, ExecutionState.FAILED, event.at)
            state.error, state.failed_step = event.error, event.failed_step
        case e.CancelRequested():
            state.cancel = event
        case e.WorkflowTagged():
            state.tags = changed_tags(state.tags, event.added, event.removed)
        case e.WorkflowCancelled():
            _finish(state, ExecutionState.CANCELLED, event.at)
            state.reason = event.reason
        case e.RollbackStarted():
            begin_rollback(state, event)
        case e.WorkflowRolledBack():
            _finish(state, ExecutionState.ROLLED_BACK, event.at)
            end_rollback(state)
        case e.WorkflowForked():
            state.parent, state.parent_version, state.forked_at = event.parent, event.parent_version, event.from_step
            state.started_at, state.deaths, state.cancel = event.at, 0, None
            state.caller, state.caller_step, state.depth = "", "", 0  # nobody waits for a fork
            _continue(state, event)
        case _:
            assert_never(event)
    return state


def _step(state: State, event: e.StepEvent) -> StepState:
    step = state.steps.get(event.step)
    if step is None:
        steps = state.steps
        if event.step[0] == UNDO:
            assert state.rollback is not None, f"{event.step} outside of a rollback"
            steps = state.rollback.steps
        elif "[" in event.step:
            steps = state.items_of(event.step).steps
        step = steps.get(event.step)
        if step is None:
            step = steps[event.step] = StepState(event.visit)
    return step


def _operation(state: State, event: e.OperationEvent) -> Operation:
    operations = _step(state, event).operations
    operation = operations.get(event.op)
    if operation is None:
        operation = operations[event.op] = Operation(event.op, event.at)
    return operation


def _wait_key(event: e.OperationEvent) -> str:
    return f"{event.op}@{event.step}"


def _end_decided_wait(state: State, event: e.OperationEvent) -> None:
    """End the wait for an approval or a child; a hibernated execution that waits for it is now due."""
    state.end_wait(_wait_key(event))
    if state.hibernated:
        state.wake_at = event.at


def _keep_checkpoint(step: StepState, event: e.StepCheckpointed) -> None:
    if event.reason:  # checkpoints after this place are no longer valid; without a place, none is
        while step.checkpoints and step.checkpoints[-1].event.place != event.place:
            step.checkpoints.pop()
        if step.counts:
            del step.counts[step.checkpoints[-1].number if step.checkpoints else 0 :]
        step.dropped = event.reason if event.raised else ""
        return
    step.dropped = ""
    if event.counts:  # there may be thousands of lines, of which few begin an operation
        if step.counts:
            step.counts.append(event.counts)
        else:
            step.counts = [event.counts]
    others = [known for known in step.checkpoints if known.event.place != event.place]
    step.checkpoints = [*others, Checkpoint(event, len(step.counts))]


def _end_attempt(state: State, name: str, step: StepState, phase: Phase, at: int) -> None:
    step.phase, step.ended_at, step.due_at = phase, at, None
    state.in_flight.pop(name, None)
    state.end_waits(name, step)


def _choose_current_step(state: State, name: str) -> None:
    """Choose another current step after one has ended. An interrupted step stays current: the run continues there."""
    if state.current_step == name:
        state.current_step = next(reversed(state.in_flight), None)


def _finish(state: State, lifecycle: ExecutionState, at: int) -> None:
    state.lifecycle, state.completed_at, state.current_step, state.queued_at = lifecycle, at, None, None
    state.hibernated, state.wake_at, state.deaths = False, None, 0


def _continue(state: State, event: e.TakenUpEvent) -> None:
    state.lifecycle, state.completed_at, state.resumed_at = ExecutionState.RUNNING, None, event.at
    state.error = state.failed_step = state.reason = state.wake_at = None
    state.hibernated = False
    if state.rollback is not None and state.rollback.is_over:
        state.rollback = None
    if event.inputs is not None:
        state.inputs = event.inputs
    state.total_steps = event.total_steps or state.total_steps
    state.plan = event.plan or state.plan
    if event.slot is not None:
        state.slot = event.slot
    if event.revisited and state.steps.keys() <= set(event.revisited):
        state.jumps = 0
    for name in event.retried:
        reopen(state, name)
    for name in event.revisited:
        revisit(state, name)
    for name in event.relisted:
        relist(state, name)
    for name in event.restored:
        restore(state, name)
    for name in event.rerouted:
        step = state.steps[name]
        step.diverge, step.diverge_chosen, step.branch = None, False, None
