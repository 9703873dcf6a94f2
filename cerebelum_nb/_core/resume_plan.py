"""What a resume would do with each step, and why. Pure: the caller compares code, and passes the reasons in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum

from .._text.json_text import parse
from .._text.text import counted
from .decide import Position, decide
from .graph import Action, Plan, Target
from .record import record
from .resume import ResumeDecision, dependants
from .state import State
from .step_state import Phase, StepState
from .value import Value

__all__ = ["PlannedStep", "StepAction", "changed_inputs", "planned_steps"]


class StepAction(StrEnum):
    """What happens to a step."""

    RUN = "run"
    KEEP = "keep"
    STALE = "stale"  # kept, although its result would be different now
    MAY_RUN = "may run"  # a route decides
    SKIP = "skip"
    # In a rollback:
    UNDO = "undo"
    FORGET = "no handler"  # it no longer counts as done, but nothing undoes it
    ASK = "ask"  # it is unknown whether its effect happened


@record
class PlannedStep:
    """What happens to one step, and why."""

    step: str
    action: StepAction
    reasons: tuple[str, ...]

    @property
    def fate(self) -> StepAction:
        """The earlier name of ``action``, for one release."""
        return self.action

    def __str__(self) -> str:
        return f"{self.step}: {self.action} ({'; '.join(self.reasons)})"


def planned_steps(
    plan: Plan,
    before: State,
    after: State,
    chosen: ResumeDecision,
    stale: Mapping[str, Collection[str]],
    asked: Collection[str] = (),
    given: Collection[str] = (),
    ahead_because: str = "has not run yet",
    doubts: Mapping[str, Collection[str]] | None = None,
) -> tuple[PlannedStep, ...]:
    """Return what happens to each step, in the plan's order.

    Args:
        plan: the workflow as it is now.
        before: the fold of what is recorded.
        after: the same after the resume.
        chosen: what the resume does.
        stale: why the results of completed steps would be different now, by step.
        asked: the steps that the caller names to run again.
        given: the steps whose result is given.
        ahead_because: why a step runs that has no record.
        doubts: what is uncertain about the code of completed steps, by step.
    """
    ahead = _ahead(plan, after)
    again = {*chosen.retried, *chosen.revisited, *chosen.restored, *chosen.relisted}
    doubtful = {n for n in dependants(plan, stale) if n in before.finished}
    found: list[PlannedStep] = []
    may_have_result = {*after.finished, *given, *ahead}
    reasons: tuple[str, ...]
    for name in _plan_order(plan):
        step = before.steps.get(name)
        if name in given:
            action, reasons = StepAction.KEEP, ("its result is given",)
        elif name in again:
            action, reasons = StepAction.RUN, _why_again(plan, before, name, chosen, stale, asked, given)
        elif step is not None and name in before.finished:
            if name in stale:
                action, reasons = StepAction.STALE, tuple(stale[name])
            elif name in doubtful:
                action, reasons = StepAction.STALE, tuple(_uses(plan, name, doubtful, "which is stale"))
            else:
                unknown = tuple((doubts or {}).get(name, ()))
                action = StepAction.KEEP
                reasons = ("done by hand",) if step.by_hand else unknown or (_how_done(step),)
        elif step is not None and step.settled and name not in ahead:
            action, reasons = StepAction.KEEP, ("failed, and its failure was handled by a route",)
        elif name in ahead:
            was_interrupted = step is not None and step.attempt
            action, reasons = StepAction.RUN, ("was interrupted" if was_interrupted else ahead_because,)
        else:
            action, reason = _on_open_route(plan, after, name, may_have_result)
            reasons = (reason,)
            if action is StepAction.MAY_RUN:
                may_have_result.add(name)
        found.append(PlannedStep(step=name, action=action, reasons=reasons))
    return tuple(found)


def _how_done(step: StepState) -> str:
    return f"taken from {step.source}, unchanged" if step.source else "done, unchanged"


def changed_inputs(old: Value | None, new: Value | None) -> tuple[str, ...] | None:
    """Name the inputs that differ; None if they differ, but their names are unknown.

    Example:
        >>> changed_inputs(Value("json", '{"a":1,"b":2}'), Value("json", '{"a":1,"b":3}'))
        ('b',)
    """
    if old is None or new is None or old is new or old == new:
        return ()
    if not old.is_json or not new.is_json:
        return None
    missing = object()
    try:
        before, after = parse(old.json), parse(new.json)
        names = {**before, **after}
        return tuple(n for n in names if not _same(before.get(n, missing), after.get(n, missing)))
    except (ValueError, TypeError, AttributeError, RecursionError):  # a log from elsewhere may hold anything
        return None


def _same(one: object, two: object) -> bool:
    return type(one) is type(two) and one == two


def _ahead(plan: Plan, state: State) -> set[str]:
    """Return the names of the steps that run unless a route decides otherwise."""
    at = Position.at_start(plan)
    decide(plan, state, at)
    ahead: set[str] = set()
    for depth, frame in enumerate(reversed(at.frames)):
        for stage in frame.path[frame.index + (depth > 0) :]:
            if frame.source is not None and stage[0] in plan.stage_of:
                ahead.update(n for later in plan.timeline[plan.stage_of[stage[0]] :] for n in later)
                break
            ahead.update(stage)
    return ahead


def _plan_order(plan: Plan) -> Iterator[str]:
    """Yield the timeline's steps, each followed by those on its routes."""
    seen: set[str] = set()
    todo = [name for stage in reversed(plan.timeline) for name in reversed(stage)]
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        yield name
        beside = [n for _, target in _targets(plan, name) for n in _names(target) if n not in plan.stage_of]
        todo.extend(reversed(beside))
    yield from (name for name in plan.steps if name not in seen)


def _targets(plan: Plan, name: str) -> Iterator[tuple[str, Target]]:
    if name in plan.diverges:
        for label, (_, target) in plan.diverges[name].choices.items():
            yield f"gives {label!r}", target
    if name in plan.branches:
        yield "is judged true", plan.branches[name].when_true
        yield "is judged false", plan.branches[name].when_false


def _names(target: Target) -> Iterator[str]:
    if not isinstance(target, Action):
        yield from (name for stage in target for name in stage)


def _why_again(
    plan: Plan,
    state: State,
    name: str,
    chosen: ResumeDecision,
    stale: Mapping[str, Collection[str]],
    asked: Collection[str],
    given: Collection[str],
) -> tuple[str, ...]:
    step = state.steps[name]
    if name in stale:
        return tuple(stale[name])
    if name in asked:
        return ("asked for",)
    if name in chosen.retried or step.phase is Phase.FAILED:
        if step.items is not None and step.items.failed:
            failed, total = len(step.items.failed), len(step.items.keys)
            return (f"{failed} of {counted(total, 'item')} failed: only the failed ones run again",)
        error = step.error
        return (f"failed: {error.type}: {error.message}" if error is not None else "failed",)
    if name in chosen.restored:
        return ("its value was only kept in memory",)
    made_again = {*chosen.revisited, *chosen.relisted} - {*given}
    uses = (*_uses(plan, name, given, "whose result is given"), *_uses(plan, name, made_again, "which will run"))
    if name in chosen.relisted:
        return (*uses, "only items that are new or changed run")
    return uses or ("everything runs again",)


_MANY = {"which will run": "run again", "which is stale": "are stale", "whose result is given": "are given"}


def _uses(plan: Plan, name: str, among: Collection[str], how: str) -> Iterator[str]:
    spec = plan.steps[name]
    used = [n for n in (*spec.requires, *spec.optional) if n in among and n != name]
    yield from (f"depends on `{n}`, {how}" for n in used)
    if among and not used and spec.takes_rest:
        yield f"takes every earlier result, some of which {_MANY[how]}"


def _on_open_route(plan: Plan, state: State, name: str, may_have_result: Collection[str]) -> tuple[StepAction, str]:
    """Return what happens to a step that is not ahead: a route may still lead to it from a step that has a result."""
    why_not = "skipped on the route this run took"
    if name in plan.stage_of:
        return StepAction.SKIP, why_not
    for owner in plan.steps:
        for label, target in _targets(plan, owner):
            if name not in _names(target):
                continue
            step = state.steps.get(owner)
            decided = step is not None and (step.diverge_chosen or step.branch is not None)
            if owner in may_have_result and not decided:
                return StepAction.MAY_RUN, f"if `{owner}` {label}"
            why_not = f"`{owner}` took another route" if decided else f"runs only if `{owner}` {label}"
    return StepAction.SKIP, why_not
