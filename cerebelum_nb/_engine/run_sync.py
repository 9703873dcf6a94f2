"""``run_sync``: run the async implementation from sync code, in a script or a cell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .._host.caller import show_errors_briefly
from ..errors import ExecutionStoppedError
from .hints import from_sync
from .loop import engines_on
from .pacing import stop_waiting
from .threads import block_on, is_loop_running

__all__ = ["STOPPED", "run_sync"]

T = TypeVar("T")

STOPPED = "stopped by hand"
"""The reason recorded for an execution that was paused with Ctrl-C or the stop button."""


def run_sync(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine from sync code: with ``asyncio.run``, or in a thread if a loop is running here.

    Raises:
        KeyboardInterrupt: it was stopped; its executions are paused.
        CerebelumError: a loop is running here, and no thread can start.
        Otherwise what the coroutine raises.

    Example:
        >>> async def answer():
        ...     return 42
        >>> run_sync(answer)
        42
    """
    __tracebackhide__ = True
    show_errors_briefly()
    was_sync = from_sync.set(True)
    try:
        return block_on(
            make,
            what="this call",
            instead="Write await: await w.execute(...), await w.resume(...)",
            thread="cerebelum-run",
            on_interrupt=_stop_all_on,
        )
    except ExecutionStoppedError as error:
        if is_loop_running():
            raise
        raise KeyboardInterrupt(str(error)) from error
    finally:
        from_sync.reset(was_sync)


def _stop_all_on(loop: asyncio.AbstractEventLoop) -> None:
    """Pause the executions on a loop; if it has none, cancel its tasks."""
    stopped = [stop_waiting(loop), *(engine.stop_all(STOPPED) for engine in engines_on(loop))]
    if not any(stopped):
        loop.call_soon_threadsafe(_cancel_all_on, loop)


def _cancel_all_on(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
