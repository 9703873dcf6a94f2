"""Describe an execution at one moment in lines for a terminal: `status` prints them once, `watch` repeatedly.

They are made of the execution's row and the fold of its events; this module reads nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .._core.describe_steps import describe_items, describe_notes, row_of, undo_rows, waits_of
from .._core.fork import describe_origin
from .._core.labels import describe_labels
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.step_state import Phase, StepState
from .._core.value import ErrorInfo, Value
from .._engine.hints import Reader, advise
from .._store.base import ExecutionRow
from .._text.duration import format_seconds, short_seconds
from .._text.json_text import parse
from .._text.terminal import Cell, Column, bar, clean, styled, table, wrap
from .._text.text import counted, cut, text_width
from .._text.times import utc
from .states import state_cell

__all__ = ["Child", "Picture"]

_MARKS = {
    Phase.PENDING: ("·", "dim"),
    Phase.RUNNING: ("▶", "cyan"),
    Phase.RETRYING: ("↻", "yellow"),
    Phase.COMPLETED: ("✓", "green"),
    Phase.FAILED: ("✗", "red"),
}
_WAITING_MARKS = {"approval": ("?", "yellow"), "signal": ("☾", "yellow"), "sleep": ("☾", "yellow")}
_STEPS = (Column(title=""), Column(title="step", least=8), Column(title="took", right=True), Column(title="", least=8))
_FAILED = (ExecutionState.FAILED, ExecutionState.ROLLED_BACK)
_BAR, _WIDEST, _MOST_STEPS, _MOST_DATA, _MOST_LINES = 30, 100, 60, 12, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A child in the tree below an execution; without a row, the number of children that are left out there."""

    depth: int
    row: ExecutionRow | None = None
    interrupted: bool = False
    left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """An execution at one moment; times are µs since the epoch."""

    row: ExecutionRow
    state: State
    now: int
    interrupted: bool
    command: Callable[[str], str] = "cerebelum {}".format
    """Writes a command that works on this log."""
    children: tuple[Child, ...] = ()
    behind: str | None = None
    """If it is queued, the execution that it waits for; None if it is next."""

    def lines(self, room: int | None, *, most_steps: int = _MOST_STEPS) -> list[str]:
        """Write it, coloured, in this many columns (None: as many as needed)."""
        return [
            *self._head(room),
            *self._steps(room, most_steps),
            *self._children(room),
            *self._approvals(),
            *self._advice(room),
        ]

    def past(self, room: int | None) -> list[str]:
        """Write it as a past state, without children, approvals and advice."""
        return [*self._head(room), *self._steps(room, _MOST_STEPS)]

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.row.summary.state.is_final

    @property
    def idle(self) -> bool:
        """Whether no process is running it, and it is not due to be resumed."""
        return self.interrupted or self.row.summary.state is ExecutionState.PAUSED

    @property
    def reason(self) -> str:
        """Why it failed, if no failed step shows it: no step is to blame, or a step that has completed."""
        step = self.state.step(self.state.failed_step or "")
        if self.row.summary.state not in _FAILED or (step is not None and step.phase is Phase.FAILED):
            return ""
        where = f"{self.state.failed_step}: " if self.state.rollback is not None and self.state.failed_step else ""
        return clean(f"{where}{self.row.summary.error}") if self.row.summary.error else ""

    def line(self) -> str:
        """Write it in one line."""
        shown = self.row.summary
        where = f" at {shown.current_step}" if shown.current_step and not self.over else ""
        return clean(f"{shown.workflow} {self.row.execution_id}: {self._state().text}{where}, {self._done()}")

    def _state(self) -> Cell:
        return state_cell(self.row.summary.state, interrupted=self.interrupted)

    def _done(self) -> str:
        return f"{self.row.summary.done_steps} of {counted(self.row.summary.total_steps, 'step')}"

    def _head(self, room: int | None) -> Iterator[str]:
        shown, state = self.row.summary, self._state()
        name = cut(
            clean(shown.workflow), max(8, (room or _WIDEST) - text_width(self.row.execution_id) - len(state.text) - 4)
        )
        yield "  ".join(
            [styled(name, "bold"), styled(clean(self.row.execution_id), "bold"), styled(state.text, state.style)]
        )
        if labels := describe_labels(shown.name, shown.tags):
            yield from wrap(clean(labels))
        done = shown.state is ExecutionState.COMPLETED
        share = 1.0 if done else shown.done_steps / shown.total_steps if shown.total_steps else 0.0
        tail = f"{self._done()}, {format_seconds(self._seconds())} in total"
        wide = min(_BAR, (room or _WIDEST) - len(tail) - 2)
        yield f"{styled(bar(share, wide), 'green' if done else 'cyan')}  {tail}" if wide >= 8 else tail
        ended = "" if shown.completed_at is None else f", ended {utc(shown.completed_at)}"
        if shown.state is ExecutionState.QUEUED:
            yield clean(f"queued behind {self.behind}" if self.behind else "queued: it is next")
        times = f"started {utc(shown.started_at)}{ended}"
        if room is None or len(times) <= room:
            yield styled(times, "dim")
        else:
            yield from (styled(part.strip(), "dim") for part in times.split(","))
        reason = self.state.reason if shown.state in (ExecutionState.PAUSED, ExecutionState.CANCELLED) else None
        if reason:
            yield from wrap(f"{state.text}: {reason}")
        if self.reason:
            yield from (styled(part, "red") for line in self.reason.splitlines()[:_MOST_LINES] for part in wrap(line))
        if self.state.caller:
            step = f", for its step {clean(self.state.caller_step)}" if self.state.caller_step else ""
            yield from (styled(part, "dim") for part in wrap(f"child of {clean(self.state.caller)}{step}"))
        if origin := describe_origin(self.state):
            yield from (styled(part, "dim") for part in wrap(origin))

    def _children(self, room: int | None) -> Iterator[str]:
        """Write the children as a tree."""
        if self.children:
            yield ""
            yield styled("children", "dim")
        steps = {child: name for name, step in self.state.attempted() for child in step.children}
        for child in self.children:
            if child.row is None:
                yield styled(f"  {'  ' * child.depth}... {child.left_out:,} more", "dim")
                continue
            shown = child.row.summary
            state = state_cell(shown.state, interrupted=child.interrupted)
            name = steps.get(child.row.execution_id, shown.workflow)
            line = cut(f"  {'  ' * child.depth}{clean(name)}  {clean(child.row.execution_id)}", (room or _WIDEST) - 24)
            done = styled(f"{shown.done_steps}/{shown.total_steps}", "dim")
            yield f"{line}  {styled(state.text, state.style)}  {done}"

    def _seconds(self) -> float:
        shown = self.row.summary
        end = shown.completed_at
        if end is None:
            end = shown.updated_at if self.idle else max(self.now, shown.updated_at)
        return (end - shown.started_at) / 1e6

    def _steps(self, room: int | None, most: int) -> Iterator[str]:
        steps = [*self.state.steps.items(), *undo_rows(self.state).items()]
        if not steps:
            return
        left_out = max(0, len(steps) - most)
        rows = [self._step(name, step, room) for name, step in steps[left_out:]]
        yield ""
        if left_out:
            yield styled(f"  ... {counted(left_out, 'earlier step')}", "dim")
        yield from table(_STEPS, rows, room)[1:]
        for name, step in steps[left_out:]:
            for line in describe_notes(step, _MOST_LINES):
                yield from wrap(clean(f"{name}: {line}"), "  ")
        for name, step in steps[left_out:]:
            if step.phase is Phase.FAILED and step.error is not None:
                yield ""
                yield from (styled(line, "red") for line in _error(name, step.error))

    def _step(self, name: str, step: StepState, room: int | None) -> tuple[Cell, ...]:
        mark = self._waiting_mark(name) or _MARKS[Phase.RUNNING if step.is_active else step.phase]
        begun = step.items is not None and bool(step.items.steps) and not step.is_active
        if step.interrupted or ((self.interrupted or begun) and not step.settled):
            mark = ("‖", "yellow")
        end = step.ended_at if step.settled else self.now
        took = (end - step.began_at) / 1e6 if step.began_at and (step.settled or self._moves) else None
        if step.items is not None and (step.items.failed or not step.settled):
            note = Cell(self._note_of_items(step, room))
        else:
            note = Cell(_short(step.output), "dim") if step.phase is Phase.COMPLETED else Cell(self._note(step, room))
        if step.source and step.phase is Phase.COMPLETED:
            note = Cell(f"from {step.source.rpartition('@')[0]}  {note.text}", note.style)
        if name.startswith("undo ") and step.message:
            note = Cell(step.message, "dim" if step.has_result else "")
        return Cell(*mark), Cell(name), Cell("" if took is None else short_seconds(took)), note

    def _waiting_mark(self, name: str) -> tuple[str, str] | None:
        kinds = {key.partition(":")[0] for key, step in self.state.waiting.items() if row_of(step) == name}
        return next((_WAITING_MARKS[kind] for kind in _WAITING_MARKS if kind in kinds), None)

    @property
    def _moves(self) -> bool:
        return not (self.idle or self.over)

    def _note(self, step: StepState, room: int | None) -> str:
        """Say what an unfinished step does or waits for."""
        waits = [clean(waiting.text(self._time_until)) for waiting in waits_of(step)]
        if step.phase is Phase.RETRYING:
            return ", ".join(waits)
        if step.phase is not Phase.RUNNING or not self._moves:
            return "was at work" if self.interrupted and step.phase is Phase.RUNNING else ""
        parts = []
        if step.percent is not None:
            narrow = room is not None and room < 60
            parts.append(f"{bar(step.percent / 100, 8 if narrow else 16)} {step.percent:.0f} % {step.message}".rstrip())
        elif step.message:
            parts.append(step.message)
        if step.attempt > 1:
            parts.append(f"attempt {step.attempt}")
        return ", ".join([*parts, *waits])

    def _note_of_items(self, step: StepState, room: int | None) -> str:
        """Describe how far the items of a foreach are."""
        assert step.items is not None
        total, wide = len(step.items.keys), 8 if room is not None and room < 60 else 16
        share = step.items.settled / total if total else 1.0
        return f"{'' if step.settled else bar(share, wide) + ' '}{describe_items(step, self.now)}"

    def _time_until(self, due_at: int) -> str:
        left = (due_at - self.now) / 1e6
        return f"in {short_seconds(round(left))}" if left >= 1 else "now"

    def _approvals(self) -> Iterator[str]:
        """Show the approvals that must be decided."""
        for key, name in self.state.waiting.items():
            known = self.state.step(name)
            operation = None if known is None else known.operations.get(key.removesuffix(f"@{name}"))
            if operation is None or operation.kind != "approval" or operation.is_decided:
                continue
            yield ""
            since = short_seconds((self.now - operation.at) / 1e6)
            ends = "" if operation.due_at is None else f"; its time ends {self._time_until(operation.due_at)}"
            yield from wrap(f"{name} asks for {operation.approval_type} approval, {since} ago{ends}:")
            lines = _pretty(operation.data)
            for line in lines[:_MOST_DATA]:
                yield from wrap(line, "    ")
            if len(lines) > _MOST_DATA:
                yield styled(f"    ... {len(lines) - _MOST_DATA} more lines: --json", "dim")

    def _advice(self, room: int | None) -> Iterator[str]:
        """Write what the user can do now."""
        advice = advise(
            self.state,
            self._id,
            interrupted=self.interrupted,
            reader=Reader.TERMINAL,
            command=self.command,
            on_cluster=self.row.on_cluster,
        )
        if advice is not None:
            yield ""
            yield from wrap(clean(advice.what))
            for way in advice.ways:
                yield from _command(way, room)

    @property
    def _id(self) -> str:
        return clean(self.row.execution_id)


def _command(command: str, room: int | None) -> Iterator[str]:
    """Write a command so that it can be copied, on several lines if it is too long."""
    if room is None or len(command) + 4 <= room or not command.startswith("cerebelum "):
        yield f"    {command}"
        return
    start, *options = command.split(" --")
    parts = [f"    {start}", *(f"      --{option}" for option in options)]
    yield from (f"{part} \\" for part in parts[:-1])
    yield parts[-1]


def _first(text: str) -> str:
    return text.partition("\n")[0]


def _short(value: Value | None) -> str:
    if value is None or value.json == "null":
        return ""
    return _first(value.text)


def _error(name: str, error: ErrorInfo) -> Iterator[str]:
    """Write why a step failed: all of a short message, the beginning of a long one."""
    lines = f"{name}: {error}".splitlines()
    for line in lines[:_MOST_LINES]:
        yield from wrap(line)
    if len(lines) > _MOST_LINES:
        yield f"... {len(lines) - _MOST_LINES} more lines: cerebelum events, --json"


def _pretty(value: Value | None) -> list[str]:
    if value is None:
        return ["(nothing to show)"]
    if not value.is_json:
        return value.preview.splitlines()
    try:
        shown = parse(value.json)
        if isinstance(shown, dict):
            return [f"{name}: {item if isinstance(item, str) else json.dumps(item)}" for name, item in shown.items()]
        return [shown] if isinstance(shown, str) else [json.dumps(shown)]
    except (ValueError, RecursionError):
        return [value.json]
