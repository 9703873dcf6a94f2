"""Which events of a log are worth a notification, and the text of notifications."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from .._core.events import (
    ApprovalReceived,
    ApprovalRefused,
    ApprovalRejected,
    ApprovalRequested,
    ApprovalTimedOut,
    Event,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowRolledBack,
)
from .._core.fold import fold
from .._engine.hints import Reader, advise, command_for
from .._store.base import ExecutionRow, Store
from .._text.duration import format_seconds
from .._text.text import cut, one_line
from .._text.times import utc

__all__ = ["KINDS", "News", "news_of", "news_of_interrupted", "news_of_late", "open_requests", "sum_up"]

KINDS = {
    "failed": "an execution failed",
    "approval": "an execution is waiting for a person's decision",
    "interrupted": "the process that ran an execution is gone",
    "late": "an execution should have been woken but was not",
    "completed": "an execution is completed",
}
"""The kinds of notifications."""

_MOST_NAMED = 5
_LONGEST = 1500
_DECISIONS = (ApprovalReceived, ApprovalRejected, ApprovalTimedOut)


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One piece of news, to be sent once.

    Attributes:
        kind: one of ``KINDS``.
        execution_id: the execution it is about; "" for several.
        workflow: the name of its workflow.
        version: the version of the event that it is about.
        at: when that happened, µs since the epoch.
        title: a summary in one line.
        text: the rest: why, and what to do next. Secrets are masked, as in the log.
        step: the step that it is about; "" if none.
        error: for a failure, the exception's class and message.
    """

    kind: str
    execution_id: str
    workflow: str
    version: int
    at: int
    title: str
    text: str = ""
    step: str = ""
    error: str = ""


def news_of(
    store: Store, execution_id: str, workflow: str, events: Sequence[tuple[int, Event]], kinds: frozenset[str]
) -> Iterator[News]:
    """Return the news in events of one execution, without approvals that have since been decided."""
    decided = {(event.step, event.op) for _, event in events if isinstance(event, _DECISIONS)}
    name = f"{workflow} {execution_id}"
    for version, event in events:
        news = partial(News, execution_id=execution_id, workflow=workflow, version=version, at=event.at)
        match event:
            case WorkflowFailed() if "failed" in kinds:
                own = event.error.type in ("flow.fail", "flow.retry", "JumpLimit", "returned error")
                error = event.error.message if own else f"{event.error.type}: {event.error.message}"
                step = event.failed_step or ""
                where = f" in step '{step}'" if step else ""
                yield news(
                    kind="failed",
                    title=one_line(f"{name} failed{where}: {error}", 200),
                    text=_with_advice(store, execution_id, version, cut(error, _LONGEST)),
                    step=step,
                    error=error,
                )
            case WorkflowRolledBack() if "failed" in kinds:
                yield news(
                    kind="failed",
                    title=one_line(f"{name} is rolled back", 200),
                    text=_with_advice(store, execution_id, version, ""),
                )
            case ApprovalRequested() if "approval" in kinds and (event.step, event.op) not in decided:
                shown = "" if event.data is None else cut(event.data.text, _LONGEST)
                until = "" if event.due_at is None else f"Until {utc(event.due_at)}. "
                yield news(
                    kind="approval",
                    title=one_line(f"{name} waits for approval '{event.approval_type}' in step '{event.step}'", 200),
                    text=_with_advice(store, execution_id, version, f"{until}{shown}".strip()),
                    step=event.step,
                )
            case WorkflowCompleted() if "completed" in kinds:
                yield news(
                    kind="completed",
                    title=one_line(f"{name} is completed", 200),
                )
            case _:
                pass


def open_requests(events: Sequence[tuple[int, Event]]) -> list[tuple[int, Event]]:
    """Return the open requests for approval among all events of an execution."""
    asked: dict[tuple[str, str], tuple[int, Event]] = {}
    for version, event in events:
        match event:
            case ApprovalRequested():
                asked[event.step, event.op] = (version, event)
            case ApprovalReceived() | ApprovalRejected() | ApprovalTimedOut():
                asked.pop((event.step, event.op), None)
            case ApprovalRefused():
                asked.setdefault((event.step, event.op), (version, event))
            case _:
                pass
    return [*asked.values()]


def news_of_interrupted(store: Store, row: ExecutionRow) -> News:
    """Return the news that the process of an execution has died."""
    shown = row.summary
    step = shown.current_step or ""
    where = f" in step '{step}'" if step else ""
    by = f"{row.holder} is gone; it" if row.holder is not None else "No process is running it; it"
    text = f"{by} was last active at {utc(shown.updated_at)}."
    return News(
        kind="interrupted",
        execution_id=row.execution_id,
        workflow=shown.workflow,
        version=row.version,
        at=shown.updated_at,
        title=one_line(f"{shown.workflow} {row.execution_id} was interrupted{where}: its process is gone", 200),
        text=_with_advice(store, row.execution_id, row.version, text, interrupted=True),
        step=step,
    )


def news_of_late(store: Store, row: ExecutionRow, now: int) -> News:
    """Return the news that an execution should have been woken."""
    due = row.summary.wake_at or now
    late = format_seconds((now - due) / 1e6)
    command = command_for(store)
    run = "" if command is None else f" Start one: {command('scheduler')}"
    return News(
        kind="late",
        execution_id=row.execution_id,
        workflow=row.summary.workflow,
        version=row.version,
        at=due,
        title=one_line(f"{row.summary.workflow} {row.execution_id} should have been woken {late} ago", 200),
        text=f"It was due at {utc(due)}, and no scheduler resumed it.{run}",
    )


def sum_up(news: Sequence[News]) -> News:
    """Sum up several news of one kind."""
    first, count = news[0], len(news)
    what = {
        "failed": "executions failed",
        "approval": "executions wait for approval",
        "interrupted": "executions were interrupted",
        "late": "executions should have been woken",
        "completed": "executions are completed",
    }[first.kind]
    more = f"\n... and {count - _MOST_NAMED} more" if count > _MOST_NAMED else ""
    return News(
        kind=first.kind,
        execution_id="",
        workflow="",
        version=0,
        at=max(one.at for one in news),
        title=f"{count} more {what}",
        text="\n".join(one.title for one in news[:_MOST_NAMED]) + more,
    )


def _with_advice(store: Store, execution_id: str, version: int, text: str, *, interrupted: bool = False) -> str:
    """Add to a text how to resume the execution, as of that version."""
    state = fold(store.events(execution_id, upto=version))
    advice = advise(state, execution_id, interrupted=interrupted, reader=Reader.TERMINAL, command=command_for(store))
    return text if advice is None else f"{text}\n\n{advice}".strip()
