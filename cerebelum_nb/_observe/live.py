"""The events of this process, without the gaps that an observer of the engine sees.

The engine tells what it recorded. What others appended to a running execution (a decision, a cancellation) stands
between two of those events in the log, and is read from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from .._core.events import (
    Event,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowHibernated,
    WorkflowPaused,
    WorkflowRolledBack,
)

if TYPE_CHECKING:
    from .._engine.execution import Execution
    from .._engine.ports import Host

__all__ = ["LEAVES", "Unbroken"]

LEAVES = (
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowCancelled,
    WorkflowRolledBack,
    WorkflowPaused,
    WorkflowHibernated,
)
"""After these no process runs it."""


class Unbroken:
    """Hands each event on, in order, after those of others that stand before it."""

    def __init__(self, on_event: Callable[[Execution, int, Event], object]) -> None:
        self._on_event = on_event
        self._versions: dict[str, int] = {}

    def __call__(self, execution: Host, version: int, event: Event) -> None:
        """Take an event that the engine tells."""
        running = cast("Execution", execution)  # what records events is an execution, and no trial of a step
        last = self._versions.get(execution.id, version - 1)
        if last < version - 1:
            between = running.engine.store.events(execution.id, after=last, upto=version - 1)
            for number, missed in enumerate(between, start=last + 1):
                self._on_event(running, number, missed)
        self._on_event(running, version, event)
        if isinstance(event, LEAVES):
            self._versions.pop(execution.id, None)
        else:
            self._versions[execution.id] = version
