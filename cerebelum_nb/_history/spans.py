"""Find what took time in a run: attempts, the waits in them, the delays between them, and gaps without a process.

Pure: events in, spans out. Times are µs since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .._core.events import Event

__all__ = ["Interval", "Mark", "Span", "Timeline", "covered", "marks", "outside", "timeline"]

Interval = tuple[int, int]

_ATTEMPTS = {"StepCompleted": "completed", "StepFailed": "failed", "StepRetried": "retried"}
_WAITS = {
    "SleepStarted": "sleep",
    "ApprovalRequested": "approval",
    "ApprovalRefused": "approval",
    "SignalAwaited": "signal",
    "ChildStarted": "child",
    "PollStarted": "poll",
}
_WAIT_ENDS = {
    "SleepCompleted",
    "ApprovalReceived",
    "ApprovalRejected",
    "ApprovalTimedOut",
    "SignalTaken",
    "ChildEnded",
    "OperationCompleted",
    "OperationFailed",
}
_TRIES = {"PollAttempted", "RetryAttempted", "OperationCompleted"}
_LEAVES = {
    "WorkflowPaused",
    "WorkflowHibernated",
    "WorkflowCompleted",
    "WorkflowFailed",
    "WorkflowCancelled",
    "WorkflowRolledBack",
}
_RETURNS = {"WorkflowResumed", "WorkflowAwakened"}


class Mark(NamedTuple):
    """The fields of an event that :func:`timeline` needs."""

    type: str
    at: int
    step: str = ""
    visit: int = 1
    attempt: int = 1
    op: str = ""
    ended: int | None = None  # when an attempt ended, if its process died before that was recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A part of a step that took time.

    The ``kind`` of an attempt is ``completed``, ``failed``, ``retried`` (another follows), ``interrupted``,
    ``hibernated`` (it left for a long wait) or ``running`` (its end is not recorded); inside an attempt it is
    ``sleep``, ``approval``, ``signal``, ``child`` or ``poll``; between two attempts ``delay``.
    """

    step: str
    visit: int
    attempt: int
    kind: str
    start: int
    end: int


@dataclass(slots=True)
class Timeline:
    """The spans of one run.

    Attributes:
        attempts: one span per attempt, in order of their starts.
        waits: the waits inside attempts, and the delays between attempts.
        tries: the step and the time of each try of a poll, a retry or another operation.
        gaps: when no process ran it.
        start, end: when the run began and ended.
    """

    start: int = 0
    end: int = 0
    attempts: list[Span] = field(default_factory=list)
    waits: list[Span] = field(default_factory=list)
    tries: list[tuple[str, int]] = field(default_factory=list)
    gaps: list[Interval] = field(default_factory=list)

    @property
    def steps(self) -> list[str]:
        """The steps in order of their first start."""
        return list(dict.fromkeys(span.step for span in self.attempts))

    def pieces(self, span: Span) -> list[Interval]:
        """Return the intervals in which a process was running an attempt."""
        return outside((span.start, span.end), self.gaps)


def marks(events: Iterable[Event]) -> Iterator[Mark]:
    """Reduce events to what :func:`timeline` needs."""
    for event in events:
        yield Mark(
            type(event).__name__,
            event.at,
            getattr(event, "step", ""),
            getattr(event, "visit", 1),
            getattr(event, "attempt", 1),
            getattr(event, "op", ""),
            getattr(event, "ended_at", None),
        )


def timeline(marked: Iterable[Mark]) -> Timeline:
    """Measure how long each part of one run took.

    Example:
        >>> run = timeline([Mark("StepStarted", 0, "a"), Mark("StepCompleted", 5, "a")])
        >>> [(span.kind, span.end - span.start) for span in run.attempts]
        [('completed', 5)]
    """
    all_marks = list(marked)
    made = Timeline()
    if not all_marks:
        return made
    made.start, made.end = all_marks[0].at, all_marks[-1].at
    made.gaps, hibernations = _gaps(all_marks)
    open_attempts: dict[str, Mark] = {}
    open_waits: dict[tuple[str, str], Mark] = {}
    delays: dict[str, Mark] = {}

    def end_attempt(step: str, kind: str, at: int) -> None:
        start = open_attempts.pop(step, None)
        if start is not None:
            made.attempts.append(_span(start, kind, at))

    def end_wait(key: tuple[str, str], at: int) -> None:
        start = open_waits.pop(key, None)
        if start is not None:
            made.waits.append(_span(start, _WAITS[start.type], at))

    for mark in all_marks:
        if mark.type == "StepStarted":
            end_attempt(mark.step, "interrupted", mark.at)
            open_attempts[mark.step] = mark
            if (failed := delays.pop(mark.step, None)) is not None:
                made.waits.append(_span(failed, "delay", mark.at))
        elif mark.type in _ATTEMPTS:
            open_attempts.setdefault(mark.step, mark)  # a step completed by hand has never started
            end_attempt(mark.step, _ATTEMPTS[mark.type], mark.at)
            for key in [key for key in open_waits if key[0] == mark.step]:
                end_wait(key, mark.at)
            if mark.type == "StepRetried":
                delays[mark.step] = mark
        elif mark.type == "StepInterrupted":
            began = open_attempts[mark.step].at if mark.step in open_attempts else mark.at
            gap = next((gap for gap in made.gaps if began <= gap[0] < mark.at <= gap[1] + _SLACK), None)
            kind = "hibernated" if gap in hibernations else "interrupted"
            left_at = mark.at if gap is None else gap[0]  # older logs do not say when the attempt ended
            end_attempt(mark.step, kind, left_at if mark.ended is None else mark.ended)
        elif mark.type in _WAITS:
            open_waits.setdefault((mark.step, mark.op), mark)
        elif mark.type in _WAIT_ENDS:
            end_wait((mark.step, mark.op), mark.at)
        if mark.type in _TRIES:
            made.tries.append((mark.step, mark.at))
    for step in list(open_attempts):
        end_attempt(step, "running", made.end)
    for key in list(open_waits):
        end_wait(key, made.end)
    made.attempts.sort(key=lambda span: span.start)
    return made


def outside(interval: Interval, others: Iterable[Interval]) -> list[Interval]:
    """Subtract intervals, in any order, from an interval.

    Example:
        >>> outside((0, 10), [(2, 3), (8, 20)])
        [(0, 2), (3, 8)]
    """
    start, end = interval
    found = []
    for other_start, other_end in sorted(others):
        if other_end <= start or other_start >= end:
            continue
        if other_start > start:
            found.append((start, other_start))
        start = other_end
    return [*found, (start, end)] if start < end or interval[0] == interval[1] else found


def covered(intervals: Iterable[Interval]) -> list[Interval]:
    """Join intervals that overlap.

    Example:
        >>> covered([(5, 7), (0, 2), (1, 3)])
        [(0, 3), (5, 7)]
    """
    found: list[Interval] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


_SLACK = 1_000_000
"""The most µs between the event of a resume and the events of the attempts that it found interrupted."""


def _gaps(all_marks: Sequence[Mark]) -> tuple[list[Interval], set[Interval]]:
    """Find when no process ran it: after a process released it, or since the last heartbeat of a process that died."""
    gaps: list[Interval] = []
    hibernations: set[Interval] = set()
    left: Mark | None = None
    for place, mark in enumerate(all_marks):
        if mark.type in _LEAVES:
            left = mark
        elif mark.type in _RETURNS:
            since = left
            if since is None:
                before = place - 1
                while before > 0 and all_marks[before].type == "StepInterrupted":
                    before -= 1
                since = all_marks[before]
                if (ended := all_marks[place - 1].ended) is not None:
                    since = since._replace(at=ended)
            if since.at < mark.at:
                gaps.append((since.at, mark.at))
                if since.type == "WorkflowHibernated":
                    hibernations.add(gaps[-1])
            left = None
    return gaps, hibernations


def _span(start: Mark, kind: str, end: int) -> Span:
    return Span(step=start.step, visit=start.visit, attempt=start.attempt, kind=kind, start=start.at, end=end)
