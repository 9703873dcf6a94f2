"""An execution's children and its caller: their drivers tell each other when they end.

They do so by signals between Temporal's workflows. A lost signal does no harm: an execution that is resumed reads the
state of its children.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from temporalio import workflow
from temporalio.exceptions import FailureError

from .._core.state import State
from .._core.state_name import ExecutionState

__all__ = ["LOOK_SECONDS", "Family"]

LOOK_SECONDS = 300.0
"""Seconds between two checks that the children for which steps wait are running."""


class Family:
    """The children of an execution, as its driver knows them.

    Args:
        children: the ids of those that may be running.
    """

    def __init__(self, children: Iterable[str]) -> None:
        self.running = dict.fromkeys(children)
        self._ended: dict[str, int] = {}

    def begin(self, child: str) -> None:
        """Note that a step waits for a child."""
        self.running[child] = None

    def end(self, child: str, version: int) -> None:
        """Note that a child has ended, with this number of events."""
        self.running.pop(child, None)
        self._ended[child] = version

    def has_ended(self, child: str, since: int) -> bool:
        """Whether a child has ended with more events than a step knows."""
        return self._ended.get(child, 0) > since

    def look_after(self, children: Iterable[str], miss: Callable[[str], None]) -> None:
        """Call ``miss`` with each child that is not running, which an empty signal to it shows."""

        async def look(child: str) -> None:
            try:
                await workflow.get_external_workflow_handle(child).signal("record", args=["", 0, 0, []])
            except FailureError:
                miss(child)

        for child in children:
            asyncio.create_task(look(child))  # noqa: RUF006 - the workflow's loop keeps it

    def stop(self, reason: str) -> None:
        """Stop all children that may be running."""
        for child in self.running:
            asyncio.create_task(_signal(child, "caller_ended", False, reason))  # noqa: RUF006 - the workflow's loop keeps it

    async def announce_end(self, state: State) -> None:
        """Tell the caller that this execution has ended, and stop or cancel its running children."""
        me, cancelled = workflow.info().workflow_id, state.lifecycle is ExecutionState.CANCELLED
        reason = f"its caller {me} was cancelled" if cancelled else f"its caller {me} has ended"
        if state.lifecycle is ExecutionState.PAUSED and state.reason:
            reason = state.reason
        sent = [_signal(child, "caller_ended", cancelled, reason) for child in self.running]
        if state.caller:
            sent.append(_signal(state.caller, "child_ended", me, state.version))
        await asyncio.gather(*sent)


async def _signal(execution_id: str, name: str, *arguments: object) -> None:
    """Signal another execution's driver, if it is running."""
    with contextlib.suppress(FailureError):
        await workflow.get_external_workflow_handle(execution_id).signal(name, args=arguments)
