"""What a resume does to a recorded state: which steps run again, and when it is refused. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from .._text.text import did_you_mean
from ..errors import OutcomeUnknownError, ResumeError
from .decide import reset_by
from .graph import UNDO, Plan, key_of, of_item, owner_of, step_of, undo_of, undone_by
from .record import record
from .state import State
from .state_name import ExecutionState
from .step_state import FAILED, RUNNING, Phase, StepState

__all__ = [
    "ResumeDecision",
    "choose_steps",
    "code_changed",
    "decide_resume",
    "dependants",
    "refuse_lost_handlers",
    "refuse_second_result",
    "refuse_unknown",
    "route_is_lost",
    "step_named",
    "steps_to_rerun",
    "steps_to_reset",
    "unknown_outcomes",
]


@record
class ResumeDecision:
    """Which recorded steps a resume touches; see :class:`~cerebelum_nb._core.events.WorkflowResumed`."""

    retried: tuple[str, ...] = ()
    revisited: tuple[str, ...] = ()
    rerouted: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    relisted: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()

    @property
    def is_nothing(self) -> bool:
        """Whether no step with an outcome runs again."""
        return not (self.retried or self.revisited or self.rerouted or self.restored or self.relisted)


def decide_resume(
    plan: Plan,
    state: State,
    execution_id: str,
    *,
    skip_completed_steps: bool = True,
    rerun: str | Collection[str] = (),
    live: Collection[str] = (),
    repeat: Collection[str] = (),
    mark_done: Collection[str] = (),
    outdated: Collection[str] = (),
    relisted: Collection[str] = (),
) -> ResumeDecision:
    """Decide what a resume does.

    Args:
        plan: the workflow as it is now.
        state: the fold of what is recorded.
        execution_id: for messages.
        skip_completed_steps: False runs everything again.
        rerun: completed steps to run again, with those that depend on them, or ``"stale"`` for the stale steps.
        live: completed steps whose value cannot be stored, but is still in memory.
        repeat: external steps that may run again although it is unknown whether their effect happened.
        mark_done: steps whose result is given by hand.
        outdated: the completed steps that are stale: their code or inputs have changed since.
        relisted: the foreach steps in ``outdated`` for which only the list of items changed.

    Raises:
        OutcomeUnknownError: it would repeat an external effect that may have happened.
        ResumeError: it is completed or cancelled, or the plan lost a completed step or a taken route.
    """
    name = f"execution {execution_id}"
    if state.lifecycle is ExecutionState.COMPLETED and skip_completed_steps and not rerun:
        raise ResumeError(
            f"{name} of workflow '{plan.workflow}' is completed: there is nothing to resume. Start a new one with "
            f"execute(), or run it all again with resume({execution_id!r}, skip_completed_steps=False)"
        )
    if state.lifecycle is ExecutionState.CANCELLED:
        raise ResumeError(
            f"{name} was cancelled{_in_parentheses(state.reason)} and cannot be resumed. Start a new one with execute()"
        )
    _check_by_hand(plan, state, repeat, mark_done)
    unknown = [n for n in unknown_outcomes(plan, state) if n not in repeat and n not in mark_done]
    refuse_unknown(unknown, name)
    if state.is_rolling_back:
        return _in_rollback(plan, state, execution_id, rerun or not skip_completed_steps)
    if not skip_completed_steps:
        return ResumeDecision(revisited=tuple(state.steps))
    again = steps_to_rerun(plan, state, [n for n in state.finished if n in outdated] if rerun == "stale" else rerun)
    relisting = relisted if rerun == "stale" else ()
    chosen = choose_steps(plan, state, again=again, outdated=outdated, given=mark_done, live=live, relisted=relisting)
    if state.lifecycle is ExecutionState.COMPLETED and not (chosen.revisited or chosen.relisted):
        asked = repr(rerun) if isinstance(rerun, str) else ", ".join(map(repr, rerun))
        what = "no step's code has changed since" if rerun == "stale" else f"it did not run {asked}"
        raise ResumeError(
            f"{name} of workflow '{plan.workflow}' is completed, and {what}: there is nothing to run again. "
            f"Start a new one with execute()"
        )
    _refuse_lost(plan, state, execution_id, {*chosen.retried, *chosen.revisited, *chosen.rerouted, *chosen.relisted})
    return chosen


def _in_rollback(plan: Plan, state: State, execution_id: str, other: object) -> ResumeDecision:
    """Decide how an unfinished rollback continues; nothing else can be resumed before it is over."""
    if other:
        raise ResumeError(
            f"execution {execution_id} is being rolled back: finish that first with resume({execution_id!r}), then "
            f"run it again"
        )
    refuse_lost_handlers(plan, state, execution_id)
    assert state.rollback is not None
    return ResumeDecision(retried=tuple(n for n, s in state.rollback.steps.items() if s.phase is Phase.FAILED))


def refuse_lost_handlers(plan: Plan, state: State, execution_id: str) -> None:
    """Raise ResumeError if a step that must still be undone no longer has a handler."""
    assert state.rollback is not None
    lost = [name for name in state.rollback.todo if plan.spec(undo_of(name)) is None]
    if lost:
        step = step_of(lost[0])
        raise ResumeError(
            f"execution {execution_id} cannot be rolled back further: '{step}' must be undone, but it no longer has a "
            f"handler. Define it again with @{step}.on_rollback, then roll back"
        )


def choose_steps(
    plan: Plan,
    state: State,
    *,
    again: Collection[str] = (),
    outdated: Collection[str] = (),
    given: Collection[str] = (),
    live: Collection[str] = (),
    relisted: Collection[str] = (),
) -> ResumeDecision:
    """Return which recorded steps a resume or a fork runs again.

    Args:
        plan: the workflow as it is now.
        state: the fold of what is recorded.
        again: steps that start from scratch, with those that depend on them.
        outdated: the completed steps that are stale.
        given: steps whose result is given by hand.
        live: completed steps whose value cannot be stored, but is still in memory.
        relisted: the foreach steps in ``again`` for which only the list of items changed.
    """
    items = [n for n in again if "[" in n]
    opened = {owner_of(n) for n in items}.difference(again)
    afresh = {*again, *opened}.difference(items)
    revisited = tuple(n for n in dependants(plan, afresh) if n in state.steps and n not in opened)
    revisited += tuple(n for item in items if owner_of(item) in opened for n in _rest_of_item(plan, state, item))
    relisted = tuple(
        n
        for n in revisited
        if (n in relisted or (n not in afresh and n not in outdated))
        and _only_the_source_changes(plan, state, n, revisited)
    )
    revisited = tuple(n for n in revisited if n not in relisted)
    retried = tuple(
        n
        for n, s in state.steps.items()
        if (
            n in opened
            or (s.phase is FAILED and (s.diverge is None or n == state.failed_step))
            or (s.items is not None and s.items.failed and not s.settled)  # its process died before it had its outcome
        )
        and n not in given
        and n not in {*revisited, *relisted}
        and n in plan.steps
    )
    failed = state.failed_step
    rerouted = (failed,) if failed in state.finished and failed not in revisited and failed in plan.steps else ()
    restored = _unkept_needed(plan, state, {*live}, {*revisited})
    return ResumeDecision(
        retried=retried,
        revisited=revisited,
        rerouted=rerouted,
        restored=tuple(n for n in restored if n not in {*revisited, *relisted}),
        relisted=relisted,
        stale=tuple(n for n in state.finished if n in outdated and n not in revisited),
    )


def _only_the_source_changes(plan: Plan, state: State, name: str, changed: Collection[str]) -> bool:
    """Whether the only thing that changed for a foreach is the list it reads."""
    each = plan.each.get(name)
    if each is None or state.steps[name].items is None or plan.steps[name].takes_rest:
        return False
    inside = {n for body in each.body.values() for n in (*body.requires, *body.optional)}
    return not inside.intersection(changed) - {each.parameter, *each.body}


def _rest_of_item(plan: Plan, state: State, name: str) -> Iterator[str]:
    """Yield the steps that began for an item, from this step of the body on."""
    body = list(plan.each[owner_of(name)].body)
    for step in body[body.index(step_of(name)) :]:
        if state.step(of_item(owner_of(name), key_of(name), step)) is not None:
            yield of_item(owner_of(name), key_of(name), step)


def code_changed(plan: Plan, state: State, name: str) -> bool:
    """Whether a completed step's code has changed since its result; False for a result given by hand."""
    now, step = plan.steps[name].code, state.steps[name]
    return now is not None and step.code is not None and now != step.code and not step.by_hand


def unknown_outcomes(plan: Plan, state: State) -> tuple[str, ...]:
    """Name the external steps that started and whose effect may or may not have happened.

    A step that waits in a decorator, before its body, has done nothing yet. A rollback only begins when this is known
    for every step; from then on only the undos count.
    """
    rollback = state.rollback
    return tuple(
        name
        for name, step in (rollback.steps.items() if rollback and not rollback.is_over else state.attempted())
        if _has_unknown_outcome(step)
        and (spec := plan.spec(name)) is not None
        and spec.policy.effect == "external"
        and not any(o.is_before_body and not o.done for o in step.operations.values())
    )


def _has_unknown_outcome(step: StepState) -> bool:
    if step.phase is FAILED:
        return step.error is not None and step.error.type == "StepTimeoutError"
    return step.phase is RUNNING or step.interrupted


def dependants(plan: Plan, names: Collection[str]) -> tuple[str, ...]:
    """Name the given steps and every step that uses their results, directly or not, in the plan's order."""
    if not names:
        return ()
    found = set(names)
    grew = True
    while grew:
        grew = False
        for name, spec in plan.steps.items():
            if name in found:
                continue
            uses = found.intersection(spec.requires) or found.intersection(spec.optional)
            if uses or (spec.takes_rest and any(_may_precede(plan, other, name) for other in found)):
                found.add(name)
                grew = True
    return tuple(name for name in plan.steps if name in found)


def _check_by_hand(plan: Plan, state: State, repeat: Collection[str], mark_done: Collection[str]) -> None:
    for what, names in (("repeat", repeat), ("mark_done", mark_done)):
        if isinstance(names, str):
            raise ResumeError(
                f"{what} takes names of steps: {what}=[{names!r}]"
                if what == "repeat"
                else f"mark_done takes the steps with their results: mark_done={{{names!r}: ...}}"
            )
        for name in names:
            if plan.spec(name) is None or not _is_listed(state, name):
                raise _unknown_step(plan, name, f"{what} names")
    done = [n for n in mark_done if (step := state.step(n)) is not None and step.has_result]
    if done:
        raise ResumeError(f"mark_done names '{done[0]}', which is already completed: its recorded result is used")


def _is_listed(state: State, name: str) -> bool:
    """Whether there is a step of this name: of an item, only if its foreach lists the item."""
    if name[:1] == UNDO:
        return state.rollback is not None and undone_by(name) in state.rollback.todo
    owner = state.steps.get(owner_of(name))
    return name in (owner_of(name), step_of(name)) or (
        owner is not None and owner.items is not None and key_of(name) in owner.items.keys
    )


def refuse_unknown(steps: Collection[str], name: str, *, to_undo: bool = False) -> None:
    """Raise OutcomeUnknownError if there are external steps whose effect may or may not have happened.

    Args:
        steps: the names of these steps.
        name: the execution, for the message.
        to_undo: whether the execution is to be rolled back: then an effect that happened is undone too.
    """
    if not steps:
        return
    first = next(iter(steps))
    which = ", ".join(f"'{step}'" for step in steps)
    did_not = "it did not happen" if to_undo else "it did not happen, or may happen twice"
    did = f"it happened; this is its result{', and it is undone' if to_undo else ''}"
    raise OutcomeUnknownError(
        f"{name}: {'step' if len(steps) == 1 else 'steps'} {which} (effect='external') started, and its outcome is "
        f"unknown: its effect may or may not have happened. Check, then {'roll back' if to_undo else 'resume'} with "
        f"one of\n"
        f"    repeat=[{first!r}]                 {did_not}\n"
        f"    mark_done={{{first!r}: result}}      {did}",
        steps=tuple(steps),
    )


def _may_precede(plan: Plan, first: str, second: str) -> bool:
    """Whether the result of ``first`` may be among the ``**kwargs`` of ``second``."""
    on = plan.stage_of
    return first not in on or second not in on or on[first] < on[second]


def steps_to_rerun(plan: Plan, state: State, rerun: str | Collection[str]) -> tuple[str, ...]:
    """Return the steps that ``rerun`` names, without those that have not run.

    Raises:
        ResumeError: the workflow has no step of such a name.
    """
    names = (rerun,) if isinstance(rerun, str) else tuple(rerun) if isinstance(rerun, Collection) else (rerun,)
    for name in names:
        if not isinstance(name, str):
            raise ResumeError(f"rerun takes names of steps, such as rerun=['build'], or 'stale', not {name!r}")
        if plan.spec(name) is None:
            raise _unknown_step(plan, name, "rerun names")
    return tuple(n for n in names if state.step(n) is not None)


def step_named(plan: Plan, step: object, method: str) -> str:
    """Return the name of a step that is given by its name or as an object.

    Args:
        plan: the workflow.
        step: a name, or an object with a ``name``.
        method: the name of the method that takes it, for messages.

    Raises:
        ResumeError: the workflow has no such step.
    """
    name = getattr(step, "name", step)
    if not isinstance(name, str):
        raise ResumeError(f"{method}() takes a step or its name, not {step!r}")
    if name not in plan.steps:
        raise _unknown_step(plan, name, f"{method}() names")
    return name


def steps_to_reset(plan: Plan, state: State, step: str) -> tuple[str, ...]:
    """Name the started steps that going back to ``step`` resets: the step and what follows it.

    Raises:
        ResumeError: the step has not run, so there is nothing to go back to.
    """
    if step not in state.steps:
        raise ResumeError(f"step '{step}' has not run yet: there is nothing to go back to")
    return reset_by(plan, state, step, step)


def refuse_second_result(state: State, step: str) -> None:
    """Raise ResumeError if a step already has a result."""
    if step in state.finished:
        raise ResumeError(
            f"step '{step}' is already completed; to give it another result, go back to it first: "
            f"await run.back_to({step!r}), then mark it"
        )


def _unknown_step(plan: Plan, name: str, what: str) -> ResumeError:
    hint = did_you_mean(str(name), plan.steps, f"Its steps are {_list_names(plan.steps)}", most=1)
    return ResumeError(f"{what} {name!r}, which is not a step of workflow '{plan.workflow}'. {hint}")


def _refuse_lost(plan: Plan, state: State, execution_id: str, again: Collection[str]) -> None:
    lost = [f"  - step '{n}' (completed, no longer on the timeline)" for n in state.finished if n not in plan.steps]
    for name, step in state.steps.items():
        if step.diverge is None and step.branch is None:  # nearly all steps take no route
            continue
        if name in again or (name in state.finished and name not in plan.steps):
            continue
        if route_is_lost(plan, step, name):
            taken = f"route '{step.diverge}' of the diverge at" if step.diverge is not None else "branch after"
            lost.append(f"  - {taken} '{name}' (taken, no longer there)")
    if not lost:
        return
    added = [f"  + step '{n}'" for n in plan.steps if n not in state.steps]
    raise ResumeError(
        f"execution {execution_id} cannot be resumed: workflow '{plan.workflow}' no longer has what this execution "
        "has done:\n"
        + "\n".join([*lost, *added[:5]])
        + "\nRestore it under its old name, fork the execution, or start a new one with execute()"
    )


def route_is_lost(plan: Plan, step: StepState, name: str) -> bool:
    """Whether a step took a route that its workflow no longer has."""
    if step.diverge is not None:
        return name not in plan.diverges or step.diverge not in plan.diverges[name].choices
    return step.branch is not None and name not in plan.branches


def _unkept_needed(plan: Plan, state: State, live: set[str], revisited: set[str]) -> tuple[str, ...]:
    """Name the completed steps whose value was not kept although a step that will run needs it.

    A value in which a secret was masked counts as kept: only code that reveals the secret is affected.
    """
    gone = {
        n
        for n in state.finished
        if n not in live and n not in revisited and (v := state.steps[n].output) is not None and v.codec == "none"
    }
    if not gone:
        return ()
    restored: set[str] = set()
    todo = [n for n in plan.steps if n not in state.finished or n in revisited]
    while todo:
        spec = plan.steps[todo.pop()]
        wanted = gone if spec.takes_rest else gone.intersection((*spec.requires, *spec.optional))
        for name in wanted - restored:
            restored.add(name)
            if name in plan.steps:
                todo.append(name)
    return tuple(n for n in state.finished if n in restored)


def _list_names(names: Collection[str]) -> str:
    shown = list(names)[:8]
    return ", ".join(shown) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _in_parentheses(reason: str | None) -> str:
    return f" ({reason})" if reason else ""
