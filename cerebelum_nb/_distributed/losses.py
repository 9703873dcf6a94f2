"""Why an activity of Temporal's has no outcome, and how the history says it."""

from __future__ import annotations

from temporalio.exceptions import TimeoutError as ActivityTimeoutError
from temporalio.exceptions import TimeoutType

__all__ = ["DIED", "is_untaken", "last_heard", "short"]

DIED = "its worker died"


def is_untaken(error: BaseException | None) -> bool:
    """Whether the one worker that has what an activity needs did not take it."""
    return isinstance(error, ActivityTimeoutError) and error.type is TimeoutType.SCHEDULE_TO_START


def last_heard(error: object) -> str:
    """Name the worker that died, if a heartbeat told it."""
    details = getattr(error, "last_heartbeat_details", ())
    return str(details[0].get("by", "")) if details and isinstance(details[0], dict) else ""


def short(error: BaseException) -> str:
    """Say in a line why a worker could not run an activity."""
    told = getattr(error, "message", "") or str(error)
    return f"its worker could not run it: {told}"[:500]
