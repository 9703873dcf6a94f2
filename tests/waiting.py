"""Waiting for what another process or thread does. Whoever waits in vain has found a hang; no speed is asserted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")


def wait_for(holds: Callable[[], T], what: str | Callable[[], str], *, seconds: float = 120, every: float = 0.02) -> T:
    """Ask until the answer is true, and return it; if that never happens the test fails.

    Args:
        holds: what is asked.
        what: what was waited for, or what to show of how far it came.
        seconds: after which it counts as a hang.
        every: seconds between two questions.
    """
    end = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > end:
            pytest.fail(f"in {seconds:g} s it did not come to this: {what if isinstance(what, str) else what()}")
        time.sleep(every)
    return found
