"""Running a step again: what it keeps of its last visit, and what it forgets.

A step is *reopened* to continue its visit (operations stay, the outcome is decided again), *revisited* from scratch,
*relisted* with other items, or *restored* only to have its value again. A rollback revisits the steps it has undone.
"""

from __future__ import annotations

from dataclasses import replace

from . import events as e
from .graph import key_of, owner_of
from .state import Rollback, State
from .state_name import ExecutionState
from .step_state import Items, Phase, StepState

__all__ = [
    "begin_rollback",
    "end_rollback",
    "keep_unchanged_items",
    "mark_undone",
    "relist",
    "reopen",
    "restore",
    "revisit",
]


def reopen(state: State, name: str) -> None:
    """Continue the same visit: operations stay; the outcome and the route are decided again."""
    step = state.step(name)
    assert step is not None
    if step.items is not None:
        step.attempt += 1
        for item in step.items.failed:
            reopen(state, item)
        step.items.failed.clear()
    step.phase, step.failures, step.output, step.due_at = Phase.PENDING, 0, None, None
    step.began_at = 0
    if name not in state.restoring:
        step.diverge, step.diverge_chosen, step.branch = None, False, None
    state.finished.pop(name, None)
    state.in_flight.pop(name, None)


def revisit(state: State, name: str) -> None:
    """Begin a new visit from scratch: nothing of the last one counts for decisions."""
    old = state.step(name)
    if old is None:
        return
    if name not in state.steps:  # it is an item of a foreach, and the foreach is reopened
        items = state.items_of(name)
        items.done -= old.has_result and name.endswith("]")
        items.failed.pop(name, None)
        items.steps[name] = StepState(visit=old.visit + 1, code=old.code)
        state.end_waits(name, old)
        return
    visits = old.visit if old.items is None else max([old.visit, *(s.visit for s in old.items.steps.values())])
    state.steps[name] = StepState(visit=visits + 1, code=old.code)
    state.finished.pop(name, None)
    state.in_flight.pop(name, None)
    state.restoring.pop(name, None)
    state.end_waits(name, old)
    if state.last_step == name:
        state.last_step = next(reversed(state.finished), None)


def relist(state: State, name: str) -> None:
    """Begin a new visit of a foreach over another list; items that are still in it, unchanged, keep their results."""
    before = state.steps[name].items
    revisit(state, name)
    state.steps[name].before = before


def keep_unchanged_items(items: Items, before: Items, owner: str) -> None:
    """Copy from the last visit the steps of items that have a result and have not changed."""
    same = {
        key
        for key in items.keys
        if key in before.keys
        and items.digests.get(key) == before.digests.get(key)
        and (last := before.steps.get(f"{owner}[{key}]")) is not None
        and last.has_result
    }
    items.steps.update((name, known) for name, known in before.steps.items() if key_of(name) in same)
    items.done = len(same)


def restore(state: State, name: str) -> None:
    """Begin a new visit only to restore the value: the route that was chosen stays."""
    old, last_step = state.steps[name], state.last_step
    revisit(state, name)
    new = state.steps[name]
    new.diverge, new.diverge_chosen, new.branch = old.diverge, old.diverge_chosen, old.branch
    new.routed_at, new.settled_at, new.route_retries = old.routed_at, old.settled_at, old.route_retries
    state.restoring[name] = None
    state.last_step = last_step


def begin_rollback(state: State, event: e.RollbackStarted) -> None:
    """Begin a rollback, or continue one that was interrupted or failed."""
    last = state.rollback if state.is_rolling_back else None
    state.lifecycle, state.completed_at = ExecutionState.RUNNING, None
    state.reason = state.cancel = state.wake_at = None
    state.hibernated, state.deaths = False, 0
    state.restoring.clear()
    state.plan, state.inputs = event.plan or state.plan, event.inputs or state.inputs
    state.error, state.failed_step = event.error, event.failed_step
    state.rollback = Rollback(dict.fromkeys(event.todo), event.to, event.error, event.failed_step)
    if last is not None:
        state.rollback.steps, state.rollback.undone = last.steps, last.undone
        for name in [n for n, s in last.steps.items() if s.phase is Phase.FAILED]:
            reopen(state, name)


def mark_undone(state: State, name: str) -> None:
    """Mark a step as undone: it no longer counts as done, but the undos of other steps may still use its result."""
    rollback, step = state.rollback, state.step(name)
    assert rollback is not None and step is not None, f"{name} is undone, but it was never done"
    rollback.todo.pop(name, None)
    rollback.undone[name] = step
    owner = owner_of(name)
    revisit(state, name)
    if owner != name and (foreach := state.steps[owner]).settled:  # without one of its items it is not done either
        rollback.undone.setdefault(owner, replace(foreach))
        foreach.phase, foreach.output, foreach.error = Phase.PENDING, None, None
        state.finished.pop(owner, None)
        if state.last_step == owner:
            state.last_step = next(reversed(state.finished), None)


def end_rollback(state: State) -> None:
    """End a rollback: steps that are not kept no longer count as done, with or without a handler."""
    rollback = state.rollback
    assert rollback is not None, "a rollback ends, but none has begun"
    rollback.is_over = True
    state.error, state.failed_step = rollback.error, rollback.failed_step
    if rollback.to is None:
        state.jumps, state.landings = 0, {}
    kept = 0 if rollback.to is None else state.steps[rollback.to].settled_at
    for name, step in list(state.steps.items()):
        if not (step.settled and step.settled_at <= kept) and (step.attempt or step.settled):
            revisit(state, name)
