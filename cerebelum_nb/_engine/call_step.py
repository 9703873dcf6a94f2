"""Calls a step's function at the place where it is entered; makes the checkpoints that are recorded with a failure."""

from __future__ import annotations

from typing import Any

from .._core.events import StepCheckpointed
from .._core.graph import StepSpec
from .resume_points import may_wait, twin_for
from .scope import Scope

__all__ = ["at_failure", "call_step"]


def call_step(spec: StepSpec, scope: Scope, arguments: dict[str, Any]) -> Any:
    """Call a step's function: at its last checkpoint if it can be entered there, otherwise at its top.

    Args:
        spec: the step.
        scope: the attempt.
        arguments: the function's arguments.

    Returns:
        What the function returns; an awaitable if it is async.
    """
    if spec.policy.process:
        from .process import run_in_process  # here: most runs have no such step

        return run_in_process(spec, scope, arguments)
    host, recorded = scope.execution, scope.known.checkpoints
    if not recorded and not may_wait(spec):
        return spec.fn(**arguments)
    from .checkpoints import CheckpointHost, Checkpoints  # here: only steps that wait or fail need 4 ms of imports
    from .line_checkpoints import LineCheckpoints

    if not isinstance(host, CheckpointHost):
        return spec.fn(**arguments)
    twin = twin_for(spec)
    if twin is None and recorded:
        reason = "its function cannot be entered at a line: it is decorated, its source is gone, or checkpoint=None"
        scope.defer_event(StepCheckpointed, line=recorded[-1].event.line, reason=reason)
    if twin is None or not (recorded or twin.is_marked):
        return spec.fn(**arguments)
    scope.checkpoints = checkpoints = (LineCheckpoints if twin.lines else Checkpoints)(spec, scope, host, twin)
    if not recorded:
        return checkpoints.call_at_top(arguments)
    return checkpoints.call_async(arguments) if spec.is_async else checkpoints.call(arguments)


def at_failure(spec: StepSpec, scope: Scope, error: BaseException) -> list[StepCheckpointed]:
    """Return the checkpoints to record with the failure of a step."""
    from .checkpoints import CheckpointHost, Checkpoints

    host = scope.execution
    twin = twin_for(spec) if isinstance(host, CheckpointHost) else None
    if twin is None or not isinstance(host, CheckpointHost):
        return []
    checkpoints = scope.checkpoints or Checkpoints(spec, scope, host, twin)
    try:
        made = checkpoints.raised(error)
    except Exception:  # noqa: BLE001 - pickling runs the user's code: the failure itself must be recorded
        return []
    where: dict[str, Any] = {"step": scope.step, "visit": scope.visit, "attempt": scope.attempt}
    return [StepCheckpointed(at=scope.now(), **where, **fields) for fields in made]
