"""The outcome of an attempt, as one event. Pure, and used by every shell.

A shell has the exception or the returned object; this module decides from data what it means for the history:
completed, failed, or another attempt. `Policy.delay` in graph.py says how long a retry waits; the shell draws the
random number.
"""

from __future__ import annotations

from .events import StepCompleted, StepFailed, StepRetried, make_completed
from .graph import Policy
from .record import frozen
from .value import ErrorInfo, Value

__all__ = ["Raised", "ReturnedError", "Verdict", "settle", "tries_again"]


@frozen
class ReturnedError:
    """The function returned ``{"error": reason}``: a failure that is not retried. ``reason`` holds no secret."""

    value: Value
    reason: str


@frozen
class Raised:
    """The function raised. ``retriable`` says whether the policy's ``retry_on`` covers what it raised."""

    error: ErrorInfo
    retriable: bool


Verdict = Value | ReturnedError | Raised
"""How a function ended; the value is its result as the log holds it."""


def tries_again(policy: Policy, failures: int, verdict: Verdict) -> bool:
    """Whether another attempt follows, after ``policy.delay``.

    Args:
        policy: the step's policy.
        failures: how many attempts of this visit have failed before this one.
        verdict: how the function ended.

    Example:
        >>> error = ErrorInfo(type="OSError", message="cut")
        >>> [tries_again(Policy(retries=1), failures, Raised(error, True)) for failures in (0, 1)]
        [True, False]
    """
    return isinstance(verdict, Raised) and verdict.retriable and failures < policy.retries


def settle(
    verdict: Verdict, *, due_at: int | None = None, at: int, step: str, visit: int, attempt: int
) -> StepCompleted | StepFailed | StepRetried:
    """Make the event that records how an attempt ended.

    Args:
        verdict: how the function ended.
        due_at: when the next attempt starts, µs since the epoch, if :func:`tries_again`.
        at: the time, µs since the epoch.
        step: the step's name.
        visit: the visit's number, from 1.
        attempt: the attempt's number, from 1.

    Returns:
        The step's outcome, or ``StepRetried`` if another attempt follows.

    Example:
        >>> error = ErrorInfo(type="OSError", message="cut")
        >>> type(settle(Raised(error, True), at=0, step="a", visit=1, attempt=2)).__name__
        'StepFailed'
    """
    if isinstance(verdict, Value):
        return make_completed(at=at, step=step, visit=visit, attempt=attempt, output=verdict)
    if isinstance(verdict, ReturnedError):
        info = ErrorInfo(type="returned error", message=verdict.reason, reason=verdict.reason)
        return StepFailed(at=at, step=step, visit=visit, attempt=attempt, error=info, output=verdict.value)
    if due_at is not None:
        return StepRetried(at=at, step=step, visit=visit, attempt=attempt, error=verdict.error, due_at=due_at)
    return StepFailed(at=at, step=step, visit=visit, attempt=attempt, error=verdict.error)
