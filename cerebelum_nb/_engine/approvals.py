"""Decide an approval, from any process: the client, the command line and the notebook's form all call this.

Like a signal, a decision is appended between the events of the running process. The first decision wins.
"""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from .._core.events import (
    ApprovalReceived,
    ApprovalRefused,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalTimedOut,
    Event,
    OperationCompleted,
    OperationFailed,
    StepCompleted,
)
from .._core.state import State
from .._core.value import Value
from .._store.base import Store
from .._text.times import at, utc
from .._values import Redactor, encode
from ..errors import ApprovalDecidedError, ApprovalError, ApprovalRefusedError
from .clock import current_clock
from .cluster_access import authoritative_store
from .outside import append_from_outside
from .patience import patiently, short_try

__all__ = ["Decision", "OpenApproval", "decide", "decide_approval", "open_approvals", "wait_for_validation"]

_LOOK_SECONDS = 0.05
_VALIDATION_SECONDS = 5.0
"""How long to wait for the step to validate a response. Without a process, it does so only when it is resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenApproval:
    """An approval that waits for a decision. ``digest`` is the hash of the encoded ``data``; times are µs."""

    step: str
    op: str
    approval_type: str
    data: Value | None
    digest: str
    requested_at: int
    due_at: int | None
    validated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A recorded decision.

    ``pending`` is true until the step has validated the response: see :func:`wait_for_validation`.
    """

    execution_id: str
    step: str
    approval_type: str
    approved: bool
    by: str | None
    version: int
    op: str
    pending: bool = False


def open_approvals(state: State) -> list[OpenApproval]:
    """List the approvals that wait for a decision, in the order in which they were requested."""
    found = [
        OpenApproval(
            step=name,
            op=operation.op,
            approval_type=operation.approval_type,
            data=operation.data,
            digest=operation.digest,
            requested_at=operation.at,
            due_at=operation.due_at,
            validated=operation.validated,
        )
        for name, step in state.attempted()
        if not step.settled
        for operation in step.operations.values()
        if operation.kind == "approval" and not operation.is_decided
    ]
    return sorted(found, key=lambda approval: approval.requested_at)


def decide_approval(
    store: Store,
    execution_id: str,
    *,
    approve: bool,
    response: Any = None,
    reason: str | None = None,
    by: str | None = None,
    step: str | None = None,
) -> Decision:
    """Approve or reject an approval. The process that runs the execution continues; a hibernated one becomes due.

    Args:
        store: its log.
        execution_id: its id or an unambiguous prefix.
        approve: True approves, False rejects.
        response: what the step receives when it is approved; must be storable.
        reason: why, for the log; for a rejection also for the step.
        by: who decides; by default the user of this process.
        step: the step to decide for, if several are waiting.

    Returns:
        The decision; ``pending`` if the step has yet to validate the response.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        ApprovalDecidedError: it was already decided, or it timed out; the message says who, what and when.
        ApprovalError: no approval is waiting, or several are and ``step`` is not given.
        SerializationError: the response cannot be stored.
    """
    row = store.execution(execution_id)
    execution_id, store = row.execution_id, authoritative_store(store, row)
    who = by or _user()
    value = encode(response, redactor=Redactor(store.redact), path="response")
    chosen: OpenApproval | None = None

    def make(state: State) -> Event:
        nonlocal chosen
        now = max(current_clock.get().now(), state.updated_at)
        chosen = _choose(store, execution_id, state, step, now)
        known = state.step(chosen.step)
        assert known is not None
        header: dict[str, Any] = {
            "at": now,
            "step": chosen.step,
            "visit": known.visit,
            "attempt": max(1, known.attempt),
            "op": chosen.op,
            "by": who,
            "digest": chosen.digest,
        }
        if approve:
            return ApprovalReceived(**header, response=value, reason=reason or None)
        return ApprovalRejected(**header, reason=reason or "")

    state = append_from_outside(store, execution_id, make)
    assert state is not None
    assert chosen is not None
    return Decision(
        execution_id=execution_id,
        step=chosen.step,
        approval_type=chosen.approval_type,
        approved=approve,
        by=who,
        version=state.version,
        op=chosen.op,
        pending=approve and chosen.validated,
    )


async def decide(store: Store, execution_id: str, **decision: Any) -> Decision:
    """Decide from async code, as :func:`decide_approval` does; the loop runs while the log is locked."""

    def write() -> Decision:
        with short_try():
            return decide_approval(store, execution_id, **decision)

    return await patiently(write)


async def wait_for_validation(store: Store, decision: Decision) -> Decision:
    """Wait for the step to validate a response, for five seconds at most.

    Args:
        store: the log.
        decision: what :func:`decide_approval` returned.

    Returns:
        The decision, no longer ``pending`` if the step has accepted the response.

    Raises:
        ApprovalRefusedError: the step did not accept the response; the approval is still open.
    """
    store = authoritative_store(store, store.execution(decision.execution_id))
    loop = asyncio.get_running_loop()
    until = loop.time() + _VALIDATION_SECONDS
    while decision.pending:
        for event in store.events(decision.execution_id, after=decision.version):
            if isinstance(event, ApprovalRefused) and event.op == decision.op:
                raise ApprovalRefusedError(
                    f"step '{decision.step}' of execution {decision.execution_id} did not accept the response: "
                    f"{event.message}. The approval is still open"
                )
            if isinstance(event, OperationCompleted | OperationFailed) and event.op == decision.op:
                return replace(decision, pending=False)
            if isinstance(event, StepCompleted) and event.step == decision.step:
                return replace(decision, pending=False)
        if loop.time() >= until:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    return decision


def _choose(store: Store, execution_id: str, state: State, step: str | None, now: int) -> OpenApproval:
    found = [approval for approval in open_approvals(state) if step in (None, approval.step)]
    if not found or state.lifecycle.is_final:
        raise _nothing_to_decide(execution_id, state, store.events(execution_id), step)
    steps = dict.fromkeys(approval.step for approval in found)
    if len(steps) > 1:
        raise ApprovalError(
            f"execution {execution_id} is waiting for {len(steps)} approvals, in the steps {_listed(steps)}: choose "
            f"one with step={found[0].step!r}"
        )
    chosen = found[0]
    if chosen.due_at is not None and chosen.due_at <= now:
        raise ApprovalDecidedError(
            f"the approval '{chosen.approval_type}' of step '{chosen.step}' of execution {execution_id} timed out at "
            f"{utc(chosen.due_at)}: nobody decided it",
            at=at(chosen.due_at),
        )
    return chosen


def _nothing_to_decide(execution_id: str, state: State, events: list[Event], step: str | None) -> ApprovalError:
    kinds = {event.op: event.approval_type for event in events if isinstance(event, ApprovalRequested)}
    for event in reversed(events):
        if isinstance(event, ApprovalReceived | ApprovalRejected | ApprovalTimedOut) and step in (None, event.step):
            return _decided(execution_id, event, kinds.get(event.op, "manual"))
    where = f"step '{step}' of execution {execution_id}" if step else f"execution {execution_id}"
    return ApprovalError(f"{where} is not waiting for an approval: it is {state.status}")


def _decided(
    execution_id: str, event: ApprovalReceived | ApprovalRejected | ApprovalTimedOut, kind: str
) -> ApprovalDecidedError:
    which = f"the approval '{kind}' of step '{event.step}' of execution {execution_id}"
    when = utc(event.at)
    by: str | None = None
    what = ""
    match event:
        case ApprovalReceived(by=by, response=response):
            text = response.json if response.is_json else response.preview
            answer = "" if text == "null" else f", with the response {text[:200]}"
            what = f"was approved by {by or 'somebody'} at {when}{answer}"
        case ApprovalRejected(by=by, reason=reason):
            what = f"was rejected by {by or 'somebody'} at {when}: {reason or 'no reason given'}"
        case ApprovalTimedOut():
            what = f"timed out at {when}: nobody decided it"
    return ApprovalDecidedError(f"{which} {what}", by=by, at=at(event.at))


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
