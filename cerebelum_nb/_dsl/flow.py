"""``flow``: the actions of a route, which it can take instead of running a path."""

from __future__ import annotations

from .._core.graph import Action, ActionKind
from ..errors import WorkflowDefinitionError
from .step import Step

__all__ = ["back_to", "end", "fail", "proceed", "retry", "skip_to"]


def back_to(step: Step[..., object] | str) -> Action:
    """Go back to a step and run it, and what follows, again.

    Example:
        >>> str(back_to("build"))
        'back_to(build)'
    """
    return Action(ActionKind.BACK_TO, _name(step, "back_to"))


def skip_to(step: Step[..., object] | str) -> Action:
    """Continue at a later step of the timeline; the steps in between are skipped.

    Example:
        >>> str(skip_to("notify"))
        'skip_to(notify)'
    """
    return Action(ActionKind.SKIP_TO, _name(step, "skip_to"))


def retry(max_attempts: int = 3) -> Action:
    """Run the step again, at most ``max_attempts`` times in total; then the execution fails.

    Example:
        >>> str(retry(max_attempts=5))
        'retry(5)'
    """
    if isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1:
        raise WorkflowDefinitionError(
            f"flow.retry: max_attempts counts all attempts and must be a whole number from 1, not {max_attempts!r}"
        )
    return Action(ActionKind.RETRY, max_attempts=max_attempts)


def fail(reason: str = "") -> Action:
    """Fail the execution with a reason.

    Example:
        >>> str(fail("the budget is spent"))
        'fail(the budget is spent)'
    """
    if not isinstance(reason, str):
        raise WorkflowDefinitionError(f"flow.fail takes the reason as text, not {reason!r}")
    return Action(ActionKind.FAIL, reason=reason)


def end() -> Action:
    """Complete the execution here; the rest of the timeline is not run.

    Example:
        >>> str(end())
        'end()'
    """
    return Action(ActionKind.END)


def proceed() -> Action:
    """Continue along the timeline, even after a failure.

    Example:
        >>> str(proceed())
        'proceed()'
    """
    return Action(ActionKind.PROCEED)


def _name(step: object, action: str) -> str:
    if isinstance(step, Step):
        return step.name
    if isinstance(step, str):
        return step
    raise WorkflowDefinitionError(f"flow.{action} takes a step, not {step!r}")
