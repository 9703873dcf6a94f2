"""Whether this system can start threads, and how sync code waits for a coroutine.

Python in a browser (Pyodide, JupyterLite) cannot start threads. There, plain steps and the heartbeat run on the event
loop, and a call that would have to block while a loop is running raises an error. All code that would start a thread
asks `can_start_threads` first.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from ..errors import CerebelumError

__all__ = ["block_on", "can_start_threads", "in_thread", "is_loop_running"]

T = TypeVar("T")
P = ParamSpec("P")

log = logging.getLogger("cerebelum_nb")

_known: dict[str, bool] = {}


def can_start_threads() -> bool:
    """Whether threads can start here, which is tried out.

    True is final: if the system refuses a thread later because a limit is reached, the caller must fail and not block
    the loop instead. False is checked again at each call, because the limit may have been reached at the first check.
    """
    if not _known.get("starts", False):
        try:
            probe = threading.Thread(target=int, name="cerebelum-probe", daemon=True)
            probe.start()
            probe.join()
        except RuntimeError:
            if not _known:
                log.warning(
                    "no thread can start here: plain steps run on the event loop and block it. Make steps that wait "
                    "async def"
                )
            _known["starts"] = False
        else:
            _known["starts"] = True
    return _known["starts"]


def _stack_switching() -> Callable[[Any], Any] | None:
    """Return Pyodide's function that blocks on a coroutine while a loop runs; None where it is not available."""
    ffi = sys.modules.get("pyodide.ffi")
    return ffi.run_sync if ffi is not None and ffi.can_run_sync() else None


def is_loop_running() -> bool:
    """Whether an event loop is running in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _settled(coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
    """Return the outcome of a coroutine without raising: Pyodide's loop would report the error as unhandled."""
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
    try:
        outcome.set_result(await coroutine)
    except BaseException as error:  # noqa: BLE001 - raised again by the waiting caller
        outcome.set_exception(error)
    return outcome


def block_on(
    make: Callable[[], Coroutine[Any, Any, T]],
    *,
    what: str,
    instead: str,
    thread: str,
    on_interrupt: Callable[[asyncio.AbstractEventLoop], None] | None = None,
) -> T:
    """Run a coroutine to its end from sync code, and return its result.

    Args:
        make: creates the coroutine, on the loop that runs it.
        what: the subject of the error message if a loop is running here and no thread can start.
        instead: what to do in that case, a sentence without its full stop.
        thread: the name of the thread that is started if a loop is running here; it gets the caller's context.
        on_interrupt: called with the thread's loop on Ctrl-C; the coroutine's end is then awaited. None: Ctrl-C raises
            at once, and the thread goes on.

    Raises:
        CerebelumError: a loop is running here and no thread can start.
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
        if (wait := _stack_switching()) is not None:
            awaited: T = wait(_settled(make())).result()
            return awaited
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
        worker.start()  # Ctrl-C may arrive before this returns
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


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in a thread of its own, in this context; one such thread of a loop works at a time.

    The threads of `asyncio.to_thread` may all be waiting for something that only happens after this call. Without a
    thread the function is called here. When this is cancelled, the thread goes on, and what it returns is dropped.

    Args:
        function: what to call.
        *args: its arguments.
        **kwargs: its keyword arguments.

    Returns:
        What the function returns.

    Raises:
        What the function raises.
    """
    if not can_start_threads():
        return function(*args, **kwargs)
    loop = asyncio.get_running_loop()
    made: list[T] = []  # not a future, whose functions would show in the user's traceback
    failed: list[BaseException] = []
    over = asyncio.Event()
    context = contextvars.copy_context()

    def target() -> None:
        try:
            made.append(context.run(function, *args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - raised again by the waiting caller
            failed.append(error)
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(over.set)

    async with _at_work.setdefault(loop, asyncio.Lock()):
        threading.Thread(target=target, name="cerebelum-values", daemon=True).start()
        await over.wait()
    if failed:
        raise failed.pop()
    return made.pop()


_at_work: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()
