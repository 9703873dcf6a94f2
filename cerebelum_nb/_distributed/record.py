"""The rows of an execution, and how many of them Temporal's history holds. Pure: the driver uses it."""

from __future__ import annotations

from typing import Any

from .._core import events as e
from .._core.events import Event
from .._core.fold import evolve
from .._core.graph import owner_of
from .._core.state import State
from .wire import Carried, Rows, from_rows, to_row

__all__ = ["Record"]


class Record:
    """All rows of an execution, with an index of the results and operations that attempts need.

    Args:
        rows: the rows that Temporal's history already holds.

    Example:
        >>> from cerebelum_nb._core.events import WorkflowResumed
        >>> record = Record([])
        >>> record.note(WorkflowResumed(at=1), State())
        >>> record.carried()["after"], record.carried()
        (0, None)
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._carried = len(rows)  # how many rows Temporal's history holds
        self.results: dict[str, list[Any]] = {}
        """The row of each completed step."""
        self._operations: dict[str, Rows] = {}  # by step, of its present visit

    def fold(self) -> State:
        """Return the state after all rows."""
        state = State()
        for row, event in zip(self.rows, from_rows(self.rows), strict=True):
            evolve(state, event)
            self._index(row, event, state)
        return state

    def note(self, event: Event, state: State) -> None:
        """Append an event that has been folded into ``state``."""
        row = to_row(event)
        self.rows.append(row)
        self._index(row, event, state)

    def operations_of(self, step: str) -> Rows:
        """Return the rows of a step's operations in its present visit."""
        return self._operations.get(step, [])

    def carried(self, most: int | None = None) -> Carried | None:
        """Take the rows that Temporal's history does not hold yet; None if it holds all.

        Args:
            most: about how many bytes to take, at least one row; by default all.
        """
        first, end, size = self._carried, len(self.rows), 0
        if first == end:
            return None
        if most is not None:
            end = first
            while end < len(self.rows) and (size < most or end == first):
                size += len(self.rows[end][5] or "") + 80
                end += 1
        self._carried = end
        return {"after": first, "rows": self.rows[first:end]}

    def _index(self, row: list[Any], event: Event, state: State) -> None:
        if isinstance(event, e.SignalTaken):
            self._index_signal(event, state)
        elif isinstance(event, (e.OperationEvent, e.StepCheckpointed)):
            self._operations.setdefault(event.step, []).append(row)
        elif isinstance(event, e.StepRetried):  # the step starts at its top
            known = self._operations.get(event.step, [])
            self._operations[event.step] = [one for one in known if one[0] != e.StepCheckpointed.__name__]
        elif isinstance(event, e.StepCompleted):
            self.results[event.step] = row
            self._operations.pop(event.step, None)
        elif isinstance(event, e.Jumped):
            self._forget_operations(event.reset)
        elif isinstance(event, e.WorkflowRolledBack):
            self._operations.clear()  # a resume runs steps again in a new visit
        elif isinstance(event, (e.WorkflowResumed, e.WorkflowForked)):
            self._forget_operations((*event.revisited, *event.relisted))

    def _index_signal(self, event: e.SignalTaken, state: State) -> None:
        """Index a signal that a step took as the result of its operation: requests do not hold signals."""
        step = state.step(event.step)
        operation = None if step is None else step.operations.get(event.op)
        if operation is not None and operation.result is not None:  # otherwise another step took it first
            where: dict[str, Any] = {"step": event.step, "visit": event.visit, "attempt": event.attempt}
            done = e.OperationCompleted(at=event.at, op=event.op, output=operation.result, **where)
            self._operations.setdefault(event.step, []).append(to_row(done))

    def _forget_operations(self, names: tuple[str, ...]) -> None:
        """Drop the operations of steps that begin a new visit; of a foreach, those of all its items."""
        for name in [one for one in self._operations if one in names or owner_of(one) in names]:
            del self._operations[name]
