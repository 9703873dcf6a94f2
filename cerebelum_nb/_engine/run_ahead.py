"""Run-ahead: steps with ``pure=True`` start before the commit of what came before them.

A commit often takes longer than a step that only computes. While all events of an execution's batch are starts, ends
and prints of pure steps, the batch may wait: its starts are carried out, and what the steps return is added to it. Any
other event commits it, and so does a timer. If the process dies before, the log shows fewer steps than have run, and a
resume runs those again, which does no harm.
"""

from __future__ import annotations

import asyncio
import contextvars
from itertools import islice
from typing import Protocol

from .._core.events import Event, StepCompleted, StepPrinted, StepStarted
from .execution import Execution

__all__ = ["RunAhead"]

_WAIT_SECONDS = 0.005
"""The longest time that a batch waits for more, if nothing blocks the loop."""

_MOST_EVENTS = 256
"""The most events in a batch that waits: to commit thousands at once would block the loop."""

_MAY_WAIT = StepStarted, StepCompleted, StepPrinted
_NOTHING: tuple[list[Event] | None, int] = None, 0


class RunAheadEngine(Protocol):
    """What `RunAhead` needs from its engine. Passed in, not stored, to avoid a reference cycle."""

    loop: asyncio.AbstractEventLoop
    context: contextvars.Context

    def commit_waiting(self) -> None:
        """Commit the batches that wait for more."""
        ...


class RunAhead:
    """The executions of one engine whose batches wait for more."""

    __slots__ = ("_timer", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[Execution, tuple[list[Event], int]] = {}  # its batch, and how much of it was looked at
        self._timer: asyncio.TimerHandle | None = None

    def waits(self, engine: RunAheadEngine, execution: Execution) -> bool:
        """Carry out the starts of an execution before its commit, and return True, if its batch may wait."""
        batch, plan = execution.driver.batch, execution.plan
        before, known = self._waiting.get(execution, _NOTHING)
        for event in islice(batch, known if before is batch else 0, None):
            if not isinstance(event, _MAY_WAIT) or (
                isinstance(event, StepCompleted) and event.output.payload is not None  # others may read it from the log
            ):
                return False
            name = event.step
            spec = plan.steps.get(name) or plan.body_of(name)
            if spec is None or not spec.policy.pure:
                return False
        if len(batch) > _MOST_EVENTS or not (execution.written and execution.run_ahead()):
            return False
        self._waiting[execution] = batch, len(batch)
        if self._timer is None:
            self._timer = engine.loop.call_later(_WAIT_SECONDS, engine.commit_waiting, context=engine.context)
        return True

    def take(self) -> list[Execution]:
        """Return the executions whose batches must not wait any longer."""
        waiting, self._waiting, self._timer = self._waiting, {}, None
        return [execution for execution in waiting if execution.driver.batch and not execution.over]
