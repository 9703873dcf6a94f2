"""Try a step on the arguments of a recorded run: its function runs, and nothing is written.

Its operations return what they returned in that run, matched as in a resume; sleeps that the run did not make are
skipped. Any other operation that the run did not record would really happen, and is refused unless ``repeat`` is set.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .._core.events import Event
from .._core.graph import Plan, StepSpec, owner_of, step_of
from .._core.state import State
from .._core.step_state import Operation
from .._core.value import ErrorInfo, Value
from .._engine.attempt import Attempt
from .._engine.clock import Clock, Deadline, SystemClock
from .._engine.plan_payloads import blueprint_kept
from .._engine.ports import Outcome, Waiter
from .._engine.remembered import remembered
from .._engine.resume_points import kept_bytes
from .._engine.scope import Scope
from .._engine.values import ExecutionValues
from .._store.base import Store
from .._values import Redactor
from ..errors import CerebelumError
from .context import Context

__all__ = ["Trial", "try_out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The end of a trial: ``value`` and ``live`` are the step's result, ``error`` is why it failed, masked.

    ``line`` is the line at which it was entered; None for its top.
    """

    seconds: float
    line: int | None = None
    value: Value | None = None
    live: Any = None
    error: ErrorInfo | None = None


async def try_out(
    spec: StepSpec,
    store: Store,
    execution_id: str,
    state: State,
    operations: Mapping[str, Operation],
    *,
    repeat: bool,
    at_line: bool = False,
) -> Trial:
    """Run a step's function on recorded arguments.

    Args:
        spec: the step as it is now.
        store: the log, which is only read.
        execution_id: the recorded run.
        state: the state of that run when the step had started; with ``at_line``, before the step ended.
        operations: the operations that the step recorded in that run.
        repeat: whether operations that are not recorded may really happen.
        at_line: whether to enter the step where its next attempt would continue, rather than at its top.

    Returns:
        The result, or the step's exception.
    """
    host = (_LineTrialHost if at_line else _TrialHost)(spec, store, execution_id, state)
    attempt = Attempt(spec, _TrialScope(host, spec.name, state, operations, repeat=repeat))
    started = time.perf_counter()
    try:
        attempt.start(host.context.copy())
        outcome = await host.outcome
    finally:
        attempt.abandon()
    seconds = time.perf_counter() - started
    checkpoints = attempt.scope.checkpoints
    line = None if checkpoints is None else checkpoints.line
    if outcome.error is not None:
        return Trial(seconds=seconds, line=line, error=host.describe(outcome.error))
    return Trial(seconds=seconds, line=line, value=outcome.value, live=outcome.live)


class _TrialHost(ExecutionValues):
    """The execution as a tried step sees it: the values of the run, and no log to write to."""

    def __init__(self, spec: StepSpec, store: Store, execution_id: str, state: State) -> None:
        owner, each = owner_of(spec.name), {}
        if owner != spec.name and (kept := blueprint_kept(store, state)) is not None:
            own = replace(spec, name=step_of(spec.name))
            foreach = kept.each[owner]
            each = {owner: replace(foreach, body={**foreach.body, own.name: own})}
        plan = Plan(workflow=state.workflow, timeline=((owner,),), steps={owner: spec}, each=each)
        super().__init__(store, execution_id, plan, state, Redactor(store.redact), Context)
        from .._values.shape import shape_taken

        self._shape = shape_taken(spec.fn) if spec.takes_inputs else None
        self.loop = asyncio.get_running_loop()
        self.clock: Clock = SystemClock()  # a fake clock only advances when runs of an engine wait
        self.context = contextvars.copy_context()
        self.watchers: dict[Callable[[], None], None] = {}
        self.stop_requested: str | None = None
        self.superseded = False
        self.outcome: asyncio.Future[Outcome] = self.loop.create_future()
        known = remembered(store, execution_id)
        self.live_inputs = known.inputs
        self.encode(known.inputs)  # so that the redactor knows the secrets that this process has
        self.recall(known.results, state)

    def shaped_inputs(self) -> Any:
        """Return the inputs as an instance of the class in the step's annotation; that of its workflow is unknown."""
        inputs = self.inputs()
        return inputs if self._shape is None or self._shape.take(inputs)[1] else self._shape.make(inputs)

    def now(self) -> int:
        """Return the time, µs since the epoch."""
        return self.clock.now()

    def post_record(self, event: Event, waiter: Waiter) -> None:
        """Write nothing, and report success at once."""
        if not waiter.done():
            waiter.set_result(None)

    def defer_event(self, make: Callable[[], Event | None]) -> None:
        """Keep nothing: output is shown where it is printed."""

    def waits_changed(self) -> None:
        """Do nothing: a trial does not hibernate."""

    def wait_ended(self, step: str) -> None:
        """Do nothing, as above."""

    def confirm(self) -> None:
        """Do nothing: without writing, no lease is needed."""

    def ended(self, outcome: Outcome) -> None:
        """Take the outcome."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    def note_blocking(self, step: str, seconds: float) -> None:
        """Do nothing: the caller of a trial waits for it anyway."""

    def ask_to_stop(self, reason: str) -> None:
        """Start nothing more."""
        self.stop_requested = reason

    def cancelled_from_outside(self, step: str) -> None:
        """End with the task of the step."""
        self.outcome.cancel()

    def end_with_loop(self) -> None:
        """Do nothing: nothing waits for a trial whose loop was closed."""


class _LineTrialHost(_TrialHost):
    """A trial that restores the variables which the run recorded at a line."""

    def payload(self, value: Value) -> bytes:
        """Return the bytes of recorded variables."""
        return kept_bytes(self.store, value)


class _TrialScope(Scope):
    """An attempt whose operations return what a run recorded."""

    def __init__(
        self, host: _TrialHost, step: str, state: State, operations: Mapping[str, Operation], *, repeat: bool
    ) -> None:
        known = state.step(step)
        assert known is not None, "it has started"
        super().__init__(host, step, known.visit, known.attempt)
        self._operations, self._repeat = operations, repeat

    def recorded(self, op: str) -> Operation | None:
        """Look up what the run recorded; refuse anything else."""
        operation = self._operations.get(op)
        kind, _, rest = op.partition(":")
        if kind == "sleep" or (operation is not None and (operation.done or operation.is_decided)):
            return operation
        if not self._repeat or kind in ("approval", "signal"):
            what = _DESCRIPTIONS[kind].format(rest.partition(":")[0])
            way = ": nobody is asked in a trial" if kind in ("approval", "signal") else "; repeat=True really does it"
            raise CerebelumError(
                f"step '{self.step}' would do {what}, which the recorded run did not do with these arguments{way}"
            )
        return None

    async def wait_until(
        self, due: Deadline | None, op: str = "", until: Callable[[], bool] | None = None, *, busy: bool = False
    ) -> None:
        """Skip sleeps; wait between the tries of an operation that really happens."""
        if due is not None and not op.startswith("sleep:"):
            await asyncio.sleep(max(0, due.rest()) / 1e6)


_DESCRIPTIONS = {
    "run": "context.run('{}')",
    "poll": "a poll of {}",
    "retry": "a retry of {}",
    "approval": "an approval '{}'",
    "signal": "a wait for the signal '{}'",
    "child": "a run of workflow '{}'",
}
