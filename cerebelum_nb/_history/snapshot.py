"""``history.state_at``: what was known about an execution at one of its events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .._core.arguments import ExecutionLike
from .._core.describe_steps import describe_items, undo_rows
from .._core.events import Event, StepCompleted, StepFailed
from .._core.fold import fold
from .._core.graph import key_of, step_of
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.step_state import Operation, Phase, StepState
from .._core.value import Value
from .._text.duration import format_seconds
from .._text.html import Html, small_table
from .._text.text import as_lines, cut, did_you_mean
from .._text.times import at as moment_of
from .._text.times import utc
from .._values import decode
from .._values.outputs import Outputs
from .facts import variables
from .sources import Source, opened

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Snapshot", "short", "state_at"]


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """An execution as of its first ``version`` events.

    Attributes:
        execution_id: which execution.
        version: how many of its events have happened.
        last_version: how many events the log holds now.
        event: the last event that has happened.
        state: the fold of these events; times are µs since the epoch, and values are as stored in the log.
    """

    execution_id: str
    version: int
    last_version: int
    event: Event
    state: State
    _load: Callable[[Value, str], Any]

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self.state.workflow

    @property
    def status(self) -> ExecutionState:
        """The state the execution was in."""
        return self.state.status

    @property
    def at(self) -> datetime:
        """When the last of the events happened, UTC."""
        return moment_of(self.event.at)

    @property
    def inputs(self) -> Any:
        """Its inputs, decoded now; None if it had not started."""
        value = self.state.inputs
        return None if value is None else self._load(value, f"the inputs of execution {self.execution_id}")

    @property
    def results(self) -> Outputs:
        """The values known then, by step, in order of completion; each is decoded on access."""
        values = self.state.outputs

        def load(step: str) -> Any:
            return self._load(values[step], f"the result of step '{step}' of execution {self.execution_id}")

        return Outputs(values, load)

    @property
    def error(self) -> str | None:
        """Why it had failed, ``type: message``."""
        return None if self.state.error is None else str(self.state.error)

    @property
    def waiting(self) -> dict[str, str]:
        """What each waiting step waited for, in words."""
        return {
            step: ", ".join(_wait(known.operations[key.removesuffix(f"@{step}")]) for key in keys)
            for step, keys in _by_step(self.state.waiting).items()
            if (known := self.state.step(step)) is not None
        }

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """By unfinished step, its variables at the line where it last waited or raised.

        Each is text: JSON, or a preview of anything else; names that share an object are together. Unchanged arguments
        are left out.
        """
        return {
            name: {", ".join(names): text for names, text in variables(step.checkpoints[-1].event).items()}
            for name, step in self.state.attempted()
            if step.checkpoints and not step.has_result
        }

    @property
    def steps(self) -> pd.DataFrame:
        """The steps that had started, one row each, in order of their first start.

        Its columns: ``step`` (str); ``item`` (str): of a ``foreach``, which also has a row for the whole; ``visit``,
        ``attempt`` (Int64): the current one; ``state`` (category): PENDING (it will run again), RUNNING, RETRYING,
        COMPLETED, FAILED; ``started_at``, ``completed_at`` (datetime, UTC) and ``duration`` (timedelta) of that
        attempt; ``output`` (str): JSON text, or the preview of what is not JSON; ``error`` (str): of the last failed
        attempt.
        """
        from .frames import MOMENT, frame

        rows = [(step_of(name), key_of(name) or None, *_row(step)) for name, step in self.state.attempted()]
        return frame(rows, MOMENT)

    def __repr__(self) -> str:
        head, rows, notes = self._render()
        return "\n".join([head, *(f"  {line}" for line in as_lines(rows)), *notes])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        head, rows, notes = self._render()
        shown = Html("<div><b>{}</b>{}{}</div>").format(head, small_table(rows), Html("<br>").join(notes))
        return {"text/plain": repr(self), "text/html": shown}

    def _render(self) -> tuple[str, list[tuple[str, ...]], list[str]]:
        at = getattr(self.event, "step", None)
        happened = type(self.event).__name__ + (f" {at}" if at else "")
        head = (
            f"{self.workflow} {self.execution_id} at event {self.version} of {self.last_version} ({happened}, "
            f"{utc(self.at)}): {self.status}"
        )
        rows: list[tuple[str, ...]] = [("step", "state", "attempt", "took", "value or error")]
        for name, known in {**self.state.steps, **undo_rows(self.state)}.items():
            took = format_seconds((known.ended_at - known.started_at) / 1e6) if known.settled else ""
            text = short(known.output) if known.has_result else str(known.error) if known.error else ""
            if known.items is not None and not known.settled:
                text = describe_items(known, self.state.updated_at)
            rows.append(
                (name, Phase.RUNNING if known.is_active else known.phase, str(known.attempt), took, cut(text, 60))
            )
        notes = [f"waits: {name}, {what}" for name, what in self.waiting.items()]
        for name, kept in self.variables.items():
            step = self.state.step(name)
            line = step.checkpoints[-1].event.line if step is not None and step.checkpoints else 0
            text = ", ".join(f"{names} = {text}" for names, text in kept.items())
            notes.append(f"{name}, line {line}: {cut(text, 160) or 'no variables of its own'}")
        if self.error:
            notes.append(f"failed: {cut(self.error, 100)}")
        notes.append(f"inputs: {cut(short(self.state.inputs), 100)}")
        return head, rows, notes


def state_at(
    execution_id: ExecutionLike, version: int | None = None, step: str | None = None, *, store: Source | None = None
) -> Snapshot:
    """Return the state of an execution as of an event, as of the end of a step, or now.

    Only that execution's events are read; the time is proportional to their number.

    Args:
        execution_id: the execution.
        version: as of this event; the first is 1.
        step: as of the event that ended this step, in its last visit; instead of ``version``.
        store: the log, or its path; by default the session's.

    Returns:
        A :class:`Snapshot`: ``status``, ``steps`` (a DataFrame), ``results`` (values known then, decoded when looked
        up), ``inputs``, ``error``, ``waiting``, and ``state``, the whole fold. Its repr shows them.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        ValueError: it has no such event, or the step has not ended.
        StoreError: the log cannot be read.

    Example:
        >>> from cerebelum_nb import connect, history, step, workflow
        >>> @step
        ... async def greet():
        ...     return "hello"
        >>> @workflow
        ... def greeting(wf):
        ...     wf.timeline(greet)
        >>> log = connect(":memory:")
        >>> result = greeting.run(store=log)
        >>> history.state_at(result.execution_id, version=2, store=log).status
        <ExecutionState.RUNNING: 'RUNNING'>
        >>> history.state_at(result.execution_id, step="greet", store=log).results["greet"]
        'hello'
    """
    if version is not None and step is not None:
        raise ValueError("give version= or step=, not both")
    with opened(store) as log:
        row = log.execution(execution_id)
        full = row.execution_id
        if step is not None:
            version = _end_of(step, full, log.events(full))
        elif version is None:
            version = row.version
        elif isinstance(version, bool) or not isinstance(version, int):
            raise TypeError(f"version must be the number of an event, from 1, not {version!r}")
        elif not 1 <= version <= row.version:
            raise ValueError(f"execution {full} has events 1 to {row.version}, not {version}")
        events = log.events(full, upto=version)

    def load(value: Value, where: str) -> Any:
        with opened(store) as again:
            return decode(value, again.payload, trusted=again.trusted, where=where)

    return Snapshot(full, version, row.version, events[-1], fold(events), load)


def short(value: Value | None) -> str:
    """Write a value on one line: its JSON text, or its preview."""
    if value is None:
        return ""
    return value.json if value.is_json else " ".join(value.preview.split()) or value.type


def _end_of(step: str, execution_id: str, events: list[Event]) -> int:
    ends = {e.step: n for n, e in enumerate(events, 1) if isinstance(e, (StepCompleted, StepFailed))}
    if step in ends:
        return ends[step]
    hint = did_you_mean(step, ends, f"These have: {', '.join(ends) or 'none'}.")
    raise ValueError(f"no step {step!r} has ended in execution {execution_id}. {hint}")


def _row(step: StepState) -> Iterator[Any]:
    yield from (step.visit, step.attempt, step.phase.value, step.started_at or None)
    yield from (step.ended_at, step.ended_at - step.started_at) if step.settled else (None, None)
    yield None if step.output is None else short(step.output)
    yield None if step.error is None else str(step.error)


def _by_step(waiting: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, step in waiting.items():
        found.setdefault(step, []).append(key)
    return found


def _wait(operation: Operation) -> str:
    what = f"approval ({operation.approval_type})" if operation.kind == "approval" else operation.kind
    return what if operation.due_at is None else f"{what} until {utc(operation.due_at)}"
