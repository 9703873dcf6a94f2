"""A task that begins at once: a coroutine that never waits takes no turn of the loop.

A turn costs more than a no-op step's whole way through the driver: the call of the selector, a handle, and its context.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

__all__ = ["begin_task"]


def begin_task(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], context: Context
) -> asyncio.Task[None]:
    """Run ``work`` as a task of the running loop, up to its first wait now; where that cannot be, from its next turn.

    Args:
        loop: the loop that is running.
        work: what the task does.
        context: the task's own.
    """
    # Inside a loop that nest_asyncio has patched, the work may run that loop again, and with it whoever begins it.
    if hasattr(asyncio, "_nest_patched") or loop.get_task_factory() is not None:
        return loop.create_task(work, context=context)
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, context=context, eager_start=True)
    return _begin(loop, work, context)


def _begin(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None]:
    """Do so before Python 3.12: the handle of the task's first step, which the loop would run next, is run here."""
    ready: Any = getattr(loop, "_ready", ())  # of asyncio's own loops; others begin it at the next turn
    before = len(ready)
    task = loop.create_task(work, context=context)
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
