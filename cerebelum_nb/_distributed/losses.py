"""Why an activity has no outcome."""

from __future__ import annotations

from temporalio.exceptions import TimeoutError as ActivityTimeoutError
from temporalio.exceptions import TimeoutType

__all__ = ["DIED", "describe_loss", "is_untaken", "last_heard", "other_version"]

DIED = "its worker died"


def other_version(worker: str) -> str:
    """Say that a worker has other code of a step than the driver asked for."""
    return f"worker {worker} has another version of it"


def is_untaken(error: BaseException | None) -> bool:
    """Whether the only worker that could run an activity did not take it."""
    return isinstance(error, ActivityTimeoutError) and error.type is TimeoutType.SCHEDULE_TO_START


def last_heard(error: object) -> str:
    """Return the name of the worker that died from its last heartbeat; "" if there was none."""
    details = getattr(error, "last_heartbeat_details", ())
    return str(details[0].get("by", "")) if details and isinstance(details[0], dict) else ""


def describe_loss(error: BaseException) -> str:
    """Describe in a line why a worker could not run an activity."""
    return f"its worker could not run it: {getattr(error, 'message', '') or error}"[:500]
