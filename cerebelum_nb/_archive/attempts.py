"""Collect the attempts of an execution's steps as plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .._core import events as e
from .._core.describe_events import describe_briefly
from .._core.value import ErrorInfo, Value

__all__ = ["Attempt", "attempts"]

_ENDS = {
    e.StepCompleted: "completed",
    e.StepFailed: "failed",
    e.StepRetried: "retrying",
    e.StepInterrupted: "interrupted",
}


@dataclass(slots=True)
class Attempt:
    """One attempt of a step; ``state`` is a key of ``MARKS``, times are µs since the epoch."""

    step: str
    visit: int
    attempt: int
    started_at: int | None = None
    ended_at: int | None = None
    state: str = "running"
    output: Value | None = None
    error: ErrorInfo | None = None
    printed: str = ""
    notes: list[str] = field(default_factory=list)


def attempts(events: Iterable[e.Event]) -> list[Attempt]:
    """Collect the attempts, in the order they started."""
    found: dict[tuple[str, int, int], Attempt] = {}
    for event in events:
        if isinstance(event, e.WorkflowEvent):
            continue
        key = (event.step, event.visit, event.attempt)
        one = found.setdefault(key, Attempt(*key))
        match event:
            case e.StepStarted() | e.ItemsListed():
                one.started_at, one.ended_at, one.state = event.at, None, "running"
            case e.StepCompleted() | e.StepFailed() | e.StepRetried() | e.StepInterrupted():
                one.ended_at, one.state = event.at, _ENDS[type(event)]
                one.output, one.error = getattr(event, "output", None), getattr(event, "error", None)
                one.notes += [f"on {event.worker}"] if event.worker else []
                if isinstance(event, e.StepInterrupted):
                    one.ended_at = event.at if event.ended_at is None else event.ended_at
                    one.notes.append(event.reason)
                if isinstance(event, e.StepCompleted) and (event.by_hand or event.source):
                    one.notes.append("done by hand" if event.by_hand else f"taken from {event.source}")
            case e.StepPrinted():
                one.printed += event.text
            case _:
                one.notes += filter(None, [describe_briefly(event)])
    return list(found.values())
