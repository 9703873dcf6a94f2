"""Concurrency keys: which slot an execution needs, and what happens to an execution that has it.

_engine/queue.py says how executions queue for a slot.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from .._core.graph import Concurrency, Plan
from .._engine.cancel import cancel_now
from .._engine.execution import Execution
from .._engine.queue import ahead_of, busy
from .._store.base import Store
from .._text.text import cut, did_you_mean
from .._values import Secret
from ..errors import CerebelumError, InputsError, ResumeError, WorkflowDefinitionError

__all__ = ["SCHEDULE_SLOT", "concurrency_of", "refuse_if_busy", "refuse_if_caller_has", "slot_of", "supersede"]

_CONFLICTS = ("queue", "cancel", "refuse")
_LONGEST = 200

SCHEDULE_SLOT = "schedule:"
"""The prefix of the slot shared by the executions of one schedule, if their workflow has no concurrency key."""

messages = logging.getLogger("cerebelum_nb")


def concurrency_of(key: Any, on_conflict: Any) -> Concurrency | None:
    """Check ``concurrency_key=`` and ``on_conflict=``.

    Raises:
        WorkflowDefinitionError: they are invalid.
    """
    if key is None:
        if on_conflict is not None:
            raise WorkflowDefinitionError(
                f"@workflow: on_conflict={on_conflict!r} needs a concurrency_key, such as concurrency_key='service'"
            )
        return None
    if not (isinstance(key, str) and key) and not callable(key):
        raise WorkflowDefinitionError(
            "@workflow: concurrency_key must be the name of an input, such as 'service', or a function of the "
            "inputs, not "
            f"{key!r}"
        )
    how = "queue" if on_conflict is None else on_conflict
    if how not in _CONFLICTS:
        hint = did_you_mean(str(how), _CONFLICTS, "Leave it out to queue.")
        raise WorkflowDefinitionError(
            f"@workflow: on_conflict must be 'queue', 'cancel' or 'refuse', not {how!r}. {hint}"
        )
    return Concurrency(key, how)


def slot_of(plan: Plan, inputs: Mapping[str, Any]) -> str:
    """Return the slot of an execution with these inputs; "" if it needs none.

    Args:
        plan: its plan.
        inputs: its inputs, already checked.

    Raises:
        InputsError: the input that is the key is not given.
        CerebelumError: the function that returns the key raised, or did not return a key.
    """
    rule = plan.concurrency
    if rule is None:
        return ""
    if isinstance(rule.key, str):
        if rule.key not in inputs:
            hint = did_you_mean(rule.key, inputs, f"Give it: {{{rule.key!r}: ...}}")
            raise InputsError(
                f"workflow '{plan.workflow}' runs once at a time for each value of the input {rule.key!r} "
                f"(concurrency_key), which is missing. {hint}"
            )
        value = inputs[rule.key]
    else:
        value = _call_key(rule.key, plan, inputs)
    return "" if value is None else f"{plan.workflow}:{_text(value, plan)}"


def _call_key(key: Callable[[Any], object], plan: Plan, inputs: Mapping[str, Any]) -> object:
    given = inputs if plan.shape is None else plan.shape.make(dict(inputs))
    try:
        return key(given)
    except Exception as error:
        raise CerebelumError(
            f"the concurrency_key of workflow '{plan.workflow}' raised {type(error).__name__}: {error}. It takes the "
            f"inputs, and returns text or a number, or None for no limit"
        ) from error


def _text(value: object, plan: Plan) -> str:
    if isinstance(value, Secret):
        raise CerebelumError(
            f"the concurrency_key of workflow '{plan.workflow}' is a secret, and keys are in the log: use another input"
        )
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    except (TypeError, ValueError) as error:
        raise CerebelumError(
            f"the concurrency_key of workflow '{plan.workflow}' must be text, a number, or a list or dict of them, not "
            f"{cut(repr(value), 80)}"
        ) from error
    if len(text) > _LONGEST:
        raise CerebelumError(
            f"the concurrency_key of workflow '{plan.workflow}' has {len(text)} characters; the maximum is {_LONGEST}: "
            f"{cut(text, 60)}"
        )
    return text


def refuse_if_busy(plan: Plan, store: Store, execution_id: str, slot: str) -> None:
    """Raise ExecutionBusyError if ``on_conflict`` is ``"refuse"`` and the slot is not free."""
    if slot and plan.concurrency is not None and plan.concurrency.on_conflict == "refuse":
        for row in ahead_of(store, slot, execution_id, None):
            raise busy(execution_id, slot, row)


def refuse_if_caller_has(plan: Plan, store: Store, slot: str, caller: str) -> None:
    """Raise CerebelumError if a child needs the slot of a caller, which keeps it until the child has ended."""
    first = store.in_slot(slot) if slot else None
    above: str | None = caller
    while first is not None and above:
        if above == first.execution_id:
            raise CerebelumError(
                f"workflow '{plan.workflow}' cannot run as a child here: it needs {slot} (concurrency_key), which its "
                f"caller {above} holds until this child has ended, so both would wait forever. Give the child another "
                f"key, or let concurrency_key return None for it"
            )
        above = store.execution(above).summary.caller


def supersede(execution: Execution) -> None:
    """Cancel the executions before a queued one, if ``on_conflict`` is ``"cancel"``."""
    rule, state = execution.plan.concurrency, execution.state
    if rule is None or rule.on_conflict != "cancel":
        return
    for row in list(ahead_of(execution.store, state.slot, execution.id, state.queued_at)):
        try:
            cancel_now(execution.store, row.execution_id, f"{execution.id} took its place", None)
        except ResumeError:  # it has ended meanwhile
            continue
        messages.info("execution %s of %s is cancelled: %s takes its place", row.execution_id, state.slot, execution.id)
