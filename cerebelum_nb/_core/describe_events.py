"""Descriptions of events for people: in the slider, the terminal, the dashboard and exported pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from .._text.duration import format_seconds
from .._text.text import counted, one_line
from . import events as e
from .state import State

__all__ = ["describe_briefly", "detail", "headline", "title"]

_MOST_NAMES = 10
"""How many steps or items a description names at most."""


def title(event: e.Event) -> str:
    """Return the name of an event, with its step, visit and attempt.

    Example:
        >>> title(e.StepStarted(at=0, step="build", attempt=2))
        'StepStarted build, attempt 2'
    """
    name = type(event).__name__
    if not isinstance(event, e.StepEvent):
        return name
    visit = f", visit {event.visit}" if event.visit > 1 else ""
    attempt = f", attempt {event.attempt}" if event.attempt > 1 else ""
    return f"{name} {event.step}{visit}{attempt}"


def detail(event: e.Event, state: State) -> str:
    """Describe what an event adds to its title; ``state`` is the state after the event.

    Example:
        >>> event = e.WorkflowPaused(at=0, reason="stopped by hand")
        >>> detail(event, State())
        'stopped by hand'
    """
    return one_line(_detail(event, state))


def headline(event: e.WorkflowEvent) -> str:
    """Describe in a few words what happened to the whole execution.

    Example:
        >>> headline(e.WorkflowHibernated(at=0, wake_at=None))
        'left its process'
    """
    return _HEADLINES[type(event)]


_HEADLINES: dict[type[e.WorkflowEvent], str] = {
    e.WorkflowStarted: "started",
    e.WorkflowForked: "forked",
    e.WorkflowQueued: "queued",
    e.WorkflowAdmitted: "its turn came",
    e.WorkflowPaused: "paused",
    e.WorkflowResumed: "resumed",
    e.WorkflowHibernated: "left its process",
    e.WorkflowAwakened: "woke up",
    e.CancelRequested: "asked to cancel",
    e.SignalReceived: "got a signal",
    e.WorkflowTagged: "tagged",
    e.WorkflowCancelled: "cancelled",
    e.WorkflowFailed: "failed",
    e.WorkflowCompleted: "completed",
    e.RollbackStarted: "began to roll back",
    e.WorkflowRolledBack: "rolled back",
}


def describe_briefly(event: e.StepEvent) -> str:
    """Describe in a few words what happened inside a step; empty if a list of attempts does not show it.

    Example:
        >>> describe_briefly(e.SleepStarted(at=0, step="wait", op="sleep:1", duration_ms=5000, due_at=5_000_000))
        'sleep of 5s'
    """
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
        case e.SignalAwaited(name=name):
            return f"waited for signal {name}"
        case e.ChildStarted(child=child, workflow=workflow):
            return f"ran {workflow} as {child}"
        case _:
            return ""


def _detail(event: e.Event, state: State) -> str:
    match event:
        case e.WorkflowStarted():
            tags = f", tags {', '.join(event.tags)}" if event.tags else ""
            labels = f"{f', {event.name}' if event.name else ''}{tags}"
            return f"{event.workflow}{labels}, {event.total_steps} steps, inputs {event.inputs.text}"
        case e.WorkflowQueued():
            return f"behind {event.behind}" if event.behind else ""
        case e.WorkflowAdmitted():
            return ""
        case e.WorkflowPaused() | e.StepInterrupted():
            return event.reason
        case e.WorkflowResumed():
            return _describe_resume(event)
        case e.WorkflowHibernated():
            until = "until an answer or a signal comes"
            return until if event.wake_at is None else f"for {_span(event.at, event.wake_at)}"
        case e.WorkflowAwakened():
            return event.reason or ("its process had died" if event.died else "")
        case e.WorkflowCompleted():
            return f"after {_span(state.started_at, event.at)}"
        case e.WorkflowFailed():
            return f"{f'at {event.failed_step}, ' if event.failed_step else ''}{event.error}"
        case e.CancelRequested() | e.WorkflowCancelled():
            return ", ".join(filter(None, (event.reason, event.by and f"by {event.by}")))
        case e.WorkflowTagged():
            parts = " ".join([*(f"+{tag}" for tag in event.added), *(f"-{tag}" for tag in event.removed)])
            return f"{parts}{f', by {event.by}' if event.by else ''}"
        case e.WorkflowForked():
            again = f", to run {event.from_step} again" if event.from_step else ""
            return f"from event {event.parent_version} of {event.parent}{again}"
        case e.RollbackStarted():
            to = f"back to {event.to}, " if event.to else ""
            return f"{to}to undo: {_list_names(event.todo) or 'nothing'}{f'; {event.error}' if event.error else ''}"
        case e.StepStarted() | e.WorkflowRolledBack():
            return ""
        case e.ItemsListed():
            return f"{counted(len(event.keys), 'item')}: {_list_names(event.keys)}" if event.keys else "no items"
        case e.StepCompleted():
            took = (
                "by hand"
                if event.by_hand
                else f"from {event.source}"
                if event.source
                else f"after {_duration(event, state)}{_on_worker(event.worker)}"
            )
            return f"{took}, {event.output.text}"
        case e.StepFailed():
            return f"after {_duration(event, state)}{_on_worker(event.worker)}, {event.error}"
        case e.StepRetried():
            return f"{event.error}{_on_worker(event.worker)}; next attempt {_when_next(event.at, event.due_at)}"
        case e.StepProgressed():
            return f"{event.percent:.0f} % {event.message}".rstrip()
        case e.StepNoted():
            return f"{event.name}: {event.value.text}"
        case e.StepPrinted():
            return event.text.strip()
        case e.StepCheckpointed():
            if event.reason:
                return f"{f'continues at line {event.line}' if event.place else 'starts at its top'}: {event.reason}"
            return f"at line {event.line}{f', which raised {event.raised}' if event.raised else ''}"
        case e.DivergeTaken():
            return (
                "no pattern matches" if event.choice is None else f"{event.choice!r} matches{_to_target(event.target)}"
            )
        case e.BranchTaken():
            return f"{event.choice}{_to_target(event.target)}"
        case e.Jumped():
            reset = f"; again: {', '.join(event.reset)}" if event.reset else ""
            return f"{event.kind} {event.to}{reset}"
        case e.SleepStarted():
            return f"for {format_seconds(event.duration_ms / 1e3)}"
        case e.SignalReceived():
            return f"{event.name}{f' by {event.by}' if event.by else ''}, {event.data.text}"
        case e.SignalAwaited():
            return f"{event.name}{'' if event.due_at is None else f', within {_span(event.at, event.due_at)}'}"
        case e.SignalTaken():
            return f"{_operation_name(event)}, received as event {event.received}"
        case e.ChildStarted():
            return f"{event.workflow}, execution {event.child}"
        case e.ChildEnded():
            return _operation_name(event)
        case e.SleepCompleted() | e.ApprovalTimedOut() | e.PollStarted():
            return ""
        case e.PollAttempted():
            found = f" found {event.result}" if event.result else ""
            return f"check {event.number}{found}; next {_when_next(event.at, event.due_at)}"
        case e.RetryAttempted():
            return f"try {event.number}, {event.error}; next {_when_next(event.at, event.due_at)}"
        case e.OperationCompleted():
            return f"{_operation_name(event)}{_tries(event.number)}, {event.output.text}"
        case e.OperationFailed():
            return f"{_operation_name(event)}{_tries(event.number)}, {event.error}"
        case e.OperationMismatched():
            return f"{_operation_name(event)} runs, its arguments differ from those recorded"
        case e.ApprovalRequested():
            until = "" if event.due_at is None else f", within {_span(event.at, event.due_at)}"
            return f"{event.approval_type}{until}{'' if event.data is None else f', {event.data.text}'}"
        case e.ApprovalReceived():
            return f"{f'by {event.by}, ' if event.by else ''}{event.response.text}"
        case e.ApprovalRejected():
            return f"{f'by {event.by}, ' if event.by else ''}{event.reason}"
        case e.ApprovalRefused():
            return event.message
        case _:
            assert_never(event)


def _describe_resume(event: e.WorkflowResumed) -> str:
    parts = [
        f"{what} {', '.join(names)}"
        for what, names in (
            ("again", event.retried),
            ("afresh", event.revisited),
            ("with its items listed again", event.relisted),
            ("for its value", event.restored),
            ("route of", event.rerouted),
        )
        if names
    ]
    return "; ".join([*parts, *([f"with inputs {event.inputs.text}"] if event.inputs is not None else [])])


def _list_names(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_NAMES]) + (", ..." if names[_MOST_NAMES:] else "")


def _duration(event: e.StepEvent, state: State) -> str:
    step = state.step(event.step)
    return _span(step.started_at, event.at) if step is not None and step.started_at else "no time"


def _on_worker(worker: str) -> str:
    return f" on {worker}" if worker else ""


def _span(start: int, end: int) -> str:
    return format_seconds(max(0, end - start) / 1e6)


def _when_next(at: int, due_at: int) -> str:
    return f"in {_span(at, due_at)}" if due_at > at else "at once"


def _to_target(target: str) -> str:
    return f", on to {target}" if target else ""


def _tries(number: int) -> str:
    return f" after {number} tries" if number > 1 else ""


def _operation_name(event: e.OperationEvent) -> str:
    """Return the kind and the name of an operation, without the suffix that distinguishes equal names."""
    return event.op.rsplit(":", 2)[0].replace(":", " ", 1)
