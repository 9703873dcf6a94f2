"""Ctrl-C and the kernel's stop button, while an execution runs in the foreground of the main thread.

The kernel's own handler does not wake a loop that waits, so a stop would come late; and outside a kernel it leaves
a zombie task. This handler asks the run to pause instead. The old handler is always put back.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from .attempt import Interruption
from .scope import current_scope

__all__ = ["on_sigint"]


@contextmanager
def on_sigint(stop: Callable[[], None], *, presses: int = 2) -> Iterator[None]:
    """Call ``stop`` on the running loop at the first SIGINT; ``presses`` of them break into a step that blocks it.

    Does nothing outside the main thread, where signals do not arrive.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    pressed = 0

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed += 1
        if pressed >= presses and current_scope.get() is not None:
            raise Interruption
        loop.call_soon_threadsafe(stop)

    old = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler if old is None else old)
