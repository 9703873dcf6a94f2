"""A step tried on what a recorded run gave it: the function runs, and nothing is written.

Its operations return what they returned in that run, matched as in a resume; sleeps that the run did not make are
skipped. Anything else that the run did not record would happen for real, and is refused unless it was asked for.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from .._core.graph import Plan, StepSpec
from .._core.state import Operation, State
from .._core.value import ErrorInfo, Value
from .._engine.calling import give_up, unawaited
from .._engine.clock import Deadline, current_clock
from .._engine.remembered import remembered
from .._engine.scope import Scope, current_scope
from .._engine.threads import can_start_threads
from .._engine.values import ExecutionValues
from .._store.base import Store
from .._text.duration import format_seconds
from .._values import Vault
from ..errors import CerebelumError, StepTimeoutError
from .context import Context

__all__ = ["Trial", "try_out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How a trial ended: ``value`` and ``live`` are what the step returned, ``error`` is why it failed, masked."""

    seconds: float
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
) -> Trial:
    """Run a step's function on recorded arguments.

    Args:
        spec: the step as it is now.
        store: the log, which is only read.
        execution_id: the recorded run.
        state: the fold of it as the step had started.
        operations: what the step recorded then.
        repeat: whether operations that are not recorded may happen for real.

    Returns:
        How it ended; whatever the step raises is in it.
    """
    values = _values(spec, store, execution_id, state)
    scope = _TrialScope(values, spec.name, state, operations, repeat=repeat)
    context = contextvars.copy_context()
    context.run(current_scope.set, scope)
    limit = asyncio.timeout(spec.policy.timeout)
    started = time.perf_counter()
    try:
        arguments = context.run(values.arguments, spec)
        async with limit:
            result = await _call(spec, arguments, context)
        if (problem := unawaited(scope)) is not None:
            raise problem
        value = values.encode(result, keep=spec.policy.keep)
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        if limit.expired():
            most = format_seconds(spec.policy.timeout or 0)
            error = StepTimeoutError(f"step '{spec.name}' took longer than its timeout of {most}")
        return Trial(seconds=time.perf_counter() - started, error=values.describe(error))
    finally:
        give_up(scope)
        scope.close()
    return Trial(seconds=time.perf_counter() - started, value=value, live=result)


async def _call(spec: StepSpec, arguments: dict[str, Any], context: contextvars.Context) -> Any:
    loop = asyncio.get_running_loop()

    async def finish(made: Any) -> Any:
        while inspect.isawaitable(made):
            made = await made
        return made

    if spec.is_async or not can_start_threads():
        return await loop.create_task(finish(context.run(lambda: spec.fn(**arguments))), context=context)
    outcome: asyncio.Future[Any] = loop.create_future()

    def settle(set_outcome: Callable[[Any], None], result: Any) -> None:
        if not outcome.done():
            set_outcome(result)

    def target() -> None:
        try:
            settled: tuple[Callable[[Any], None], Any] = (outcome.set_result, spec.fn(**arguments))
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            settled = (outcome.set_exception, error)
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, *settled)

    threading.Thread(target=context.run, args=(target,), name=f"trial of {spec.name}", daemon=True).start()
    return await loop.create_task(finish(await outcome), context=context)


def _values(spec: StepSpec, store: Store, execution_id: str, state: State) -> ExecutionValues:
    """What the run held, with the secrets that this process still knows."""
    plan = Plan(workflow=state.workflow, timeline=((spec.name,),), steps={spec.name: spec})
    values = ExecutionValues(
        cast(Any, SimpleNamespace(store=store)), execution_id, plan, state, Vault(store.redact), Context
    )
    known = remembered(store, execution_id)
    values.live_inputs = known.inputs
    values.encode(values.live_inputs)
    values.recall(known.results, state)
    return values


class _TrialScope(Scope):
    """What a tried step sees of the execution: its recorded operations, and no log."""

    __slots__ = ("_operations", "_repeat")

    def __init__(
        self,
        values: ExecutionValues,
        step: str,
        state: State,
        operations: Mapping[str, Operation],
        *,
        repeat: bool,
    ) -> None:
        known = state.steps[step]
        execution = cast(Any, values)
        execution.loop, execution.clock = asyncio.get_running_loop(), current_clock.get()
        execution.superseded = False
        super().__init__(execution, step, known.visit, known.attempt)
        self._operations, self._repeat = operations, repeat

    def now(self) -> int:
        """Return the time, µs since the epoch."""
        return current_clock.get().now()

    def recorded(self, op: str) -> Operation | None:
        """Look up what the run recorded; refuse what would happen anew."""
        operation = self._operations.get(op)
        kind, _, rest = op.partition(":")
        if kind == "sleep" or (operation is not None and (operation.done or operation.is_decided)):
            return operation
        if not self._repeat or kind == "approval":
            what = _WORDS[kind].format(rest.partition(":")[0])
            way = ": nobody is asked in a trial" if kind == "approval" else "; repeat=True does it for real"
            raise CerebelumError(
                f"step '{self.step}' would do {what}, which the recorded run did not do with these arguments{way}"
            )
        return None

    def confirm(self) -> None:
        """Say nothing: no lease is needed to write nothing."""

    def check(self) -> None:
        """Let it begin: nobody stops a trial."""

    def is_callers(self) -> bool:
        """Say no: a trial has no attempt."""
        return False

    def mismatch(self, op: str) -> str | None:
        """Say nothing: nothing is recorded."""
        return None

    async def record(self, event: type[Any], op: str, **fields: Any) -> None:
        """Write nothing."""

    async def wait_until(self, due: Deadline | None, op: str = "", until: Callable[[], bool] | None = None) -> None:
        """Skip sleeps; between the tries of what happens for real, wait."""
        if due is not None and not op.startswith("sleep:"):
            await asyncio.sleep(max(0, due.rest()) / 1e6)

    def progress(self, percent: float, message: str) -> None:
        """Note nothing."""

    def print(self, text: str) -> None:
        """Keep nothing: it is seen where it is printed."""


_WORDS = {
    "run": "context.run('{}')",
    "poll": "a poll of {}",
    "retry": "a retry of {}",
    "approval": "an approval '{}'",
}
