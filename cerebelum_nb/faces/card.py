"""A run at one moment as plain data, and the same as text and HTML. No widgets, no I/O."""

from __future__ import annotations

import html
from dataclasses import dataclass

from ..core.duration import format_seconds
from ..core.model import ExecutionState
from ..core.state import Phase, StepState
from ..engine.execution import Execution

__all__ = ["Card", "Row"]

_MARKS = {
    "completed": ("✓", "#2e8b57"),
    "failed": ("✗", "#c8553d"),
    "running": ("▶", "#3778bf"),
    "retrying": ("↻", "#b8860b"),
    "interrupted": ("⏸", "#b8860b"),
    "waiting": ("·", "#888888"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One step: its name, what state it is in, seconds spent, percent done, and a note."""

    name: str
    state: str
    seconds: float | None = None
    percent: float | None = None
    note: str = ""
    parallel: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A run at one moment."""

    workflow: str
    execution_id: str
    state: ExecutionState
    seconds: float
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, execution: Execution) -> Card:
        """Take a picture of a run."""
        state, plan, now = execution.state, execution.plan, execution.now()
        parallel = {name for stage in plan.timeline if len(stage) > 1 for name in stage}
        names = dict.fromkeys((*(n for stage in plan.timeline for n in stage), *state.steps))
        return cls(
            workflow=plan.workflow,
            execution_id=execution.id,
            state=state.status,
            seconds=((state.completed_at or now) - state.started_at) / 1e6,
            rows=tuple(_row(execution, name, state.steps.get(name), now, name in parallel) for name in names),
        )

    def to_text(self) -> str:
        """Write it as text that is the same in every run: no ids, no times."""
        done = sum(row.state == "completed" for row in self.rows)
        lines = [f"{self.workflow}: {self.state.lower()}, {done} of {len(self.rows)} steps"]
        for row in self.rows:
            mark = _MARKS[row.state][0]
            note = f"  {row.note}" if row.note and row.state in ("failed", "interrupted") else ""
            lines.append(f"  {mark} {row.name}{note}")
        return "\n".join(lines)

    def to_html(self) -> str:
        """Write it as a table that is legible in light and dark themes."""
        done = sum(row.state == "completed" for row in self.rows)
        body = "".join(_html_row(row) for row in self.rows)
        return (
            "<div style='font-family:var(--jp-ui-font-family,sans-serif);font-size:13px;max-width:60em'>"
            f"<div style='padding:2px 0'><b>{html.escape(self.workflow)}</b> "
            f"<code>{html.escape(self.execution_id)}</code> &nbsp;{self.state.lower()}, "
            f"{done} of {len(self.rows)} steps, {format_seconds(self.seconds)}</div>"
            f"<table style='border-collapse:collapse;font-size:13px'>{body}</table></div>"
        )


def _row(execution: Execution, name: str, step: StepState | None, now: int, parallel: bool) -> Row:
    if step is None:
        return Row(name=name, state="waiting", parallel=parallel)
    state = {
        Phase.PENDING: "interrupted" if step.interrupted else "waiting",
        Phase.RUNNING: "running",
        Phase.RETRYING: "retrying",
        Phase.COMPLETED: "completed",
        Phase.FAILED: "failed",
    }[step.phase]
    attempt = execution.attempts.get(name)
    percent, message = step.percent, step.message
    if attempt is not None and attempt.scope.percent is not None:
        percent, message = attempt.scope.percent, attempt.scope.message
    return Row(
        name=name,
        state=state,
        seconds=((step.ended_at if step.settled else now) - step.started_at) / 1e6 if step.started_at else None,
        percent=percent if step.phase is Phase.RUNNING else None,
        note=_note(step, message, now),
        parallel=parallel,
    )


def _note(step: StepState, message: str, now: int) -> str:
    if step.phase is Phase.COMPLETED:
        return ""
    if step.phase is Phase.FAILED and step.error is not None:
        return f"{step.error.type}: {step.error.message}".splitlines()[0]
    if step.phase is Phase.RETRYING and step.error is not None and step.due_at is not None:
        wait = format_seconds(max(0.0, (step.due_at - now) / 1e6))
        return f"attempt {step.attempt} failed ({step.error.type}), the next in {wait}"
    if step.phase is not Phase.RUNNING:
        return ""
    parts = [message] if message else []
    if step.attempt > 1:
        parts.append(f"attempt {step.attempt}")
    for operation in step.operations.values():
        if operation.done:
            continue
        if operation.kind == "sleep" and operation.due_at is not None:
            parts.append(f"sleeping, {format_seconds(max(0.0, (operation.due_at - now) / 1e6))} left")
        elif operation.kind in ("poll", "retry") and operation.number:
            parts.append(f"{operation.kind}: {operation.number} tries")
        elif operation.kind == "approval" and not operation.is_decided:
            parts.append(f"waits for approval ({operation.approval_type})")
    return ", ".join(parts)


def _html_row(row: Row) -> str:
    mark, colour = _MARKS[row.state]
    took = "" if row.seconds is None or row.state in ("waiting", "interrupted") else format_seconds(row.seconds)
    bar = ""
    if row.percent is not None:
        bar = f"<progress max='100' value='{row.percent:.1f}' style='width:9em'></progress> {row.percent:.0f}% "
    shade = colour if row.state == "failed" else "#888888"
    cell = "padding:1px 10px 1px 2px;text-align:left;border:none;background:none"
    indent = "&nbsp;&nbsp;" if row.parallel else ""
    return (
        f"<tr style='background:none'><td style='{cell};color:{colour}'>{mark}</td>"
        f"<td style='{cell}'>{indent}{html.escape(row.name)}</td>"
        f"<td style='{cell};text-align:right;color:#888888'>{took}</td>"
        f"<td style='{cell};color:{shade}'>{bar}{html.escape(row.note)}</td></tr>"
    )
