"""Prepare a fork: choose which part of the parent's history it keeps, and what it runs.

The parent is only read, so it may be running, here or elsewhere. Events are copied; values that are not JSON are stored
once per content, so they are shared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from .._core.arguments import ExecutionLike
from .._core.events import Event, StepCompleted, WorkflowForked
from .._core.fold import evolve, fold
from .._core.fork import ForkPoint, describe_origin, fork_point, plan_fork
from .._core.graph import Plan
from .._core.resume import ResumeDecision, code_changed, step_named
from .._core.resume_plan import planned_steps
from .._core.state import State
from .._core.step_state import StepState
from .._core.value import Value
from .._engine.inputs import Inputs, keep_inputs, merge_inputs
from .._engine.loop import engine_of
from .._engine.manual_result import manual_result
from .._engine.orphans import interruptions
from .._engine.plan_payloads import blueprint_of, keep_parts
from .._engine.remembered import remembered
from .._engine.staleness import only_relists, why_inputs_changed, why_stale
from .._engine.values import ExecutionValues
from .._operations.context import Context
from .._store.base import Store
from .._store.connect import resolve_store
from .._values import Redactor
from .concurrency import slot_of
from .definition import Definition
from .execution_id import check_id, id_in_workflow, new_id
from .resume_plan import ResumePlan
from .run import Run
from .start import refuse_in_step

__all__ = ["Fork", "fork", "fork_events", "prepare", "preview"]

Overrides = Mapping[Any, Any]

_UNSEEN = Value("none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """A prepared fork."""

    plan: Plan
    parent: str
    kept: ForkPoint
    before: State
    chosen: ResumeDecision
    inputs: dict[str, Any]
    value: Value
    given: Mapping[str, Any]
    stale: dict[str, list[str]]

    def begin(self, at: int, plan: str = "") -> list[Event]:
        """Make the events that a fork begins with: those that it keeps, and ``WorkflowForked``."""
        slot = slot_of(self.plan, self.inputs)
        forked = WorkflowForked(
            at=at,
            parent=self.parent,
            parent_version=self.kept.version,
            from_step=self.kept.before,
            retried=self.chosen.retried,
            revisited=self.chosen.revisited,
            rerouted=self.chosen.rerouted,
            restored=self.chosen.restored,
            relisted=self.chosen.relisted,
            inputs=None if self.value == self.before.inputs else self.value,
            total_steps=sum(map(len, self.plan.timeline)),
            plan="" if plan == self.before.plan else plan,
            slot=None if slot == self.before.slot else slot,
        )
        return [*self.kept.events, *interruptions(self.before, at, "it was forked"), forked]


def fork(
    workflow: Definition,
    execution_id: ExecutionLike,
    from_step: object = None,
    inputs: Inputs | None = None,
    overrides: Overrides | None = None,
    *,
    rerun: str | Collection[str] = (),
    fork_id: str | None = None,
    wait: bool = False,
    store: Store | None = None,
) -> Run:
    """Prepare a fork; the arguments are those of :meth:`~cerebelum_nb.Workflow.fork`."""
    refuse_in_step(workflow)
    log = resolve_store(store)
    redactor = Redactor(log.redact)
    fork_id = new_id() if fork_id is None else check_id(fork_id)
    made = prepare(workflow, log, redactor, execution_id, from_step, inputs, overrides, rerun, fork_id)
    with engine_of(log).create(fork_id, made.plan, redactor, Context) as execution:
        blueprint = blueprint_of(made.plan, redactor)
        events = fork_events(execution, made, execution.clock.now(), blueprint.digest)
        execution.payloads = keep_parts(made.plan, log, redactor, blueprint)
        execution.stays = wait
        return Run(execution, workflow.variable, *events, stale=made.chosen.stale)


def fork_events(values: ExecutionValues, made: Fork, now: int, plan: str) -> list[Event]:
    """Make the events that a fork begins with.

    Args:
        values: the fork, which is not recorded yet; it gets the parent's values that are only in this process.
        made: the prepared fork.
        now: the time, µs since the epoch.
        plan: the digest of its plan.
    """
    events = made.begin(max(now, made.before.updated_at), plan)
    state = fold(events)
    values.recall(remembered(values.store, made.parent).results, state)
    events += [
        manual_result(values, now, state, name, given, f"overrides[{name!r}]") for name, given in made.given.items()
    ]
    keep_inputs(values, made.inputs, made.value)
    return events


def preview(
    workflow: Definition,
    execution_id: ExecutionLike,
    from_step: object = None,
    inputs: Inputs | None = None,
    overrides: Overrides | None = None,
    *,
    rerun: str | Collection[str] = (),
    store: Store | None = None,
) -> ResumePlan:
    """Show what a fork would do; the arguments are those of :meth:`~cerebelum_nb.Workflow.plan_fork`."""
    log = resolve_store(store)
    made = prepare(workflow, log, Redactor(log.redact), execution_id, from_step, inputs, overrides, rerun)
    after = fold(made.begin(made.before.updated_at))
    for name in made.given:
        known = after.steps.get(name) or StepState()
        done = StepCompleted(at=after.updated_at, step=name, visit=known.visit, output=_UNSEEN, by_hand=True)
        evolve(after, done)
    asked = () if rerun == "stale" else (rerun,) if isinstance(rerun, str) else rerun
    because = "runs from the fork on" if made.kept.before else "has not run yet"
    return ResumePlan(
        made.plan.workflow,
        made.parent,
        planned_steps(
            made.plan, made.before, after, made.chosen, made.stale, asked, given=made.given, ahead_because=because
        ),
        describe_origin(after),
    )


def prepare(
    workflow: Definition,
    log: Store,
    redactor: Redactor,
    execution_id: ExecutionLike,
    from_step: object,
    inputs: Inputs | None,
    overrides: Overrides | None,
    rerun: str | Collection[str],
    fork_id: str | None = None,
) -> Fork:
    """Choose what a fork keeps and what it runs; the arguments are those of :meth:`~cerebelum_nb.Workflow.fork`."""
    plan = workflow.plan()
    parent = id_in_workflow(workflow, execution_id, log, "fork")
    if overrides is not None and not isinstance(overrides, Mapping):
        raise TypeError(
            f"overrides must be a dict of steps to results, such as {{'build': 'image-7'}}, not {overrides!r}"
        )
    given = {step_named(plan, step, "fork"): value for step, value in (overrides or {}).items()}
    first = None if from_step is None else step_named(plan, from_step, "fork")
    kept = fork_point(plan, log.events(parent), parent, first, given)
    before = fold(kept.events)
    merged, value = merge_inputs(log, redactor, parent, before.inputs, inputs, fork_id, plan.shape)
    changed = () if inputs is None else why_inputs_changed(plan, before, value)
    relisted = only_relists(plan, before, value) if changed else ()
    stale = {
        name: why
        for name, why in why_stale(plan, before, log, redactor, value).items()
        if name not in relisted or code_changed(plan, before, name)  # its unchanged items are not stale
    }
    chosen = plan_fork(
        plan,
        before,
        parent,
        rerun=rerun,
        outdated=stale,
        again=(*kept.again, *changed),
        given=given,
        relisted=relisted,
    )
    return Fork(
        plan=plan,
        parent=parent,
        kept=kept,
        before=before,
        chosen=chosen,
        inputs=merged,
        value=value,
        given=given,
        stale=stale,
    )
