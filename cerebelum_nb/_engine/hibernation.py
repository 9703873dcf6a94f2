"""Hibernate an execution that only waits: it is recorded as hibernated, and no process runs it until the wait is over.

The rule is pure and in _core/waits.py. It is applied here when a wait begins or has lasted for long, and checked again
in the engine's inbox, after the messages that arrived before. An execution that drains hibernates whatever the length
of its waits, because another process will resume it.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Protocol

from .._core.drive import Driver
from .._core.messages import Leave
from .._core.state import State
from .._core.waits import may_hibernate_at, may_leave, wake_at
from .attempts import Attempts
from .clock import Clock, Deadline, Timer
from .ports import RunLoop
from .retries import Retries
from .time_limit import TimeLimit

__all__ = ["HibernatingRun", "Hibernation"]


class HibernatingRun(Protocol):
    """What `Hibernation` needs of an execution."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    driver: Driver
    state: State
    attempts: Attempts
    retries: Retries
    time_limit: TimeLimit
    over: bool
    stays: bool
    """Whether it stays in this process however long it waits."""

    @property
    def engine(self) -> RunLoop[Any]:
        """The engine that runs it."""
        ...

    @property
    def queued(self) -> bool:
        """Whether it waits for its slot."""
        ...

    def now(self) -> int:
        """Return the time for new events, µs since the epoch."""
        ...

    def defer_printed(self) -> None:
        """Record what its steps have printed with the next event."""
        ...


class Hibernation:
    """Checks whether one execution can hibernate.

    The execution is passed in, not stored: a reference cycle would keep it until the garbage collector runs.
    """

    __slots__ = ("_timer", "_will_look")

    def __init__(self) -> None:
        self._will_look = False
        self._timer: Timer | None = None

    def look_soon(self, run: HibernatingRun) -> None:
        """Check the waits in the loop's next iteration; many requests cause one check."""
        if not self._will_look:
            self._will_look = True
            run.loop.call_soon(run.engine.on_behalf_of, run, self.look, run)

    def look(self, run: HibernatingRun) -> None:
        """Check the waits now."""
        self._will_look = False
        if run.driver.draining and not (run.over or run.driver.finishing):
            run.engine.post(run, self.leave, run)
        self.consider(run)
        run.engine.check_idle()

    def all_wait(self, run: HibernatingRun) -> bool:
        """Whether everything in flight waits for the clock."""
        if not run.attempts.all_wait() or run.attempts.starting or self._will_look:
            return False
        if run.driver.has_more or run.driver.routing:
            return False
        return bool(run.attempts.running or run.retries)

    def consider(self, run: HibernatingRun) -> None:
        """Hibernate the execution if it only waits, and for long enough; otherwise schedule the next check."""
        after = run.engine.hibernate_after
        if after is None or run.stays or run.over or run.driver.finishing or run.queued or not self.all_wait(run):
            return
        now = run.clock.now()
        ripe = _ripe_at(run, after, now)
        if ripe is None:
            return
        if ripe <= now:
            run.engine.post(run, self.leave, run)
        else:
            self.stop()
            look = partial(run.engine.on_behalf_of, run, self.look, run)
            self._timer = run.clock.call_at(Deadline(run.clock, ripe), look)

    def leave(self, run: HibernatingRun) -> None:
        """Hibernate the execution if it still only waits."""
        driver, after, now = run.driver, run.engine.hibernate_after, run.clock.now()
        if driver.finishing or run.attempts.starting or driver.has_more or driver.routing:
            return
        if driver.draining:
            if not all(map(may_leave, run.attempts.waits(run.state))):
                return
        else:
            ripe = None if after is None else _ripe_at(run, after, now)
            if ripe is None or ripe > now:
                return
        run.defer_printed()
        now = run.now()
        waits, retries = run.attempts.waits(run.state), run.retries.times(run.state)
        wake = now if driver.held_back else wake_at(waits, retries, now)
        if (ends := run.time_limit.ends_at(run.state)) is not None:
            wake = ends if wake is None else min(wake, ends)
        driver.take(Leave(wake), now)

    def stop(self) -> None:
        """Cancel the next check."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _ripe_at(run: HibernatingRun, after: int, now: int) -> int | None:
    return may_hibernate_at(
        run.attempts.waits(run.state), run.retries.times(run.state), len(run.state.in_flight), after, now
    )
