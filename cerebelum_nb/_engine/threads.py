"""Whether this system starts threads, as Python in a browser (Pyodide, JupyterLite) does not; and blocking on one.

Asked by everything that would start one. Without threads, plain steps run inline on the event loop and the heartbeat
beats from it; what would have to block while a loop runs says so.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ..errors import CerebelumError

__all__ = ["block_on", "can_start_threads", "is_loop_running"]

T = TypeVar("T")

log = logging.getLogger("cerebelum_nb")

_known: dict[str, bool] = {}


def can_start_threads() -> bool:
    """Whether threads start here.

    Found out by starting one when the first is wanted. A yes is final: where threads have started, one that the system
    refuses later (a limit is reached) is the failure of whatever wanted it, and blocking the loop instead would hide
    that. A no is asked again each time, as that limit may have been reached already at the first look.
    """
    if not _known.get("starts", False):
        try:
            probe = threading.Thread(target=int, name="cerebelum-probe", daemon=True)
            probe.start()
            probe.join()
        except RuntimeError:
            if not _known:
                log.warning(
                    "no thread can start here: plain steps run on the event loop, where nothing else runs meanwhile. "
                    "Make steps that wait async def"
                )
            _known["starts"] = False
        else:
            _known["starts"] = True
    return _known["starts"]


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
    what: str,
    instead: str,
    thread: str,
    on_interrupt: Callable[[asyncio.AbstractEventLoop], None] | None = None,
) -> T:
    """Run a coroutine to its end, and return what it returns.

    Args:
        make: makes the coroutine, on the loop that runs it.
        what: who waits, as the error names it where a loop runs here and no thread can start.
        instead: what to do instead, a sentence without its dot.
        thread: how its thread is called, where a loop runs here and it needs one; it has the caller's context.
        on_interrupt: what Ctrl-C does then: called with the thread's loop, after which its end is waited for. None
            leaves it at work, and raises.

    Raises:
        CerebelumError: it cannot wait here.
        KeyboardInterrupt: Ctrl-C.
        Otherwise what the coroutine raises.

    Example:
        >>> async def answer():
        ...     return 42
        >>> block_on(answer, what="this", instead="Write await", thread="asking")
        42
    """
    __tracebackhide__ = True
    if not is_loop_running():
        return asyncio.run(make())
    if not can_start_threads():
        raise CerebelumError(f"{what} cannot wait here: an event loop is running, and no thread can start. {instead}")
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
