"""The status of an execution: frozen data for the client, the command line and views, as JSON, text and HTML.

reading.py reads it. Text and HTML are made without decoding values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .._core.labels import describe_labels
from .._core.state_name import ExecutionState
from .._text.duration import format_seconds
from .._text.html import Html
from .._text.style import MARKS, look_of
from .._text.terminal import clean
from .._text.text import cut
from .._text.times import timestamp
from .._values import preview
from .._values.outputs import Outputs
from .lazy import jsonable, lazy_fields

__all__ = ["ApprovalInfo", "ExecutionStatus", "SleepInfo", "StepStatus"]

_LONGEST = 60
_LONGEST_NAME = 200  # the longest valid id
_MOST_STEPS = 30


@lazy_fields("output")
@dataclass(frozen=True, kw_only=True, eq=False)
class StepStatus:
    """A completed step.

    Attributes:
        step_name: its name.
        step_index: its place in the order of starts, from 0.
        status: COMPLETED.
        started_at: when its last attempt started, UTC; None for a step that was completed by hand.
        completed_at: when it completed, UTC.
        duration_seconds: how long its last attempt took.
        output: what it returned, decoded on first access; a ``Preview`` if it cannot or must not be loaded.
        error: why it failed; None for a completed step.

    Example:
        >>> client = ExecutionClient()
        >>> result = release.run(execution_id="k1")
        >>> (done,) = client.run_sync(client.get_execution_status("k1")).completed_steps
        >>> done.step_name, done.output
        ('build', 'image')
    """

    step_name: str
    step_index: int
    status: ExecutionState
    started_at: datetime | None
    completed_at: datetime | None
    duration_seconds: float | None
    output: Any
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data: times in ISO 8601, a value that is not JSON as its preview."""
        return {
            "step_name": self.step_name,
            "step_index": self.step_index,
            "status": self.status.value,
            "started_at": _iso(self.started_at),
            "completed_at": _iso(self.completed_at),
            "duration_seconds": self.duration_seconds,
            "output": _plain(jsonable(self, "output")),
            "error": self.error,
        }

    def __repr__(self) -> str:
        return f"StepStatus({self.step_index}: {self.step_name!r}, {self.status})"


@lazy_fields("data")
@dataclass(frozen=True, kw_only=True)
class SleepInfo:
    """An open sleep; if there are several, the one that ends first.

    Attributes:
        duration_ms: how long it is, milliseconds.
        sleep_started_at: since when, UTC.
        remaining_ms: the remaining time, milliseconds, when the status was read.
        data: the data that the step gave.

    Example:
        >>> import asyncio
        >>> from cerebelum_nb import ExecutionClient, sleep, step, workflow
        >>> from cerebelum_nb.testing import MemoryStore
        >>> @step
        ... async def wait():
        ...     await sleep("2h", data={"why": "quiet hours"})
        >>> @workflow
        ... def slow(wf):
        ...     wf.timeline(wait)
        >>> async def main():
        ...     run = slow.start(store=(log := MemoryStore()), execution_id="k1")
        ...     while run.status != "SLEEPING":
        ...         await asyncio.sleep(0)
        ...     status = await ExecutionClient(log).get_execution_status("k1")
        ...     run.cancel()
        ...     return status
        >>> asyncio.run(main()).sleep_info.duration_ms
        7200000
    """

    duration_ms: int
    sleep_started_at: datetime
    remaining_ms: int
    data: Any

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "duration_ms": self.duration_ms,
            "sleep_started_at": _iso(self.sleep_started_at),
            "remaining_ms": self.remaining_ms,
            "data": _plain(jsonable(self, "data")),
        }


@lazy_fields("data")
@dataclass(frozen=True, kw_only=True)
class ApprovalInfo:
    """An open approval; if there are several, the first requested.

    Attributes:
        approval_type: what kind of approval.
        data: what the step shows to the person who decides.
        timeout_ms: how long the step waits for it, milliseconds; None for no limit.
        requested_at: since when, UTC.
        remaining_timeout_ms: the rest of the timeout, milliseconds, when the status was read.

    Example:
        >>> import asyncio
        >>> from cerebelum_nb import ExecutionClient, wait_for_approval, step, workflow
        >>> from cerebelum_nb.testing import MemoryStore
        >>> @step
        ... async def wait():
        ...     await wait_for_approval("budget")
        >>> @workflow
        ... def slow(wf):
        ...     wf.timeline(wait)
        >>> async def main():
        ...     run = slow.start(store=(log := MemoryStore()), execution_id="k1")
        ...     while run.status != "WAITING_FOR_APPROVAL":
        ...         await asyncio.sleep(0)
        ...     status = await ExecutionClient(log).get_execution_status("k1")
        ...     run.cancel()
        ...     return status
        >>> asyncio.run(main()).approval_info.approval_type
        'budget'
    """

    approval_type: str
    data: Any
    timeout_ms: int | None
    requested_at: datetime
    remaining_timeout_ms: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        return {
            "approval_type": self.approval_type,
            "data": _plain(jsonable(self, "data")),
            "timeout_ms": self.timeout_ms,
            "requested_at": _iso(self.requested_at),
            "remaining_timeout_ms": self.remaining_timeout_ms,
        }


@lazy_fields("completed_steps", "inputs", "step_outputs", "sleep_info", "approval_info", "queued_behind", "notes")
@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ExecutionStatus:
    """An execution as it was when this was read.

    Attributes:
        execution_id: its id.
        workflow_name: its workflow.
        status: its state, according to its events.
        started_at: when it started, UTC.
        completed_at: when it completed, failed or was cancelled, UTC; None while it has not ended.
        current_step_index: how many steps are done: the place of the current one, from 0, in a plain sequence.
        total_steps: how many steps the timeline has.
        current_step_name: the last started of the unfinished steps; in a failed execution, the step that failed, if
            any. None between two steps, as in a run that goes cell by cell.
        progress_percentage: 100 when completed, else the share of steps done, below 100.
        completed_steps: the steps with a result, in order of completion.
        inputs: what it was started (or resumed) with; a ``Preview`` if that cannot or must not be loaded.
        step_outputs: what each of these steps returned, by name; decoded on access, a ``Preview`` if it cannot or must
            not be loaded.
        error: why it failed, ``type: message``.
        sleep_info: the sleep it is in.
        approval_info: the approval it is waiting for.
        queued_behind: for a queued one, the execution that has the slot or is before it in the queue; None if it is
            next.
        elapsed_seconds: from its start to its end; to now while it runs; to its last event while it is paused or
            interrupted.
        interrupted: whether it should be running but its process died. It can be resumed.
        caller: for a child, the execution whose step started it.
        name: the name it was given at the start, or None.
        tags: its tags, sorted.
        notes: what its steps published with ``context.note``: by step, by name.

    Example:
        >>> client = ExecutionClient()
        >>> result = release.run(execution_id="k1")
        >>> status = client.run_sync(client.get_execution_status("k1"))
        >>> status.progress_percentage, dict(status.step_outputs)
        (100.0, {'build': 'image'})
    """

    execution_id: str
    workflow_name: str
    status: ExecutionState
    started_at: datetime
    completed_at: datetime | None
    current_step_index: int
    total_steps: int
    current_step_name: str | None
    progress_percentage: float
    completed_steps: tuple[StepStatus, ...]
    inputs: Mapping[str, Any]
    step_outputs: Mapping[str, Any]
    error: str | None
    sleep_info: SleepInfo | None
    approval_info: ApprovalInfo | None
    elapsed_seconds: float
    interrupted: bool = False
    caller: str | None = None
    queued_behind: str | None = None
    name: str | None = None
    tags: tuple[str, ...] = ()
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_dict(self, *, details: bool = True) -> dict[str, Any]:
        """Return it as JSON-able data, for programs: times in ISO 8601, a value that is not JSON as its preview.

        Args:
            details: False leaves out what a list does not read: inputs, steps, outputs, sleep and approval.
        """
        shown: dict[str, Any] = {
            "execution_id": self.execution_id,
            "workflow_name": self.workflow_name,
            "status": self.status.value,
            "started_at": _iso(self.started_at),
            "completed_at": _iso(self.completed_at),
            "current_step_index": self.current_step_index,
            "total_steps": self.total_steps,
            "current_step_name": self.current_step_name,
            "progress_percentage": self.progress_percentage,
        }
        if details:
            steps = [step.to_dict() for step in self.completed_steps]
            shown["completed_steps"] = steps
            shown["inputs"] = _plain(jsonable(self, "inputs"))
            shown["step_outputs"] = {step["step_name"]: step["output"] for step in steps}
        shown["error"] = self.error
        if details:
            shown["sleep_info"] = None if self.sleep_info is None else self.sleep_info.to_dict()
            shown["approval_info"] = None if self.approval_info is None else self.approval_info.to_dict()
        shown["elapsed_seconds"] = self.elapsed_seconds
        shown["interrupted"] = self.interrupted
        shown["caller"] = self.caller
        if details:
            shown["queued_behind"] = jsonable(self, "queued_behind")
        shown["name"], shown["tags"] = self.name, [*self.tags]
        if details:
            shown["notes"] = _plain(jsonable(self, "notes"))
        return shown

    def __repr__(self) -> str:
        return f"<{_as_line(self)}>"

    def __str__(self) -> str:
        return _as_text(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": _as_text(self), "text/html": _as_html(self)}


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else timestamp(moment)


def _plain(value: Any) -> Any:
    """Return a value as JSON-able data, with previews: a status made in a test may hold any object."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Outputs() | dict():
            return {str(name): _plain(item) for name, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return preview(value)


def _as_line(status: ExecutionStatus) -> str:
    """Describe it in one line: the execution, its state, its progress."""
    at = f" at {_name(status.current_step_name)}" if status.current_step_name else ""
    gone = ", interrupted" if status.interrupted else ""
    called = f" ({_name(labels)})" if (labels := describe_labels(status.name, status.tags)) else ""
    return (
        f"{_name(status.workflow_name)} {_name(status.execution_id)}{called}: {status.status}{at}{gone}, "
        f"{_done(status)}, {format_seconds(status.elapsed_seconds)}"
    )


def _as_text(status: ExecutionStatus) -> str:
    """Describe it in lines: the state, why it failed, what it waits for, the completed steps."""
    steps = _shown_steps(status)
    width = max((len(_name(step.step_name)) for step in steps), default=0)
    return "\n".join(
        [
            _as_line(status),
            *(f"  {note}" for note in _notes(status)),
            *(f"  {_name(step.step_name):<{width}}  {_took(step):>8}  {_output(step)}".rstrip() for step in steps),
            *([f"  ... {more} more"] if (more := _omitted(status)) else []),
        ]
    )


def _as_html(status: ExecutionStatus) -> Html:
    """Describe it as HTML: a heading, a bar, and a table of the completed steps."""
    share = f"{status.progress_percentage:g}"
    color = MARKS[look_of(status.status)].colour
    at = Html(" at <b>{}</b>").format(_name(status.current_step_name)) if status.current_step_name else ""
    notes = Html().join(map(Html("<div>{}</div>").format, _notes(status)))
    row = Html(
        "<tr><td style='text-align:left'>{}</td><td style='text-align:right'>{}</td>"
        "<td style='text-align:left'><code>{}</code></td></tr>"
    )
    rows = Html().join(row.format(_name(step.step_name), _took(step), _output(step)) for step in _shown_steps(status))
    more = _omitted(status)
    rest = Html("<div>... {} more</div>").format(more) if more else ""
    head = Html("<thead><tr><th>step</th><th>took</th><th>result</th></tr></thead>")
    table = Html("<table>{}<tbody>{}</tbody></table>{}").format(head, rows, rest) if rows else ""
    bar = Html(
        "<div style='width:20em;height:.5em;background:#8884;border-radius:.25em'>"
        "<div style='width:{}%;height:100%;background:{};border-radius:.25em'></div></div>"
    ).format(share, color)
    return Html("<div><b>{}</b> <code>{}</code> {}<span style='color:{}'>{}</span>{}, {}, {}{}{}{}</div>").format(
        _name(status.workflow_name),
        _name(status.execution_id),
        f"{_name(labels)} " if (labels := describe_labels(status.name, status.tags)) else "",
        color,
        status.status.words,
        at,
        _done(status),
        format_seconds(status.elapsed_seconds),
        bar,
        notes,
        table,
    )


def _name(text: str) -> str:
    """Clean and cut a name or an id: in a log from elsewhere it may be long and hold control characters."""
    return clean(cut(text, _LONGEST_NAME))


def _notes(status: ExecutionStatus) -> list[str]:
    notes = []
    if status.caller:
        notes.append(f"child of {_name(status.caller)}")
    if status.interrupted:
        notes.append("interrupted: its process died; resume it")
    if status.error:
        notes.append(clean(status.error.splitlines()[0]))
    if status.status is ExecutionState.QUEUED:
        notes.append(f"queued behind {status.queued_behind}" if status.queued_behind else "queued: it is next")
    lines = [
        f"{_name(step)}: {_name(f'{name} {value if isinstance(value, str) else json.dumps(value)}')}"
        for step, noted in status.notes.items()
        for name, value in noted.items()
    ]
    more = len(lines) - _MOST_STEPS
    notes += lines if more <= 0 else [*lines[:_MOST_STEPS], f"... {more} more notes"]
    if (sleep := status.sleep_info) is not None:
        notes.append(f"sleeps for another {format_seconds(sleep.remaining_ms / 1000)}")
    if (approval := status.approval_info) is not None:
        left = approval.remaining_timeout_ms
        until = "" if left is None else f", for another {format_seconds(left / 1000)}"
        notes.append(f"waits for approval ({approval.approval_type}){until}")
    return notes


def _shown_steps(status: ExecutionStatus) -> tuple[StepStatus, ...]:
    return status.completed_steps[:_MOST_STEPS]


def _omitted(status: ExecutionStatus) -> int:
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
