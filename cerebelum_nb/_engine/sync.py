"""From sync code into the one async implementation: ``run_sync``, in a script and in a cell."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .._host.caller import show_errors_briefly
from ..errors import ExecutionStoppedError
from .hints import from_sync
from .loop import engines_on
from .threads import must_block_beside_loop

__all__ = ["STOPPED", "run_sync"]

T = TypeVar("T")

STOPPED = "stopped by hand"
"""Why an execution is paused that somebody at the keyboard stopped."""


def run_sync(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine from sync code: with ``asyncio.run``, or in a thread when a loop runs here.

    Raises:
        KeyboardInterrupt: it was stopped; what ran is paused.
        CerebelumError: a loop runs here, and no thread can start.
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
        return _run_in_thread(make) if _is_loop_running() else _run_in_script(make)
    finally:
        from_sync.reset(was_sync)


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_in_script(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    __tracebackhide__ = True
    try:
        return asyncio.run(make())
    except ExecutionStoppedError as error:
        raise KeyboardInterrupt(str(error)) from error


def _run_in_thread(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    __tracebackhide__ = True
    must_block_beside_loop("this call", "Write await: await w.execute(...), await w.resume(...)")
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
    thread = threading.Thread(target=context.run, args=(target,), name="cerebelum-run", daemon=True)
    try:
        thread.start()  # it may be stopped before this has returned
        return outcome.result()
    except KeyboardInterrupt:
        loop = loops.result()
        if not outcome.done():
            _stop_all_on(loop)
        try:
            return outcome.result()
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


def _stop_all_on(loop: asyncio.AbstractEventLoop) -> None:
    """Pause what runs there; where no execution does, whatever else is at work."""
    stopped = [engine.stop_all(STOPPED) for engine in engines_on(loop)]
    if not any(stopped):
        loop.call_soon_threadsafe(_cancel_all_on, loop)


def _cancel_all_on(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
