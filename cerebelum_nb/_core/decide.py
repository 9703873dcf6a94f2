"""What should happen next: a pure function of the plan and the state.

``decide`` is level-triggered: it returns everything that should be in flight now, and the driver starts what is
missing. So a resume is an execution with a non-empty history, and a crash needs no special case. It uses no clock and
no random numbers, and calls no user code: the shell evaluates predicates and patterns once (``ChooseRoute``), and the
choice is recorded as an event.

``Position`` remembers where in the plan the run is, so that a decision costs O(1). It can be recomputed at any time
from the plan and the recorded routes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from itertools import islice

from .graph import Action, ActionKind, Each, Path, Plan, Target, key_of, of_item, owner_of, undo_of
from .paths import owners_of, steps_from
from .record import frozen, mutable
from .state import Rollback, State
from .step_state import COMPLETED, Phase, StepState
from .value import ErrorInfo

__all__ = [
    "ChooseRoute",
    "CloseItems",
    "Command",
    "Complete",
    "EndRollback",
    "Fail",
    "Jump",
    "ListItems",
    "Position",
    "StartStep",
    "decide",
    "reset_by",
]


@mutable
class StartStep:
    """Start the next attempt of a step, not before ``due_at`` (µs; None: now)."""

    step: str
    visit: int
    attempt: int
    due_at: int | None = None


@frozen
class ChooseRoute:
    """Match the outcome of a step against its patterns or its predicate, and record the choice."""

    step: str


@frozen
class ListItems:
    """List the items of a foreach, and record them."""

    step: str


@frozen
class CloseItems:
    """Record the outcome of a foreach, all of whose items have their outcomes."""

    step: str


@frozen
class Jump:
    """Jump from ``step`` to ``to``; every step in ``reset`` begins a new visit."""

    kind: str
    step: str
    to: str
    reset: tuple[str, ...]


@frozen
class Complete:
    """End the execution; its output is the value of ``last_step``."""

    last_step: str | None


@frozen
class Fail:
    """Fail the execution; ``step`` is the step whose failure it is, if any."""

    step: str | None
    error: ErrorInfo


@frozen
class EndRollback:
    """End the rollback: nothing is left to undo."""


Command = StartStep | ChooseRoute | ListItems | CloseItems | Jump | Complete | Fail | EndRollback


@mutable
class _Frame:
    path: Path
    index: int = 0
    source: str | None = None  # the step that diverged onto this path; the path rejoins the timeline at a step of it
    left_at: int = 0  # the index on the timeline at which the run diverged

    @property
    def stage(self) -> tuple[str, ...]:
        return self.path[self.index]


@mutable
class _Queue:
    """The progress of a foreach: the items that are open, and those still to start."""

    waiting: Iterator[str]
    open: set[str] = field(default_factory=set)


@mutable
class Position:
    """Where a run is in its plan: a stack of paths, innermost last, and the unsettled steps of the current stage."""

    frames: list[_Frame]
    unsettled: set[str] = field(default_factory=set)
    entered: bool = False
    placed: bool = False
    queues: dict[str, _Queue] = field(default_factory=dict)
    ahead: dict[str, None] = field(default_factory=dict)  # steps of the stage that start in a later portion

    @classmethod
    def at_start(cls, plan: Plan) -> Position:
        """Return the position before the first step of the timeline."""
        return cls([_Frame(plan.timeline)])

    @property
    def stage(self) -> tuple[str, ...]:
        """The steps of the current stage."""
        return self.frames[-1].stage

    @property
    def left_at(self) -> int:
        """The index on the timeline at which the run is, or at which it left the timeline for its current path."""
        base = self.frames[0]
        return base.index if base.source is None else base.left_at


def decide(
    plan: Plan, state: State, at: Position, changed: Sequence[str] | None = None, most: int | None = None
) -> list[Command]:
    """Decide what should happen now.

    Args:
        plan: the validated workflow.
        state: the fold of everything recorded.
        at: where the run is; moved past everything settled, in place.
        changed: the steps to which something happened since the last call at this position; None checks the whole
            stage.
        most: how many steps, and how many items of a foreach, this call may start for the first time; the others wait
            in ``at.ahead`` for the next call. None: all of them.

    Returns:
        Any number of ``StartStep``, or exactly one other command, or nothing if everything is in flight.

    Example:
        >>> plan = Plan(workflow="w", timeline=(("a",),), steps={})
        >>> decide(plan, State(), Position.at_start(plan))
        [StartStep(step='a', visit=1, attempt=1, due_at=None)]
    """
    steps = state.steps
    if (
        changed is not None
        and len(changed) == 1
        and at.entered
        and not (state.restoring or plan.each or state.rollback)
    ):
        following = _next_in_chain(plan, steps, at, changed[0])
        if following is not None:
            return [following]
    if state.rollback is not None and not state.rollback.is_over:
        return _undo(state, state.rollback)
    if state.restoring:
        return _restore(plan, state, at, changed)
    if not at.placed:
        _place(plan, state, at)
    while True:
        if not at.entered:
            _pass_completed(plan, steps, at.frames[-1])
            if not _at_a_stage(at):
                return [Complete(_last(state, at))]
            command = _rejoin(plan, state, at)
            if command is not None:
                return [command]
            at.entered, changed = True, None
        stage = at.stage
        if changed is None:
            at.unsettled = {name for name in stage if name not in steps or not steps[name].settled}
            changed = stage
            at.queues.clear()
            at.ahead.clear()
            if most is not None and len(stage) > most:
                changed = ()
                at.ahead.update((name, None) for name in stage if name in at.unsettled)
        elif at.unsettled:
            if plan.each:  # the names of items are among the changed, but not in the stage
                changed_steps = [name for name in changed if name in steps]
                at.unsettled.difference_update([name for name in changed_steps if steps[name].settled])
            else:
                at.unsettled.difference_update([name for name in changed if steps[name].settled])
        if at.unsettled:
            if at.ahead:
                portion = list(islice(at.ahead, most))
                for name in portion:
                    del at.ahead[name]
                changed = [*changed, *portion]
            if plan.each:
                return _start_with_items(plan, state, at, changed, most)
            return [
                _start(name, steps.get(name)) for name in changed if name in at.unsettled and _startable(steps, name)
            ]
        command = _join(plan, state, stage, at)
        if command is not None:
            return [command]


def _next_in_chain(plan: Plan, steps: Mapping[str, StepState], at: Position, name: str) -> StartStep | None:
    """Return the start of the step after ``name`` if both are alone in their stages and nothing is routed; else None.

    Most decisions are of this kind: this returns the same as the rest of `decide`, in fewer calls.
    """
    frame = at.frames[0]
    path, index = frame.path, frame.index + 1
    if len(at.frames) > 1 or frame.source is not None or index >= len(path) or path[index - 1] != (name,):
        return None
    stage = path[index]
    if len(stage) > 1 or stage[0] in steps or name in plan.diverges or name in plan.branches:
        return None
    if steps[name].phase is not COMPLETED:
        return None
    frame.index, at.unsettled = index, set(stage)
    return StartStep(stage[0], 1, 1)


def _last(state: State, at: Position) -> str | None:
    """Return the step whose value is the output: the last to complete; of a parallel group, the last in the list.

    A step whose result was given by hand before the run reached it counts as completed when it is reached.
    """
    path = at.frames[-1].path
    stage = path[min(at.frames[-1].index, len(path) - 1)] if path else ()
    ended = [name for name in stage if name in state.finished]
    given = ended and state.steps[ended[-1]].by_hand and state.steps[ended[-1]].branch is None
    return ended[-1] if given or state.last_step in stage else state.last_step


def reset_by(plan: Plan, state: State, target: str, source: str) -> tuple[str, ...]:
    """Return the started steps that a jump back from ``source`` to ``target`` resets: the target and what follows it.

    The source is always one of them: everything between the two must run again.
    """
    return tuple(name for name in steps_from(plan, target, source) if name in state.steps)


def _start_with_items(
    plan: Plan, state: State, at: Position, changed: Sequence[str], most: int | None
) -> list[Command]:
    """Start what is missing in a stage with a foreach, which is also changed by what happens to its items."""
    found: list[Command] = []
    moved: dict[str, list[str]] = {}
    for name in changed:
        owner = owner_of(name)
        if owner not in at.unsettled:
            continue
        if owner in plan.each:
            moved.setdefault(owner, []).append(key_of(name))
        elif _startable(state.steps, name):
            found.append(_start(name, state.steps.get(name)))
    for owner, keys in moved.items():
        commands = _continue_items(plan, state, at, owner, keys, most)
        if commands and not isinstance(commands[0], StartStep):
            return commands
        found += commands
    return found


def _continue_items(
    plan: Plan, state: State, at: Position, name: str, moved: Sequence[str], most: int | None = None
) -> list[Command]:
    """Return the next step of each item to which something happened, and the first of new items, up to the limits."""
    each, step = plan.each[name], state.steps.get(name)
    if step is None or step.items is None:
        return [ListItems(name)]
    queue = at.queues.get(name)
    if queue is None:
        queue, moved = at.queues.setdefault(name, _Queue(iter(step.items.keys))), ()
    found: list[Command] = []
    for key in moved:
        if key in queue.open:
            following = _next_of(name, each, step, key)
            if following is None:
                queue.open.discard(key)
            else:
                found += following
    while len(queue.open) < each.at_once:
        if most is not None and len(found) >= most:
            at.ahead[name] = None
            return found
        if (new := next(queue.waiting, None)) is None:
            break
        following = _next_of(name, each, step, new)
        if following is not None:
            queue.open.add(new)
            found += following
    return found if queue.open else [CloseItems(name)]


def _next_of(owner: str, each: Each, foreach: StepState, key: str) -> list[StartStep] | None:
    """Return what must start now for an item; None if it has its outcome."""
    assert foreach.items is not None
    steps = foreach.items.steps
    if (last := steps.get(of_item(owner, key))) is not None and last.settled:
        return None
    for step in each.body:
        name = of_item(owner, key, step)
        known = steps.get(name)
        if known is None:
            return [StartStep(name, foreach.visit, 1)]
        if known.phase is Phase.FAILED:
            return None
        if known.phase is not Phase.COMPLETED:
            return [_start(name, known)] if _startable(steps, name) else []
    return None


def _undo(state: State, rollback: Rollback) -> list[Command]:
    """Undo one step after the other; a failed undo ends the rollback, because the others may depend on its effect."""
    name = next(iter(rollback.todo), None)
    if name is None:
        return [EndRollback()]
    undo, known = rollback.steps.get(undo_of(name)), state.step(name)
    if undo is None:
        return [StartStep(undo_of(name), 1 if known is None else known.visit, 1)]
    if undo.phase is Phase.FAILED:
        assert undo.error is not None
        return [Fail(undo_of(name), undo.error)]
    return [_start(undo_of(name), undo)] if _startable(rollback.steps, undo_of(name)) else []


def _restore(plan: Plan, state: State, at: Position, changed: Sequence[str] | None) -> list[Command]:
    """Restore a value that a later step needs and the log does not hold, before the run continues."""
    name = next(iter(state.restoring))
    step = state.steps[name]
    if step.phase is Phase.FAILED:
        assert step.error is not None
        return [Fail(name, step.error)]
    if name in plan.each:
        if changed is None:
            at.queues.clear()
        return _continue_items(plan, state, at, name, [key_of(n) for n in changed or ()])
    return [_start(name, step)] if _startable(state.steps, name) else []


def _place(plan: Plan, state: State, at: Position) -> None:
    """On a resume, move to the target of the last jump back on the timeline, unless a step before it must still run."""
    at.placed = True
    open_steps = {name for name, step in state.steps.items() if not step.settled} if state.landings else set()
    for landing in reversed(state.landings):
        if landing in plan.stage_of and open_steps <= steps_from(plan, landing, landing).keys():
            _go_to(plan, at, landing)
            return


def _startable(steps: Mapping[str, StepState], name: str) -> bool:
    step = steps.get(name)
    return step is None or step.phase is Phase.PENDING or step.phase is Phase.RETRYING


def _start(name: str, step: StepState | None) -> StartStep:
    return StartStep(name, 1, 1) if step is None else StartStep(name, step.visit, step.attempt + 1, step.due_at)


def _pass_completed(plan: Plan, steps: Mapping[str, StepState], frame: _Frame) -> None:
    """Move past stages that are one completed step without a route, of which a resume may pass thousands."""
    if frame.source is not None:
        return
    path, index = frame.path, frame.index
    while index < len(path) and len(stage := path[index]) == 1:
        name = stage[0]
        step = steps.get(name)
        if step is None or step.phase is not COMPLETED or name in plan.diverges or name in plan.branches:
            break
        index += 1
    frame.index = index


def _at_a_stage(at: Position) -> bool:
    """Move past the ends of paths; return False if the run is at the end of the timeline."""
    frames = at.frames
    while frames[-1].index >= len(frames[-1].path):
        if len(frames) == 1:
            return False
        frames.pop()
        frames[-1].index += 1
    return True


def _rejoin(plan: Plan, state: State, at: Position) -> Command | None:
    """Continue on the timeline where the path of a diverge reaches a step of it; backwards, this is a counted jump.

    The plan decides whether it is backwards, not the state: on a resume, a step ahead may already be settled.
    """
    frame = at.frames[-1]
    target = frame.stage[0]
    if frame.source is None or target not in plan.stage_of:
        return None
    if plan.stage_of[target] > frame.left_at:
        _move_ahead_to(plan, state, at, target, frame.source)
        return None
    source = frame.path[frame.index - 1][-1] if frame.index else frame.source
    return _jump(plan, state, at, "back_to", source, target)


def _join(plan: Plan, state: State, stage: tuple[str, ...], at: Position) -> Command | None:
    """Leave a settled stage: choose or follow a route, or fail; None if the run moves on."""
    for name in stage:
        if plan.routed(name) and not _chosen(plan, state.steps[name], name):
            return ChooseRoute(name)
    for name in stage:
        step = state.steps[name]
        if step.phase is Phase.FAILED and step.diverge is None:
            assert step.error is not None
            return Fail(name, step.error)
    for name in stage:
        target = _route(plan, state.steps[name], name)
        if target is None or target == ():
            continue
        if isinstance(target, Action):
            if target.kind is ActionKind.PROCEED:
                continue
            return _act(plan, state, at, name, target)
        again = _ran_on_other_path(plan, state, name, target)
        if again:
            return _jump(plan, state, at, "again", name, target[0][0], again)
        if state.steps[name].diverge is not None:
            at.frames = [_Frame(target, source=name, left_at=at.left_at)]
        else:
            at.frames.append(_Frame(target))
        at.entered = False
        return None
    at.frames[-1].index += 1
    at.entered = False
    return None


def _chosen(plan: Plan, step: StepState, name: str) -> bool:
    if name in plan.diverges and not step.diverge_chosen:
        return False
    if name not in plan.branches or step.diverge is not None or step.phase is not Phase.COMPLETED:
        return True
    return step.branch is not None


def _route(plan: Plan, step: StepState, name: str) -> Target | None:
    if step.diverge is not None:
        return plan.diverges[name].choices[step.diverge][1]
    if step.branch is not None and name in plan.branches:
        branch = plan.branches[name]
        return branch.when_true if step.branch else branch.when_false
    return None


def _act(plan: Plan, state: State, at: Position, name: str, action: Action) -> Command | None:
    match action.kind:
        case ActionKind.END:
            return Complete(_last(state, at))
        case ActionKind.FAIL:
            reason = action.reason or f"the route of step '{name}' failed the run"
            return Fail(name, ErrorInfo(type="flow.fail", message=reason))
        case ActionKind.RETRY:
            tries = state.steps[name].route_retries + 1
            if tries >= action.max_attempts:
                return _exhausted(state, name, tries)
            return _jump(plan, state, at, "retry", name, name)
        case ActionKind.BACK_TO:
            assert action.step is not None
            return _jump(plan, state, at, "back_to", name, action.step)
        case ActionKind.SKIP_TO:
            assert action.step is not None
            _move_ahead_to(plan, state, at, action.step, name)
            return None
        case ActionKind.PROCEED:
            raise AssertionError("proceed is not a jump")


def _exhausted(state: State, name: str, tries: int) -> Fail:
    error = state.steps[name].error
    if error is not None:
        return Fail(name, error)
    label = state.steps[name].diverge
    message = f"step '{name}' still gave {label} after {tries} attempts (flow.retry)"
    return Fail(name, ErrorInfo(type="flow.retry", message=message))


def _ran_on_other_path(plan: Plan, state: State, source: str, target: Path) -> tuple[str, ...]:
    """Return the steps of a path off the timeline that ran on another step's path before this route was chosen."""
    chosen = state.steps[source].routed_at
    names = (n for stage in target for n in stage if n in state.steps and n not in plan.stage_of)
    older = [n for n in names if state.steps[n].settled and state.steps[n].settled_at < chosen]
    return tuple(n for n in older if len(owners_of(plan, n)) > 1) if older else ()


def _jump(
    plan: Plan, state: State, at: Position, kind: str, source: str, target: str, reset: tuple[str, ...] = ()
) -> Command:
    if state.jumps >= plan.max_jumps:
        message = (
            f"stopped after {plan.max_jumps} jumps, the last from '{source}' back to '{target}': the loop does not "
            f"end. Give it an exit, or raise the limit with @workflow(max_jumps=...)"
        )
        return Fail(source, ErrorInfo(type="JumpLimit", message=message))
    if kind != "back_to":
        at.entered = False
        return Jump(kind, source, target, reset or (source,))
    _go_to(plan, at, target)
    return Jump(kind, source, target, reset_by(plan, state, target, source))


def _move_ahead_to(plan: Plan, state: State, at: Position, target: str, router: str) -> None:
    """Move ahead to a step; or, if the run has since jumped back to a step that this would pass, to that step.

    The latter only happens on a resume, which follows again a route that skips the step.
    """
    source = at.frames[-1]
    left_at = at.left_at
    _go_to(plan, at, target)
    frame, chosen = at.frames[-1], state.steps[router].routed_at
    first = source.index if frame.path is source.path else left_at
    passed = {name for stage in frame.path[first + 1 : frame.index] for name in stage} if state.landings else ()
    for landing, since in reversed(state.landings.items()):
        if landing in passed and since > chosen:
            _go_to(plan, at, landing)
            return


def _go_to(plan: Plan, at: Position, target: str) -> None:
    """Move to a step on one of the paths that the run is on, else on the timeline."""
    at.entered = False
    for depth in reversed(range(len(at.frames))):
        frame = at.frames[depth]
        for index, stage in enumerate(frame.path):
            if target in stage and (frame.source is None or target not in plan.stage_of):
                at.frames[depth:] = [_Frame(frame.path, index, frame.source, frame.left_at)]
                return
    at.frames = [_Frame(plan.timeline, plan.stage_of[target])]
