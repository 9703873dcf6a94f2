"""``Result``: the outcome of a run, and its outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from .._core.events import Event
from .._core.fork import describe_origin
from .._core.state import State
from .._core.state_name import ExecutionState
from .._engine import display_hooks
from .._engine.hints import Advice
from .._text.duration import format_seconds
from .._text.text import counted
from .._text.times import at, utc
from .._values.outputs import Outputs, short
from ..errors import StoreError

__all__ = ["Result"]


@dataclass(frozen=True, eq=False)
class Result:
    """The outcome of an execution.

    Attributes:
        execution_id: its id.
        workflow: the workflow's name.
        status: its state.
        output: the last step's value, once it has completed.
        results: every completed step's value, by name.
        started_at: when it started, UTC.
        completed_at: when it ended, UTC; None while it has not.
        wake_at: when a hibernated execution is due to wake, UTC; None when it waits for a person, or does not wait.
        waits_for: the kinds of approval it is waiting for.
        resume_hint: the call that resumes it, unless it has ended.
        next: what happens next if it has not ended, and how to resume it; empty when it has ended.
        lineage: where it was forked from; empty when it was not.

    Example:
        >>> result = release.run(execution_id="k1")
        >>> result
        <release k1: COMPLETED, 1 step, output "image">
        >>> result.output, result.results["build"]
        ('image', 'image')
    """

    execution_id: str
    workflow: str
    status: ExecutionState
    results: Outputs
    started_at: datetime
    completed_at: datetime | None
    _state: State
    resume_hint: str = ""
    next: str = ""
    _events: Callable[[], Sequence[Event]] = tuple

    def __getstate__(self) -> dict[str, Any]:
        events: Sequence[Event] = ()
        with suppress(StoreError):
            events = tuple(self._events())
        return {**vars(self), "_events": partial(tuple, events)}

    def slider(self) -> Any:
        """Make a slider through the run's events; see :func:`cerebelum_nb.history.slider`."""
        return display_hooks.slide(self.execution_id, self._events(), None)

    @property
    def output(self) -> Any:
        """The value of the last step; None while the execution has not completed, and when nothing ran."""
        if self.status is not ExecutionState.COMPLETED or self._state.last_step is None:
            return None
        return self.results[self._state.last_step]

    @property
    def steps(self) -> dict[str, tuple[str, float | None, str]]:
        """Every step that has started, in order: its state, its seconds, a short form of its value or error."""
        return {
            name: (
                step.phase.value,
                (step.ended_at - step.started_at) / 1e6 if step.settled and step.started_at else None,
                short(step.output) if step.output else (step.error.message if step.error else ""),
            )
            for name, step in self._state.steps.items()
        }

    @property
    def duration(self) -> timedelta | None:
        """How long it took from start to end, waits and pauses included."""
        return None if self.completed_at is None else self.completed_at - self.started_at

    @classmethod
    def of(
        cls,
        execution_id: str,
        state: State,
        load: Callable[[str], Any],
        events: Callable[[], Sequence[Event]],
        resume_hint: str = "",
        advice: Advice | None = None,
    ) -> Result:
        """Make a result of a folded state; ``load`` decodes a step's value, ``events`` reads the recorded events."""
        return cls(
            execution_id=execution_id,
            workflow=state.workflow,
            status=state.status,
            results=Outputs(state.outputs, load),
            started_at=at(state.started_at),
            completed_at=None if state.completed_at is None else at(state.completed_at),
            _state=state,
            resume_hint="" if state.status.is_final else resume_hint,
            next="" if state.status.is_final else _next(state, advice, resume_hint),
            _events=events,
        )

    @property
    def wake_at(self) -> datetime | None:
        """When a hibernated execution is due to wake, UTC."""
        return None if self._state.wake_at is None else at(self._state.wake_at)

    @property
    def waits_for(self) -> tuple[str, ...]:
        """The kinds of approval it waits for."""
        return tuple(
            operation.approval_type
            for step in self._state.steps.values()
            if not step.settled
            for operation in step.operations.values()
            if operation.kind == "approval" and not operation.is_decided
        )

    @property
    def lineage(self) -> str:
        """Which execution it is a fork of, at which event and before which step; empty when it is none."""
        return describe_origin(self._state)

    def __repr__(self) -> str:
        last = self._state.output if self.status is ExecutionState.COMPLETED else None
        shown = "" if last is None else f", output {short(last)}"
        done = counted(len(self.results), "step")
        head = f"<{self.workflow} {self.execution_id}: {self.status}, {done}{shown}>"
        return "\n".join(line for line in (head, self.lineage, self.next) if line)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self._html()}

    def _html(self) -> str:
        from .._text.html import Html

        row = Html(
            "<tr><td style='text-align:left'>{}</td><td>{}</td><td style='text-align:right'>{}</td>"
            "<td style='text-align:left'><code>{}</code></td></tr>"
        )
        rows = Html().join(
            row.format(name, phase.lower(), "" if took is None else format_seconds(took), text)
            for name, (phase, took, text) in self.steps.items()
        )
        took = "" if self.duration is None else f" in {format_seconds(self.duration.total_seconds())}"
        return Html(
            "<div><b>{}</b> <code>{}</code> {}{}<details><summary>results</summary><table><thead><tr><th>step</th>"
            "<th>state</th><th>took</th><th>result</th></tr></thead><tbody>{}</tbody></table></details>{}</div>"
        ).format(
            self.workflow,
            self.execution_id,
            self.status.words,
            took,
            rows,
            "; ".join(line for line in (self.lineage, self.next) if line),
        )


_UNTIL = {
    ExecutionState.WAITING_FOR_APPROVAL: "its time to decide ends",
    ExecutionState.WAITING_FOR_SIGNAL: "its time to wait ends",
}


def _next(state: State, advice: Advice | None, resume_hint: str) -> str:
    parts = [] if advice is None else [f"{advice.what} {'; '.join(advice.ways)}"]
    if state.wake_at is not None:
        until = _UNTIL.get(state.status, "it wakes")
        parts.append(f"{until} at {utc(state.wake_at)}, if a scheduler runs (cerebelum scheduler)")
    if resume_hint and (advice is None or resume_hint not in advice.ways):
        parts.append(f"to resume it yourself: {resume_hint}")
    return "; ".join(parts)
