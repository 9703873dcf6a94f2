"""Descriptions of steps for people: in cards, the terminal, the dashboard and exported pages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from .._text.duration import format_seconds
from .._text.json_text import parse
from .._text.text import counted, one_line
from .graph import key_of, owner_of, undo_of, undone_by
from .state import State
from .step_state import Operation, Phase, StepState
from .value import Value

__all__ = [
    "Waiting",
    "describe_items",
    "describe_notes",
    "describe_rollback",
    "note_text",
    "row_of",
    "shown_state",
    "undo_rows",
    "waits_of",
]


def describe_items(step: StepState, now: int) -> str:
    """Describe the progress of a foreach: how many items are done, which have failed, and which has run longest.

    Args:
        step: the state of the foreach.
        now: the time, µs since the epoch.

    Example:
        >>> from .step_state import Items
        >>> describe_items(StepState(items=Items(keys={"ams3": 0, "nyc1": 1}, done=1)), now=0)
        '1 of 2 items done'
    """
    items = step.items
    if items is None:
        return ""
    parts = [f"{items.done} of {counted(len(items.keys), 'item')} done"]
    if items.failed:
        parts.append(f"{len(items.failed)} failed ({_list_keys(items.failed)})")
    if items.running and not step.settled:
        first = next(iter(items.running))
        spent = max(0, now - items.steps[first].started_at) / 1e6
        slow = f", {key_of(first)} for {format_seconds(round(spent))}" if spent >= _SLOW_SECONDS else ""
        parts.append(f"{len(items.running)} running{slow}")
    return ", ".join(parts)


class Waiting(NamedTuple):
    """What a step waits for, and what happens at ``until``, µs since the epoch; None if no time is set."""

    what: str
    then: str = ""
    until: int | None = None

    def text(self, left: Callable[[int], str]) -> str:
        """Return it as one phrase; ``left`` describes how far away a time is, such as ``"in 5m"``."""
        return self.what if self.until is None else f"{self.what}, {self.then} {left(self.until)}"


def waits_of(step: StepState) -> list[Waiting]:
    """Describe what a step waits for now.

    Example:
        >>> asked = Operation(op="approval:budget:0", approval_type="budget", due_at=40_000_000)
        >>> step = StepState(phase=Phase.RUNNING, operations={asked.op: asked})
        >>> [waiting.text(lambda due: f"in {due // 1_000_000}s") for waiting in waits_of(step)]
        ['waits for approval: budget, its time ends in 40s']
    """
    if step.phase is Phase.RETRYING and step.error is not None:
        return [Waiting(f"attempt {step.attempt} failed ({step.error.type})", "the next", step.due_at)]
    if step.phase is not Phase.RUNNING:
        return []
    found = (_waiting(operation) for operation in step.operations.values() if not operation.done)
    return [waiting for waiting in found if waiting is not None]


def _waiting(operation: Operation) -> Waiting | None:
    due_at = operation.due_at
    match operation.kind:
        case "sleep" if due_at is not None:
            return Waiting("sleeps", "wakes", due_at)
        case "approval" if operation.is_decided:
            return Waiting(f"approval: {operation.approval_type} is decided")
        case "approval":
            return Waiting(f"waits for approval: {operation.approval_type}", "its time ends", due_at)
        case "signal":
            return Waiting(f"waits for signal: {operation.signal}", "its time ends", due_at)
        case "child":
            return Waiting(f"runs {operation.op.split(':')[1]} as {operation.child}")
        case "poll" | "retry" if operation.number:
            return Waiting(f"{operation.kind}: {counted(operation.number, 'try', 'tries')}", "the next", due_at)
        case _:
            return None


def row_of(name: str) -> str:
    """Return the row of lists of steps to which an attempt belongs.

    Example:
        >>> row_of("deploy[ams3]"), row_of("~deploy[ams3]")
        ('deploy', 'undo deploy')
    """
    undone = undone_by(name)
    return f"undo {owner_of(undone)}" if undone else owner_of(name)


def describe_rollback(state: State) -> str:
    """Describe the progress of a rollback; empty if there is none.

    Example:
        >>> from .state import Rollback
        >>> describe_rollback(State(rollback=Rollback(todo={"plan": None})))
        '0 undone, 1 still to undo'
    """
    rollback = state.rollback
    if rollback is None:
        return ""
    left = f", {len(rollback.todo)} still to undo" if rollback.todo else ""
    return f"{sum(step.has_result for step in rollback.steps.values())} undone{left}"


def undo_rows(state: State) -> dict[str, StepState]:
    """Return the rows of a rollback in lists of steps, by name; the items of a foreach are one row.

    Example:
        >>> from .state import Rollback
        >>> list(undo_rows(State(rollback=Rollback(todo={"deploy[ams3]": None, "deploy[nyc1]": None, "plan": None}))))
        ['undo deploy', 'undo plan']
    """
    rollback = state.rollback
    if rollback is None:
        return {}
    parts: dict[str, list[StepState | None]] = {}
    for name in dict.fromkeys((*map(undone_by, rollback.steps), *rollback.todo)):
        parts.setdefault(owner_of(name), []).append(rollback.steps.get(undo_of(name)))
    return {
        row_of(undo_of(owner)): (found[0] or StepState())
        if undo_of(owner) in rollback.steps or owner in rollback.todo
        else _combine_items(found)
        for owner, found in parts.items()
    }


def _combine_items(parts: Sequence[StepState | None]) -> StepState:
    """Make the row for undoing many items."""
    known = [step for step in parts if step is not None]
    done = sum(step.has_result for step in known)
    now = next((step for step in known if not step.has_result), None)
    phase = Phase.COMPLETED if done == len(parts) else Phase.PENDING if now is None else now.phase
    return StepState(
        phase=phase,
        began_at=min((step.began_at for step in known), default=0),
        started_at=min((step.started_at for step in known), default=0),
        ended_at=max((step.ended_at for step in known), default=0),
        error=None if now is None else now.error,
        interrupted=now is not None and now.interrupted,
        due_at=None if now is None else now.due_at,
        message=f"{done} of {counted(len(parts), 'item')} undone",
    )


def shown_state(step: StepState, over: bool = False) -> str:
    """Return the state of a step as graphs and cards show it; ``over`` says that the execution is completed."""
    match step.phase:
        case Phase.COMPLETED:
            return "completed"
        case Phase.FAILED:
            return "failed"
        case Phase.RETRYING:
            return "retrying"
        case Phase.RUNNING:
            waits = {operation.kind for operation in step.operations.values() if not operation.done}
            return "approval" if "approval" in waits else "sleeping" if {"sleep", "signal"} & waits else "running"
        case Phase.PENDING if step.is_active:
            return "running"
        case Phase.PENDING:
            begun = step.items is not None and bool(step.items.steps)
            return "interrupted" if step.interrupted or begun else "skipped" if over else "waiting"


def describe_notes(step: StepState, most: int = 100) -> list[str]:
    """Return the notes of a step as lines, at most the last ``most``.

    Example:
        >>> describe_notes(StepState(notes={"url": Value("json", '"https://example.org"'), "size": Value("json", "3")}))
        ['url: https://example.org', 'size: 3']
    """
    return [f"{name}: {one_line(note_text(value))}" for name, value in [*(step.notes or {}).items()][-most:]]


def note_text(value: Value) -> str:
    """Return the value of a note as text: a string without its quotes, anything else as in the log."""
    if value.json.startswith('"'):
        with suppress(ValueError):  # a log from elsewhere may hold anything
            return str(parse(value.json))
    return value.text


_SLOW_SECONDS = 10
"""From how many seconds on a running item is named."""

_FEW = 3
"""How many failed items are named."""


def _list_keys(names: Collection[str]) -> str:
    shown = ", ".join(key_of(name) for name in islice(names, _FEW))
    return f"{shown}, ..." if len(names) > _FEW else shown
