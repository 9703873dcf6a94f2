"""Cancel an execution, whether this process, another process or none is running it, and the children it waits for."""

from __future__ import annotations

import logging
from dataclasses import replace

from .._core.arguments import ExecutionLike
from .._core.events import CancelRequested, WorkflowCancelled
from .._core.state import State
from .._core.state_name import ExecutionState
from .._store.base import Commit, Store
from ..errors import CerebelumError, ExecutionBusyError, ResumeError
from .children import notify_caller, open_children
from .clock import current_clock
from .cluster_access import authoritative_store
from .leases import leases_of
from .orphans import final_commit
from .outside import append_from_outside, commit_to_latest
from .patience import patiently, short_try

__all__ = ["cancel_children", "cancel_execution", "cancel_now", "notify_of_end"]

log = logging.getLogger("cerebelum_nb")


async def cancel_execution(store: Store, execution_id: ExecutionLike, *, reason: str | None, by: str | None) -> str:
    """Cancel an execution for good.

    Args:
        store: its log.
        execution_id: its id or an unambiguous prefix.
        reason: why, for the log.
        by: who, for the log.

    Returns:
        ``"cancelled"``, or ``"requested"`` if another process is running it and will soon cancel it.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        ResumeError: it has already ended.
    """

    def write() -> str:
        with short_try():
            return cancel_now(store, execution_id, reason, by)

    return await patiently(write)


def cancel_now(store: Store, execution_id: ExecutionLike, reason: str | None, by: str | None) -> str:
    """Cancel an execution for good from sync code; a locked log raises a transient StoreError."""
    row = store.execution(execution_id)
    found, store = row.execution_id, authoritative_store(store, row)
    if row.summary.state.is_final:
        raise ResumeError(f"execution {found} is already {row.summary.state}; there is nothing to cancel")
    here = leases_of(store).running(found)
    now = current_clock.get().now()
    request = CancelRequested(at=now, reason=reason, by=by)
    if here is not None:
        here.cancel_soon(request)
        return "requested"
    try:
        lease = leases_of(store).claim(found, now)
    except ExecutionBusyError:
        append_from_outside(store, found, lambda state: replace(request, at=max(now, state.updated_at)))
        return "requested"

    def end(state: State) -> Commit:
        ended = WorkflowCancelled(at=max(now, state.updated_at), reason=reason, by=by)
        return final_commit(found, state, ended, interrupted="cancelled", **lease._asdict())

    state = commit_to_latest(store, found, end)
    assert state is not None
    leases_of(store).notify_queued()
    cancel_children(store, found, state)
    if state.caller:
        notify_caller(store, found, state.caller, state.caller_step)
    return "cancelled"


def cancel_children(store: Store, execution_id: str, state: State) -> None:
    """Cancel the children that a cancelled execution waited for.

    A child that cannot be reached now cancels itself when it is resumed.
    """
    for child in open_children(state):
        try:
            with short_try():
                cancel_now(store, child, f"its caller {execution_id} was cancelled", None)
        except ResumeError:
            pass  # it has ended by itself
        except CerebelumError as error:
            log.warning(
                "child %s of execution %s, which was cancelled, is still running: %s", child, execution_id, error
            )


def notify_of_end(store: Store, execution_id: str, state: State, *, caller_waits: bool) -> None:
    """Cancel the children of an execution that was cancelled, and report its end to its caller.

    Args:
        store: its log.
        execution_id: its id.
        state: its last state.
        caller_waits: whether its caller waits for it in this process and needs no message.
    """
    if state.lifecycle is ExecutionState.CANCELLED:
        cancel_children(store, execution_id, state)
    if state.caller and not caller_waits:
        try:
            with short_try():
                notify_caller(store, execution_id, state.caller, state.caller_step)
        except CerebelumError as error:  # the scheduler notifies the caller later
            log.warning(
                "execution %s could not be notified that its child %s ended: %s", state.caller, execution_id, error
            )
