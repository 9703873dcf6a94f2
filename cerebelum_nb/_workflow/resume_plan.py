"""``ResumePlan``: the table of what a resume would run, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from .._core.events import WorkflowResumed
from .._core.fold import evolve, fold
from .._core.graph import Plan
from .._core.messages import Start
from .._core.resume import ResumeDecision, decide_resume
from .._core.resume_plan import PlannedStep, StepAction, planned_steps
from .._core.state import State
from .._core.state_name import ExecutionState
from .._engine import resume_points
from .._engine.clock import current_clock
from .._engine.execution import running_here
from .._engine.hints import in_terminal
from .._engine.inputs import merge_inputs
from .._engine.staleness import doubts, only_relists, why_stale
from .._engine.values import ExecutionValues
from .._operations.context import Context
from .._store.base import Store
from .._text.html import Html
from .._values import Redactor

__all__ = ["ResumePlan", "look_ahead"]

_MARKS = {
    StepAction.RUN: "▶",
    StepAction.KEEP: "✓",
    StepAction.STALE: "!",
    StepAction.MAY_RUN: "?",
    StepAction.SKIP: "·",
}
_MARKS |= {StepAction.UNDO: "↶", StepAction.FORGET: "!", StepAction.ASK: "?"}


class ResumePlan:
    """What a resume or a fork would do with each step: run it, keep it, keep it although it is stale, or skip it.

    A step on a route that is not chosen yet may run. For a rollback it lists the steps that are undone, in order, and
    those without a handler.

    Iterate over it, or index it with a step or its name: each entry has ``step``, ``action`` and ``reasons``.

    Example:
        >>> from cerebelum_nb import WorkflowError, step, workflow
        >>> from cerebelum_nb.testing import MemoryStore
        >>> @step
        ... def build():
        ...     raise OSError("the registry is down")
        >>> @workflow
        ... def release(wf):
        ...     wf.timeline(build)
        >>> log = MemoryStore()
        >>> try:
        ...     release.run(store=log, execution_id="k1")
        ... except WorkflowError:
        ...     release.plan_resume("k1", store=log)["build"].reasons
        ('failed: OSError: the registry is down',)
    """

    def __init__(
        self,
        workflow: str,
        execution_id: str,
        steps: tuple[PlannedStep, ...],
        fork: str = "",
        *,
        rollback: bool = False,
    ) -> None:
        self.workflow, self.execution_id, self.steps, self._fork = workflow, execution_id, steps, fork
        self._is_rollback = rollback

    def __getitem__(self, step: object) -> PlannedStep:
        """The plan for one step, given by its name or as the step itself."""
        name = getattr(step, "name", step)
        for planned in self.steps:
            if planned.step == name:
                return planned
        raise KeyError(f"workflow '{self.workflow}' has no step {name!r}")

    def __iter__(self) -> Iterator[PlannedStep]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        width = max([len(planned.step) for planned in self.steps], default=0)
        wide = max([5, *(len(planned.action) for planned in self.steps)])
        lines = [
            f"{_MARKS[p.action]} {p.step:<{width}}  {p.action.value:<{wide}}  {'; '.join(p.reasons)}".rstrip()
            for p in self.steps
        ]
        return "\n".join([f"{self.workflow}{self._title()}: {self._counts()}", *lines, *self._hint()])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        row = Html(
            "<tr><td>{}</td><td style='text-align:left'>{}</td><td>{}</td><td style='text-align:left'>{}</td></tr>"
        )
        rows = (row.format(_MARKS[p.action], p.step, p.action.value, Html("<br>").join(p.reasons)) for p in self.steps)
        head = Html("<tr><th></th><th>step</th><th>plan</th><th style='text-align:left'>why</th></tr>")
        shown = Html("<div><b>{}</b>{}: {}<table><thead>{}</thead><tbody>{}</tbody></table>{}</div>").format(
            self.workflow,
            self._title(),
            self._counts(),
            head,
            Html().join(rows),
            Html().join(map(Html("<div>{}</div>").format, self._hint())),
        )
        return {"text/plain": repr(self), "text/html": shown}

    def _title(self) -> str:
        if self._is_rollback:
            return f", rollback of {self.execution_id}"
        return f", {self._fork}" if self._fork else ""

    def _counts(self) -> str:
        counts = {action: sum(p.action is action for p in self.steps) for action in StepAction}
        return ", ".join(f"{count} {action.value}" for action, count in counts.items() if count) or "nothing is done"

    def _hint(self) -> list[str]:
        if any(planned.action is StepAction.STALE for planned in self.steps):
            call = f"{'fork' if self._fork else 'resume'}(..., rerun='stale')"
            how = "--rerun stale" if in_terminal.get() else call
            return [f"stale results are kept; to run those steps again: {how}"]
        return []


def look_ahead(
    plan: Plan,
    store: Store,
    execution_id: str,
    *,
    inputs: Mapping[str, Any] | None = None,
    rerun: str | Collection[str] = (),
) -> ResumePlan:
    """Make the plan of a resume; reads the log and writes nothing.

    Raises:
        ResumeError: it cannot be resumed as asked.
    """
    redactor = Redactor(store.redact)
    running = running_here(store, execution_id)
    live = () if running is None else running.live
    before, after = (fold(store.events(execution_id)) for _ in range(2))
    value = None
    if inputs is not None:
        _, value = merge_inputs(store, redactor, execution_id, before.inputs, inputs, shape=plan.shape)
    stale = why_stale(plan, before, store, redactor, value)
    if before.lifecycle is ExecutionState.COMPLETED and not rerun:
        chosen = ResumeDecision(stale=tuple(stale))
    else:
        relisting = only_relists(plan, before, value or before.inputs)
        chosen = decide_resume(plan, before, execution_id, rerun=rerun, live=live, outdated=stale, relisted=relisting)
        evolve(
            after,
            WorkflowResumed(
                at=after.updated_at,
                retried=chosen.retried,
                revisited=chosen.revisited,
                rerouted=chosen.rerouted,
                restored=chosen.restored,
                relisted=chosen.relisted,
                inputs=value,
            ),
        )
    asked = () if rerun == "stale" else (rerun,) if isinstance(rerun, str) else rerun
    found = planned_steps(plan, before, after, chosen, stale, asked, doubts=doubts(plan, before))
    values = ExecutionValues(store, execution_id, plan, after, redactor, Context)
    found = tuple(_with_source(_with_entry(planned, plan, after), values) for planned in found)
    return ResumePlan(plan.workflow, execution_id, found)


def _with_entry(planned: PlannedStep, plan: Plan, state: State) -> PlannedStep:
    """Add to a step that would run at which line it is entered, if it has waited at one."""
    reason = resume_points.look_ahead(plan.steps[planned.step], state) if planned.action is StepAction.RUN else ""
    return replace(planned, reasons=(*planned.reasons, reason)) if reason else planned


def _with_source(planned: PlannedStep, values: ExecutionValues) -> PlannedStep:
    """Add to a step that would run from which execution its cached result is taken, if that can be known now."""
    spec = values.plan.steps[planned.step]
    if planned.action is not StepAction.RUN or spec.policy.cache is None or planned.step in values.plan.each:
        return planned
    from .._engine.cache import CachedResults

    known = values.state.steps.get(planned.step)
    start = Start(planned.step, 1 if known is None else known.visit, 1)
    event = CachedResults().take(values, spec, start, current_clock.get().now())
    if event is None:
        return planned
    return replace(planned, reasons=(*planned.reasons, f"its result is taken from {event.source.rpartition('@')[0]}"))
