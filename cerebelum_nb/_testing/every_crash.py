"""Runs a test once for every event at which its workflows may crash.

The first visit of the test does not crash, and notes what is committed. Each further visit crashes once, and the
crashed runs are started again, as by a supervisor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .._core.events import Event
from .._engine.crash import Crashed, armed
from .._store.base import Commit

__all__ = ["Place", "Visit", "event_name", "every_crash", "places"]


@dataclass(frozen=True, slots=True)
class Place:
    """A commit at which a run may crash: the execution, the number of its last event, and the names of its events."""

    execution_id: str
    version: int
    events: tuple[str, ...]
    before: bool = False

    def __str__(self) -> str:
        when = "before" if self.before else "after"
        return f"{when} event {self.version} of {self.execution_id} ({', '.join(self.events)})"


@dataclass(slots=True, eq=False)
class Visit:
    """One visit of a test: where it crashes, if anywhere, and what it committed."""

    place: Place | None = None
    repeat: Sequence[str] = ()
    crashed: Crashed | None = None
    pending: bool = False  # it has crashed, and the driver has yet to start the runs again
    committed: list[Place] = field(default_factory=list)

    @staticmethod
    def current() -> Visit | None:
        """Return the present visit, if a test is run for every crash."""
        return next((point for point in armed if isinstance(point, Visit)), None)

    def strikes(self, commits: Sequence[Commit], *, before: bool) -> Crashed | None:
        """Note commits, and return the crash at the place of this visit."""
        place = self.place
        for commit in commits:
            last = commit.after + len(commit.events)
            if not before:
                self.committed.append(Place(commit.execution_id, last, tuple(map(event_name, commit.events))))
            if place is None or self.crashed is not None or place.before is not before:
                continue
            if commit.execution_id == place.execution_id and commit.after < place.version <= last:
                kind, _, step = event_name(commit.events[-1]).partition(" ")
                self.crashed, self.pending = Crashed(commit.execution_id, last, kind, step, before=before), True
                return self.crashed
        return None

    @contextmanager
    def active(self) -> Iterator[Visit]:
        """Make the engines of this process ask this visit whether to crash."""
        armed.append(self)
        try:
            yield self
        finally:
            armed.remove(self)


def every_crash(
    test: Callable[[], Any], *, before: bool = False, repeat: Sequence[str] = ()
) -> Iterator[tuple[Place | None, Any]]:
    """Call a function that runs workflows once without a crash, then once for each commit, crashing there.

    Args:
        test: creates its own :class:`Workflows`, because each call must begin with an empty log.
        before: True loses the commit: its events happened, but are not recorded.
        repeat: steps with an external effect that may happen twice.

    Yields:
        Where it crashed, None for the first, and what the function returned.

    Example:
        >>> def test():
        ...     with Workflows() as workflows:
        ...         return workflows.run(release).output
        >>> {output for _, output in every_crash(test)}
        {'image'}
    """
    with Visit(repeat=repeat).active() as first:
        yield None, test()
    for place in places(first, before=before):
        with Visit(place, repeat).active():
            yield place, test()


def places(visit: Visit, *, before: bool) -> list[Place]:
    """Return the places at which a visit without a crash could have crashed."""
    return [Place(place.execution_id, place.version, place.events, before) for place in visit.committed]


def event_name(event: Event) -> str:
    """Return the type of an event and its step."""
    step = getattr(event, "step", None)
    return f"{type(event).__name__} {step}" if step else type(event).__name__
