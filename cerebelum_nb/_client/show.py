"""How a status looks: a line, a few lines for terminals, a table for notebooks. Text only; nothing is decoded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .._core.state_name import ExecutionState
from .._text.duration import format_seconds
from .._text.html import Html
from .._text.text import cut
from .lazy import jsonable

if TYPE_CHECKING:
    from .status import ExecutionStatus, StepStatus

__all__ = ["as_html", "as_line", "as_text"]

_LONGEST = 60
_MOST_STEPS = 30


def as_line(status: ExecutionStatus) -> str:
    """Say in one line which execution it is, in which state, and how far."""
    at = f" at {status.current_step_name}" if status.current_step_name else ""
    gone = ", interrupted" if status.interrupted else ""
    return (
        f"{status.workflow_name} {status.execution_id}: {status.status}{at}{gone}, {_done(status)}, "
        f"{format_seconds(status.elapsed_seconds)}"
    )


def as_text(status: ExecutionStatus) -> str:
    """Say it in lines: the state, why it failed, what it waits for, the completed steps."""
    steps = _shown_steps(status)
    width = max((len(step.step_name) for step in steps), default=0)
    return "\n".join(
        [
            as_line(status),
            *(f"  {note}" for note in _notes(status)),
            *(f"  {step.step_name:<{width}}  {_took(step):>8}  {_output(step)}".rstrip() for step in steps),
            *([f"  ... {more} more"] if (more := _left_out(status)) else []),
        ]
    )


def as_html(status: ExecutionStatus) -> Html:
    """Say it as a heading, a bar, and a table of the completed steps."""
    share = f"{status.progress_percentage:g}"
    color = {ExecutionState.COMPLETED: "#2e7d32", ExecutionState.FAILED: "#c62828"}.get(status.status, "#1565c0")
    at = Html(" at <b>{}</b>").format(status.current_step_name) if status.current_step_name else ""
    notes = Html().join(map(Html("<div>{}</div>").format, _notes(status)))
    row = Html(
        "<tr><td style='text-align:left'>{}</td><td style='text-align:right'>{}</td>"
        "<td style='text-align:left'><code>{}</code></td></tr>"
    )
    rows = Html().join(row.format(step.step_name, _took(step), _output(step)) for step in _shown_steps(status))
    more = _left_out(status)
    rest = Html("<div>... {} more</div>").format(more) if more else ""
    head = Html("<thead><tr><th>step</th><th>took</th><th>result</th></tr></thead>")
    table = Html("<table>{}<tbody>{}</tbody></table>{}").format(head, rows, rest) if rows else ""
    bar = Html(
        "<div style='width:20em;height:.5em;background:#8884;border-radius:.25em'>"
        "<div style='width:{}%;height:100%;background:{};border-radius:.25em'></div></div>"
    ).format(share, color)
    return Html("<div><b>{}</b> <code>{}</code> <span style='color:{}'>{}</span>{}, {}, {}{}{}{}</div>").format(
        status.workflow_name,
        status.execution_id,
        color,
        status.status.words,
        at,
        _done(status),
        format_seconds(status.elapsed_seconds),
        bar,
        notes,
        table,
    )


def _notes(status: ExecutionStatus) -> list[str]:
    notes = []
    if status.interrupted:
        notes.append("interrupted: its process died; resume it to go on")
    if status.error:
        notes.append(status.error.splitlines()[0])
    if (sleep := status.sleep_info) is not None:
        notes.append(f"sleeps for another {format_seconds(sleep.remaining_ms / 1000)}")
    if (approval := status.approval_info) is not None:
        left = approval.remaining_timeout_ms
        until = "" if left is None else f", for another {format_seconds(left / 1000)}"
        notes.append(f"waits for approval ({approval.approval_type}){until}")
    return notes


def _shown_steps(status: ExecutionStatus) -> tuple[StepStatus, ...]:
    return status.completed_steps[:_MOST_STEPS]


def _left_out(status: ExecutionStatus) -> int:
    return max(0, len(status.completed_steps) - _MOST_STEPS)


def _done(status: ExecutionStatus) -> str:
    return f"{status.current_step_index} of {status.total_steps} steps ({status.progress_percentage:g} %)"


def _took(step: StepStatus) -> str:
    return "" if step.duration_seconds is None else format_seconds(step.duration_seconds)


def _output(step: StepStatus) -> str:
    shown = jsonable(step, "output")
    try:
        text = shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(shown)
    return cut(text.partition("\n")[0], _LONGEST)
