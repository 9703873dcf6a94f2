"""The state of an execution: a pure fold of its events.

Everything known about an execution is in its events, so one fold serves resume, status, history, time travel and tests.
``evolve`` changes the state that it is given and returns it: the caller owns it, so each event costs O(1); fold a
prefix again for an earlier state. No clock, no file and no plan is used here. The state of a single step is in
step_state.py; invariants.py says what holds of every state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import assert_never

from . import events as e
from .graph import UNDO, key_of, owner_of, undone_by
from .labels import changed_tags
from .state_name import ExecutionState
from .step_state import Checkpoint, Items, Operation, Phase, StepState
from .value import ErrorInfo, Value

__all__ = ["State", "evolve", "fold"]


_LAST_PRINTED = 4_000
"""How many characters of what a step printed its state keeps."""


@dataclass(slots=True)
class Rollback:
    """A rollback: what is still to be undone, the attempts at it by ``~step``, and the undone steps as they were."""

    todo: dict[str, None]
    to: str | None = None  # the last step that stays done
    error: ErrorInfo | None = None  # why, if it had failed
    failed_step: str | None = None
    steps: dict[str, StepState] = field(default_factory=dict)
    undone: dict[str, StepState] = field(default_factory=dict)  # as they were: other undos may use their results
    is_over: bool = False


@dataclass(slots=True)
class State:
    """Everything the events of one execution say. Times are µs since the epoch."""

    version: int = 0
    lifecycle: ExecutionState = ExecutionState.UNSPECIFIED
    workflow: str = ""
    module: str = ""
    qualname: str = ""
    source: str = ""
    plan: str = ""  # the digest of the plan it last used
    origin: str = ""  # the notebook or script that started it
    slot: str = ""  # what only one execution at a time may have
    queued_at: int | None = None  # since when it waits for its slot
    scheduled_at: int | None = None  # the time for which a schedule started it
    timezone: str = ""  # of that schedule
    behind: str = ""  # the execution it waits behind, as of when it was queued
    name: str = ""
    tags: tuple[str, ...] = ()  # sorted
    refresh: tuple[str, ...] = ()  # steps that take no cached result
    inputs: Value | None = None
    total_steps: int = 0
    started_at: int = 0
    resumed_at: int = 0  # when it was last started, forked or resumed, but not woken: its time counts from then
    updated_at: int = 0
    active_at: int = 0  # when the process that ran it last recorded something; signals come from others
    completed_at: int | None = None
    steps: dict[str, StepState] = field(default_factory=dict)
    finished: dict[str, None] = field(default_factory=dict)  # completed steps, in order of completion
    in_flight: dict[str, None] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)  # op key -> step, of open sleeps, approvals, signals
    waiters: dict[str, int] = field(default_factory=dict)  # step -> how many of them it has
    waits: dict[str, int] = field(default_factory=dict)  # "sleep", "signal", "child", ... -> how many of them are open
    current_step: str | None = None  # of the steps that began and are not done, the last to begin
    last_step: str | None = None
    jumps: int = 0
    landings: dict[str, int] = field(default_factory=dict)  # the targets of jumps back, each with its version
    restoring: dict[str, None] = field(default_factory=dict)  # steps that run again only to restore their value
    rollback: Rollback | None = None  # kept when it is over, until the execution is resumed
    error: ErrorInfo | None = None
    failed_step: str | None = None
    reason: str | None = None  # why it is paused or cancelled
    cancel: e.CancelRequested | None = None
    signals: dict[int, e.SignalReceived] = field(default_factory=dict)  # received, but not taken, by version
    signal_ids: dict[str, None] = field(default_factory=dict)
    last_signal: int = 0  # the version of the last one
    hibernated: bool = False  # no process runs it, and none should before wake_at
    wake_at: int | None = None
    deaths: int = 0  # processes in a row that died without getting anything done
    parent: str | None = None
    parent_version: int | None = None
    forked_at: str | None = None  # the step before which the parent's history was cut
    caller: str = ""  # the execution whose step started this one, and waits for it
    caller_step: str = ""
    depth: int = 0  # how many callers are above it

    @property
    def status(self) -> ExecutionState:
        """The execution's state; a running one in which every step in flight waits is SLEEPING or waiting."""
        if self.lifecycle is not ExecutionState.RUNNING or not (self.waiting or self.hibernated):
            return self.lifecycle
        if self.hibernated:
            return self._waits_for()
        if len(self.waiters) < len(self.in_flight) or "child" in self.waits:  # the child is at work
            return ExecutionState.RUNNING
        return self._waits_for()

    def _waits_for(self) -> ExecutionState:
        if "approval" in self.waits:
            return ExecutionState.WAITING_FOR_APPROVAL
        if "signal" in self.waits:
            return ExecutionState.WAITING_FOR_SIGNAL
        return ExecutionState.WAITING_FOR_CHILD if "child" in self.waits else ExecutionState.SLEEPING

    @property
    def is_rolling_back(self) -> bool:
        """Whether a rollback has begun and is not over, at work or not."""
        return self.rollback is not None and not self.rollback.is_over

    def step(self, name: str) -> StepState | None:
        """Return what is known of a step, of a step for an item, ``deploy[ams3]``, or of an undo, ``~deploy``."""
        found = self.steps.get(name)
        if found is None and name[:1] == UNDO:
            return None if self.rollback is None else self.rollback.steps.get(name)
        if found is not None or "[" not in name:
            return found
        owner = self.steps.get(owner_of(name))
        return None if owner is None or owner.items is None else owner.items.steps.get(name)

    def attempted(self) -> Iterator[tuple[str, StepState]]:
        """Yield everything that has attempts, by name: steps, and steps for items."""
        for name, step in self.steps.items():
            yield name, step
            if step.items is not None:
                yield from step.items.steps.items()
        if self.rollback is not None:
            yield from self.rollback.steps.items()

    def left_at(self, heard_at: int | None, now: int) -> int:
        """Return when a process that is gone was last known to run this, µs.

        Args:
            heard_at: its last heartbeat, µs by its own clock, which may be wrong, so it only counts between the last
                event it recorded and ``now``. None if unknown.
            now: the time, µs since the epoch.
        """
        return min(max(self.active_at, heard_at or 0), now)

    @property
    def outputs(self) -> dict[str, Value]:
        """The values of the completed steps by name, in order of completion."""
        return {name: value for name in self.finished if (value := self.steps[name].output) is not None}

    @property
    def output(self) -> Value | None:
        """The value of the last step, once completed."""
        return self.steps[self.last_step].output if self.last_step is not None else None


def fold(events: Iterable[e.Event], state: State | None = None) -> State:
    """Fold events, in order, into a state.

    Example:
        >>> fold([]).version
        0
    """
    state = State() if state is None else state
    for event in events:
        evolve(state, event)
    return state


def evolve(state: State, event: e.Event) -> State:
    """Fold one event into ``state``, in place, and return it."""
    state.version += 1
    state.updated_at = event.at
    if type(event) not in e.SIGNALS:
        state.active_at = event.at
    match event:
        case e.StepStarted():
            step = state.steps.get(event.step) or _step(state, event)
            step.attempt = event.attempt
            step.phase = Phase.RUNNING
            step.started_at = event.at
            step.began_at = step.began_at or event.at
            step.due_at = None
            step.code, step.inputs = event.code, state.inputs
            step.interrupted = False
            step.worker = ""
            step.percent = None
            step.printed = ""
            state.in_flight[event.step] = None
            state.current_step = event.step
            if event.step not in state.steps and event.step[0] != UNDO:
                _items(state, event.step).running[event.step] = None
        case e.StepCompleted():  # `_leave` inlined: every step passes here once
            step = state.steps.get(event.step) or _step(state, event)
            step.phase, step.ended_at, step.due_at = Phase.COMPLETED, event.at, None
            state.in_flight.pop(event.step, None)
            if state.waiting:
                _stop_waiting(state, event.step, step)
            step.output = event.output
            step.error = None
            step.by_hand, step.worker, step.source = event.by_hand, event.worker, event.source
            if event.by_hand:
                step.inputs = None
            if step.operations:
                step.operations = {}
            if step.checkpoints or step.counts:
                step.checkpoints, step.counts = [], []
            step.dropped = ""
            state.deaths = 0
            if state.current_step == event.step:
                state.current_step = next(reversed(state.in_flight), None)
            if event.step not in state.steps:
                step.settled_at = state.version
                if event.step[0] == UNDO:
                    _undone(state, undone_by(event.step))
                    return state
                _items(state, event.step).running.pop(event.step, None)
                _items(state, event.step).done += event.step.endswith("]")  # the last step of the body is the item's
                return state
            state.finished[event.step] = None
            if event.step in state.restoring:
                del state.restoring[event.step]
            else:
                step.settled_at = state.version
                state.last_step = event.step
        case e.StepFailed():
            step = _step(state, event)
            _leave(state, event.step, step, Phase.FAILED, event.at)
            step.attempt, step.worker = event.attempt, event.worker
            step.error, step.settled_at = event.error, state.version
            step.output = event.output
            _step_on(state, event.step)
            if event.step not in state.steps and event.step[0] != UNDO:
                _items(state, event.step).running.pop(event.step, None)
                _items(state, event.step).failed[event.step] = None
        case e.StepRetried():
            step = _step(state, event)
            step.failures += 1
            step.error, step.worker = event.error, event.worker
            step.phase = Phase.RETRYING
            step.checkpoints, step.counts, step.dropped = (
                [],
                [],
                "",
            )  # from the top; only an interrupted attempt is entered where it was
            step.due_at = event.due_at
            _stop_waiting(state, event.step, step)
        case e.StepInterrupted():
            step = _step(state, event)
            _leave(state, event.step, step, Phase.PENDING, event.at if event.ended_at is None else event.ended_at)
            step.interrupted, step.worker = True, event.worker
            if event.step not in state.steps and event.step[0] != UNDO:
                _items(state, event.step).running.pop(event.step, None)
            if not state.hibernated:  # hibernation counts as time of the step, a pause does not
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
                _keep_the_same(step.items, step.before, event.step)
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
                _revisit(state, name)
            if event.kind == "retry":
                state.steps[event.to].route_retries = retries + 1
            elif event.kind == "back_to":
                for name in (*event.reset, event.to):
                    state.landings.pop(name, None)
                state.landings[event.to] = state.version
        case e.SleepStarted():
            operation = _operation(state, event)  # after an interruption it keeps its beginning
            operation.due_at, operation.duration_ms, operation.data = event.due_at, event.duration_ms, event.data
            _start_wait(state, event)
        case e.SleepCompleted():
            _operation(state, event).done = True
            _end_wait(state, _wait_key(event))
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
                _end_wait(state, _wait_key(event))
            state.deaths = 0
        case e.OperationFailed():
            _step(state, event).operations.pop(event.op, None)
            _end_wait(state, _wait_key(event))
        case e.OperationMismatched():
            pass
        case e.ApprovalRequested():
            operation = _operation(state, event)  # after an interruption it keeps its beginning
            operation.due_at, operation.data, operation.digest = event.due_at, event.data, event.digest
            operation.approval_type, operation.validated = event.approval_type, event.validated
            _start_wait(state, event)
        case e.ApprovalReceived():
            operation = _operation(state, event)
            operation.result = event.response
            operation.done = not operation.validated and not operation.is_before_body  # then the step decides last
            _decided(state, event)
        case e.ApprovalRejected():
            operation = _operation(state, event)
            operation.error = ErrorInfo(type="ApprovalRejectedError", message=event.reason)
            operation.rejected_by = event.by
            _decided(state, event)
        case e.ApprovalRefused():
            operation = _operation(state, event)
            operation.result = None
            if event.step in state.in_flight:
                _start_wait(state, event)
        case e.ApprovalTimedOut():
            _operation(state, event).error = ErrorInfo(type="ApprovalTimeoutError", message="nobody decided in time")
            _decided(state, event)
        case e.SignalReceived():
            if event.signal_id not in state.signal_ids:
                if event.signal_id:
                    state.signal_ids[event.signal_id] = None
                state.signals[state.version], state.last_signal = event, state.version
                if state.hibernated and any(key.startswith(f"signal:{event.name}:") for key in state.waiting):
                    state.wake_at = event.at
        case e.SignalAwaited():
            operation = _operation(state, event)  # after an interruption it keeps its beginning
            operation.due_at = event.due_at
            _start_wait(state, event)
        case e.SignalTaken():
            if (taken := state.signals.pop(event.received, None)) is not None:  # else another step was first
                operation = _operation(state, event)
                operation.result, operation.done = taken.data, True
                _end_wait(state, _wait_key(event))
                state.deaths = 0
        case e.ChildStarted():
            operation = _operation(state, event)  # after an interruption it keeps its beginning
            operation.child, operation.ended = event.child, False
            step = _step(state, event)
            if event.child not in step.children:
                step.children += (event.child,)
            _start_wait(state, event)
        case e.ChildEnded():
            _operation(state, event).ended = True
            _decided(state, event)
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
            _take_up(state, event)
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
            _begin_rollback(state, event)
        case e.WorkflowRolledBack():
            _finish(state, ExecutionState.ROLLED_BACK, event.at)
            _end_rollback(state)
        case e.WorkflowForked():
            state.parent, state.parent_version, state.forked_at = event.parent, event.parent_version, event.from_step
            state.started_at, state.deaths, state.cancel = event.at, 0, None
            state.caller, state.caller_step, state.depth = "", "", 0  # nobody waits for a fork
            _take_up(state, event)
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
            steps = _items(state, event.step).steps
        step = steps.get(event.step)
        if step is None:
            step = steps[event.step] = StepState(visit=event.visit)
    return step


def _items(state: State, name: str) -> Items:
    items = state.steps[owner_of(name)].items
    assert items is not None, f"the items of {name} are not listed"
    return items


def _begin_rollback(state: State, event: e.RollbackStarted) -> None:
    """Begin a rollback, or continue one that ended before it was over."""
    last = state.rollback if state.is_rolling_back else None
    state.lifecycle, state.completed_at = ExecutionState.RUNNING, None
    state.reason = state.cancel = state.wake_at = None
    state.hibernated, state.deaths = False, 0
    state.restoring.clear()
    state.plan, state.inputs = event.plan or state.plan, event.inputs or state.inputs
    state.error, state.failed_step = event.error, event.failed_step
    state.rollback = Rollback(dict.fromkeys(event.todo), event.to, event.error, event.failed_step)
    if last is not None:
        state.rollback.steps, state.rollback.undone = last.steps, last.undone
        for name in [n for n, s in last.steps.items() if s.phase is Phase.FAILED]:
            _reopen(state, name)


def _undone(state: State, name: str) -> None:
    """Mark a step as undone: it is no longer done. Other undos may still use its result."""
    rollback, step = state.rollback, state.step(name)
    assert rollback is not None and step is not None, f"{name} is undone and never was done"
    rollback.todo.pop(name, None)
    rollback.undone[name] = step
    owner = owner_of(name)
    _revisit(state, name)
    if owner != name and (foreach := state.steps[owner]).settled:  # one of its items is gone, and so is the whole
        rollback.undone.setdefault(owner, replace(foreach))
        foreach.phase, foreach.output, foreach.error = Phase.PENDING, None, None
        state.finished.pop(owner, None)
        if state.last_step == owner:
            state.last_step = next(reversed(state.finished), None)


def _end_rollback(state: State) -> None:
    rollback = state.rollback
    assert rollback is not None, "a rollback ends that never began"
    rollback.is_over = True
    state.error, state.failed_step = rollback.error, rollback.failed_step
    if rollback.to is None:
        state.jumps, state.landings = 0, {}
    kept = 0 if rollback.to is None else state.steps[rollback.to].settled_at
    for name, step in list(state.steps.items()):
        if not (step.settled and step.settled_at <= kept) and (step.attempt or step.settled):
            _revisit(state, name)


def _operation(state: State, event: e.OperationEvent) -> Operation:
    operations = _step(state, event).operations
    operation = operations.get(event.op)
    if operation is None:
        operation = operations[event.op] = Operation(event.op, event.at)
    return operation


def _wait_key(event: e.OperationEvent) -> str:
    return f"{event.op}@{event.step}"


def _start_wait(state: State, event: e.OperationEvent) -> None:
    key, step = _wait_key(event), event.step
    if key not in state.waiting:
        state.waiting[key] = step
        state.waiters[step] = state.waiters.get(step, 0) + 1
        kind = key.partition(":")[0]
        state.waits[kind] = state.waits.get(kind, 0) + 1


def _end_wait(state: State, key: str) -> None:
    step = state.waiting.pop(key, None)
    if step is not None:
        for counts, what in (state.waiters, step), (state.waits, key.partition(":")[0]):
            counts[what] -= 1
            if not counts[what]:
                del counts[what]


def _decided(state: State, event: e.OperationEvent) -> None:
    """End the wait for an approval or a child; an execution that hibernates for it is due now."""
    _end_wait(state, _wait_key(event))
    if state.hibernated:
        state.wake_at = event.at


def _keep_checkpoint(step: StepState, event: e.StepCheckpointed) -> None:
    if event.reason:  # those after this place no longer hold; without a place none does
        while step.checkpoints and step.checkpoints[-1].event.place != event.place:
            step.checkpoints.pop()
        del step.counts[step.checkpoints[-1].number if step.checkpoints else 0 :]
        step.dropped = event.reason if event.raised else ""
        return
    step.dropped = ""
    if event.counts:  # of lines there may be thousands, and few begin an operation
        step.counts.append(event.counts)
    step.checkpoints = [known for known in step.checkpoints if known.event.place != event.place]
    step.checkpoints.append(Checkpoint(event, len(step.counts)))


def _leave(state: State, name: str, step: StepState, phase: Phase, at: int) -> None:
    step.phase, step.ended_at, step.due_at = phase, at, None
    state.in_flight.pop(name, None)
    _stop_waiting(state, name, step)


def _step_on(state: State, name: str) -> None:
    """Choose the current step after one is done; an interrupted one stays current, as the run continues there."""
    if state.current_step == name:
        state.current_step = next(reversed(state.in_flight), None)


def _stop_waiting(state: State, name: str, step: StepState) -> None:
    if state.waiting and step.operations:
        for op in step.operations:
            _end_wait(state, f"{op}@{name}")


def _reopen(state: State, name: str) -> None:
    """Continue the same visit: operations stay, the outcome and the route are decided again."""
    step = state.step(name)
    assert step is not None
    if step.items is not None:
        step.attempt += 1
        for item in step.items.failed:
            _reopen(state, item)
        step.items.failed.clear()
    step.phase, step.failures, step.output, step.due_at = Phase.PENDING, 0, None, None
    step.began_at = 0
    if name not in state.restoring:
        step.diverge, step.diverge_chosen, step.branch = None, False, None
    state.finished.pop(name, None)
    state.in_flight.pop(name, None)


def _revisit(state: State, name: str) -> None:
    """Begin a new visit: nothing of the last one counts for decisions."""
    old = state.step(name)
    if old is None:
        return
    if name not in state.steps:  # one item of a foreach, which is reopened beside it
        items = _items(state, name)
        items.done -= old.has_result and name.endswith("]")
        items.failed.pop(name, None)
        items.steps[name] = StepState(visit=old.visit + 1, code=old.code)
        _stop_waiting(state, name, old)
        return
    visits = old.visit if old.items is None else max([old.visit, *(s.visit for s in old.items.steps.values())])
    state.steps[name] = StepState(visit=visits + 1, code=old.code)
    state.finished.pop(name, None)
    state.in_flight.pop(name, None)
    state.restoring.pop(name, None)
    _stop_waiting(state, name, old)
    if state.last_step == name:
        state.last_step = next(reversed(state.finished), None)


def _relist(state: State, name: str) -> None:
    """Begin a new visit with other items; the results of those that are the same stay."""
    before = state.steps[name].items
    _revisit(state, name)
    state.steps[name].before = before


def _keep_the_same(items: Items, before: Items, owner: str) -> None:
    same = {
        key
        for key in items.keys
        if key in before.keys
        and items.digests.get(key) == before.digests.get(key)
        and (last := before.steps.get(f"{owner}[{key}]")) is not None
        and last.has_result
    }
    items.steps.update((name, known) for name, known in before.steps.items() if key_of(name) in same)
    items.done = len(same)


def _restore(state: State, name: str) -> None:
    """Begin a new visit only to restore the value: what was decided on the last one stays."""
    old, last_step = state.steps[name], state.last_step
    _revisit(state, name)
    new = state.steps[name]
    new.diverge, new.diverge_chosen, new.branch = old.diverge, old.diverge_chosen, old.branch
    new.routed_at, new.settled_at, new.route_retries = old.routed_at, old.settled_at, old.route_retries
    state.restoring[name] = None
    state.last_step = last_step


def _finish(state: State, lifecycle: ExecutionState, at: int) -> None:
    state.lifecycle, state.completed_at, state.current_step, state.queued_at = lifecycle, at, None, None
    state.hibernated, state.wake_at, state.deaths = False, None, 0


def _take_up(state: State, event: e.TakenUpEvent) -> None:
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
        _reopen(state, name)
    for name in event.revisited:
        _revisit(state, name)
    for name in event.relisted:
        _relist(state, name)
    for name in event.restored:
        _restore(state, name)
    for name in event.rerouted:
        step = state.steps[name]
        step.diverge, step.diverge_chosen, step.branch = None, False, None
