"""``wait_for_approval`` and ``@approval``: a step asks a person and waits, durably. See _engine/approvals.py."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from .._core.events import (
    ApprovalRefused,
    ApprovalRequested,
    ApprovalTimedOut,
    OperationCompleted,
    OperationFailed,
)
from .._core.step_state import Operation
from .._core.value import Value
from .._engine.clock import Deadline
from .._engine.pending_operation import PendingOperation, offer, wrap
from .._engine.resume_points import waits_in_plain_steps
from .._engine.scope import Scope
from .._engine.scope_lookup import scope_here
from .._text.duration import Duration, format_seconds, seconds
from ..errors import ApprovalRejectedError, ApprovalTimeoutError, CerebelumError
from .api import Decorator
from .durable import invoke

__all__ = ["answer_outside", "approval", "digest_of", "wait_for_approval"]

F = TypeVar("F", bound=Callable[..., Any])

answer_outside: ContextVar[Callable[[str, Any], Any] | None] = ContextVar("cerebelum_answer", default=None)
"""A function that answers outside an execution, where there is nobody to ask; tests set it."""


def wait_for_approval(
    approval_type: str = "manual",
    data: Any = None,
    timeout_ms: Duration | None = None,
    validate: Callable[[Any], object] | None = None,
) -> PendingOperation[Any]:
    """Ask a person, and wait for the answer, whether or not this process lives that long.

    It is decided in the notebook's form, with ``cerebelum approve``, or by a program through the client; the first
    decision counts. A step that runs again keeps its request; different ``data`` makes a new one.

    Args:
        approval_type: the kind of approval; text without ``:``.
        data: shown to the person who decides; a hash of it is recorded with the decision.
        timeout_ms: how long to wait: milliseconds, a ``timedelta`` or text such as ``"2d"``; None: without end.
        validate: called with the response, sync or async. If it raises or returns a false value other than None, the
            response is refused, the person who decided sees the message, and the wait continues.

    Returns:
        The approver's response.

    Raises:
        ApprovalRejectedError: a person rejected it; the error says who and why.
        ApprovalTimeoutError: it was not decided in time.
        CerebelumError: outside an execution there is nobody to ask; see :func:`cerebelum_nb.testing.answering`.

    Example:
        >>> import asyncio
        >>> from cerebelum_nb.testing import answering
        >>> with answering({"size": "small"}):
        ...     asyncio.run(wait_for_approval(data={"price": 5}))
        {'size': 'small'}
    """
    _check(approval_type, validate, "wait_for_approval")
    limit = None if timeout_ms is None else seconds(timeout_ms, unit="ms", what="wait_for_approval: timeout_ms")
    return offer(f"wait_for_approval({approval_type!r})", _ask, approval_type, data, limit, validate)


def approval(
    type: str = "manual",  # noqa: A002 - the name in the contract
    timeout_minutes: float | None = None,
    data: Any = None,
    validate: Callable[[Any], object] | None = None,
) -> Decorator:
    """Ask a person before the body of the step runs; written under ``@step``.

    Args:
        type: the kind of approval; text without ``:``.
        timeout_minutes: how long to wait; None: without end.
        data: shown to the person who decides; a function is called with the step's arguments.
        validate: as in :func:`wait_for_approval`.

    Raises:
        StepDefinitionError: it is written above ``@step``.
        Otherwise as :func:`wait_for_approval`, when the step runs.

    Example:
        >>> from cerebelum_nb import step
        >>> @step
        ... @approval(type="production", timeout_minutes=60)
        ... async def deploy():
        ...     return "deployed"
        >>> deploy
        <step deploy>
    """
    _check(type, validate, "@approval")
    limit = None
    if timeout_minutes is not None:
        limit = 60 * seconds(timeout_minutes, unit="s", what="@approval: timeout_minutes")

    def ask_before(body: F, /) -> F:
        async def around(*args: Any, **kwargs: Any) -> Any:
            shown = data(*args, **kwargs) if callable(data) else data
            await offer("@approval", _ask, type, shown, limit, validate, "@")
            return await invoke(functools.partial(body, *args, **kwargs))

        return wrap(body, around, ("approval", type, limit))

    return ask_before


def digest_of(shown: Value | None) -> str:
    """Hash the data that is shown to the person who decides.

    Example:
        >>> digest_of(None)
        ''
    """
    if shown is None:
        return ""
    return shown.digest or hashlib.sha256((shown.json or shown.preview).encode()).hexdigest()


async def _ask(
    scope: Scope | None,
    approval_type: str,
    data: Any,
    limit: float | None,
    validate: Callable[[Any], object] | None,
    mark: str = "",
) -> Any:
    scope = scope or scope_here(f"wait_for_approval({approval_type!r})")
    if scope is None:
        return await _ask_outside(approval_type, data, validate)
    mask = scope.execution.redactor.mask
    shown = None if data is None else scope.execution.encode(data, path="approval data")
    digest = digest_of(shown)
    op = scope.identify("approval", mark + approval_type, f"{digest[:12] or 0}.{limit or 0:g}")
    operation = scope.recorded(op)
    due = _deadline(scope, operation, limit)
    if operation is None or not operation.is_decided:  # after an interruption it asks again
        if operation is None:
            await scope.record_mismatch(op)
        request = {"approval_type": mask(approval_type), "data": shown, "digest": digest}
        due_at = None if due is None else due.at
        await scope.record(ApprovalRequested, op, due_at=due_at, validated=validate is not None, **request)
    while True:
        operation = await _decision(scope, op, due)
        if operation.error is not None:
            raise await _refusal_error(scope, operation)
        assert operation.result is not None, "an approval without an error has a response"
        response = scope.execution.decode(operation.result, f"the approval '{approval_type}'")
        if operation.done:
            return response
        problem = await _check_response(validate, response)
        if problem is None:
            await scope.record(OperationCompleted, op, output=operation.result)
            return response
        await scope.record(ApprovalRefused, op, message=mask(problem))


def _deadline(scope: Scope, asked: Operation | None, limit: float | None) -> Deadline | None:
    """Return the deadline; after an interruption, that of the recorded request."""
    clock = scope.execution.clock
    if asked is not None:
        return None if asked.due_at is None else Deadline(clock, asked.due_at)
    return None if limit is None else Deadline.after(clock, limit)


async def _decision(scope: Scope, op: str, due: Deadline | None) -> Operation:
    """Wait until it is decided or times out."""

    def look() -> Operation:
        found = scope.recorded(op)
        assert found is not None, "the request is recorded"
        return found

    if not look().is_decided:
        await scope.wait_until(due, op, until=lambda: look().is_decided)
    if not look().is_decided:
        await scope.record(ApprovalTimedOut, op)  # not written if it was decided at the same moment
    return look()


async def _refusal_error(scope: Scope, operation: Operation) -> CerebelumError:
    """Record that the approval failed, so that a later attempt asks again; return the error to raise."""
    assert operation.error is not None
    where = (
        f"the approval '{operation.approval_type}' that step '{scope.step}' of execution {scope.execution.id} asked for"
    )
    error: CerebelumError
    if operation.error.type == "ApprovalTimeoutError":
        waited = format_seconds(((operation.due_at or operation.at) - operation.at) / 1e6)
        error = ApprovalTimeoutError(f"{where} was not decided within {waited}. Resume the execution to ask again")
    else:
        by = f" by {operation.rejected_by}" if operation.rejected_by else ""
        reason = operation.error.message
        error = ApprovalRejectedError(
            f"{where} was rejected{by}: {reason or 'no reason given'}", reason=reason, by=operation.rejected_by
        )
    await scope.record(OperationFailed, operation.op, error=scope.execution.describe(error))
    return error


async def _check_response(validate: Callable[[Any], object] | None, response: Any) -> str | None:
    """Return why a response is refused, or None if it is accepted."""
    if validate is None:
        return None
    try:
        verdict = await invoke(functools.partial(validate, response))
    except Exception as error:  # noqa: BLE001 - what the user's function raises is the reason
        return str(error) or type(error).__name__
    return None if verdict is None or verdict else f"the response {response!r} was not accepted"


async def _ask_outside(approval_type: str, data: Any, validate: Callable[[Any], object] | None) -> Any:
    answer = answer_outside.get()
    if answer is None:
        raise CerebelumError(
            f"the approval '{approval_type}' is requested outside an execution, where there is nobody to ask. Run the "
            f"step in a workflow, or answer in the test: with cerebelum_nb.testing.answering(response): ..."
        )
    response = answer(approval_type, data)
    problem = await _check_response(validate, response)
    if problem is not None:
        raise ApprovalRejectedError(f"the approval '{approval_type}' was refused: {problem}", reason=problem)
    return response


def _check(approval_type: object, validate: object, what: str) -> None:
    if not isinstance(approval_type, str) or not approval_type or ":" in approval_type or approval_type[0] == "@":
        raise ValueError(f"{what}: the type is text such as 'production', without ':', not {approval_type!r}")
    if validate is not None and not callable(validate):
        raise TypeError(f"{what}: validate must be a function of the response, not {validate!r}")


waits_in_plain_steps(wait_for_approval)
