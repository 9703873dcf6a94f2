"""When failed steps are retried: the delay of the policy, and the timers of one execution until then."""

from __future__ import annotations

from collections.abc import Callable

from .._core.graph import Policy
from .._core.settle import Verdict, tries_again
from .._core.state import State
from .clock import Clock, Deadline, Timer

__all__ = ["Retries", "next_attempt"]


def next_attempt(clock: Clock, policy: Policy, failures: int, verdict: Verdict) -> Deadline | None:
    """Return when the next attempt of a step starts; None if there is none.

    Args:
        clock: the clock of the execution.
        policy: the step's policy.
        failures: how many attempts of this visit have failed before this one.
        verdict: how the attempt ended.
    """
    if not tries_again(policy, failures, verdict):
        return None
    import random  # here: most runs retry nothing, and the import takes a millisecond

    return Deadline.after(clock, policy.delay(failures, random.random()))


class Retries:
    """The next attempts of one execution's failed steps that are not due yet."""

    __slots__ = ("_clock", "_deadlines", "_timers")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._deadlines: dict[str, Deadline] = {}  # of the steps that failed in this turn
        self._timers: dict[str, Timer] = {}

    def __bool__(self) -> bool:
        return bool(self._timers)

    def schedule(self, step: str, policy: Policy, failures: int, verdict: Verdict) -> int | None:
        """Return when the next attempt of a step starts, µs since the epoch; None if there is none."""
        deadline = next_attempt(self._clock, policy, failures, verdict)
        if deadline is None:
            return None
        self._deadlines[step] = deadline
        return deadline.at

    def wait(self, step: str, due_at: int, due: Callable[[], None]) -> bool:
        """Start the timer of a step; return whether its next attempt is due already.

        Args:
            step: the step's name.
            due_at: when its next attempt starts, as recorded, µs since the epoch.
            due: called when it is due; not if it is due now.
        """
        deadline = self._deadlines.pop(step, None) or Deadline(self._clock, due_at)
        if deadline.rest() <= 0:
            return True
        self._timers[step] = self._clock.call_at(deadline, due)
        return False

    def end(self, step: str) -> None:
        """Note that the timer of a step has fired."""
        self._timers.pop(step, None)

    def cancel(self) -> None:
        """Stop all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def times(self, state: State) -> list[int]:
        """Return when the next attempts start, µs since the epoch."""
        steps = map(state.step, self._timers)
        return [step.due_at for step in steps if step is not None and step.due_at is not None]
