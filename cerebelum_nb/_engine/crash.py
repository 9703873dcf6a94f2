"""Simulated crashes for tests and lessons: at a given event an engine drops all it runs, as if its process had died.

Nothing more is written and no observer is called; the leases are released, and what only this process knew is
forgotten. A resume finds what it would find after a real death, with one difference: the `finally` and `except` blocks
of async steps have run, and a plain step's thread runs to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .._core.events import Event
from .._store.base import Commit
from ..errors import CerebelumError

__all__ = ["CrashPoint", "Crashed", "Crashes", "armed", "strike"]


class Crashed(CerebelumError):  # noqa: N818 - an outcome that a test asked for
    """A run that ended as if its process had died, where a test asked for it; it can be resumed.

    Attributes:
        execution_id: the execution.
        version: the version of the event at which it crashed.
        event: its type, such as ``StepCompleted``.
        step: the step of the event; "" if the event is not about a step.
        before: whether it crashed before the event was recorded, so that the event is lost.

    Example:
        >>> with crash_after("StepCompleted", step="build") as crash:
        ...     release.run(store=MemoryStore(), execution_id="k1")
        >>> crash.crashed.version, crash.crashed.event, crash.crashed.step
        (3, 'StepCompleted', 'build')
    """

    def __init__(self, execution_id: str, version: int, event: str, step: str, *, before: bool) -> None:
        self.execution_id, self.version, self.event, self.step, self.before = execution_id, version, event, step, before
        about = f" of step '{step}'" if step else ""
        when = "before" if before else "after"
        super().__init__(f"execution {execution_id} crashed {when} event {version}, {event}{about}, as requested")


@dataclass(slots=True, eq=False, kw_only=True)
class CrashPoint:
    """Where to crash: at the first event that matches. It crashes once; ``crashed`` then says where."""

    event: str | int
    """The type of the event, or its version."""
    step: str | None = None
    before: bool = False
    """Whether the commit with the event is lost."""
    execution_id: str | None = None
    crashed: Crashed | None = None
    seen: list[str] = field(default_factory=list)
    """The first hundred events that did not match."""

    def strikes(self, commits: Sequence[Commit], *, before: bool) -> Crashed | None:
        """Return the crash at these commits, if one of their events matches."""
        if self.crashed is not None or self.before is not before:
            return None
        for commit in commits:
            if self.execution_id in (None, commit.execution_id):
                for version, event in enumerate(commit.events, start=commit.after + 1):
                    if self._matches(version, event):
                        step = getattr(event, "step", None) or ""
                        kind = type(event).__name__
                        self.crashed = Crashed(commit.execution_id, version, kind, step, before=before)
                        return self.crashed
        return None

    def _matches(self, version: int, event: Event) -> bool:
        kind, step = type(event).__name__, getattr(event, "step", None)
        if self.step in (None, step) and self.event in (version, kind):
            return True
        if len(self.seen) < _MOST_SEEN:
            self.seen.append(f"{version} {kind} {step}" if step else f"{version} {kind}")
        return False


class Crashes(Protocol):
    """Decides where engines crash."""

    def strikes(self, commits: Sequence[Commit], *, before: bool) -> Crashed | None:
        """Return the crash before or after these commits; None to continue."""
        ...


_MOST_SEEN = 100

armed: list[Crashes] = []
"""Asked by every engine of this process at each commit; empty outside tests."""


def strike(commits: Sequence[Commit], *, before: bool) -> Crashed | None:
    """Return the first crash that an armed crash point decides for these commits."""
    return next((crashed for point in armed if (crashed := point.strikes(commits, before=before)) is not None), None)
