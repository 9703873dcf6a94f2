"""The spans of an execution's trace, as a function of its events.

A span's id is computed from the execution, the step, the visit and the attempt. So nothing stays open over a restart
and nothing is stored: the process that runs an execution, the one that resumes it, and anyone who reads the log later
make the same spans. Sending one twice is harmless.

This module does not know OpenTelemetry. Times are µs since the epoch. Spans contain no values or printed text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal

from .._core import events as e
from .._core.value import ErrorInfo

__all__ = [
    "LEAVES",
    "Fold",
    "Link",
    "Mark",
    "Per",
    "Span",
    "attempt_id",
    "own_part",
    "run_of",
    "spans_of",
    "trace_id",
    "tree",
]

Per = Literal["execution", "run"]
"""What makes one trace: an execution, or each run of it in a process."""

Link = tuple[int, int]
"""The ids of a trace and a span."""

_Attributes = dict[str, str | int]

_MARKS = 128
LEAVES = (
    e.WorkflowCompleted,
    e.WorkflowFailed,
    e.WorkflowCancelled,
    e.WorkflowRolledBack,
    e.WorkflowPaused,
    e.WorkflowHibernated,
)
"""Events after which no process runs the execution."""
_BEGINS = (e.WorkflowStarted, e.WorkflowForked, e.WorkflowResumed, e.WorkflowAwakened)
_RUN_ENDED = {
    "WorkflowCompleted": "completed",
    "WorkflowFailed": "failed",
    "WorkflowCancelled": "cancelled",
    "WorkflowRolledBack": "rolled back",
    "WorkflowPaused": "paused",
    "WorkflowHibernated": "hibernated",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """An event of a span: something that happened at one time."""

    name: str
    at: int
    attributes: _Attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A span: a run, an attempt or an operation, with its duration.

    Attributes:
        name: ``workflow NAME``, ``step NAME``, or the kind of an operation and its step.
        trace: the id of its trace, 16 bytes.
        id: its id, 8 bytes.
        parent: the id of the span around it; None for the first of a trace.
        start: when it began.
        end: when it ended.
        attributes: its execution and step, and how it ended.
        error: why it failed.
        marks: its events.
        links: earlier spans, or spans of other executions, that led to it.
    """

    name: str
    trace: int
    id: int
    parent: int | None
    start: int
    end: int
    attributes: _Attributes
    error: ErrorInfo | None = None
    marks: tuple[Mark, ...] = ()
    links: tuple[Link, ...] = ()


def trace_id(execution_id: str, run: int | None = None) -> int:
    """Return the id of the trace of an execution, or of one run of it, named by the version that began it."""
    return _number(16, execution_id) if run is None else _number(16, execution_id, "run", run)


def attempt_id(execution_id: str, step: str, visit: int, attempt: int) -> int:
    """Return the id of the span of an attempt."""
    return _number(8, execution_id, "attempt", step, visit, attempt)


def own_part(events: Iterable[e.Event]) -> int:
    """Return the version of the execution's first own event: a fork begins with a copy of its parent's events."""
    return max((version for version, event in enumerate(events, 1) if isinstance(event, e.WorkflowForked)), default=1)


def run_of(events: Iterable[e.Event]) -> int:
    """Return the version of the event that began the present run, which identifies the run."""
    return max((version for version, event in enumerate(events, 1) if isinstance(event, _BEGINS)), default=1)


def spans_of(execution_id: str, workflow: str, events: list[e.Event], per: Per = "execution") -> list[Span]:
    """Return the spans of an execution that have ended, in the order of their ends.

    Example:
        >>> log = MemoryStore()
        >>> result = release.run(store=log, execution_id="k1")
        >>> [span.name for span in spans_of("k1", "release", log.events("k1"))]
        ['step build', 'workflow release']
    """
    found: list[Span] = []
    fold = Fold(execution_id, workflow, own_part(events), found.append, per)
    for version, event in enumerate(events, start=1):
        fold.add(version, event)
    return found


@dataclass(slots=True)
class _Attempt:
    start: int
    run: int
    marks: list[Mark] = field(default_factory=list)


class Fold:
    """Takes the events of one execution in order, and emits each span when it ends.

    Args:
        execution_id: the execution.
        workflow: the name of its workflow.
        first: the version of its first own event; earlier ones belong to its parent.
        emit: receives the spans.
        per: what makes one trace.
        caller: the span in which the execution was started, to link to.
    """

    def __init__(
        self,
        execution_id: str,
        workflow: str,
        first: int,
        emit: Callable[[Span], object],
        per: Per = "execution",
        caller: Link | None = None,
    ) -> None:
        self.emit = emit
        self._id, self._first, self._per, self._caller = execution_id, first, per, caller
        self._workflow = workflow
        self._about: _Attributes = {
            "cerebelum.workflow.name": workflow,
            "cerebelum.execution.id": execution_id,
        }
        self._parents_run = 1  # the version that began the run of the parent in which a fork left it
        self._run = 0  # the version that began the run in this process; 0 when none runs it
        self._run_start = self._last = 0
        self._why = ""
        self._links: tuple[Link, ...] = ()
        self._more: _Attributes = {}
        self._before: int | None = None
        self._attempts: dict[tuple[str, int, int], _Attempt] = {}
        self._operations: dict[tuple[str, int, str], tuple[int, int]] = {}

    def add(self, version: int, event: e.Event) -> None:
        """Take the next event."""
        if version < self._first:
            if isinstance(event, _BEGINS):
                self._parents_run = version
            return
        match event:
            case e.StepStarted():
                self._attempts[event.step, event.visit, event.attempt] = _Attempt(event.at, self._run)
            case e.StepCompleted():
                self._attempt_ended(event, "completed")
            case e.StepFailed():
                self._attempt_ended(event, "failed", event.error)
            case e.StepRetried():
                self._attempt_ended(event, "retried", event.error)
            case e.StepInterrupted():
                self._interrupted(event)
            case e.SleepStarted() | e.PollStarted() | e.ApprovalRequested() | e.ApprovalRefused():
                self._operations.setdefault((event.step, event.visit, event.op), (event.at, version))
            case e.SleepCompleted() | e.ApprovalReceived() | e.ApprovalRejected() | e.ApprovalTimedOut():
                self._operation_ended(event)
            case e.OperationCompleted() | e.OperationFailed():
                self._operation_ended(event)
            case e.PollAttempted() | e.RetryAttempted():
                self._mark(event, "check" if isinstance(event, e.PollAttempted) else "try", {"number": event.number})
            case e.WorkflowStarted():
                self._begin(version, event.at, "start", (self._caller,) if self._caller else ())
            case e.WorkflowForked():
                more: _Attributes = {
                    "cerebelum.parent.execution.id": event.parent,
                    "cerebelum.parent.version": event.parent_version,
                }
                self._begin(version, event.at, "fork", (self._link(event.parent, self._parents_run),), more)
            case e.WorkflowResumed():
                self._begin(version, event.at, "resume")
            case e.WorkflowAwakened():
                self._begin(version, event.at, "takeover" if event.died else "wake-up")
            case _ if isinstance(event, LEAVES):
                outcome = "hibernated" if isinstance(event, e.WorkflowHibernated) else "interrupted"
                for key in [*self._attempts]:
                    self._end_attempt(key, event.at, outcome)
                failed = event.error if isinstance(event, e.WorkflowFailed) else None
                self._end_run(event.at, _RUN_ENDED[type(event).__name__], failed)
            case _:
                pass
        if not e.is_signal(event) and not isinstance(event, e.StepInterrupted):
            self._last = event.at

    # -- runs -----------------------------------------------------------------------------------------------

    def _begin(
        self, version: int, at: int, why: str, links: tuple[Link, ...] = (), more: _Attributes | None = None
    ) -> None:
        if self._run:  # the process that ran it died
            for key in [*self._attempts]:
                self._end_attempt(key, self._last, "interrupted")
            self._end_run(self._last, "interrupted")
        if self._before is not None:
            links = (
                (trace_id(self._id, self._before if self._per == "run" else None), _run_id(self._id, self._before)),
            )
        self._before = self._run = version
        self._run_start, self._why, self._links, self._more = at, why, links, more or {}

    def _link(self, execution_id: str, run: int) -> Link:
        return trace_id(execution_id, run if self._per == "run" else None), _run_id(execution_id, run)

    def _end_run(self, at: int, outcome: str, error: ErrorInfo | None = None) -> None:
        if not self._run:
            return
        is_first = self._per == "run" or self._run == self._first
        self._emit(
            f"workflow {self._workflow}",
            _run_id(self._id, self._run),
            None if is_first else _run_id(self._id, self._first),
            self._run_start,
            at,
            {"cerebelum.run.why": self._why, "cerebelum.run.outcome": outcome, **self._more},
            self._run,
            error=error,
            links=self._links,
        )
        self._run = 0

    # -- attempts -------------------------------------------------------------------------------------------

    def _attempt_ended(self, event: e.StepEvent, outcome: str, error: ErrorInfo | None = None) -> None:
        self._end_attempt((event.step, event.visit, event.attempt), event.at, outcome, error)

    def _interrupted(self, event: e.StepInterrupted) -> None:
        """End an attempt; if its process died, at the time of death and not when that was noticed."""
        died = event.ended_at is not None or event.reason == "its process ended"
        if event.ended_at is not None:
            self._last = max(self._last, event.ended_at)
        self._end_attempt((event.step, event.visit, event.attempt), self._last if died else event.at, "interrupted")
        if not died:
            self._last = event.at

    def _end_attempt(self, key: tuple[str, int, int], at: int, outcome: str, error: ErrorInfo | None = None) -> None:
        found = self._attempts.pop(key, None)
        if found is None:  # a result given by hand, or the attempt ended with its run
            return
        step, visit, attempt = key
        marks = found.marks
        if error is not None:
            described: _Attributes = {"exception.type": error.type, "exception.message": error.message}
            if error.traceback:
                described["exception.stacktrace"] = error.traceback
            marks = [*marks, Mark("exception", at, described)]
        self._emit(
            f"step {step}",
            attempt_id(self._id, *key),
            _run_id(self._id, found.run),
            found.start,
            at,
            {
                "cerebelum.step.name": step,
                "cerebelum.step.visit": visit,
                "cerebelum.step.attempt": attempt,
                "cerebelum.step.outcome": outcome,
            },
            found.run,
            error=error,
            marks=tuple(marks),
        )

    def _mark(self, event: e.OperationEvent, name: str, attributes: _Attributes) -> None:
        found = self._attempts.get((event.step, event.visit, event.attempt))
        if found is not None and len(found.marks) < _MARKS:
            about = {"cerebelum.operation.kind": _kind(event.op), **attributes}
            found.marks.append(Mark(f"{_kind(event.op)} {name}", event.at, about))

    # -- operations -----------------------------------------------------------------------------------------

    def _operation_ended(self, event: e.OperationEvent) -> None:
        began = self._operations.pop((event.step, event.visit, event.op), None)
        failed = event.error if isinstance(event, e.OperationFailed) else None
        if began is None:  # the start of a context.run or a retry is not recorded
            self._mark(event, "failed" if failed else "done", {})
            return
        start, version = began
        attempt = self._attempts.get((event.step, event.visit, event.attempt))
        self._emit(
            f"{_kind(event.op)} {event.step}",
            _number(8, self._id, "operation", event.step, event.visit, event.op, version),
            attempt_id(self._id, event.step, event.visit, event.attempt),
            start,
            event.at,
            {"cerebelum.operation.kind": _kind(event.op), "cerebelum.step.name": event.step},
            self._run if attempt is None else attempt.run,
            error=failed,
        )

    def _emit(
        self,
        name: str,
        span: int,
        parent: int | None,
        start: int,
        end: int,
        attributes: _Attributes,
        run: int,
        *,
        error: ErrorInfo | None = None,
        marks: tuple[Mark, ...] = (),
        links: tuple[Link, ...] = (),
    ) -> None:
        more = {} if error is None else {"error.type": error.type}
        self.emit(
            Span(
                name=name,
                trace=trace_id(self._id, run if self._per == "run" else None),
                id=span,
                parent=parent,
                start=start,
                end=max(start, end),
                attributes={**self._about, **attributes, **more},
                error=error,
                marks=marks,
                links=links,
            )
        )


def tree(spans: Iterable[Span]) -> Iterator[tuple[int, Span]]:
    """Yield spans from outer to inner, in order of their starts, each with its depth."""
    known = sorted(spans, key=lambda span: (span.start, span.end != span.start, -span.end))
    ids = {span.id for span in known}
    below: dict[int | None, list[Span]] = {}
    for span in known:
        below.setdefault(span.parent if span.parent in ids else None, []).append(span)

    def walk(parent: int | None, depth: int) -> Iterator[tuple[int, Span]]:
        for span in below.get(parent, ()):
            yield depth, span
            yield from walk(span.id, depth + 1)

    yield from walk(None, 0)


def _run_id(execution_id: str, version: int) -> int:
    return _number(8, execution_id, "run", version)


def _kind(op: str) -> str:
    return op.partition(":")[0]


def _number(size: int, *parts: object) -> int:
    text = "\0".join(map(str, parts)).encode("utf-8", "backslashreplace")
    return int.from_bytes(blake2b(text, digest_size=size).digest(), "big") or 1
