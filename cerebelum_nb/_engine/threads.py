"""From sync code into a coroutine: on a loop of its own, in a thread where one runs here already."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["block_on", "is_loop_running"]

T = TypeVar("T")


def is_loop_running() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def block_on(
    make: Callable[[], Coroutine[Any, Any, T]],
    *,
    thread: str,
    on_interrupt: Callable[[asyncio.AbstractEventLoop], None] | None = None,
) -> T:
    """Run a coroutine to its end, and return what it returns.

    Args:
        make: makes the coroutine, on the loop that runs it.
        thread: how its thread is called, where a loop runs here and it needs one; it has the caller's context.
        on_interrupt: what Ctrl-C does then: called with the thread's loop, after which its end is waited for. None
            leaves it at work, and raises.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        Otherwise what the coroutine raises.

    Example:
        >>> async def answer():
        ...     return 42
        >>> block_on(answer, thread="asking")
        42
    """
    __tracebackhide__ = True
    if not is_loop_running():
        return asyncio.run(make())
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
    loops: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()

    async def main() -> T:
        loops.set_result(asyncio.get_running_loop())
        return await make()

    def target() -> None:
        try:
            outcome.set_result(asyncio.run(main()))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            outcome.set_exception(error)

    context = contextvars.copy_context()
    worker = threading.Thread(target=context.run, args=(target,), name=thread, daemon=True)
    try:
        worker.start()  # it may be stopped before this has returned
        return outcome.result()
    except KeyboardInterrupt:
        if on_interrupt is None:
            raise
        loop = loops.result()
        if not outcome.done():
            on_interrupt(loop)
        try:
            return outcome.result()
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
