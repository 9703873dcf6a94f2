"""Do work in portions (_core/portions.py) between which the event loop runs."""

from __future__ import annotations

import asyncio
from typing import TypeVar, cast

from .._core.portions import Portions
from .._host.collector import uncollected
from .._host.cpu import thread_time

__all__ = ["in_portions"]

T = TypeVar("T")

SECONDS = 0.004
"""The CPU time after which the loop runs."""


async def in_portions(work: Portions[T]) -> T:
    """Do the work, let the event loop run after each few milliseconds of it, and return its result."""
    try:
        next(work)
    except StopIteration as end:  # most work is a single portion
        return cast(T, end.value)
    try:
        while True:
            await asyncio.sleep(0)
            until = thread_time() + SECONDS
            with uncollected():
                next(work)
                while thread_time() < until:
                    next(work)
    except StopIteration as end:
        await asyncio.sleep(0)  # what follows begins with a whole iteration
        return cast(T, end.value)
