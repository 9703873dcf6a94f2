"""Durable operations inside a step: ``sleep``, ``poll``, ``retry`` and ``context.run``.

Each is recorded under the running step. When the step runs again after a crash or a failure, a finished operation
returns its recorded result and an interrupted wait continues; outside an execution they are plain asyncio. In an async
step they are awaited; in a plain ``def`` step, which has a thread and no loop, they block and return their result.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from .._core.graph import Policy
from .._engine.functions import code_of
from .._engine.pending_operation import PendingOperation, offer, wrap
from .._engine.resume_points import waits_in_plain_steps
from .._engine.scope import Scope
from .._text.duration import Duration, seconds
from .durable import durable_poll, durable_retry, durable_run, durable_sleep, invoke

__all__ = ["Decorator", "poll", "retry", "run", "run_under", "sleep"]

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
T = TypeVar("T")


class Decorator(Protocol):
    """A decorator between ``@step`` and the function: it returns a function that is called in the same way."""

    def __call__(self, body: F, /) -> F:
        """Wrap the body of a step."""


class _Sleep:
    """``sleep``: awaitable in a step, decorator under ``@step``."""

    __name__ = "sleep"

    @overload
    def __call__(self, duration: Duration, data: Any = None) -> PendingOperation[None]: ...
    @overload
    def __call__(
        self,
        *,
        data: Any = None,
        seconds: float | None = None,
        minutes: float | None = None,
        hours: float | None = None,
        milliseconds: float | None = None,
    ) -> Decorator: ...
    def __call__(
        self,
        duration: Duration | None = None,
        data: Any = None,
        *,
        seconds: float | None = None,
        minutes: float | None = None,
        hours: float | None = None,
        milliseconds: float | None = None,
    ) -> PendingOperation[None] | Decorator:
        """Wait, durably: a step that runs again waits only for the remaining time.

        ``await sleep("5s")`` inside a step; ``@sleep(seconds=60)`` under ``@step`` waits before the body.

        Args:
            duration: milliseconds as a number, a ``timedelta``, or text such as ``"5s"``, ``"24h"``.
            data: shown with the sleep in the execution's status.
            seconds: as a decorator, the wait in this unit.
            minutes: likewise.
            hours: likewise.
            milliseconds: likewise.

        Raises:
            ValueError: the duration is negative or invalid.
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
        length = _seconds(duration, "sleep")
        return offer("sleep(...)", durable_sleep, length, data)


class _Poll:
    """``poll``: awaitable in a step, decorator under ``@step``.

    The overloads differ in the result: without a ``success_condition`` it is not None.
    """

    __name__ = "poll"

    @overload
    def __call__(
        self,
        check_fn: Callable[[], Awaitable[T | None]],
        *,
        interval: Duration | None = None,
        max_attempts: int | None = None,
        timeout: Duration | None = None,
        success_condition: None = None,
        on_attempt: Callable[[int, Any], object] | None = None,
    ) -> PendingOperation[T]: ...
    @overload
    def __call__(
        self,
        check_fn: Callable[[], T | None],
        *,
        interval: Duration | None = None,
        max_attempts: int | None = None,
        timeout: Duration | None = None,
        success_condition: None = None,
        on_attempt: Callable[[int, Any], object] | None = None,
    ) -> PendingOperation[T]: ...
    @overload
    def __call__(
        self,
        check_fn: Callable[[], Awaitable[T]],
        *,
        interval: Duration | None = None,
        max_attempts: int | None = None,
        timeout: Duration | None = None,
        success_condition: Callable[[T], object],
        on_attempt: Callable[[int, Any], object] | None = None,
    ) -> PendingOperation[T]: ...
    @overload
    def __call__(
        self,
        check_fn: Callable[[], T],
        *,
        interval: Duration | None = None,
        max_attempts: int | None = None,
        timeout: Duration | None = None,
        success_condition: Callable[[T], object],
        on_attempt: Callable[[int, Any], object] | None = None,
    ) -> PendingOperation[T]: ...
    @overload
    def __call__(
        self,
        *,
        condition: Callable[[Any], object],
        interval: Duration | None = None,
        max_attempts: int | None = None,
        timeout: Duration | None = None,
        on_attempt: Callable[[int, Any], object] | None = None,
    ) -> Decorator: ...
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
    ) -> PendingOperation[Any] | Decorator:
        """Check until it succeeds, durably: a step that runs again continues with the next attempt.

        ``await poll(check, interval=5000)`` inside a step (bare numbers are milliseconds);
        ``@poll(condition=lambda r: r["ready"], interval=5)`` under ``@step`` re-runs the body (bare numbers are
        seconds).

        Args:
            check_fn: called without arguments, sync or async.
            condition: as a decorator, the success condition for the body's result.
            interval: the wait between two checks, 5 s by default.
            max_attempts: the most checks; by default 30, or with a ``timeout`` as many as fit.
            timeout: the longest time for all checks.
            success_condition: decides whether a result is a success; by default, whether it is true.
            on_attempt: called as ``on_attempt(n, result)`` after every check, n from 1.

        Returns:
            The result that satisfied the condition.

        Raises:
            PollTimeoutError: attempts or time ran out (also a ``TimeoutError``); it has the attempts, the time spent
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
        pause = _seconds(5000 if interval is None else interval, "poll: interval")
        most = _check_attempts(max_attempts, "poll", default=None if timeout is not None else 30)
        limit = None if timeout is None else _seconds(timeout, "poll: timeout")
        succeeded = success_condition or bool
        return offer("poll(...)", durable_poll, check_fn, pause, most, limit, succeeded, on_attempt)


sleep = _Sleep()
poll = _Poll()


@overload
def retry(
    fn: Callable[..., Awaitable[T]],
    *args: Any,
    max_attempts: int = 3,
    delay: Duration = 1000,
    backoff: float = 1.0,
    max_delay: Duration | None = None,
    jitter: float = 0.0,
    on_error: type[BaseException] | tuple[type[BaseException], ...] | None = None,
    on_attempt: Callable[[int, BaseException | None], object] | None = None,
    **kwargs: Any,
) -> PendingOperation[T]: ...
@overload
def retry(
    fn: Callable[..., T],
    *args: Any,
    max_attempts: int = 3,
    delay: Duration = 1000,
    backoff: float = 1.0,
    max_delay: Duration | None = None,
    jitter: float = 0.0,
    on_error: type[BaseException] | tuple[type[BaseException], ...] | None = None,
    on_attempt: Callable[[int, BaseException | None], object] | None = None,
    **kwargs: Any,
) -> PendingOperation[T]: ...
def retry(
    fn: Callable[..., Any],
    *args: Any,
    max_attempts: int = 3,
    delay: Duration = 1000,
    backoff: float = 1.0,
    max_delay: Duration | None = None,
    jitter: float = 0.0,
    on_error: type[BaseException] | tuple[type[BaseException], ...] | None = None,
    on_attempt: Callable[[int, BaseException | None], object] | None = None,
    **kwargs: Any,
) -> PendingOperation[Any]:
    """Call a function until it does not raise, durably: a step that runs again continues with the next attempt.

    Args:
        fn: the function, sync or async.
        args: its positional arguments.
        max_attempts: the most calls.
        delay: the wait before the second call: milliseconds, ``timedelta`` or text.
        backoff: the factor for the delay after every further failure.
        max_delay: the longest delay: milliseconds, ``timedelta`` or text.
        jitter: the random share of a delay, from 0 to 1.
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
        raise TypeError(
            f"retry takes the function and its arguments separately: await retry(connect, host), got {fn!r}"
        )
    if isinstance(backoff, bool) or not isinstance(backoff, (int, float)) or backoff < 0:
        raise ValueError(f"retry: backoff multiplies the delay and must be a number from 0, not {backoff!r}")
    if isinstance(jitter, bool) or not isinstance(jitter, (int, float)) or not 0 <= jitter <= 1:
        raise ValueError(f"retry: jitter (the random share of a delay) must be from 0 to 1, not {jitter!r}")
    attempts = _check_attempts(max_attempts, "retry", default=3)
    assert attempts is not None
    policy = Policy(
        retry_delay=_seconds(delay, "retry: delay"),
        backoff=float(backoff),
        max_delay=None if max_delay is None else _seconds(max_delay, "retry: max_delay"),
        jitter=float(jitter),
    )
    errors = Exception if on_error is None else on_error
    for error in errors if isinstance(errors, tuple) else (errors,):
        if not (inspect.isclass(error) and issubclass(error, BaseException)):
            raise TypeError(f"retry: on_error must be an exception class or a tuple of them, not {error!r}")
    return offer("retry(...)", durable_retry, fn, args, kwargs, attempts, policy, errors, on_attempt)


@overload
def run(name: str, fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> PendingOperation[T]: ...
@overload
def run(name: str, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> PendingOperation[T]: ...
def run(name: str, fn: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> PendingOperation[Any]:
    """Do a side effect once: if the step runs again, its recorded result is returned.

    Args:
        name: its name in the log; the same in every run of the step.
        fn: the function, sync or async.
        args: its arguments; different arguments are a different side effect.
        kwargs: its keyword arguments.

    Returns:
        What ``fn`` returned, which must be storable.

    Raises:
        SerializationError: the result cannot be stored; the log still records that the effect happened.

    Example:
        >>> import asyncio
        >>> asyncio.run(run("welcome-mail", len, "ada@example.org"))
        15
    """
    return run_under(None, name, fn, args, kwargs)


def run_under(
    scope: Scope | None, name: str, fn: Callable[..., Any] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> PendingOperation[Any]:
    """Do a side effect once, in the given scope if there is one; see :func:`run`."""
    if fn is None or not callable(fn):
        raise TypeError(
            f"context.run({name!r}, ...): give the function and its arguments separately, "
            f"context.run({name!r}, send, to); got {fn!r}"
        )
    if not isinstance(name, str) or not name or ":" in name:
        raise ValueError(f"context.run: the name is text without ':', not {name!r}: context.run('send-mail', send, to)")
    what = f"context.run({name!r}, ...)"
    return offer(what, durable_run, name, fn, args, kwargs, scope=scope)


def _decorator_of_sleep(given: dict[str, float], data: Any) -> Decorator:
    factors = {"milliseconds": 1, "seconds": 1000, "minutes": 60_000, "hours": 3_600_000}
    for unit, amount in given.items():
        seconds(amount, unit="s", what=f"sleep: {unit}")
    ms = sum(factors[unit] * amount for unit, amount in given.items())

    def wait_before(body: F, /) -> F:
        async def around(*args: Any, **kwargs: Any) -> Any:
            await offer("@sleep", durable_sleep, ms / 1000, data, "@")
            return await invoke(functools.partial(body, *args, **kwargs))

        return wrap(body, around, ("sleep", ms))

    return wait_before


def _decorator_of_poll(
    condition: Callable[[Any], object],
    interval: Duration | None,
    max_attempts: int | None,
    timeout: Duration | None,
    on_attempt: Callable[[int, Any], object] | None,
) -> Decorator:
    if not callable(condition):
        raise TypeError(f"@poll: condition must be a function of the step's result, not {condition!r}")
    pause = 5.0 if interval is None else seconds(interval, unit="s", what="@poll: interval")
    limit = None if timeout is None else seconds(timeout, unit="s", what="@poll: timeout")
    most = _check_attempts(max_attempts, "@poll", default=None if timeout is not None else 30)

    def poll_body(body: F, /) -> F:
        async def around(*args: Any, **kwargs: Any) -> Any:
            check = functools.wraps(body)(functools.partial(body, *args, **kwargs))
            return await offer("@poll", durable_poll, check, pause, most, limit, condition, on_attempt)

        return wrap(body, around, ("poll", pause, most, limit, code_of(condition)))

    return poll_body


def _seconds(duration: Duration, what: str) -> float:
    return seconds(duration, unit="ms", what=what)


def _check_attempts(value: int | None, what: str, *, default: int | None) -> int | None:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{what}: max_attempts counts all attempts and must be a whole number from 1, not {value!r}")
    return value


waits_in_plain_steps(sleep, poll, retry)
