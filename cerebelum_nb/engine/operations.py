"""Durable operations inside a step: ``sleep``, ``poll``, ``retry`` and ``context.run``.

Each records itself under the running step. When the step is run again after a crash or a failure, a finished one
returns its recorded result and an interrupted wait goes on; outside an execution they are plain asyncio. Where an
event loop runs they are awaited; in a plain ``def`` step, which has a thread and no loop, they block and return
their result.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from ..core.duration import Duration, format_seconds, seconds
from ..core.events import (
    OperationCompleted,
    OperationFailed,
    PollAttempted,
    PollStarted,
    RetryAttempted,
    SleepCompleted,
    SleepStarted,
)
from ..core.model import ErrorInfo, Value
from ..dsl.step import DECORATIONS
from ..errors import PollTimeoutError, SerializationError, StepDefinitionError
from ..values import fingerprint_args, preview
from .fence import describe
from .scope import Scope, current_scope

__all__ = ["block_on", "poll", "retry", "run", "sleep"]

T = TypeVar("T")


class _Sleep:
    """``sleep``: awaitable in a step, decorator under ``@step``."""

    __name__ = "sleep"

    def __call__(
        self,
        duration: Duration | None = None,
        data: Any = None,
        *,
        seconds: float | None = None,
        minutes: float | None = None,
        hours: float | None = None,
        milliseconds: float | None = None,
    ) -> Any:
        """Wait, durably: a step that is run again waits only for what remains.

        ``await sleep("5s")`` inside a step; ``@sleep(seconds=60)`` under ``@step`` waits before the body.

        Args:
            duration: milliseconds as a number, a ``timedelta``, or text such as ``"5s"``, ``"24h"``.
            data: shown with the sleep in the execution's status.
            seconds: as a decorator, the wait in this unit.
            minutes: likewise.
            hours: likewise.
            milliseconds: likewise.

        Raises:
            ValueError: the duration is negative or not understood.
            TypeError: it is of another type.

        Example:
            >>> import asyncio
            >>> asyncio.run(sleep(1))
        """
        units = {"seconds": seconds, "minutes": minutes, "hours": hours, "milliseconds": milliseconds}
        given = {unit: amount for unit, amount in units.items() if amount is not None}
        if given and duration is None:
            return _decorator_of_sleep(given, data)
        if duration is None or given:
            raise TypeError("sleep takes one duration: await sleep('5s') in a step, or @sleep(seconds=5) under @step")
        return _offer(_sleep(_seconds(duration, "sleep"), data))


class _Poll:
    """``poll``: awaitable in a step, decorator under ``@step``."""

    __name__ = "poll"

    def __call__(
        self,
        check_fn: Callable[[], Any] | None = None,
        *,
        condition: Callable[[Any], object] | None = None,
        interval: Duration | None = None,
        max_attempts: int | None = None,
        timeout: Duration | None = None,
        success_condition: Callable[[Any], object] | None = None,
        on_attempt: Callable[[int, Any], object] | None = None,
    ) -> Any:
        """Check until it succeeds, durably: a step that is run again goes on at the next attempt.

        ``await poll(check, interval=5000)`` inside a step (bare numbers are milliseconds);
        ``@poll(condition=lambda r: r["ready"], interval=5)`` under ``@step`` re-runs the body (bare numbers are
        seconds).

        Args:
            check_fn: called without arguments, sync or async.
            condition: as a decorator, what must hold for the body's result.
            interval: the wait between two checks, 5 s by default.
            max_attempts: the most checks, 30 by default; with a ``timeout`` and none given, as many as fit.
            timeout: the longest time for all checks.
            success_condition: what must hold for a result, truthiness by default.
            on_attempt: called as ``on_attempt(n, result)`` after every check, n from 1.

        Returns:
            The result that satisfied the condition.

        Raises:
            PollTimeoutError: attempts or time ran out (also a ``TimeoutError``); it tells the attempts, the time spent
                and the last result.

        Example:
            >>> import asyncio
            >>> answers = iter([None, "ready"])
            >>> asyncio.run(poll(lambda: next(answers), interval=1))
            'ready'
        """
        if check_fn is None and condition is not None:
            return _decorator_of_poll(condition, interval, max_attempts, timeout, on_attempt)
        if check_fn is None or condition is not None or not callable(check_fn):
            raise TypeError(
                f"poll takes a function to check: await poll(check, interval='5s') in a step, or "
                f"@poll(condition=...) under @step; got {check_fn!r}"
            )
        for argument, given in (("success_condition", success_condition), ("on_attempt", on_attempt)):
            if given is not None and not callable(given):
                raise TypeError(f"poll: {argument} is a function, not {given!r}")
        return _offer(
            _poll(
                check_fn,
                _seconds(5000 if interval is None else interval, "poll: interval"),
                _attempts(max_attempts, "poll", default=None if timeout is not None else 30),
                None if timeout is None else _seconds(timeout, "poll: timeout"),
                success_condition or bool,
                on_attempt,
            )
        )


sleep = _Sleep()
poll = _Poll()


def retry(
    fn: Callable[..., Awaitable[T] | T],
    *args: Any,
    max_attempts: int = 3,
    delay: Duration = 1000,
    backoff: float = 1.0,
    on_error: type[BaseException] | tuple[type[BaseException], ...] | None = None,
    on_attempt: Callable[[int, BaseException | None], object] | None = None,
    **kwargs: Any,
) -> Any:
    """Call a function until it does not raise, durably: a step that is run again goes on at the next attempt.

    Args:
        fn: the function, sync or async.
        args: its positional arguments.
        max_attempts: the most calls.
        delay: the wait before the second call: milliseconds, ``timedelta`` or text.
        backoff: what the delay is multiplied by after every further failure.
        on_error: the exceptions to try again after, every ``Exception`` by default; others are raised at once.
        on_attempt: called as ``on_attempt(n, last_error)`` before every call, n from 1.
        kwargs: its keyword arguments.

    Returns:
        What ``fn`` returned.

    Raises:
        The last error of ``fn`` when the attempts are used up.

    Example:
        >>> import asyncio
        >>> asyncio.run(retry(int, "7"))
        7
    """
    if not callable(fn):
        raise TypeError(f"retry takes the function and its arguments apart: await retry(connect, host), got {fn!r}")
    if isinstance(backoff, bool) or not isinstance(backoff, (int, float)) or backoff < 0:
        raise ValueError(f"retry: backoff multiplies the delay and is a number from 0, not {backoff!r}")
    attempts = _attempts(max_attempts, "retry", default=3)
    assert attempts is not None
    call = functools.partial(fn, *args, **kwargs)
    errors = Exception if on_error is None else on_error
    for error in errors if isinstance(errors, tuple) else (errors,):
        if not (inspect.isclass(error) and issubclass(error, BaseException)):
            raise TypeError(f"retry: on_error is an exception class or a tuple of them, not {error!r}")
    arguments = _fingerprint(args, kwargs)
    return _offer(
        _retry(call, fn, arguments, attempts, _seconds(delay, "retry: delay"), float(backoff), errors, on_attempt)
    )


def run(name: str, fn: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> Any:
    """Do a side effect once, even if the step around it is run again: its recorded result is returned then.

    Args:
        name: what it is called in the log; the same in every run of the step.
        fn: the function, sync or async.
        args: its arguments; other arguments are another side effect.
        kwargs: its keyword arguments.

    Returns:
        What ``fn`` returned, which must be storable.

    Raises:
        SerializationError: the result cannot be stored; that it was done is recorded all the same.
    """
    if fn is None or not callable(fn):
        raise TypeError(
            f"context.run({name!r}, ...): give the function and its arguments apart, "
            f"context.run({name!r}, send, to); got {fn!r}"
        )
    if not isinstance(name, str) or not name or ":" in name:
        raise ValueError(f"context.run: the name is text without ':', not {name!r}: context.run('send-mail', send, to)")
    return _offer(_run(name, functools.partial(fn, *args, **kwargs), _fingerprint(args, kwargs)))


def block_on(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from sync code, whether or not a loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    outcome: list[T] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=target, name="cerebelum-block", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return outcome[0]


def _offer(work: Coroutine[Any, Any, T]) -> Any:
    """Return an awaitable, except in a plain step's thread, where there is no loop: block there."""
    if current_scope.get() is None:
        return work
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    return work


async def _sleep(length: float, data: Any, mark: str = "") -> None:
    scope = current_scope.get()
    if scope is None:
        await asyncio.sleep(length)
        return
    ms = round(length * 1000)
    op = scope.identify("sleep", mark + format_seconds(length).replace(" ", ""), f"{ms:x}")
    operation = scope.recorded(op)
    if operation is not None and operation.done:
        return
    due_at = operation.due_at if operation is not None else None
    if due_at is None:
        due_at = scope.now() + round(length * 1e6)
    shown = None if data is None else scope.execution.encode(data, path="sleep data")
    await scope.record(SleepStarted, op, duration_ms=ms, due_at=due_at, data=shown)
    await scope.wait_until(due_at, op)
    await scope.record(SleepCompleted, op)


async def _poll(
    check_fn: Callable[[], Any],
    interval: float,
    max_attempts: int | None,
    within: float | None,
    succeeded: Callable[[Any], object],
    on_attempt: Callable[[int, Any], object] | None,
) -> Any:
    scope = current_scope.get()
    record = _Record.of(scope, "poll", check_fn, f"{interval}:{max_attempts}:{within}")
    found, result = record.finished()
    if found:
        return result
    began = record.began or record.now()
    deadline = record.deadline or (None if within is None else began + round(within * 1e6))
    await record.open(PollStarted, deadline=deadline, max_attempts=max_attempts)
    number = record.number
    await record.wait()
    while True:
        number += 1
        try:
            result = await _call(check_fn)
            if on_attempt is not None:
                await _call(functools.partial(on_attempt, number, result))
            done = bool(await _call(functools.partial(succeeded, result)))
        except Exception as error:
            await record.fail(error, number)
            raise
        if done:
            await record.complete(result, number)
            return result
        now = record.now()
        if (max_attempts is not None and number >= max_attempts) or (deadline is not None and now >= deadline):
            spent = (now - began) / 1e6
            failure = PollTimeoutError(
                f"poll of {_name(check_fn)} gave up after {number} checks in {format_seconds(spent)}; the last result "
                f"was {_shown(scope, result)}. Give it more max_attempts or timeout, or look why it does not succeed",
                attempts=number,
                elapsed=spent,
                last_result=result,
            )
            await record.fail(failure, number)
            raise failure
        due_at = now + round(interval * 1e6)
        due_at = due_at if deadline is None else min(due_at, deadline)
        await record.attempt(PollAttempted, number, due_at, result=_shown(scope, result))


async def _retry(
    call: Callable[[], Any],
    fn: Callable[..., Any],
    arguments: str,
    max_attempts: int,
    delay: float,
    backoff: float,
    errors: type[BaseException] | tuple[type[BaseException], ...],
    on_attempt: Callable[[int, BaseException | None], object] | None,
) -> Any:
    record = _Record.of(current_scope.get(), "retry", fn, f"{arguments}:{max_attempts}:{delay}:{backoff}")
    found, result = record.finished()
    if found:
        return result
    number = record.number
    last: BaseException | None = None
    await record.wait()
    while True:
        number += 1
        try:
            if on_attempt is not None:
                await _call(functools.partial(on_attempt, number, last))
            result = await _call(call)
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
        due_at = record.now() + round(delay * backoff ** (number - 1) * 1e6)
        await record.attempt(RetryAttempted, number, due_at, error=record.describe(last))


async def _run(name: str, call: Callable[[], Any], arguments: str) -> Any:
    scope = current_scope.get()
    if scope is None:
        return await _call(call)
    op = scope.identify("run", name, arguments)
    operation = scope.recorded(op)
    if operation is not None and operation.done and operation.result is not None:
        if not operation.result.restorable:
            raise SerializationError(
                f"context.run({name!r}) in step '{scope.step}' was done, but its result could not be stored "
                f"({operation.result.preview}); it is not done again. Let it return something storable"
            )
        return scope.execution.decode(operation.result, f"context.run({name!r})")
    await scope.record_mismatch(op)
    result = await _call(call)
    try:
        value = scope.execution.encode(result, path=f"context.run({name!r})")
    except SerializationError:
        await scope.record(OperationCompleted, op, output=_not_kept(scope, result))
        raise
    await scope.record(OperationCompleted, op, output=value)
    if not value.restorable:
        raise SerializationError(
            f"context.run({name!r}) in step '{scope.step}' returned a secret, which is never stored; "
            f"it was done and is not done again. Let it return something storable"
        )
    return scope.execution.decode(value, f"context.run({name!r})") if value.codec == "json" else result


class _Record:
    """What a poll or a retry writes and finds in the log; outside an execution, nothing."""

    def __init__(self, scope: Scope | None, op: str) -> None:
        self.scope, self.op = scope, op
        operation = scope.recorded(op) if scope else None
        self.operation = operation
        self.number = operation.number if operation else 0
        self.began = operation.at if operation else None
        self.deadline = operation.deadline if operation else None

    @classmethod
    def of(cls, scope: Scope | None, kind: str, fn: Callable[..., Any], arguments: str) -> _Record:
        if scope is None:
            return cls(None, "")
        parts = f"{_code(fn)}:{arguments}"
        return cls(scope, scope.identify(kind, _name(fn), fingerprint_args((parts,), {})))

    def finished(self) -> tuple[bool, Any]:
        """Return (True, result) when an earlier attempt finished it and the log holds its result."""
        operation = self.operation
        if self.scope is None or operation is None or not operation.done or operation.result is None:
            return False, None
        if not operation.result.restorable:
            self.number, self.began, self.deadline, self.operation = 0, None, None, None
            return False, None
        return True, self.scope.execution.decode(operation.result, self.op)

    def now(self) -> int:
        return self.scope.now() if self.scope else time.monotonic_ns() // 1000

    async def open(self, event: Any, **fields: Any) -> None:
        if self.scope is not None and self.operation is None:
            await self.scope.record_mismatch(self.op)
            await self.scope.record(event, self.op, **fields)

    async def wait(self) -> None:
        """Wait for what remains before the next try."""
        if self.scope is not None and self.operation is not None and self.operation.due_at is not None:
            await self.scope.wait_until(self.operation.due_at, self.op)

    async def attempt(self, event: Any, number: int, due_at: int, **fields: Any) -> None:
        if self.scope is None:
            await asyncio.sleep(max(0, due_at - self.now()) / 1e6)
            return
        await self.scope.record(event, self.op, number=number, due_at=due_at, **fields)
        await self.scope.wait_until(due_at, self.op)

    async def complete(self, result: Any, number: int) -> None:
        if self.scope is None:
            return
        try:
            value = self.scope.execution.encode(result, path=self.op)
        except SerializationError:
            value = _not_kept(self.scope, result)
        await self.scope.record(OperationCompleted, self.op, output=value, number=number)

    def describe(self, error: BaseException) -> ErrorInfo:
        return describe(error) if self.scope is None else self.scope.execution.describe(error)

    async def fail(self, error: BaseException, number: int) -> None:
        if self.scope is not None:
            await self.scope.record(OperationFailed, self.op, error=self.describe(error), number=number)


def _decorator_of_sleep(given: dict[str, float], data: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    factors = {"milliseconds": 1, "seconds": 1000, "minutes": 60_000, "hours": 3_600_000}
    for unit, amount in given.items():
        seconds(amount, unit="s", what=f"sleep: {unit}")
    ms = sum(factors[unit] * amount for unit, amount in given.items())

    def wait_before(body: Callable[..., Any]) -> Callable[..., Any]:
        async def around(*args: Any, **kwargs: Any) -> Any:
            await _sleep(ms / 1000, data, mark="@")
            return await _call(functools.partial(body, *args, **kwargs))

        return _wrap(body, around, ("sleep", ms))

    return wait_before


def _decorator_of_poll(
    condition: Callable[[Any], object],
    interval: Duration | None,
    max_attempts: int | None,
    timeout: Duration | None,
    on_attempt: Callable[[int, Any], object] | None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    if not callable(condition):
        raise TypeError(f"@poll: condition is a function of the step's result, not {condition!r}")
    pause = 5.0 if interval is None else seconds(interval, unit="s", what="@poll: interval")
    limit = None if timeout is None else seconds(timeout, unit="s", what="@poll: timeout")
    most = _attempts(max_attempts, "@poll", default=None if timeout is not None else 30)

    def poll_body(body: Callable[..., Any]) -> Callable[..., Any]:
        async def around(*args: Any, **kwargs: Any) -> Any:
            check = functools.wraps(body)(functools.partial(body, *args, **kwargs))
            return await _poll(check, pause, most, limit, condition, on_attempt)

        return _wrap(body, around, ("poll", pause, most, limit, _code(condition)))

    return poll_body


def _wrap(body: Callable[..., Any], around: Callable[..., Any], decoration: tuple[Any, ...]) -> Callable[..., Any]:
    if not callable(body) or hasattr(body, "policy"):
        raise StepDefinitionError(
            f"@{decoration[0]} stands above @step; write it below, between @step and the function"
        )
    if inspect.iscoroutinefunction(body):

        @functools.wraps(body)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await around(*args, **kwargs)
    else:

        @functools.wraps(body)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return block_on(around(*args, **kwargs))

    setattr(wrapper, DECORATIONS, (*getattr(body, DECORATIONS, ()), decoration))
    return wrapper


def _code(fn: Callable[..., Any]) -> str:
    """Digest what a function does, without the values it holds: those may change between two attempts."""
    from ..dsl.fingerprint import fingerprint  # as in dsl.step

    found = fingerprint(fn)
    if found is None:
        return _name(fn)
    return fingerprint_args(tuple(part.digest for part in found.parts if part.kind in ("code", "helper", "class")), {})


async def _call(fn: Callable[[], Any]) -> Any:
    result = fn()
    return await result if inspect.isawaitable(result) else result


def _name(fn: Any) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return str(getattr(fn, "__name__", type(fn).__name__))


def _fingerprint(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    scope = current_scope.get()
    return "" if scope is None else fingerprint_args(args, kwargs, vault=scope.execution.vault)


def _shown(scope: Scope | None, result: Any) -> str:
    return preview(result, 120, vault=None if scope is None else scope.execution.vault)


def _not_kept(scope: Scope, result: Any) -> Value:
    return scope.execution.encode(result, keep=False)


def _seconds(duration: Duration, what: str) -> float:
    return seconds(duration, unit="ms", what=what)


def _attempts(value: int | None, what: str, *, default: int | None) -> int | None:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{what}: max_attempts counts all attempts and is a whole number from 1, not {value!r}")
    return value
