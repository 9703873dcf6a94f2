"""Match the outcome of a step against the patterns of a diverge or the predicate of a branch.

This is the only place where routes call user code. It is called once; the choice is recorded and never evaluated again.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from .._core.events import BranchTaken, DivergeTaken, WorkflowFailed
from .._core.graph import Diverge, describe_target
from .._core.step_state import Phase
from .._core.value import ErrorInfo
from .values import ExecutionValues

__all__ = ["choose", "take_route"]

_FAILED = object()


def take_route(
    values: ExecutionValues, name: str, at: int
) -> tuple[DivergeTaken | BranchTaken | WorkflowFailed, BaseException | None]:
    """Choose a route after a step, by the patterns of its diverge or the predicate of its branch.

    Args:
        values: the execution; its state has the outcome of the step.
        name: the step.
        at: the time, µs since the epoch.

    Returns:
        The event of the choice; if the user's code raised, the event that fails the run, and the exception.
    """
    step, plan = values.state.steps[name], values.plan
    header: dict[str, Any] = {"at": at, "step": name, "visit": step.visit, "attempt": max(1, step.attempt)}
    try:
        if name in plan.diverges and not step.diverge_chosen:
            diverge = plan.diverges[name]
            error = step.error if step.phase is Phase.FAILED else None
            choice = choose(diverge, error, _result(values, name))
            target = "" if choice is None else describe_target(diverge.choices[choice][1])
            return DivergeTaken(**header, choice=choice, target=target), None
        branch = plan.branches[name]
        truth = bool(branch.predicate(values.result_of(name)))
        target = describe_target(branch.when_true if truth else branch.when_false)
        return BranchTaken(**header, choice=truth, target=target), None
    except BaseException as error:  # noqa: BLE001 - the route is user code: its error fails the run
        return WorkflowFailed(at=at, error=values.describe(error), failed_step=name), error


def _result(values: ExecutionValues, name: str) -> Any:
    step = values.state.steps[name]
    if step.phase is Phase.COMPLETED:
        return values.result_of(name)
    return None if step.output is None else values.decode(step.output, f"the result of step '{name}'", name)


def choose(diverge: Diverge, error: ErrorInfo | None, result: Any) -> str | None:
    """Find the first pattern that matches; return its label, or None.

    Args:
        diverge: the patterns, in order.
        error: the failure; None if the step succeeded.
        result: what the step returned; ignored if it raised.

    Raises:
        Whatever a pattern function raises.
    """
    if error is not None and error.reason is None:
        result = _FAILED
    for label, (pattern, _) in diverge.choices.items():
        if _matches(pattern, error, result):
            return label
    return None


def _matches(pattern: Any, error: ErrorInfo | None, result: Any) -> bool:
    if isinstance(pattern, str):
        return _matches_text(pattern, error, result)
    if inspect.isclass(pattern) and issubclass(pattern, BaseException):
        return error is not None and f"{pattern.__module__}.{pattern.__qualname__}" in error.mro
    if result is _FAILED:
        return False
    if isinstance(pattern, Mapping):
        return _subset(pattern, result)
    if callable(pattern):
        return bool(pattern(result))
    return type(pattern) is type(result) and bool(pattern == result)


def _matches_text(pattern: str, error: ErrorInfo | None, result: Any) -> bool:
    if pattern == "_":
        return True
    if error is not None:
        return pattern == "error" or (error.reason is not None and pattern == error.reason)
    if pattern == "ok":
        return True
    if isinstance(result, str):
        return result == pattern
    return isinstance(result, Mapping) and isinstance(result.get("status"), str) and result["status"] == pattern


def _subset(pattern: Mapping[Any, Any], result: Any) -> bool:
    if not isinstance(result, Mapping):
        return False
    for key, wanted in pattern.items():
        if key not in result:
            return False
        found = result[key]
        if isinstance(wanted, Mapping):
            if not _subset(wanted, found):
                return False
        elif not bool(found == wanted):
            return False
    return True
