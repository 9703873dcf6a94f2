"""How far a run goes before it pauses: one stage, up to a step or before it, or not at all. Pure.

A limit is checked before a stage is entered, when nothing is in flight. Inside a stage everything may start, so that
one call runs all retries of a step and all members of a parallel group.
"""

from __future__ import annotations

from collections.abc import Sequence

from .._text.text import as_stage
from .decide import ChooseRoute, CloseItems, Command, Complete, Fail, Jump, ListItems, Position, StartStep, decide
from .events import Event, WorkflowPaused
from .graph import Plan
from .record import frozen, mutable
from .state import State

__all__ = [
    "Before",
    "Limit",
    "NoStage",
    "OneStage",
    "UpTo",
    "frontier",
    "is_shared_prefix",
    "pause_reason",
    "permits",
]


@frozen
class NoStage:
    """Start nothing."""


@mutable
class OneStage:
    """Start one stage: a step or a parallel group, in one visit. ``entered`` identifies the stage once it starts."""

    entered: tuple[tuple[str, int], ...] | None = None
    completes: bool = True  # whether the end of the timeline ends the execution


@frozen
class UpTo:
    """Run until this step has its outcome, and the rest of its stage with it."""

    step: str


@frozen
class Before:
    """Run until the stage of this step would start."""

    step: str


Limit = NoStage | OneStage | UpTo | Before

_SHARED = "shared prefix"


def permits(limit: Limit, state: State, stage: Sequence[str], commands: Sequence[Command]) -> bool:
    """Whether a run may carry out what was decided.

    Args:
        limit: how far it may go; of a :class:`OneStage`, ``entered`` is set when the stage starts.
        state: the fold of everything recorded.
        stage: the stage the run is at.
        commands: what was decided there.

    Example:
        >>> permits(NoStage(), State(), ("a",), [StartStep("a", 1, 1)])
        False
        >>> permits(OneStage(), State(), ("a",), [StartStep("a", 1, 1)])
        True
    """
    if any(isinstance(command, Complete) for command in commands):
        return not isinstance(limit, OneStage) or limit.completes
    if not any(isinstance(command, StartStep | ListItems | CloseItems) for command in commands):
        return True
    if isinstance(limit, NoStage):
        return False
    if isinstance(limit, Before):
        return limit.step not in stage
    if isinstance(limit, UpTo):
        step = state.steps.get(limit.step)
        return step is None or not step.settled or limit.step in stage
    visits = tuple((name, step.visit if (step := state.steps.get(name)) else 1) for name in stage)
    if limit.entered is None:
        limit.entered = visits
    return limit.entered == visits


def pause_reason(stage: Sequence[str], limit: Limit | None = None) -> str:
    """Return the reason of a pause between two stages, or before the step at which forks begin.

    Example:
        >>> pause_reason(("a", "b"))
        'step by step; next: [a, b]'
    """
    what = _SHARED if isinstance(limit, Before) else "step by step"
    if not stage:
        return what
    return f"{what}; next: {as_stage(stage)}"


def is_shared_prefix(event: Event) -> bool:
    """Whether an execution with this last event is the shared prefix of forks, paused where they begin.

    Example:
        >>> is_shared_prefix(WorkflowPaused(at=0, reason=pause_reason(("fit",), Before("fit"))))
        True
    """
    return isinstance(event, WorkflowPaused) and event.reason.startswith(_SHARED)


def frontier(plan: Plan, state: State) -> tuple[str, ...]:
    """Name the steps of the stage that would run next; none if only the end is left.

    Example:
        >>> frontier(Plan(workflow="w", timeline=(("a",), ("b",)), steps={}), State())
        ('a',)
    """
    at = Position.at_start(plan)
    for command in decide(plan, state, at):
        match command:
            case Complete():
                return ()
            case Fail():
                return (command.step,) if command.step is not None else ()
            case Jump():
                return (command.to,)
            case ChooseRoute():
                return (command.step,)
            case StartStep() | ListItems() | CloseItems():
                break
    return tuple(name for name in at.stage if (step := state.steps.get(name)) is None or not step.settled)
