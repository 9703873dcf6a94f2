"""``history.replay`` and ``history.slider``: a run, event by event."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import fields
from typing import Any, NamedTuple

from .._core import events as e
from .._core.arguments import ExecutionLike
from .._core.fold import fold
from .._core.graph import owner_of
from .._core.state import State
from .._core.state_copy import copy_part, steps_changed_by
from .._engine import display_hooks
from .._engine.plan_payloads import blueprint_kept
from .sources import Log, opened

__all__ = ["Transition", "replay", "slider", "transitions"]


class Transition(NamedTuple):
    """An event and the state after it.

    Attributes:
        event: what happened.
        state: the fold of the events up to this one; ``state.version`` is the event's number.
    """

    event: e.Event
    state: State


def replay(execution_id: ExecutionLike, *, store: Log | None = None) -> Iterator[Transition]:
    """Replay a run: every event in order, with the state after it.

    Nothing runs: the states are folded from the recorded events. Each is a separate object that you may keep; do not
    modify it, because unchanged parts are shared.

    Args:
        execution_id: the execution.
        store: the log, or its path; by default the session's.

    Returns:
        An iterator of ``(event, state)`` pairs, one for each event that the run has now.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        StoreError: the log cannot be read.

    Example:
        >>> result = release.run()
        >>> for event, state in history.replay(result.execution_id):
        ...     print(state.version, type(event).__name__, state.status, list(state.finished))
        1 WorkflowStarted RUNNING []
        2 StepStarted RUNNING []
        3 StepCompleted RUNNING ['build']
        4 WorkflowCompleted COMPLETED ['build']
    """
    return transitions(_events(execution_id, store)[1])


def slider(execution_id: ExecutionLike, *, store: Log | None = None) -> Any:
    """Make a slider through the events of a run, for a notebook.

    For the chosen event it shows the graph, the values, what had been printed, the state, and what the event changed.
    It needs no kernel: it still works in a reopened notebook and in an exported page.

    Args:
        execution_id: the execution; a failed run's error carries it as ``error.execution_id``.
        store: the log, or its path; by default the session's.

    Returns:
        An object that a notebook shows as the slider; elsewhere its text lists the events.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        StoreError: the log cannot be read.

    Example:
        >>> history.slider(release.run().execution_id)
        release: 4 events
            1 WorkflowStarted
            2 StepStarted build
            3 StepCompleted build
            4 WorkflowCompleted
        to step through them: cerebelum debug
    """
    with opened(store) as log:
        found, events = _events(execution_id, log)
        return display_hooks.slide(found, events, blueprint_kept(log, fold(events)))


def transitions(events: Iterable[e.Event], state: State | None = None) -> Iterator[Transition]:
    """Fold events one by one and yield every state.

    Args:
        events: in order.
        state: the state before them, which is not modified. By default nothing has happened yet.

    Example:
        >>> [each.state.version for each in transitions([e.WorkflowPaused(at=1, reason="by hand")])]
        [1]
    """
    state = State() if state is None else state
    for event in events:
        state = fold((event,), _copy_for(state, event))
        yield Transition(event, state)


_DICTS = tuple(field.name for field in fields(State) if field.default_factory is dict)


def _copy_for(state: State, event: e.Event) -> State:
    """Copy the parts of a state that folding this event may change, and share the rest."""
    after = copy(state)
    for name in _DICTS:
        setattr(after, name, getattr(state, name).copy())
    if state.rollback is not None:
        after.rollback = copy_part(state.rollback)
    for name in map(owner_of, steps_changed_by(event)):
        old = state.steps.get(name)
        if old is None:
            continue
        step = after.steps[name] = copy(old)
        if old.items is not None:  # the items' states are shared: copying all for every event is quadratic
            step.items = copy(old.items)
            step.items.failed, step.items.running = old.items.failed.copy(), old.items.running.copy()
        step.operations = old.operations.copy()
        if isinstance(event, e.StepCheckpointed):
            step.checkpoints, step.counts = old.checkpoints and [*old.checkpoints], old.counts and [*old.counts]
        op = getattr(event, "op", None)
        if op in step.operations:
            step.operations[op] = copy(step.operations[op])
    return after


def _events(execution_id: ExecutionLike, store: Log | None) -> tuple[str, list[e.Event]]:
    with opened(store) as log:
        found = log.execution(execution_id).execution_id
        return found, log.events(found)
