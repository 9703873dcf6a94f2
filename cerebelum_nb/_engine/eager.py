"""Start a task at once instead of in the loop's next iteration.

An iteration (the selector's call, a handle, its context) costs more than the driver's whole work on a no-op step, so a
coroutine that never waits should not need one.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

__all__ = ["begin_task"]

_ASYNCIO = vars(asyncio)  # to ask a module for a name that it lacks makes an exception


def begin_task(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], context: Context
) -> asyncio.Task[None]:
    """Create a task of the running loop and run it up to its first wait; if that is impossible, start it as usual.

    Args:
        loop: the loop that is running.
        work: the task's coroutine.
        context: the task's context.
    """
    # In a loop patched by nest_asyncio, the work may run the loop again, and with it the caller of this function.
    if "_nest_patched" in _ASYNCIO or loop.get_task_factory() is not None:
        return loop.create_task(work, context=context)
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, context=context, eager_start=True)
    return _begin(loop, work, context)


def _begin(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None]:
    """Start a task eagerly before Python 3.12: run its first handle here, taken from the loop's queue."""
    ready: Any = getattr(loop, "_ready", ())  # other loops than asyncio's have no such queue
    before = len(ready)
    task = asyncio.Task(work, loop=loop, context=context)
    if len(ready) == before + 1:
        current = asyncio.current_task(loop)
        if current is not None:
            asyncio.tasks._leave_task(loop, current)
        try:
            ready.pop()._run()
        finally:
            if current is not None:
                asyncio.tasks._enter_task(loop, current)
    return task
