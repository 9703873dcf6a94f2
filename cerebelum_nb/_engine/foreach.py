"""The list of a foreach and its joined result, which the driver asks for because they need the user's values."""

from __future__ import annotations

from collections.abc import Callable

from .._core.events import ItemsListed, StepCompleted, StepFailed
from .._core.items import digests_of, keys_of, outcome_of_items
from .._core.portions import Portions, portions_of
from .._core.step_state import StepState
from ..errors import SerializationError
from .values import ExecutionValues

__all__ = ["ItemsAnswer", "join_items", "list_items"]

ItemsAnswer = Portions[tuple[ItemsListed | StepCompleted | StepFailed, Exception | None]]
"""What the driver asked for, made in portions: an event, and the exception that it is due to, if any."""


def list_items(values: ExecutionValues, name: str, now: Callable[[], int]) -> ItemsAnswer:
    """Read the list of a foreach and name its items, in portions; an error in that fails it as it would a step.

    Args:
        values: the execution.
        name: the foreach.
        now: returns the time, µs since the epoch.

    Returns:
        The event to record, and the exception if the items cannot be listed.
    """
    each, step = values.plan.each[name], values.state.steps.get(name) or StepState()
    attempt = max(1, step.attempt)
    try:
        items = values.items_of(name, reread=True)
        keys = yield from keys_of(items, each.key)
    except Exception as error:  # noqa: BLE001 - key= and the listed objects are the user's
        return _failed(values, name, error, now()), error
    if values.redactor:  # a secret must not become the name of an item
        shown: list[str] = []
        for portion, more in portions_of(keys):
            for key in portion:
                shown.append(key if values.redactor.mask(key) == key else f"#{len(shown)}")
            if more:
                yield
        keys = tuple(shown)
    digests = yield from digests_of(items, keys)
    listed = ItemsListed(
        at=now(),
        step=name,
        visit=step.visit,
        attempt=attempt,
        keys=keys,
        digests=digests,
        code=values.plan.steps[name].code,
    )
    return listed, None


def join_items(values: ExecutionValues, name: str, now: int) -> ItemsAnswer:
    """Make the outcome of a foreach: the list of its results, or a failure if that is too large for the log."""
    event = yield from outcome_of_items(values.plan, values.state, name, now)
    if isinstance(event, StepCompleted):
        try:
            values.check_size(event.output)
        except SerializationError as error:
            return _failed(values, name, error, now), None
    return event, None


def _failed(values: ExecutionValues, name: str, error: Exception, now: int) -> StepFailed:
    step = values.state.steps.get(name) or StepState()
    return StepFailed(at=now, step=name, visit=step.visit, attempt=max(1, step.attempt), error=values.describe(error))
