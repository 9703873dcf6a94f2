"""Write to a log from an event loop while another program holds the log's write lock.

A write from sync code simply waits. On a loop that would block everything else, so each try is short, and the loop
runs between two tries. The engine retries the commits of runs itself (loop.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from .._core.portions import Portions
from .._store.base import patience
from ..errors import StoreError
from .pacing import later_iteration
from .portions import in_portions

__all__ = ["LOCKED_SECONDS", "RETRY_SECONDS", "TRY_SECONDS", "briefly", "patiently", "prepared", "short_try"]

TRY_SECONDS = 0.1
"""How long one try on a loop waits for the write lock."""

RETRY_SECONDS = 0.1
"""The pause between two tries, in which the loop runs."""

LOCKED_SECONDS = 600.0
"""How long async code waits for the lock before it gives up."""

_SYNC_SECONDS = 5.0
"""How long a sync call on a loop, such as ``start()``, waits; it blocks the loop meanwhile."""

T = TypeVar("T")
U = TypeVar("U")


@contextmanager
def short_try() -> Iterator[None]:
    """Limit how long a write in this block waits for the lock, so that it does not block an event loop."""
    token = patience.set(min(TRY_SECONDS, patience.get()))
    try:
        yield
    finally:
        patience.reset(token)


async def patiently(write: Callable[[], T]) -> T:
    """Call a function that writes to a log, and retry while the log is locked; the loop runs in between.

    The first call waits until an iteration of the loop has time for it (pacing.py).

    Args:
        write: called again after each transient ``StoreError``; each of its writes is a :func:`short_try`.

    Returns:
        What ``write`` returns.

    Raises:
        StoreError: the log stayed locked for ten minutes, or another error of the log.
        ExecutionStoppedError: it was stopped by hand before the first call.
    """
    if (later := later_iteration()) is not None:
        await later
    return await _again(write)


async def prepared(read: Callable[[], Portions[U]], write: Callable[[U], T]) -> T:
    """Read in portions, between which the loop runs, what a function that writes to a log needs; then as `patiently`.

    Args:
        read: called once, in an iteration of the loop that has time for it.
        write: called with what was read, as that of `patiently`.

    Raises:
        As `patiently`, and what ``read`` raises.
    """
    if (later := later_iteration()) is not None:
        await later
    found = await in_portions(read())
    return await _again(partial(write, found))


async def _again(write: Callable[[], T]) -> T:
    until = time.monotonic() + LOCKED_SECONDS
    while True:
        try:
            return write()
        except StoreError as error:
            if not error.transient or time.monotonic() >= until:
                raise
        await asyncio.sleep(RETRY_SECONDS)


def briefly(write: Callable[[], T]) -> T:
    """Call a function that writes to a log, and retry for five seconds while it is locked; for sync code on a loop."""
    until = time.monotonic() + _SYNC_SECONDS
    while True:
        try:
            return write()
        except StoreError as error:
            if not error.transient or time.monotonic() >= until:
                raise
        time.sleep(RETRY_SECONDS / 10)
