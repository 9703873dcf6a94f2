"""Run the durable operations: record them under their step, use what is recorded, and wait.

api.py has the public functions and checks their arguments.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

from .._core.events import (
    OperationCompleted,
    OperationFailed,
    PollAttempted,
    PollStarted,
    RetryAttempted,
    SleepCompleted,
    SleepStarted,
)
from .._core.graph import Policy
from .._core.value import ErrorInfo, Value
from .._engine.clock import Clock, Deadline, SystemClock
from .._engine.functions import code_of, name_of
from .._engine.scope import Scope
from .._engine.scope_lookup import scope_here
from .._engine.user_errors import error_info
from .._text.duration import format_seconds
from .._values import fingerprint_args, preview
from ..errors import PollTimeoutError, SerializationError

__all__ = ["durable_poll", "durable_retry", "durable_run", "durable_sleep", "invoke"]


async def durable_sleep(scope: Scope | None, length: float, data: Any, mark: str = "") -> None:
    """Wait until the recorded end of this sleep."""
    scope = scope or scope_here("sleep(...)")
    if scope is None:
        await asyncio.sleep(length)
        return
    ms = round(length * 1000)
    op = scope.identify("sleep", mark + format_seconds(length).replace(" ", ""), f"{ms:x}")
    operation = scope.recorded(op)
    if operation is not None and operation.done:
        return
    clock = scope.execution.clock
    known = operation.due_at if operation is not None else None
    due = Deadline.after(clock, length) if known is None else Deadline(clock, known)
    shown = None if data is None else scope.execution.encode(data, path="sleep data")
    await scope.record(SleepStarted, op, duration_ms=ms, due_at=due.at, data=shown)
    await scope.wait_until(due, op)
    await scope.record(SleepCompleted, op)


async def durable_poll(
    scope: Scope | None,
    check_fn: Callable[[], Any],
    interval: float,
    max_attempts: int | None,
    within: float | None,
    succeeded: Callable[[Any], object],
    on_attempt: Callable[[int, Any], object] | None,
) -> Any:
    """Check until it succeeds, continuing after the recorded checks."""
    scope = scope or scope_here("poll(...)")
    record = _Record.of(scope, "poll", check_fn, f"{interval}:{max_attempts}:{within}")
    found, result = record.finished()
    if found:
        return result
    began = record.began or record.now()
    limit = None if within is None else Deadline.after(record.clock, within)
    if record.deadline is not None:
        limit = Deadline(record.clock, record.deadline)
    await record.open(PollStarted, deadline=None if limit is None else limit.at, max_attempts=max_attempts)
    number = record.number
    await record.wait()
    while True:
        number += 1
        record.confirm()
        try:
            result = await invoke(check_fn)
            if on_attempt is not None:
                await invoke(functools.partial(on_attempt, number, result))
            done = bool(await invoke(functools.partial(succeeded, result)))
        except Exception as error:
            await record.fail(error, number)
            raise
        if done:
            await record.complete(result, number)
            return result
        if (max_attempts is not None and number >= max_attempts) or (limit is not None and limit.rest() <= 0):
            spent = (record.now() - began) / 1e6
            failure = PollTimeoutError(
                f"poll of {name_of(check_fn)} gave up after {number} checks in {format_seconds(spent)}; the last "
                f"result was {_preview_of(scope, result)}. Raise max_attempts or timeout, or find out why it does not "
                f"succeed",
                attempts=number,
                elapsed=spent,
                last_result=result,
            )
            await record.fail(failure, number)
            raise failure
        pause = interval if limit is None else min(interval, limit.rest() / 1e6)
        due = Deadline.after(record.clock, pause)
        await record.attempt(PollAttempted, number, due, result=_preview_of(scope, result))


async def durable_retry(
    scope: Scope | None,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    max_attempts: int,
    policy: Policy,
    errors: type[BaseException] | tuple[type[BaseException], ...],
    on_attempt: Callable[[int, BaseException | None], object] | None,
) -> Any:
    """Call until it does not raise, continuing after the recorded attempts."""
    scope = scope or scope_here("retry(...)")
    arguments = f"{_fingerprint_of(scope, args, kwargs)}:{max_attempts}:{policy.retry_delay}:{policy.backoff}"
    if policy.max_delay is not None or policy.jitter:
        arguments += f":{policy.max_delay}:{policy.jitter}"
    record = _Record.of(scope, "retry", fn, arguments)
    call = functools.partial(fn, *args, **kwargs)
    found, result = record.finished()
    if found:
        return result
    number = record.number
    last: BaseException | None = None
    await record.wait()
    while True:
        number += 1
        record.confirm()
        try:
            if on_attempt is not None:
                await invoke(functools.partial(on_attempt, number, last))
            result = await invoke(call)
        except asyncio.CancelledError:
            raise
        except errors as error:
            last = error
            if number >= max_attempts:
                await record.fail(error, number)
                raise
        except Exception as error:
            await record.fail(error, number)
            raise
        else:
            await record.complete(result, number)
            return result
        import random  # not at the top: most runs retry nothing, and the import takes a millisecond

        due = Deadline.after(record.clock, policy.delay(number - 1, random.random()))
        await record.attempt(RetryAttempted, number, due, error=record.describe(last))


async def durable_run(
    scope: Scope | None, name: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Return the recorded result of a side effect, or do it and record its result."""
    scope = scope or scope_here(f"context.run({name!r}, ...)")
    call = functools.partial(fn, *args, **kwargs)
    if scope is None:
        return await invoke(call)
    op = scope.identify("run", name, _fingerprint_of(scope, args, kwargs))
    operation = scope.recorded(op)
    if operation is not None and operation.done and operation.result is not None:
        if not operation.result.restorable:
            raise SerializationError(
                f"context.run({name!r}) in step '{scope.step}' was done, but its result could not be stored "
                f"({operation.result.preview}). It will not be done again. Return something that can be stored"
            )
        return scope.execution.decode(operation.result, f"context.run({name!r})")
    await scope.record_mismatch(op)
    scope.confirm()  # a process that has lost its lease must not do what it cannot record; this only reads
    result = await invoke(call)
    try:
        value = scope.execution.encode(result, path=f"context.run({name!r})")
    except SerializationError:
        await scope.record(OperationCompleted, op, output=_preview_only(scope, result))
        raise
    await scope.record(OperationCompleted, op, output=value)
    if not value.restorable:
        raise SerializationError(
            f"context.run({name!r}) in step '{scope.step}' was done, but returned a secret, which is never stored. It "
            f"will not be done again. Return something that can be stored"
        )
    return scope.execution.decode(value, f"context.run({name!r})") if value.is_json else result


class _Record:
    """The record of a poll or a retry in the log; outside an execution it records nothing."""

    def __init__(self, scope: Scope | None, op: str) -> None:
        self.scope, self.op = scope, op
        self.clock: Clock = SystemClock() if scope is None else scope.execution.clock
        operation = scope.recorded(op) if scope else None
        self.operation = operation
        self.number = operation.number if operation else 0
        self.began = operation.at if operation else None
        self.deadline = operation.deadline if operation else None

    @classmethod
    def of(cls, scope: Scope | None, kind: str, fn: Callable[..., Any], arguments: str) -> _Record:
        if scope is None:
            return cls(None, "")
        parts = f"{code_of(fn)}:{arguments}"
        return cls(scope, scope.identify(kind, name_of(fn), fingerprint_args((parts,), {})))

    def finished(self) -> tuple[bool, Any]:
        """Return (True, result) if an earlier attempt finished it and the log holds its result."""
        operation = self.operation
        if self.scope is None or operation is None or not operation.done or operation.result is None:
            return False, None
        if not operation.result.restorable:
            self.number, self.began, self.deadline, self.operation = 0, None, None, None
            return False, None
        return True, self.scope.execution.decode(operation.result, self.op)

    def now(self) -> int:
        return self.scope.now() if self.scope else self.clock.monotonic()

    async def open(self, event: Any, **fields: Any) -> None:
        if self.scope is not None and self.operation is None:
            await self.scope.record_mismatch(self.op)
            await self.scope.record(event, self.op, **fields)

    def confirm(self) -> None:
        """Refuse to start another try after a stop, or if another process took over the execution."""
        if self.scope is not None:
            self.scope.confirm()

    async def wait(self) -> None:
        """Wait for the remaining time before the next try."""
        if self.scope is not None and self.operation is not None and self.operation.due_at is not None:
            await self.scope.wait_until(Deadline(self.clock, self.operation.due_at), self.op)

    async def attempt(self, event: Any, number: int, due: Deadline, **fields: Any) -> None:
        if self.scope is None:
            await asyncio.sleep(max(0, due.rest()) / 1e6)
            return
        await self.scope.record(event, self.op, number=number, due_at=due.at, **fields)
        await self.scope.wait_until(due, self.op)

    async def complete(self, result: Any, number: int) -> None:
        if self.scope is None:
            return
        try:
            value = self.scope.execution.encode(result, path=self.op)
        except SerializationError:
            value = _preview_only(self.scope, result)
        await self.scope.record(OperationCompleted, self.op, output=value, number=number)

    def describe(self, error: BaseException) -> ErrorInfo:
        return error_info(error) if self.scope is None else self.scope.execution.describe(error)

    async def fail(self, error: BaseException, number: int) -> None:
        if self.scope is not None:
            await self.scope.record(OperationFailed, self.op, error=self.describe(error), number=number)


async def invoke(fn: Callable[[], Any]) -> Any:
    """Call a function, sync or async."""
    result = fn()
    return await result if inspect.isawaitable(result) else result


def _fingerprint_of(scope: Scope | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Digest arguments, to distinguish operations with one name; "" outside an execution, where it is not used."""
    return "" if scope is None else fingerprint_args(args, kwargs, redactor=scope.execution.redactor)


def _preview_of(scope: Scope | None, result: Any) -> str:
    return preview(result, 120, redactor=None if scope is None else scope.execution.redactor)


def _preview_only(scope: Scope, result: Any) -> Value:
    return scope.execution.encode(result, keep=False)
