"""What a rollback undoes, in which order, and why it may be refused. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from ..errors import ResumeError
from .events import RollbackStarted
from .graph import Plan, key_of, owner_of, step_of, undone_by
from .resume import refuse_lost_handlers, refuse_unknown, unknown_outcomes
from .state import State
from .state_name import ExecutionState
from .step_state import Phase, StepState
from .value import ErrorInfo

__all__ = ["RollbackStep", "plan_rollback", "rollback_started", "rollback_steps"]


class RollbackStep(NamedTuple):
    """What a rollback does with one step: ``undone`` counts its undos, one per item."""

    step: str
    state: StepState
    undone: int
    is_kept: bool


def plan_rollback(
    plan: Plan,
    state: State,
    execution_id: str,
    to: str | None = None,
    *,
    repeat: Collection[str] = (),
    mark_done: Collection[str] = (),
) -> RollbackStarted:
    """Decide what a rollback does, as the event that begins it; its time is the time of the last event.

    Args:
        plan: the workflow as it is now.
        state: the fold of what is recorded, with the steps in ``mark_done`` completed.
        execution_id: for messages.
        to: the last step that stays done; None undoes everything.
        repeat: external steps whose effect did not happen, as the caller says.
        mark_done: steps whose result was given by hand.

    Raises:
        OutcomeUnknownError: an external effect may have happened, so it is unknown whether there is something to undo.
        ResumeError: it is already rolled back, ``to`` is not done, or a step no longer has its handler.
    """
    unknown = [n for n in unknown_outcomes(plan, state) if n not in repeat and n not in mark_done]
    refuse_unknown(unknown, f"execution {execution_id}", to_undo=True)
    if state.lifecycle is ExecutionState.ROLLED_BACK and not state.finished:
        raise ResumeError(
            f"execution {execution_id} of workflow '{plan.workflow}' is already rolled back: there is nothing to undo"
        )
    rollback = state.rollback
    if rollback is not None and not rollback.is_over:
        if to is not None and to != rollback.to:
            began = "everything is undone" if rollback.to is None else f"'{rollback.to}' stays done"
            raise ResumeError(
                f"execution {execution_id} is being rolled back, and {began}. Leave out to={to!r} to finish that first"
            )
        refuse_lost_handlers(plan, state, execution_id)
        todo, error, failed, to = tuple(rollback.todo), rollback.error, rollback.failed_step, rollback.to
    else:
        todo = _steps_to_undo(plan, state, _kept_version(plan, state, execution_id, to))
        error, failed = state.error, state.failed_step
    return RollbackStarted(at=state.updated_at, todo=todo, to=to, error=error, failed_step=failed)


def rollback_started(plan: Plan, state: State, error: ErrorInfo, step: str | None, at: int) -> RollbackStarted | None:
    """Make the event with which a failed execution begins its rollback; None if it only fails.

    It only fails if its workflow does not roll back, or if it is unknown whether an external effect happened: then a
    person decides whether to undo it.

    Args:
        plan: the workflow.
        state: the fold of what is recorded.
        error: why it fails.
        step: the step whose failure it is, if any.
        at: the time, µs since the epoch.
    """
    if not plan.rolls_back or state.rollback is not None or unknown_outcomes(plan, state):
        return None
    return RollbackStarted(at=at, todo=_steps_to_undo(plan, state, 0), error=error, failed_step=step)


def rollback_steps(plan: Plan, state: State, execution_id: str, to: str | None = None) -> tuple[RollbackStep, ...]:
    """Return what a rollback does with each completed step, in order of undoing.

    Raises:
        ResumeError: ``to`` is not done.
    """
    event = plan_rollback(plan, state, execution_id, to, repeat=unknown_outcomes(plan, state))
    kept = 0 if event.to is None else state.steps[event.to].settled_at
    owners = list(map(owner_of, event.todo))
    names = [n for n, s in state.steps.items() if s.phase is Phase.COMPLETED or n in owners]
    order = {name: place for place, name in reversed(list(enumerate(owners)))}
    latest = {name: -state.steps[name].settled_at for name in names}
    names.sort(key=lambda name: (order.get(name, len(owners)), latest[name]))
    return tuple(
        RollbackStep(name, state.steps[name], owners.count(name), 0 < state.steps[name].settled_at <= kept)
        for name in names
    )


def _steps_to_undo(plan: Plan, state: State, kept: int) -> tuple[str, ...]:
    """Name what to undo, the last first: what has a handler and completed after ``kept``, and children that began."""
    return tuple(name for _, name in sorted(_undoable(plan, state, kept), reverse=True))


def _undoable(plan: Plan, state: State, kept: int) -> Iterator[tuple[int, str]]:
    for name, step in state.attempted():
        undo = None if step.items is not None or undone_by(name) else plan.undo.get(step_of(name))
        if undo is None or (key_of(name) and owner_of(name) not in plan.each):
            continue
        at = step.settled_at if step.settled else state.version
        # A child that failed or was abandoned may have done half of its work, which must be undone too.
        if at > kept and (step.phase is Phase.COMPLETED or (undo.workflow and step.children)):
            yield at, name


def _kept_version(plan: Plan, state: State, execution_id: str, to: str | None) -> int:
    """Return the version of the last event that is kept; 0 if everything is undone."""
    if to is None:
        return 0
    step = state.steps.get(to)
    if step is None or step.phase is not Phase.COMPLETED:
        raise ResumeError(
            f"execution {execution_id} of workflow '{plan.workflow}' cannot be rolled back to '{to}', which has not "
            f"completed. It can be rolled back to one of: {', '.join(state.finished) or 'none'}"
        )
    return step.settled_at
