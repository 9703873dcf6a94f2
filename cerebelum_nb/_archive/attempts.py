"""What happened to an execution and in each attempt of its steps, in a reader's words. Plain data, no HTML."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .._core import events as e
from .._core.value import ErrorInfo, Value
from .._text.duration import format_seconds
from .._text.times import at

__all__ = ["Attempt", "attempts", "to_the_whole"]

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
    """Gather what happened in each attempt, in the order they began."""
    found: dict[tuple[str, int, int], Attempt] = {}
    for event in events:
        if isinstance(event, e.WorkflowEvent):
            continue
        key = (event.step, event.visit, event.attempt)
        one = found.setdefault(key, Attempt(*key))
        match event:
            case e.StepStarted():
                one.started_at, one.ended_at, one.state = event.at, None, "running"
            case e.StepCompleted() | e.StepFailed() | e.StepRetried() | e.StepInterrupted():
                one.ended_at, one.state = event.at, _ENDS[type(event)]
                one.output, one.error = getattr(event, "output", None), getattr(event, "error", None)
                if isinstance(event, e.StepInterrupted):
                    one.ended_at = event.at if event.ended_at is None else event.ended_at
                    one.notes.append(event.reason)
                if isinstance(event, e.StepCompleted) and event.by_hand:
                    one.notes.append("done by hand")
            case e.StepPrinted():
                one.printed += event.text
            case _:
                one.notes += filter(None, [_note(event)])
    return list(found.values())


def _note(event: e.Event) -> str:
    """Say in a few words what happened inside a step, if a reader wants to know it."""
    match event:
        case e.DivergeTaken(choice=choice, target=target) if choice is not None:
            return f"route {choice} → {target}"
        case e.BranchTaken(choice=choice, target=target):
            return f"branch {'true' if choice else 'false'}{f' → {target}' if target else ''}"
        case e.Jumped(kind=kind, to=to):
            return f"{kind.replace('_', ' ')} {to}"
        case e.SleepStarted(duration_ms=ms):
            return f"sleep of {format_seconds(ms / 1000)}"
        case e.OperationCompleted(op=op, number=number) if number > 1:
            return f"{op.partition(':')[0]}: {number} tries"
        case e.OperationFailed(op=op, error=error):
            return f"{op.partition(':')[0]} failed: {error.type}"
        case e.ApprovalRequested(approval_type=kind):
            return f"asked for {kind} approval"
        case e.ApprovalReceived(by=by):
            return f"approved{f' by {by}' if by else ''}"
        case e.ApprovalRejected(by=by, reason=reason):
            return f"rejected{f' by {by}' if by else ''}: {reason}"
        case e.ApprovalTimedOut():
            return "nobody decided in time"
        case _:
            return ""


def to_the_whole(event: e.Event) -> tuple[str, str]:
    """Say what happened to the execution as a whole: a word, and more about it."""
    match event:
        case e.WorkflowStarted(module=module, qualname=qualname):
            return "started", f"{module}.{qualname}" if module else ""
        case e.WorkflowForked(parent=parent, parent_version=version, from_step=step):
            return "forked", f"from {parent}, event {version}{f', to run {step} again' if step else ''}"
        case e.WorkflowPaused(reason=reason):
            return "paused", reason
        case e.WorkflowResumed():
            again = [*event.retried, *event.revisited, *event.restored]
            parts = [f"runs again: {', '.join(again)}"] if again else []
            parts += ["with other inputs"] if event.inputs is not None else []
            return "resumed", "; ".join(parts)
        case e.WorkflowHibernated(wake_at=wake_at):
            return "left its process", "" if wake_at is None else f"until {at(wake_at):%Y-%m-%d %H:%M:%S}"
        case e.WorkflowAwakened(reason=reason, died=died):
            return "went on", reason or ("its process had died" if died else "")
        case e.CancelRequested(reason=reason, by=by):
            return "asked to cancel", _by(reason, by)
        case e.WorkflowCancelled(reason=reason, by=by):
            return "cancelled", _by(reason, by)
        case e.WorkflowFailed(error=error, failed_step=step):
            return "failed", f"{f'in {step}: ' if step else ''}{error.type}: {error.message}"
        case e.WorkflowCompleted():
            return "completed", ""
        case _:
            return "", ""


def _by(reason: str | None, by: str | None) -> str:
    return ", ".join(filter(None, [reason, f"by {by}" if by else ""]))
