"""``wait_for_signal`` and ``@signal``: a step waits, durably, for a message from outside. See _engine/signals.py."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from .._core.events import OperationFailed, SignalAwaited, SignalReceived, SignalTaken
from .._engine.clock import Deadline
from .._engine.functions import code_of
from .._engine.pending_operation import PendingOperation, offer, wrap
from .._engine.resume_points import waits_in_plain_steps
from .._engine.scope import Scope
from .._engine.scope_lookup import scope_here
from .._engine.signals import check_name
from .._text.duration import Duration, format_seconds, seconds
from ..errors import CerebelumError, SignalTimeoutError
from .api import Decorator
from .approval import answer_outside
from .durable import invoke

__all__ = ["signal", "wait_for_signal"]

F = TypeVar("F", bound=Callable[..., Any])


def wait_for_signal(
    name: str, *, timeout: Duration | None = None, match: Callable[[Any], object] | None = None
) -> PendingOperation[Any]:
    """Wait for a signal, whether or not this process lives that long, and return its data.

    A signal is sent with ``client.send_signal``, ``run.send_signal`` or ``cerebelum signal``. One that arrives before a
    step waits is kept. Each is delivered to one waiting step, in order of arrival.

    Args:
        name: the name of the signal; text without ``:``.
        timeout: how long to wait: milliseconds, a ``timedelta`` or text such as ``"2 days"``; None: without end.
        match: called with the data, sync or async; a signal for which it returns a false value is left for other steps.

    Returns:
        The data that was sent with it.

    Raises:
        SignalTimeoutError: none came in time.
        CerebelumError: outside an execution nobody can send one; see :func:`cerebelum_nb.testing.answering`.

    Example:
        >>> import asyncio
        >>> from cerebelum_nb.testing import answering
        >>> with answering({"order": 7}):
        ...     asyncio.run(wait_for_signal("payment", timeout="2 days"))
        {'order': 7}
    """
    _check(name, match, "wait_for_signal")
    limit = None if timeout is None else seconds(timeout, unit="ms", what="wait_for_signal: timeout")
    return offer(f"wait_for_signal({name!r})", _wait, name, limit, match)


def signal(name: str, *, timeout: Duration | None = None, match: Callable[[Any], object] | None = None) -> Decorator:
    """Wait for a signal before the body of the step runs; written under ``@step``.

    The body does not see the data of the signal: a step that needs it calls :func:`wait_for_signal`.

    Args:
        name: the name of the signal; text without ``:``.
        timeout: how long to wait: seconds, a ``timedelta`` or text such as ``"2 days"``; None: without end.
        match: as in :func:`wait_for_signal`.

    Raises:
        StepDefinitionError: it is written above ``@step``.
        Otherwise as :func:`wait_for_signal`, when the step runs.

    Example:
        >>> from cerebelum_nb import step
        >>> @step
        ... @signal("payment", timeout="2 days")
        ... async def ship():
        ...     return "shipped"
        >>> ship
        <step ship>
    """
    _check(name, match, "@signal")
    limit = None if timeout is None else seconds(timeout, unit="s", what="@signal: timeout")

    def wait_before(body: F, /) -> F:
        async def around(*args: Any, **kwargs: Any) -> Any:
            await offer("@signal", _wait, name, limit, match, "@")
            return await invoke(functools.partial(body, *args, **kwargs))

        return wrap(body, around, ("signal", name, limit, None if match is None else code_of(match)))

    return wait_before


def _check(name: object, match: object, what: str) -> None:
    check_name(name)
    if match is not None and not callable(match):
        raise TypeError(f"{what}: match must be a function of the data, not {match!r}")


async def _wait(
    scope: Scope | None, name: str, limit: float | None, match: Callable[[Any], object] | None, mark: str = ""
) -> Any:
    scope = scope or scope_here(f"wait_for_signal({name!r})")
    if scope is None:
        return await _outside(name)
    if scope.execution.redactor.mask(name) != name:
        raise ValueError("the name of a signal contains a secret, and names are stored unmasked: choose another name")
    op = scope.identify("signal", mark + name, f"{limit or 0:g}")
    operation = scope.recorded(op)
    if operation is not None and operation.result is not None:
        return scope.execution.decode(operation.result, f"the signal '{name}'")
    clock = scope.execution.clock
    if operation is not None:  # after an interruption it keeps its deadline
        due = None if operation.due_at is None else Deadline(clock, operation.due_at)
    else:
        due = None if limit is None else Deadline.after(clock, limit)
    await scope.record(SignalAwaited, op, name=name, due_at=None if due is None else due.at)
    seen_signals: dict[int, None] = {}
    while True:
        state = scope.execution.state
        seen = state.last_signal
        for version, signal in list(state.signals.items()):
            if signal.name != name or version in seen_signals:
                continue
            seen_signals[version] = None
            if not await _matches(scope, signal, match):
                continue
            await scope.record(SignalTaken, op, received=version)
            taken = scope.recorded(op)
            if taken is not None and taken.result is not None:  # otherwise another step was first
                return scope.execution.decode(taken.result, f"the signal '{name}'")
        if scope.execution.state.last_signal > seen:
            continue
        if due is not None and due.rest() <= 0:
            break
        await scope.wait_until(due, op, until=functools.partial(_has_new_signal, scope, seen))
    assert due is not None
    error = SignalTimeoutError(
        f"no signal '{name}' arrived within {format_seconds(limit or 0)} for step '{scope.step}' of execution "
        f"{scope.execution.id}. Resume the execution to wait again"
    )
    await scope.record(OperationFailed, op, error=scope.execution.describe(error))
    raise error


def _has_new_signal(scope: Scope, seen: int) -> bool:
    return scope.execution.state.last_signal > seen


async def _matches(scope: Scope, signal: SignalReceived, match: Callable[[Any], object] | None) -> bool:
    if match is None:
        return True
    data = scope.execution.decode(signal.data, f"the signal '{signal.name}'")
    return bool(await invoke(functools.partial(match, data)))


async def _outside(name: str) -> Any:
    answer = answer_outside.get()
    if answer is None:
        raise CerebelumError(
            f"the signal '{name}' was awaited outside an execution, where nobody can send it. Run the step in a "
            f"workflow, or send it in the test: with cerebelum_nb.testing.answering(data): ..."
        )
    return answer(name, None)


waits_in_plain_steps(wait_for_signal)
