"""Aids for testing workflows: a fixture that runs them, doubles of steps, a clock that jumps, crashes at an event."""

from __future__ import annotations

from ._engine.crash import Crashed
from ._store.memory import MemoryStore
from ._testing.answering import answering
from ._testing.clock import FakeClock
from ._testing.crashing import crash_after, crash_before
from ._testing.doubles import Fails
from ._testing.every_crash import every_crash
from ._testing.fates import Fate, fates
from ._testing.replay import Recorded, Replay, Replayed, recorded, replay
from ._testing.workflow_run import WorkflowRun
from ._testing.workflows import Workflows

__all__ = [
    "Crashed",
    "Fails",
    "FakeClock",
    "Fate",
    "MemoryStore",
    "Recorded",
    "Replay",
    "Replayed",
    "WorkflowRun",
    "Workflows",
    "answering",
    "crash_after",
    "crash_before",
    "every_crash",
    "fates",
    "recorded",
    "replay",
]
