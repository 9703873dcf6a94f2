"""The check of a plan before anything runs: all problems at once, each with its fix.

Pure: a plan in, a report out. The builder reports what cannot be put into a plan at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import field

from .._text.text import did_you_mean
from .graph import Action, ActionKind, Path, Plan, Target
from .paths import every_path
from .record import frozen, mutable

__all__ = ["Report", "validate"]


@frozen
class Report:
    """What is wrong with a workflow.

    Attributes:
        errors: what prevents it from running, each with its fix.
        warnings: what looks wrong but does not prevent a run.
        notes: at which lines a step that waits cannot continue, and what is not kept there.
    """

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the workflow can run."""
        return not self.errors

    def __str__(self) -> str:
        lines = [f"- {text}" for text in self.errors] + [f"- (warning) {text}" for text in self.warnings]
        lines += [f"- (note) {text}" for text in self.notes]
        return "\n".join(lines) or "no problems"

    def __repr__(self) -> str:
        """Return the problems as text, which a cell shows."""
        return str(self)


def validate(plan: Plan) -> Report:
    """Check a plan.

    Example:
        >>> validate(Plan(workflow="w", timeline=(), steps={})).errors
        ("the timeline is empty: call wf.timeline(first >> second) in workflow 'w'",)
    """
    errors: list[str] = []
    warnings: list[str] = []
    if not plan.timeline:
        errors.append(f"the timeline is empty: call wf.timeline(first >> second) in workflow '{plan.workflow}'")
    errors.extend(_repeats(plan))
    errors.extend(_bodies(plan))
    errors.extend(_loops_of_paths(plan))
    errors.extend(_routes(plan))
    if not errors:  # the order only means something if every stage is valid
        graph = _Graph.of(plan)
        warnings.extend(graph.unreachable())
        warnings.extend(_misspelt(plan))
        if plan.rolls_back and not plan.undo:
            warnings.append(
                "on_failure='rollback' undoes nothing: no step has a handler. Define one with @STEP.on_rollback"
            )
        errors.extend(_undos(plan, graph))
        errors.extend(_dependencies(plan, graph))
    else:
        errors.extend(_unknown_dependencies(plan))
    return Report(tuple(errors), tuple(warnings))


def _repeats(plan: Plan) -> Iterator[str]:
    for where, path in _named_paths(plan):
        for stage in path:
            for name, count in Counter(stage).items() if len(stage) > 1 else ():
                if count > 1:
                    yield f"step '{name}' appears {count} times in one parallel list of {where}: keep it once"
        order = [name for stage in path for name in dict.fromkeys(stage)]
        if len(set(order)) == len(order):
            continue
        seen: dict[str, int] = {}
        for index, name in enumerate(order):
            if name in seen:
                loop = " -> ".join(_shortened(order[seen[name] : index + 1]))
                yield (
                    f"{where} returns to a step it has already passed: {loop}. Each step may be in it only once; "
                    f"to repeat it, use wf.diverge(from_step=..., patterns={{...: flow.back_to({name})}})"
                )
                break
            seen[name] = index


def _bodies(plan: Plan) -> Iterator[str]:
    """Report steps in more than one place: a step runs for the items of one list, or outside a foreach."""
    if not plan.each:
        return
    inside: dict[str, str] = {}
    for owner, each in plan.each.items():
        for name in each.body:
            if name in inside:
                yield f"step '{name}' is in two foreach, {inside[name]} and {owner}: make a second step of it"
            elif name != owner and name in plan.steps:
                yield f"step '{name}' is both in foreach({owner}) and outside it: make a second step of it"
            inside[name] = owner
    for user, spec in plan.steps.items():
        for needed in spec.requires:
            if needed in inside and inside[needed] != needed:
                yield (
                    f"step '{user}' needs '{needed}', which runs for each item: only '{inside[needed]}' is available "
                    f"outside its foreach, as the list of its results"
                )


def _loops_of_paths(plan: Plan) -> Iterator[str]:
    """Report steps off the timeline with a route whose path comes back to them."""
    ahead: dict[str, dict[str, None]] = {}
    for owner, _, target, _ in _targets(plan):
        if not isinstance(target, Action):
            names = (n for stage in target for n in stage if n not in plan.stage_of)
            ahead.setdefault(owner, {}).update(dict.fromkeys(names))
    reported: set[str] = set()
    for start in ahead:
        way: dict[str, tuple[str, ...]] = {start: (start,)}
        todo = [start]
        while todo:
            here = todo.pop()
            for name in ahead.get(here, ()):
                if name == start and start not in plan.stage_of and start not in reported:
                    reported.update(way[here])
                    yield (
                        f"the paths off the timeline return to a step they have already passed: "
                        f"{' -> '.join((*way[here], start))}. Put '{start}' on the timeline, where a path may "
                        f"rejoin, or repeat it with flow.retry()"
                    )
                elif name not in way:
                    way[name] = (*way[here], name)
                    todo.append(name)


def _routes(plan: Plan) -> Iterator[str]:
    if not (plan.diverges or plan.branches):
        return
    placed = _placed(plan)
    for kind, name in [*(("diverge", n) for n in plan.diverges), *(("branch", n) for n in plan.branches)]:
        if name not in placed:
            yield (
                f"{kind} is at '{name}', which is on no path"
                f"{_did_you_mean(name, placed, f'put {name} on the timeline, or remove the {kind}')}"
            )
    for name, label, target, leaves in _targets(plan):
        where = f"{'diverge' if leaves else 'branch'} at '{name}', {label}"
        if isinstance(target, Action):
            yield from _action(plan, placed, name, where, target)
            continue
        for i, stage in enumerate(target):
            on_timeline = [n for n in stage if n in plan.stage_of]
            if not on_timeline:
                continue
            if not leaves:
                yield (
                    f"{where}: '{on_timeline[0]}' is already on the timeline, and a branch runs in between: use "
                    f"flow.skip_to({on_timeline[0]}), or a diverge"
                )
            elif len(stage) > 1 or len(plan.timeline[plan.stage_of[on_timeline[0]]]) > 1:
                yield (
                    f"{where}: the path meets the timeline inside a parallel list at '{on_timeline[0]}': "
                    f"rejoin at a step that is alone in its stage"
                )
            elif i < len(target) - 1:
                rest = ", ".join(n for later in target[i + 1 :] for n in later)
                yield (
                    f"{where}: the path rejoins the timeline at '{on_timeline[0]}', so what follows it there "
                    f"({rest}) would never run as written: end the path at '{on_timeline[0]}'"
                )
            break


def _action(plan: Plan, placed: dict[str, None], name: str, where: str, action: Action) -> Iterator[str]:
    target = action.step
    if target is None:
        return
    if target not in placed:
        hint = f"put {target} on the timeline, or name another step"
        yield f"{where}: {action} names a step that is on no path{_did_you_mean(target, placed, hint)}"
        return
    index = plan.stage_of.get(target)
    if index is None:
        yield from _action_on_path(plan, name, where, action)
        return
    if len(plan.timeline[index]) > 1:
        yield f"{where}: {action} would enter a parallel list in the middle; jump to a step that is alone in its stage"
        return
    starts = _timeline_indices(plan, name)
    if action.kind is ActionKind.SKIP_TO and any(index <= here for here in starts):
        yield f"{where}: {action} goes backwards; use flow.back_to({target})"
    if action.kind is ActionKind.BACK_TO and any(index > here for here in starts):
        yield f"{where}: {action} goes forwards; use flow.skip_to({target})"


def _action_on_path(plan: Plan, name: str, where: str, action: Action) -> Iterator[str]:
    """Report jumps to steps off the timeline that leave the path on which they start."""
    target = action.step
    places = []
    for path in every_path(plan):
        at = {n: i for i, stage in reversed(list(enumerate(path))) for n in stage}
        if target in at and name in at:
            places.append((at[name], at[target], len(path[at[target]])))
    if not places:
        yield f"{where}: {action} names a step of another path; jump to a step of the timeline or of the same path"
    elif any(size > 1 for _, _, size in places):
        yield f"{where}: {action} would enter a parallel list in the middle; jump to a step that is alone in its stage"
    elif action.kind is ActionKind.SKIP_TO and any(there <= here for here, there, _ in places):
        yield f"{where}: {action} goes backwards; use flow.back_to({target})"
    elif action.kind is ActionKind.BACK_TO and any(there > here for here, there, _ in places):
        yield f"{where}: {action} goes forwards; use flow.skip_to({target})"


def _dependencies(plan: Plan, graph: _Graph) -> Iterator[str]:
    yield from _unknown_dependencies(plan)
    for user, spec in plan.steps.items():
        for needed in spec.requires:
            if needed not in plan.steps or graph.can_precede(needed, user):
                continue
            if user in plan.steps[needed].requires:
                yield f"'{user}' and '{needed}' need each other's results: {user} -> {needed} -> {user}"
            else:
                yield (
                    f"step '{user}' needs the result of '{needed}', which never runs before it: put '{needed}' "
                    f"earlier, or give the parameter a default to make it optional"
                )


def _undos(plan: Plan, graph: _Graph) -> Iterator[str]:
    """Report handlers that use a result that may not exist when they run: it must exist once their step completed."""
    bodies = {step: (owner, each) for owner, each in plan.each.items() for step in each.body}
    for name, spec in plan.undo.items():
        owner, each = bodies.get(name, (name, None))
        own = {name} if each is None else {*each.body, each.parameter}
        handler = f"'{spec.name}', which undoes '{name}',"
        for needed in spec.requires:
            if needed in own:
                continue
            if needed not in plan.steps:
                hint = "name the step it undoes, 'inputs', 'context' or 'error'"
                yield (
                    f"{handler} needs '{needed}', which is not a step of this workflow"
                    f"{_did_you_mean(needed, own, hint)}"
                )
            elif not graph.can_precede(needed, owner):
                yield (
                    f"{handler} needs the result of '{needed}', which may not exist: give the parameter a default to "
                    f"make it optional"
                )


def _unknown_dependencies(plan: Plan) -> Iterator[str]:
    for user, spec in plan.steps.items():
        for needed in spec.requires:
            if needed not in plan.steps:
                hint = f"put {needed} on the timeline, or remove the parameter"
                if needed == "self":
                    hint = "a step is a plain function, not a method: define it outside the class"
                yield (
                    f"step '{user}' needs '{needed}', which is not a step of this workflow"
                    f"{_did_you_mean(needed, (*plan.steps, 'context', 'inputs'), hint)}"
                )


def _misspelt(plan: Plan) -> Iterator[str]:
    """Warn about parameters with a default whose name is not a step, but similar to a step's name."""
    for user, spec in plan.steps.items():
        for wanted in spec.optional:
            if wanted not in plan.steps:
                import difflib  # imported here: it takes a millisecond

                near = difflib.get_close_matches(wanted, [n for n in plan.steps if n != user], n=1, cutoff=0.75)
                if near:
                    yield (
                        f"step '{user}' has a parameter '{wanted}', which is not a step and keeps its default. "
                        f"Did you mean '{near[0]}'?"
                    )


@mutable
class _Graph:
    """Which stage can follow which; stages are numbered across all paths.

    Without routes it is empty, because the order of the timeline says which step can follow which.
    """

    plan: Plan
    following: list[set[int]] = field(default_factory=list)
    stages: list[tuple[str, ...]] = field(default_factory=list)
    places: dict[str, list[int]] = field(default_factory=dict)
    jumps: list[tuple[int, str]] = field(default_factory=list)
    known: dict[int, frozenset[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan) -> _Graph:
        graph = cls(plan)
        if not (plan.diverges or plan.branches):
            return graph
        timeline = graph._add(plan.timeline)
        pending = [
            (number, plan.timeline[i], timeline[i + 1] if i + 1 < len(timeline) else None)
            for i, number in enumerate(timeline)
        ]
        attached: dict[tuple[str, str], list[int]] = {}
        while pending:
            number, stage, after = pending.pop()
            leaves_always = False
            for name in stage:
                for label, target, leaves in _targets_of(plan, name):
                    if isinstance(target, Action):
                        if target.step is not None:
                            graph.jumps.append((number, target.step))
                        leaves_always |= label == "_" and target.kind is not ActionKind.PROCEED
                        continue
                    leaves_always |= label == "_"
                    if not target:
                        continue
                    key = (name, label)
                    if key not in attached:
                        own = [stage for stage in target if stage[0] not in plan.stage_of]
                        attached[key] = numbers = graph._add(tuple(own))
                        end = None if leaves else after
                        rejoin = next((plan.stage_of[s[0]] for s in target if s[0] in plan.stage_of), None)
                        if rejoin is not None and leaves:
                            end = timeline[rejoin]
                        for i, inner in enumerate(numbers):
                            pending.append((inner, own[i], numbers[i + 1] if i + 1 < len(numbers) else end))
                        if not numbers and end is not None:
                            graph.following[number].add(end)
                    graph.following[number].update(attached[key][:1])
            if after is not None and not leaves_always:
                graph.following[number].add(after)
        for number, step in graph.jumps:
            graph.following[number].update(graph.places.get(step, ()))
        return graph

    def can_precede(self, first: str, second: str) -> bool:
        """Whether ``first`` can have run when ``second`` starts."""
        on = self.plan.stage_of
        if first in on and second in on and on[first] < on[second]:
            return True
        targets = set(self.places.get(second, ()))
        return bool(targets) and any(targets & self._reachable(place) for place in self.places[first])

    def unreachable(self) -> Iterator[str]:
        """Report steps that no route reaches."""
        reached = {0, *self._reachable(0)} if self.stages else set()
        for name, places in self.places.items():
            if not reached.intersection(places):
                yield f"step '{name}' can never be reached: every route skips it"

    def _add(self, path: Path) -> list[int]:
        numbers = []
        for stage in path:
            number = len(self.stages)
            self.stages.append(stage)
            self.following.append(set())
            for name in stage:
                self.places.setdefault(name, []).append(number)
            numbers.append(number)
        return numbers

    def _reachable(self, start: int) -> frozenset[int]:
        if start not in self.known:
            found: set[int] = set()
            todo = list(self.following[start])
            while todo:
                number = todo.pop()
                if number not in found:
                    found.add(number)
                    todo.extend(self.following[number])
            self.known[start] = frozenset(found)
        return self.known[start]


def _named_paths(plan: Plan) -> Iterator[tuple[str, Path]]:
    yield "the timeline", plan.timeline
    for name, label, target, leaves in _targets(plan):
        if not isinstance(target, Action):
            yield f"the path of {'diverge' if leaves else 'branch'} at '{name}', {label}", target


def _targets(plan: Plan) -> Iterator[tuple[str, str, Target, bool]]:
    for name in dict.fromkeys((*plan.diverges, *plan.branches)):
        for label, target, leaves in _targets_of(plan, name):
            yield name, label, target, leaves


def _targets_of(plan: Plan, name: str) -> Iterator[tuple[str, Target, bool]]:
    if name in plan.diverges:
        for label, (_, target) in plan.diverges[name].choices.items():
            yield label, target, True
    if name in plan.branches:
        yield "when_true", plan.branches[name].when_true, False
        yield "when_false", plan.branches[name].when_false, False


def _timeline_indices(plan: Plan, name: str) -> set[int]:
    """Return where on the timeline a step is, or where the paths it is on leave the timeline."""
    found: set[int] = set()
    seen, todo = {name}, [name]
    while todo:
        step = todo.pop()
        if step in plan.stage_of:
            found.add(plan.stage_of[step])
            continue
        for owner, _, target, _ in _targets(plan):
            if owner not in seen and not isinstance(target, Action) and any(step in stage for stage in target):
                seen.add(owner)
                todo.append(owner)
    return found


def _placed(plan: Plan) -> dict[str, None]:
    return {name: None for path in every_path(plan) for stage in path for name in stage}


def _shortened(names: list[str]) -> list[str]:
    return names if len(names) <= 8 else [*names[:4], "...", *names[-3:]]


def _did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    hint = did_you_mean(name, known, "", most=1)
    return f". {hint}" if hint else f": {otherwise}"
