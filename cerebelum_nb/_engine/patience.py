"""Writing to a log on an event loop while another program holds the log's write lock.

A write from sync code waits where it stands. On a loop that would stop everything else, so each try is short, and
between two tries the loop turns. The commits of runs have their own retries, in the engine (loop.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from .._store.base import patience
from ..errors import StoreError

__all__ = ["LOCKED_SECONDS", "RETRY_SECONDS", "TRY_SECONDS", "briefly", "patiently", "short_try"]

TRY_SECONDS = 0.1
"""How long one try on a loop waits for the write lock."""

RETRY_SECONDS = 0.1
"""How long the loop then has for everything else between two tries."""

LOCKED_SECONDS = 600.0
"""How long async code waits for the lock before it gives up."""

_SYNC_SECONDS = 5.0
"""How long a sync call on a loop, such as ``start()``, waits: it holds up the loop, and has no other way to wait."""

T = TypeVar("T")


@contextmanager
def short_try() -> Iterator[None]:
    """Let a write in this block wait for the lock no longer than a loop may stand still."""
    token = patience.set(min(TRY_SECONDS, patience.get()))
    try:
        yield
    finally:
        patience.reset(token)


async def patiently(write: Callable[[], T]) -> T:
    """Call what writes to a log, again and again while the log is locked; the loop turns in between.

    Args:
        write: called again after each transient ``StoreError``; each of its writes is a :func:`short_try`.

    Returns:
        What ``write`` returns.

    Raises:
        StoreError: the log stayed locked for ten minutes, or has another fault.
    """
    until = time.monotonic() + LOCKED_SECONDS
    while True:
        try:
            return write()
        except StoreError as error:
            if not error.transient or time.monotonic() >= until:
                raise
        await asyncio.sleep(RETRY_SECONDS)


def briefly(write: Callable[[], T]) -> T:
    """Call what writes to a log, again for up to five seconds while the log is locked; for sync code on a loop."""
    until = time.monotonic() + _SYNC_SECONDS
    while True:
        try:
            return write()
        except StoreError as error:
            if not error.transient or time.monotonic() >= until:
                raise
        time.sleep(RETRY_SECONDS / 10)
