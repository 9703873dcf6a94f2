"""Prepare and preview a rollback: what is undone, in which order, and which steps have no handler."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from .._core.arguments import ExecutionLike
from .._core.events import Event
from .._core.fold import fold
from .._core.graph import Plan
from .._core.resume import step_named, unknown_outcomes
from .._core.resume_plan import PlannedStep, StepAction
from .._core.rollback import plan_rollback, rollback_steps
from .._core.state_copy import copy_part
from .._engine.inputs import Inputs
from .._engine.loop import engine_of
from .._engine.manual_result import manual_result
from .._engine.plan_payloads import blueprint_of, keep_parts
from .._engine.values import ExecutionValues
from .._operations.context import Context
from .._store.base import Store
from .._store.connect import resolve_store
from .._text.text import counted
from .._values import Redactor
from .definition import Definition
from .execution_id import id_in_workflow
from .resume_plan import ResumePlan
from .run import Run
from .start import refuse_in_step, replaced_inputs

__all__ = ["Undoing", "preview", "roll_back", "rollback_events"]


class Undoing(NamedTuple):
    """The arguments of a rollback."""

    to: object = None
    inputs: Inputs | None = None
    repeat: Collection[str] = ()
    mark_done: Mapping[str, Any] = MappingProxyType({})

    def last(self, plan: Plan) -> str | None:
        """Return the name of the last step that stays done; None if everything is undone.

        Raises:
            ResumeError: the workflow has no such step.
        """
        return None if self.to is None else step_named(plan, self.to, "rollback")


def roll_back(
    workflow: Definition,
    execution_id: ExecutionLike,
    to: object = None,
    plan: Plan | None = None,
    *,
    inputs: Inputs | None = None,
    repeat: Collection[str] = (),
    mark_done: Mapping[str, Any] | None = None,
    wait: bool = False,
    store: Store | None = None,
) -> Run:
    """Prepare a rollback; the arguments are those of :meth:`~cerebelum_nb.Workflow.rollback`.

    ``plan`` is the workflow's plan if it was just read.
    """
    refuse_in_step(workflow)
    plan, log = plan or workflow.plan(), resolve_store(store)
    given = Undoing(to, inputs, repeat, mark_done or {})
    given.last(plan)
    with engine_of(log).claim(
        id_in_workflow(workflow, execution_id, log, "roll back"), plan, Redactor(log.redact), Context
    ) as found:
        found.stays = wait
        blueprint = blueprint_of(plan, found.redactor)
        events = rollback_events(found, given, found.now(), blueprint.digest)
        found.payloads = keep_parts(plan, log, found.redactor, blueprint)
        return Run(found, workflow.variable, *events)


def rollback_events(found: ExecutionValues, given: Undoing, now: int, digest: str) -> list[Event]:
    """Make the events with which a rollback begins or continues.

    Args:
        found: the execution.
        given: the arguments of the rollback.
        now: the time, µs since the epoch.
        digest: the digest of the current plan.

    Raises:
        As :meth:`~cerebelum_nb.Workflow.rollback`, for what prevents a rollback.
    """
    plan = found.plan
    value = replaced_inputs(found, given.inputs)
    marks: list[Event] = [
        manual_result(found, now, found.state, name, result, f"mark_done[{name!r}]")
        for name, result in given.mark_done.items()
    ]
    marked = fold(marks, copy_part(found.state)) if marks else found.state
    event = plan_rollback(
        plan, marked, found.id, given.last(plan), repeat=given.repeat, mark_done=tuple(given.mark_done)
    )
    return [*marks, replace(event, at=now, inputs=value, plan="" if digest == marked.plan else digest)]


def preview(
    workflow: Definition, execution_id: ExecutionLike, to: object = None, *, store: Store | None = None
) -> ResumePlan:
    """Show what a rollback would do; the arguments are those of :meth:`~cerebelum_nb.Workflow.plan_rollback`."""
    plan, log = workflow.plan(), resolve_store(store)
    last = None if to is None else step_named(plan, to, "plan_rollback")
    found = id_in_workflow(workflow, execution_id, log, "roll back")
    state = fold(log.events(found))
    unknown = unknown_outcomes(plan, state)
    steps = [
        PlannedStep(
            step=name,
            action=StepAction.ASK,
            reasons=("effect='external' started, and its outcome is unknown: give repeat= or mark_done=",),
        )
        for name in unknown
    ]
    for step, known, undone, is_kept in rollback_steps(plan, state, found, last):
        if undone:
            handler = next(iter({plan.undo[part.name].name for part in plan.parts(step) if part.name in plan.undo}))
            what = "undoes it" if known.items is None else f"undoes {counted(undone, 'item')}"
            steps.append(PlannedStep(step=step, action=StepAction.UNDO, reasons=(f"{handler} {what}",)))
        elif is_kept:
            steps.append(
                PlannedStep(
                    step=step,
                    action=StepAction.KEEP,
                    reasons=(f"done before '{last}'" if step != last else "stays done",),
                )
            )
        else:
            why = f"it has no handler (@{step}.on_rollback)"
            steps.append(PlannedStep(step=step, action=StepAction.FORGET, reasons=(why,)))
    return ResumePlan(plan.workflow, found, tuple(steps), rollback=True)
