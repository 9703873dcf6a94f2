"""Aids for testing workflows: a clock that jumps, a log in memory, crashes at an event."""

from __future__ import annotations

from ._engine.crash import Crashed
from ._store.memory import MemoryStore
from ._testing.answering import answering
from ._testing.clock import FakeClock
from ._testing.crashing import crash_after, crash_before

__all__ = ["Crashed", "FakeClock", "MemoryStore", "answering", "crash_after", "crash_before"]
