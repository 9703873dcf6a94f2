"""Run a workflow inside a step as a child: a separate execution, for which its caller waits.

It is a durable operation of the step. Its id derives from the caller, the step, the visit and the inputs, so a resume
of the caller after a crash finds it again: a complete child gives its result, a failed or interrupted child is resumed,
and the step waits for a hibernated one. Whoever is first runs it, the caller's process, a scheduler or a person; the
others wait for its end (_engine/children.py says how they learn of it).
"""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

from .._core.events import ChildStarted, Event, OperationCompleted
from .._core.fold import fold
from .._core.graph import undone_by
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.step_state import Phase, StepState
from .._core.value import Value
from .._engine.children import MOST_DEPTH
from .._engine.clock import Deadline
from .._engine.execution import Execution
from .._engine.inputs import Inputs, check_inputs
from .._engine.pacing import later_iteration
from .._engine.patience import RETRY_SECONDS
from .._engine.pending_operation import PendingOperation, offer
from .._engine.scope import Scope, current_scope
from .._engine.values import ExecutionValues
from .._values import fingerprint_args
from ..errors import CerebelumError, ExecutionBusyError, ExecutionStoppedError, StoreError, WorkflowError
from .definition import Definition
from .execution_id import new_id
from .result import Result
from .run import Run
from .start import Caller, Resuming, ended, launch, prepare_resume, resume_events, start_event

__all__ = ["UNFINISHED", "Child", "Reached", "abandoned_reason", "offer_child", "run_child", "undo_children"]

_CHECK_SECONDS = 1.0
"""How often the log is checked for events of a child that another process runs; of its end this process also learns at
once."""

UNFINISHED = (ExecutionState.FAILED, ExecutionState.PAUSED, ExecutionState.CANCELLED, ExecutionState.ROLLED_BACK)
"""The ends of a child that give its caller no result."""


def offer_child(
    scope: Scope, workflow: Definition, verb: str, inputs: Inputs | None, options: Mapping[str, Any]
) -> PendingOperation[Result]:
    """Make the call that runs a workflow as a child: an async step awaits it, in a plain step it runs at once.

    Args:
        scope: the calling step.
        workflow: the workflow.
        verb: the method that was called.
        inputs: the inputs.
        options: the other arguments, by name.

    Raises:
        CerebelumError: an option is set: a child takes inputs only.
    """
    what = f"{workflow.variable}.{verb}(...)"
    if given := [name for name, value in options.items() if value not in (None, False, ())]:
        raise CerebelumError(
            f"step '{scope.step}' calls {what} with {' and '.join(f'{name}=' for name in given)}: a child is an "
            f"execution in the log of its caller, under an id that is derived from it, so that a resume finds it. "
            f"Give it inputs only"
        )
    if scope.in_child_process:
        raise CerebelumError(
            f"step '{scope.step}' calls {what}, and runs in its own process, which cannot start children: leave out "
            f"process=True, or put '{workflow.name}' on the timeline"
        )
    return offer(what, run_child, workflow, inputs, scope=scope)


async def run_child(scope: Scope, workflow: Definition, inputs: Inputs | None, *, keep: bool = True) -> Result:
    """Run a workflow as a child of a step, or continue the child of an earlier attempt, and wait for its end.

    Args:
        scope: the step.
        workflow: the workflow.
        inputs: its inputs.
        keep: whether its output is recorded with the operation; not needed when it is the step's own result.

    Raises:
        WorkflowError: it failed, or was stopped or cancelled; the message says how to continue.
        CerebelumError: it cannot be a child here.
        WorkflowDefinitionError: its timeline cannot run.
    """
    return await _Call(scope, workflow, inputs, keep=keep).result()


async def undo_children(scope: Scope, workflow: Definition) -> None:
    """Roll back the children of the step that an attempt undoes, the last one first.

    Children that another execution started stay as they are: a fork has copied the history that names them.

    Raises:
        WorkflowError: an undo failed.
        OutcomeUnknownError: a child has an external effect that may have happened.
    """
    undone = scope.execution.state.step(undone_by(scope.step))
    for child in reversed(() if undone is None else undone.children):
        undo = _Undo(scope, workflow, child)
        if (await undo.runner.recorded(child)).caller == scope.execution.id:
            await undo.runner.finished(undo)


class Reached(NamedTuple):
    """A child that has reached its goal: its last state, and a function that makes its result."""

    state: State
    result: Callable[[], Result]


class Runner(Protocol):
    """Runs the children of an attempt in this process (:class:`_Here`) or on a cluster (_distributed/children.py)."""

    async def finished(self, child: Child) -> Reached:
        """Run it, or wait for whoever runs it, until it has reached its goal.

        Raises:
            WorkflowError: it has come to another end.
        """
        ...

    async def recorded(self, execution_id: str) -> State:
        """Read what is recorded of an execution."""
        ...

    def result(self, workflow: Definition, execution_id: str, state: State) -> Result:
        """Make the result of a complete execution."""
        ...


@runtime_checkable
class ClusterExecution(Protocol):
    """The execution of an attempt that a worker of a cluster runs."""

    child_runner: Runner


class Child(ABC):
    """An execution that an attempt of a step runs, or waits for, until it ends."""

    goal = ExecutionState.COMPLETED

    def __init__(self, scope: Scope, workflow: Definition) -> None:
        host = scope.execution
        self.scope, self.workflow, self.id, self.op = scope, workflow, "", ""
        self.runner: Runner
        if isinstance(host, Execution):
            self.runner = _Here(host)
        elif isinstance(host, ClusterExecution):
            self.runner = host.child_runner
        else:
            raise CerebelumError(
                f"step '{scope.step}' runs workflow '{workflow.variable}' as a child, which a trial of a step cannot "
                f"do: run the workflow"
            )

    @abstractmethod
    def make_ready(self, state: State, here: Execution) -> Run:
        """Start or resume it here; ``state`` is its recorded state."""

    @abstractmethod
    def begin(self, values: ExecutionValues, now: int, blueprint: str) -> Sequence[Event]:
        """Make the events that start or resume it on a cluster; the arguments are those of `resume_events`."""

    def begin_waiting(self) -> Any:
        """Record that the step waits for it."""
        return self.scope.record(ChildStarted, self.op, child=self.id, workflow=self.workflow.name)

    async def is_fresh(self, state: State, *, is_lost: bool = False) -> bool:
        """Whether the step may continue a child that has failed, or is lost: not if that is what woke the step."""
        known = self.scope.recorded(self.op)
        has_failed = is_lost or (state.lifecycle in UNFINISHED and state.lifecycle is not self.goal)
        if known is None or not known.ended or not has_failed:
            return True
        await self.begin_waiting()  # the step knows of it now: its next attempt, or a resume, continues the child
        return False

    def ends(self, state: State, *, is_first: bool) -> bool:
        """Whether it has reached its goal.

        Raises:
            WorkflowError: it has come to another end, and the step does not continue it.
        """
        if state.lifecycle is self.goal:
            return True
        if state.lifecycle in UNFINISHED and not self.can_resume(state, is_first=is_first):
            raise self.failure(state)
        return False

    def is_interrupted(self, state: State, *, is_first: bool) -> bool:
        """Whether to resume it even while it waits for something."""
        return False

    def can_resume(self, state: State, *, is_first: bool) -> bool:
        """Whether the step continues it, as a resume of the caller should.

        A paused child may have been stopped with the caller, just before the caller was resumed.
        """
        paused = state.lifecycle is ExecutionState.PAUSED
        return paused or (is_first and state.lifecycle is not ExecutionState.CANCELLED)

    def failure(self, state: State, cause: BaseException | None = None) -> WorkflowError:
        """Make the error with which the step fails."""
        text = f"child {self.id} of workflow '{self.workflow.name}' {_describe_end(state)}"
        if state.lifecycle is ExecutionState.CANCELLED:
            text += f". It is never resumed: resume its caller with rerun='{self.scope.step}' to start another one"
        error = WorkflowError(text, execution_id=self.id, failed_step=state.failed_step)
        error.__cause__ = cause
        return error


class _Here:
    """Runs children in the process of their caller."""

    def __init__(self, host: Execution) -> None:
        self.host, self.store = host, host.store

    async def recorded(self, execution_id: str) -> State:
        """Read what is recorded of an execution."""
        return fold(self.store.events(execution_id))

    def result(self, workflow: Definition, execution_id: str, state: State) -> Result:
        """Make the result of a complete execution."""
        return ended(workflow, execution_id, self.store, state).outcome()

    async def finished(self, child: Child) -> Reached:
        """Run it, or wait for whoever runs it, until it has reached its goal."""
        state = await self.recorded(child.id)
        is_first = await child.is_fresh(state)
        while True:
            if child.ends(state, is_first=is_first):
                return Reached(state, partial(self.result, child.workflow, child.id, state))
            runs = self._may_run(state) or child.is_interrupted(state, is_first=is_first)
            if is_first:
                await child.begin_waiting()
                is_first = False
            if not runs:
                state = await self._wait_for_others(child, state)
                continue
            try:
                run = await self._begin(child, state)
            except ExecutionBusyError as busy:
                if busy.execution_id != child.id:  # refused because of another execution
                    raise
                state = await self._wait_for_others(child, state, busy=True)
                continue
            await self._wait_for(child, run)
            reached = run.execution.state
            if reached.lifecycle is child.goal:
                return Reached(reached, run.outcome)
            if reached.lifecycle in UNFINISHED:
                raise child.failure(reached, run.cause)
            error = run.execution.done.exception()
            if error is not None and not isinstance(error, ExecutionBusyError):
                raise error
            state = await self.recorded(child.id)

    def _may_run(self, state: State) -> bool:
        """Whether to run it now: not while it hibernates, nor while this process is stopping."""
        if not state.hibernated:
            return not (self.host.driver.draining and state.version)
        return not self.host.driver.draining and state.wake_at is not None and state.wake_at <= self.host.clock.now()

    async def _begin(self, child: Child, state: State) -> Run:
        """Start or resume it on the engine's loop; retry while the log is locked."""
        if asyncio.get_running_loop() is self.host.loop and (later := later_iteration()) is not None:
            with suppress(ExecutionStoppedError):  # `_start` asks the scope whether its own execution is to stop
                await later
        while True:
            try:
                return await child.scope.on_loop(partial(self._start, child, state))
            except StoreError as error:
                if not error.transient:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    def _start(self, child: Child, state: State) -> Run:
        child.scope.check()
        token = current_scope.set(None)
        try:
            run = child.make_ready(state, self.host)
            execution = run.attended(self.host)
        finally:
            current_scope.reset(token)
        if self.host.driver.draining:
            execution.drain()
        return run

    async def _wait_for(self, child: Child, run: Run) -> None:
        """Wait for a child that runs here; if the step ends first, stop the child too."""
        try:
            await child.scope.wait_until(None, child.op, until=lambda: run.done, busy=True)
        finally:
            execution = run.execution
            self.host.children.pop(child.id, None)
            if not run.done:
                execution.attended_by = None
                if not (self.host.superseded or self.host.driver.cancelled):
                    execution.ask_to_stop(self.host.stop_requested or abandoned_reason(child))

    async def _wait_for_others(self, child: Child, state: State, *, busy: bool = False) -> State:
        """Wait until something happens to a child that does not run here, or until it is due; return its state then."""
        wake_at = state.wake_at if state.hibernated and not self.host.driver.draining else None
        due = None if wake_at is None else Deadline(self.host.clock, wake_at)
        watch = _Watch(child, self.host, state.version)
        await child.scope.on_loop(watch.look)
        try:
            await child.scope.wait_until(due, child.op, until=watch.has_moved, busy=busy)
        finally:
            watch.end()
        return await self.recorded(child.id)


def abandoned_reason(child: Child) -> str:
    """Return the reason for stopping a child whose step has ended."""
    return f"step '{child.scope.step}' no longer waits for it"


class _Call(Child):
    """One call of a workflow by one attempt of a step."""

    def __init__(self, scope: Scope, workflow: Definition, inputs: Inputs | None, *, keep: bool) -> None:
        super().__init__(scope, workflow)
        host = scope.execution
        if host.state.depth >= MOST_DEPTH:
            raise CerebelumError(
                f"step '{scope.step}' of execution {host.id} runs workflow '{workflow.variable}' as a child, and "
                f"already has {MOST_DEPTH} callers above it, the maximum. Does it call itself endlessly?"
            )
        self._given = check_inputs(inputs, workflow.shape)
        self._keep = keep
        digest = fingerprint_args((self._given,), {}, redactor=host.redactor)
        self.op = scope.identify("child", workflow.name.replace(":", ";"), digest)
        self.id = new_id(f"{host.id}:{scope.step}:{scope.visit}:{self.op}")

    async def result(self) -> Result:
        """Return its outcome, once it is complete."""
        known = self.scope.recorded(self.op)
        if known is not None and known.done and known.result is not None:
            return await self._recorded(known.child or self.id, known.result)
        await self.scope.record_mismatch(self.op)
        reached = await self.runner.finished(self)
        result = reached.result()
        if self._keep:
            output = reached.state.output or self.scope.execution.encode(None)
            await self.scope.record(OperationCompleted, self.op, output=output)
        return result

    def make_ready(self, state: State, here: Execution) -> Run:
        """Start it, or resume it as a user would: what failed runs again."""
        if not state.version:
            return launch(self.workflow, self._given, here.store, self.id, wait=here.stays, caller=self._caller)
        self._check_caller(state)
        return prepare_resume(self.workflow, self.id, store=here.store, wait=here.stays)

    def begin(self, values: ExecutionValues, now: int, blueprint: str) -> Sequence[Event]:
        """Start it, or resume it, like `make_ready`."""
        if not values.state.version:
            inputs = values.encode(self._given, path="inputs")
            return [start_event(self.workflow, values.plan, inputs, now, blueprint, self._caller)]
        self._check_caller(values.state)
        return resume_events(values, Resuming(), now, blueprint)[0]

    @property
    def _caller(self) -> Caller:
        host = self.scope.execution
        return Caller(host.id, self.scope.step, host.state.depth + 1)

    def _check_caller(self, state: State) -> None:
        if state.caller != self.scope.execution.id:
            raise CerebelumError(
                f"step '{self.scope.step}' would start its child as {self.id}, but another execution has that id. "
                f"Give the workflow other inputs"
            )

    async def _recorded(self, child: str, output: Value) -> Result:
        """Return the result of a child whose end the step has recorded; the child's history may have been pruned."""
        state = await self.runner.recorded(child)
        if state.lifecycle is not ExecutionState.COMPLETED:
            name = "output"
            done = StepState(phase=Phase.COMPLETED, output=output)
            state = State(workflow=self.workflow.name, lifecycle=ExecutionState.COMPLETED, steps={name: done})
            state.finished[name], state.last_step, state.completed_at = None, name, 0
        return self.runner.result(self.workflow, child, state)


class _Undo(Child):
    """The rollback of a child, by the attempt that undoes its caller's step."""

    goal = ExecutionState.ROLLED_BACK

    def __init__(self, scope: Scope, workflow: Definition, child: str) -> None:
        super().__init__(scope, workflow)
        self.op, self.id = scope.identify("child", workflow.name.replace(":", ";"), child), child

    def make_ready(self, state: State, here: Execution) -> Run:
        """Begin its rollback, or continue it."""
        from .rollback import roll_back  # as in workflow.py: a rollback is rare

        return roll_back(self.workflow, self.id, store=here.store, wait=here.stays)

    def begin(self, values: ExecutionValues, now: int, blueprint: str) -> Sequence[Event]:
        """Begin its rollback, or continue it, like `make_ready`."""
        from .rollback import Undoing, rollback_events

        return rollback_events(values, Undoing(), now, blueprint)

    def is_interrupted(self, state: State, *, is_first: bool) -> bool:
        """Whether its rollback has not begun: then what it waits for no longer matters."""
        return is_first and not state.is_rolling_back

    def can_resume(self, state: State, *, is_first: bool) -> bool:
        """Whether its rollback continues: after a failed one, only in the next rollback of its caller."""
        return is_first or state.lifecycle is ExecutionState.PAUSED


def _describe_end(state: State) -> str:
    """Describe how an execution ended."""
    because = f": {state.reason}" if state.reason else ""
    match state.lifecycle:
        case ExecutionState.FAILED if state.error is not None:
            where = f" at step '{state.failed_step}'" if state.failed_step else ""
            text = str(state.error)
            if text.startswith("WorkflowError: child "):  # a chain of children: name only the first and the last
                first, *more = re.split(r": (?:\.\.\.: )?child ", text.removeprefix("WorkflowError: "))
                text = ": ".join([first, *(["..."] if len(more) > 1 else []), *(f"child {one}" for one in more[-1:])])
            return f"failed{where}: {text}"
        case ExecutionState.PAUSED:
            return f"is paused{because}"
        case ExecutionState.CANCELLED:
            return f"was cancelled{because}"
        case _:
            return "was rolled back"


class _Watch:
    """Checks once a second whether the log has new events of a child."""

    def __init__(self, child: Child, host: Execution, version: int) -> None:
        self._child, self._host, self._version = child, host, version
        self._moved = False
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Check now, and again in a second; on the engine's loop."""
        store = self._host.store
        with suppress(CerebelumError):  # an unreadable log is reported by the caller's commits
            row = store.execution(self._child.id)
            is_free = row.holder is None or not store.lease_left(row.holder)
            self._moved = row.version != self._version or (is_free and row.summary.state is ExecutionState.RUNNING)
        if self._moved:
            self._host.look_again()
        else:
            self._timer = self._host.loop.call_later(_CHECK_SECONDS, self.look)

    def has_moved(self) -> bool:
        """Whether something has happened to the child."""
        known = self._child.scope.recorded(self._child.op)
        return self._moved or (known is not None and known.ended)

    def end(self) -> None:
        """Stop checking; from any thread."""
        loop = self._host.loop
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
