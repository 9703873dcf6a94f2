"""Classify how an attempt ended (returned, returned an error, raised) as data without secrets, for every host."""

from __future__ import annotations

from .._core.graph import StepSpec
from .._core.settle import Raised, ReturnedError, Verdict
from ..errors import DependencyError, OperationError
from .ports import Outcome
from .values import ExecutionValues

__all__ = ["classify_outcome"]


def classify_outcome(values: ExecutionValues, spec: StepSpec, outcome: Outcome) -> Verdict:
    """Return how an attempt of a step ended; an error in the user's ``retry_on`` replaces that of the step."""
    error, value, live = outcome.error, outcome.value, outcome.live
    if error is not None:
        try:
            return Raised(values.describe(error), _is_retried(spec, error))
        except Exception as trouble:  # noqa: BLE001 - retry_on is the user's function
            trouble.__cause__ = trouble.__cause__ or error
            return Raised(values.describe(trouble), False)
    assert value is not None
    if type(live) is dict and len(live) == 1 and "error" in live:
        text = str(live["error"])
        return ReturnedError(value, values.redactor.mask(text) if values.redactor else text)
    return value


def _is_retried(spec: StepSpec, error: BaseException) -> bool:
    """Whether the policy of a step retries this error."""
    if isinstance(error, (DependencyError, OperationError)):
        return False
    retry_on = spec.policy.retry_on
    if isinstance(retry_on, tuple):
        return isinstance(error, retry_on)
    return isinstance(error, Exception) and bool(retry_on(error))
