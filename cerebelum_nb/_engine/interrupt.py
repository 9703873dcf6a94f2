"""Ctrl-C and the kernel's stop button, while executions run in the foreground of the main thread.

One SIGINT handler is installed while any of them runs, in whatever order they end; after the last, the handler it
replaced is restored. It stops the executions from within the signal handler, so that nothing starts after a stop, even
while a step blocks the loop. The kernel's own handler waits for the loop, and leaves a zombie task behind.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import Any

from .attempt import Interruption
from .scope import current_scope

__all__ = ["on_sigint"]

_Handler = Callable[[int, FrameType | None], Any] | int


@dataclass(slots=True, eq=False)
class _Entry:
    """One run in the foreground. ``replaced`` is the handler it replaced; None if `_handle` was already installed."""

    loop: asyncio.AbstractEventLoop
    stop: Callable[[], None]
    presses: int
    pressed: int = 0
    replaced: _Handler | None = None

    def __enter__(self) -> None:
        _enter(self)

    def __exit__(self, *_: object) -> None:
        _leave(self)


_entries: dict[_Entry, None] = {}
_before: _Handler = signal.default_int_handler
"""The handler of SIGINT before the first of ``_entries``."""


def on_sigint(stop: Callable[[], None], *, presses: int = 2) -> AbstractContextManager[None]:
    """Call ``stop`` at the first SIGINT; ``presses`` of them interrupt a step that blocks the loop.

    ``stop`` is called in the signal handler, between any two instructions of the main thread: it must only set flags
    and leave everything else to the loop. Does nothing outside the main thread, where signals do not arrive.
    """
    return _Entry(asyncio.get_running_loop(), stop, presses) if _in_main_thread() else nullcontext()


def _in_main_thread() -> bool:
    """Whether a handler can be set here; a garbage collection may end a run in any thread."""
    return threading.current_thread() is threading.main_thread()


def _enter(entry: _Entry) -> None:
    global _before
    if next(reversed(_entries), entry).loop is not entry.loop:  # on the same loop, the others are still open
        for ended in [other for other in _entries if other.loop.is_closed()]:  # abandoned without its __exit__
            _leave(ended)
    # Without a `signal.getsignal` first: before Python 3.13, both format the repr of the handler that they return, and
    # that of asyncio.run's handler contains its task.
    replaced = signal.signal(signal.SIGINT, _handle)
    if replaced is not _handle:
        entry.replaced = signal.default_int_handler if replaced is None else replaced  # SIG_DFL is falsy
        if not _entries:
            _before = entry.replaced
    _entries[entry] = None


def _leave(entry: _Entry) -> None:
    """Remove an entry. A later entry takes over the handler it replaced; without one, that handler is restored."""
    if entry not in _entries:
        return
    if entry.replaced is None:
        del _entries[entry]
        return
    others = iter(_entries)
    later = next((next(others, None) for other in others if other is entry), None)
    del _entries[entry]
    if later is not None and later.replaced is None:
        later.replaced = entry.replaced
    elif later is None and signal.getsignal(signal.SIGINT) is _handle and _in_main_thread():
        signal.signal(signal.SIGINT, entry.replaced)


def _handle(signum: int, frame: FrameType | None) -> None:
    running = [entry for entry in list(_entries) if entry.loop.is_running()]
    if not running:  # other code has reinstalled this handler after the last run ended
        _pass_on(signum, frame)
        return
    for entry in running:
        entry.pressed += 1
        entry.stop()
    if current_scope.get() is not None and any(entry.pressed >= entry.presses for entry in running):
        raise Interruption


def _pass_on(signum: int, frame: FrameType | None) -> None:
    if callable(_before):
        _before(signum, frame)
    elif _before == signal.SIG_DFL:
        signal.signal(signum, signal.SIG_DFL)
        signal.raise_signal(signum)
