"""What a log shows about its runs and the answers in it; exercises are judged by nothing else.

A log may be a student's. So nothing in it is unpickled, and only JSON values are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .._core import events as e
from .._core.arguments import ExecutionLike
from .._core.fold import fold
from .._core.state import State
from .._core.value import Value
from .._store.base import Store
from .._store.log_file import path_of
from .._store.sqlite import SqliteStore
from .._text.json_text import parse
from ..errors import ExecutionNotFoundError, StoreError

__all__ = ["ANSWERS", "Answer", "Evidence", "RecordedRun"]

ANSWERS = "exercise"
"""The workflow whose executions hold the answers."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was given as the answer to an exercise, and the world at that time.

    Attributes:
        value: JSON; None if none was given.
        world: how often each thing had been done.
        given: whether an answer was given at all.

    Example:
        >>> Answer().given
        False
    """

    value: Any = None
    world: dict[str, int] = field(default_factory=dict)
    given: bool = False


@dataclass(frozen=True)
class RecordedRun:
    """One execution, as its events tell it: facts for a check.

    Example:
        >>> result = release.run()
        >>> run = Evidence(log).run(result)
        >>> run.ran_once("build"), run.was_resumed, run.output
        (True, False, 'image')
    """

    execution_id: str
    workflow: str
    events: Sequence[e.Event]

    @cached_property
    def state(self) -> State:
        """What the events add up to."""
        return fold(self.events)

    @property
    def is_completed(self) -> bool:
        """Whether it completed."""
        return any(isinstance(event, e.WorkflowCompleted) for event in self.events)

    @property
    def was_resumed(self) -> bool:
        """Whether it was resumed, or woken after its process had died."""
        return bool(self._resumes)

    @property
    def inputs(self) -> Any:
        """What it was started with; None if that is not JSON."""
        return _json(self.state.inputs)

    @property
    def output(self) -> Any:
        """What its last step returned; None if that is not JSON."""
        return _json(self.state.output)

    def started(self, step: str) -> int:
        """Return how often a step was started."""
        return sum(isinstance(event, e.StepStarted) and event.step == step for event in self.events)

    def ran_once(self, step: str) -> bool:
        """Whether a step was started once and completed."""
        return self.started(step) == 1 and step in self.state.finished

    def ran_after_resume(self) -> list[str]:
        """Return the steps that started after the last resume, in order; none if it was never resumed."""
        if not self._resumes:
            return []
        rest = self.events[self._resumes[-1] :]
        return list(dict.fromkeys(event.step for event in rest if isinstance(event, e.StepStarted)))

    def no_rerun(self) -> bool:
        """Whether no step was started again after it had completed."""
        completed: set[str] = set()
        for event in self.events:
            if isinstance(event, e.StepStarted) and event.step in completed:
                return False
            if isinstance(event, e.StepCompleted):
                completed.add(event.step)
        return True

    def overlap(self, a: str, b: str) -> bool:
        """Whether two steps were at work at the same time: each started before the other one completed."""
        start = {event.step: n for n, event in enumerate(self.events) if isinstance(event, e.StepStarted)}
        end = {event.step: n for n, event in enumerate(self.events) if isinstance(event, e.StepCompleted)}
        return {a, b} <= start.keys() & end.keys() and start[a] < end[b] and start[b] < end[a]

    def results(self, version: int | None = None) -> list[str]:
        """Return the steps that were finished at an event, in order of completion."""
        return list(fold(self.events[:version]).finished)

    def pairs(self) -> list[tuple[str, str | None]]:
        """Return the type and the step of each event."""
        return [(type(event).__name__, getattr(event, "step", None)) for event in self.events]

    @cached_property
    def _resumes(self) -> list[int]:
        return [
            n
            for n, event in enumerate(self.events)
            if isinstance(event, e.WorkflowResumed) or (isinstance(event, e.WorkflowAwakened) and event.died)
        ]


class Evidence:
    """The runs in a log and the answers that were given in it.

    Args:
        store: the log; :meth:`of` opens one by its path, to be read only.

    Example:
        >>> _ = release.run()
        >>> [run.is_completed for run in Evidence(log).runs("release")]
        [True]
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    @contextmanager
    def of(cls, log: str | os.PathLike[str]) -> Iterator[Evidence]:
        """Open the log at a path as somebody else's: nothing is written to it, nothing in it is trusted.

        Raises:
            StoreError: there is no log at the path, or it cannot be read.
        """
        if not Path(path_of(log)).is_file():
            raise StoreError(f"There is no log at {os.fspath(log)}: nothing was read. Give the path of one.")
        with SqliteStore(log, trusted=False, read_only=True) as store:
            yield cls(store)

    def run(self, execution_id: ExecutionLike) -> RecordedRun:
        """Read one execution.

        Raises:
            ExecutionNotFoundError: there is no such execution.
        """
        row = self.store.execution(execution_id)
        return RecordedRun(row.execution_id, row.summary.workflow, self.store.events(row.execution_id))

    def runs(self, workflow: str | None = None) -> list[RecordedRun]:
        """Read the executions of a workflow, or all but the answers; the newest first."""
        rows, _ = self.store.executions(workflow=workflow)
        return [self.run(row.execution_id) for row in rows if workflow or row.summary.workflow != ANSWERS]

    def newest(self, workflow: str) -> RecordedRun | None:
        """Read the newest execution of a workflow; None if there is none."""
        rows, _ = self.store.executions(workflow=workflow, limit=1)
        return self.run(rows[0].execution_id) if rows else None

    def lessons(self) -> list[str]:
        """Return the lessons of which the log has answers, in alphabetical order."""
        return sorted({row.execution_id.rsplit(".", 2)[0] for row in self._answers()})

    def answers(self, lesson: str, number: int) -> int:
        """Return how many answers to an exercise were recorded."""
        prefix = f"{lesson}.{number}."
        return max(
            (_last(row.execution_id) for row in self._answers() if row.execution_id.startswith(prefix)), default=0
        )

    def answer(self, lesson: str, number: int, count: int | None = None) -> Answer:
        """Read an answer to an exercise, the last one unless ``count`` says which, from 1."""
        count = self.answers(lesson, number) if count is None else count
        if not count:
            return Answer()
        try:
            state = self.run(f"{lesson}.{number}.{count}").state
        except ExecutionNotFoundError:  # a log that was put together by hand
            return Answer()
        inputs = _json(state.inputs)
        world = inputs.get("world") if isinstance(inputs, dict) else None
        value = _json(state.output)
        return Answer(value, world if isinstance(world, dict) else {}, value is not None)

    def _answers(self) -> Any:
        rows, _ = self.store.executions(workflow=ANSWERS)
        return [row for row in rows if row.execution_id.count(".") >= 2]


def _last(execution_id: str) -> int:
    number = execution_id.rpartition(".")[2]
    return int(number) if number.isascii() and number.isdigit() and len(number) < 9 else 0


def _json(value: Value | None) -> Any:
    """Read a JSON value; None for any other."""
    if value is None or value.codec != "json":
        return None
    try:
        return parse(value.json)
    except ValueError:
        return None
