"""An execution's children and its caller: their drivers tell each other when they end.

They do so by signals between Temporal's workflows. One that nobody hears is no loss: who is resumed reads what has
become of its children.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from temporalio import workflow
from temporalio.exceptions import FailureError

from .._core.state import State
from .._core.state_name import ExecutionState

__all__ = ["Family"]


class Family:
    """What the driver of an execution knows of its children.

    Args:
        children: those that may run, by id.
    """

    def __init__(self, children: Iterable[str]) -> None:
        self.running = dict.fromkeys(children)
        self._ended: dict[str, int] = {}

    def begin(self, child: str) -> None:
        """Note that a step waits for one."""
        self.running[child] = None

    def end(self, child: str, version: int) -> None:
        """Note that one has ended, with this number of events."""
        self.running.pop(child, None)
        self._ended[child] = version

    def has_ended(self, child: str, since: int) -> bool:
        """Whether one has ended with more events than a step knows of."""
        return self._ended.get(child, 0) > since

    def stop(self, reason: str) -> None:
        """End all that may be running."""
        for child in self.running:
            asyncio.create_task(_tell(child, "caller_ended", False, reason))  # noqa: RUF006 - the workflow's loop keeps it

    async def take_leave(self, state: State) -> None:
        """Tell the caller that this execution has ended, and what may run for its steps to end, too."""
        me, cancelled = workflow.info().workflow_id, state.lifecycle is ExecutionState.CANCELLED
        reason = f"its caller {me} was cancelled" if cancelled else f"its caller {me} has ended"
        if state.lifecycle is ExecutionState.PAUSED and state.reason:
            reason = state.reason
        told = [_tell(child, "caller_ended", cancelled, reason) for child in self.running]
        if state.caller:
            told.append(_tell(state.caller, "child_ended", me, state.version))
        await asyncio.gather(*told)


async def _tell(execution_id: str, what: str, *told: object) -> None:
    """Tell another execution something, if it runs."""
    with contextlib.suppress(FailureError):
        await workflow.get_external_workflow_handle(execution_id).signal(what, args=told)
