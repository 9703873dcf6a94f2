"""Where a fork leaves its parent, what it keeps of the parent's history, and what it runs again. Pure.

A fork keeps the parent's history before the first visit of the step it is forked from, and what the other members of
that step's parallel group finished. The current workflow defines what comes after a step: if the step is new, the fork
begins before the first step after it that has run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from ..errors import OutcomeUnknownError, ResumeError
from .events import Event, RollbackStarted, StepEvent, WorkflowResumed
from .fold import fold
from .graph import Plan, owner_of
from .limits import frontier
from .paths import every_path, steps_from
from .record import record
from .resume import ResumeDecision, choose_steps, route_is_lost, steps_to_rerun, unknown_outcomes
from .state import State
from .state_name import ExecutionState

__all__ = ["ForkPoint", "describe_origin", "fork_point", "plan_fork"]


@record
class ForkPoint:
    """What a fork keeps.

    Attributes:
        events: the kept events of the parent, in order.
        version: the last version of the parent before the cut.
        before: the step before which it was cut; None if all is kept.
        again: steps that come after the cut in the workflow, but ran before it.
    """

    events: tuple[Event, ...]
    version: int
    before: str | None = None
    again: tuple[str, ...] = ()


def fork_point(
    plan: Plan, history: Sequence[Event], execution_id: str, from_step: str | None, given: Collection[str] = ()
) -> ForkPoint:
    """Cut a history where a fork leaves it.

    Args:
        plan: the workflow as it is now.
        history: the parent's events.
        execution_id: the parent's id, for messages.
        from_step: the first step that the fork runs itself; None: the first step whose result is given, else the end.
        given: steps whose result is given.

    Raises:
        ResumeError: neither the step nor anything after it has run, and it would not run next either.
    """
    firsts = given if from_step is None else (from_step,)
    after = {first: _after(plan, first) for first in firsts}
    left_at = [at for first in firsts if (at := _find_start(history, {first}, after[first])) is not None]
    if not left_at:
        reached = fold(history)
        if reached.is_rolling_back:
            raise ResumeError(
                f"execution {execution_id} is being rolled back: finish that first, or give from_step= to fork it from "
                f"before a step that has run"
            )
        if from_step is not None and from_step not in frontier(plan, reached):
            raise ResumeError(
                f"step '{from_step}' has not run in execution {execution_id}, nor has anything after it: leave "
                f"from_step out to fork it from where it ended"
            )
        return ForkPoint(events=tuple(history), version=len(history), before=from_step)
    at = min(left_at)
    left = history[at]
    assert isinstance(left, StepEvent)
    later = set().union(*after.values())
    state = fold(history[:at])
    again = tuple(n for n in state.steps if n in later and n in plan.stage_of and state.steps[n].settled)
    beside = {*map(owner_of, state.in_flight), *(n for first in firsts for n in _parallel_to(plan, first))} - later
    return ForkPoint(
        events=(*history[:at], *_events_to_outcomes(state, beside, history[at:])),
        version=at,
        before=from_step or left.step,
        again=again,
    )


def plan_fork(
    plan: Plan,
    state: State,
    execution_id: str,
    *,
    rerun: str | Collection[str] = (),
    outdated: Collection[str] = (),
    again: Collection[str] = (),
    given: Collection[str] = (),
    relisted: Collection[str] = (),
) -> ResumeDecision:
    """Decide which kept steps a fork runs again.

    Args:
        plan: the workflow as it is now.
        state: the fold of what is kept.
        execution_id: the parent's id, for messages.
        rerun: completed steps to run again, with those that depend on them, or ``"stale"`` for the stale steps.
        outdated: the completed steps that are stale.
        again: completed steps that run again although ``rerun`` does not name them: they read an input that the fork
            changes, or come after the step it is forked from.
        given: steps whose result is given; what depends on them runs again.
        relisted: the foreach steps in ``again`` for which only the list of items changed.

    Raises:
        OutcomeUnknownError: it would repeat an external effect that may have happened.
        ResumeError: it would run nothing.
    """
    unknown = [name for name in unknown_outcomes(plan, state) if name not in given]
    if unknown:
        raise _outcome_unknown(unknown, execution_id)
    asked = steps_to_rerun(plan, state, [n for n in state.finished if n in outdated] if rerun == "stale" else rerun)
    afresh = {*asked, *again, *(name for name in given if name in state.finished)}
    relisting = {*relisted}.difference(asked)
    chosen = choose_steps(plan, state, again=afresh, outdated=outdated, given=given, relisted=relisting)
    gone = tuple(name for name, step in state.steps.items() if step.settled and name not in plan.steps)
    lost = tuple(
        name
        for name, step in state.steps.items()
        if name in plan.steps and name not in chosen.revisited and route_is_lost(plan, step, name)
    )
    if state.lifecycle is ExecutionState.COMPLETED and not (chosen.revisited or chosen.relisted or gone or lost):
        raise ResumeError(
            f"execution {execution_id} of workflow '{plan.workflow}' is completed, and nothing would run again in this "
            f"fork: give from_step= (--from), or inputs= (--inputs) that a step reads, or overrides= (--override)"
        )
    return ResumeDecision(
        retried=chosen.retried,
        revisited=(*chosen.revisited, *gone),
        rerouted=tuple(dict.fromkeys((*chosen.rerouted, *lost))),
        restored=chosen.restored,
        relisted=chosen.relisted,
        stale=chosen.stale,
    )


def describe_origin(state: State) -> str:
    """Describe where an execution was forked from; empty if it is not a fork.

    Example:
        >>> describe_origin(State(parent="k3v9", parent_version=17, forked_at="deploy"))
        "forked from k3v9 at event 17 (before step 'deploy')"
    """
    if state.parent is None:
        return ""
    before = f" (before step '{state.forked_at}')" if state.forked_at else ""
    return f"forked from {state.parent} at event {state.parent_version}{before}"


def _after(plan: Plan, step: str) -> set[str]:
    """Return the names of the step and everything after it, without what runs in parallel with it."""
    return steps_from(plan, step, step).keys() - _parallel_to(plan, step)


def _find_start(history: Sequence[Event], *choices: Collection[str]) -> int | None:
    """Return the index of the first event of any step of the first choice; if there is none, of the next choice."""
    for names in choices:
        for at, event in enumerate(history):
            if isinstance(event, StepEvent) and event.step in names:
                return at
    return None


def _parallel_to(plan: Plan, step: str) -> set[str]:
    """Return the names of the other members of the parallel groups that a step is in."""
    return {name for path in every_path(plan) for stage in path if step in stage for name in stage} - {step}


def _events_to_outcomes(state: State, beside: Collection[str], rest: Sequence[Event]) -> Iterator[Event]:
    """Yield the events after the cut that bring the parallel steps ``beside`` it to their outcomes."""
    visits = {
        name: step.visit if (step := state.steps.get(name)) is not None else 1
        for name in beside
        if name not in state.steps or not state.steps[name].settled
    }
    for event in rest:
        if isinstance(event, WorkflowResumed | RollbackStarted) or not visits:
            return
        if not isinstance(event, StepEvent) or (owner := owner_of(event.step)) not in visits:
            continue
        if event.step == owner and event.visit != visits[owner]:
            continue
        yield event
        fold([event], state)
        if state.steps[owner].settled:
            del visits[owner]


def _outcome_unknown(steps: Sequence[str], execution_id: str) -> OutcomeUnknownError:
    which = ", ".join(f"'{step}'" for step in steps)
    return OutcomeUnknownError(
        f"execution {execution_id}: {'step' if len(steps) == 1 else 'steps'} {which} (effect='external') began, and "
        f"its outcome is unknown there: its effect may or may not have happened. Fork with one of\n"
        f"    from_step={steps[0]!r}                 run it in the fork, whatever happened there\n"
        f"    overrides={{{steps[0]!r}: result}}      take this as its result",
        steps=tuple(steps),
    )
