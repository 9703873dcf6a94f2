"""The attempts of one execution in this process, from the decision to start them until their threads have ended.

An attempt is *decided* by the driver, *ready* once its start is in the log (of a pure step, at once), and *running*
from its launch until it has its outcome. It is *left* if it has ended for the log, but its thread or task may still be
running.
"""

from __future__ import annotations

from functools import partial

from .._core.graph import Plan
from .._core.messages import Start
from .._core.state import State
from .._core.waits import AttemptWaits
from .attempt import Attempt

__all__ = ["Attempts"]


class Attempts:
    """The attempts of one execution.

    Attributes:
        decided: starts that wait for their commit.
        ready: starts that are not launched yet, the next one last.
        running: attempts without an outcome, by step.
    """

    __slots__ = ("_awake", "_left", "decided", "ready", "running")

    def __init__(self) -> None:
        self.decided: list[Start] = []
        self.ready: list[Start] = []
        self.running: dict[str, Attempt] = {}
        self._awake: dict[str, Attempt] = {}  # running attempts that may be at work; removed when found waiting
        self._left: dict[Attempt, None] = {}

    @property
    def starting(self) -> bool:
        """Whether an attempt is decided but not yet running."""
        return bool(self.decided or self.ready)

    def make_ready(self, plan: Plan) -> None:
        """Make the decided attempts ready: their starts are in the log, or do not wait for it."""
        if len(self.decided) > 1:  # threads first: an async step that blocks the loop must not hold them back
            self.decided.sort(key=lambda start: (spec := plan.spec(start.step)) is None or spec.is_async)
        self.ready[:0] = reversed(self.decided)
        self.decided.clear()

    def drop_starts(self) -> None:
        """Drop the attempts that have not started."""
        self.decided.clear()
        self.ready.clear()

    def begin(self, attempt: Attempt) -> None:
        """Add an attempt that starts."""
        step = attempt.scope.step
        self.running[step] = self._awake[step] = attempt

    def end(self, step: str, visit: int, attempt: int) -> Attempt | None:
        """Remove and return the attempt that has its outcome; None if it is not running."""
        found = self.running.get(step)
        if found is None or (found.scope.visit, found.scope.attempt) != (visit, attempt):
            return None
        del self.running[step]
        self._awake.pop(step, None)
        return found

    def leave(self, attempt: Attempt) -> None:
        """Keep track of an attempt that is over for the log until its function has ended, if that is still running."""
        if attempt.alive:
            self._left[attempt] = None
            attempt.when_over(partial(self._left.pop, attempt, None))

    def abandon(self, step: str) -> None:
        """Abandon the running attempt of a step, if there is one."""
        attempt = self.running.pop(step, None)
        if attempt is not None:
            self._awake.pop(step, None)
            attempt.abandon()
            self.leave(attempt)

    def wait_ended(self, step: str) -> None:
        """Note that a step no longer waits."""
        if step in self.running:
            self._awake[step] = self.running[step]

    def all_wait(self) -> bool:
        """Whether every running attempt waits for the clock; one that begins to wait is checked once, not per call."""
        while self._awake:
            step, attempt = self._awake.popitem()  # the last: to find the first takes as long as many were removed
            if not attempt.scope.waits:
                self._awake[step] = attempt
                return False
        return True

    def waits(self, state: State) -> list[AttemptWaits]:
        """Return what each running attempt waits for, for the rule of hibernation (_core/waits.py)."""
        made = []
        for name, attempt in self.running.items():
            step = state.step(name)
            assert step is not None, f"step {name} has begun"
            external = attempt.spec.policy.effect == "external"
            made.append(AttemptWaits(attempt.scope.waits, step.operations, external))
        return made

    def alive(self) -> list[Attempt]:
        """Return the attempts whose function is still running, the left ones included."""
        return [attempt for attempt in (*self.running.values(), *self._left) if attempt.alive]
