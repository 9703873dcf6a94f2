"""The paths of a plan: the timeline and those of the routes, and what comes after a step on them. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from .graph import Action, Path, Plan

__all__ = ["every_path", "owners_of", "paths_of", "steps_from"]


def every_path(plan: Plan) -> Iterator[Path]:
    """Yield the timeline, and the paths of all routes."""
    yield plan.timeline
    yield from _paths_off_timeline(plan)


def paths_of(plan: Plan, name: str) -> Iterator[Path]:
    """Yield the paths of the routes of a step."""
    if name in plan.diverges:
        for _, target in plan.diverges[name].choices.values():
            if not isinstance(target, Action):
                yield target
    if name in plan.branches:
        branch = plan.branches[name]
        for target in (branch.when_true, branch.when_false):
            if not isinstance(target, Action):
                yield target


def owners_of(plan: Plan, name: str) -> set[str]:
    """Return the steps that have a route with this step on its path."""
    routed = {*plan.diverges, *plan.branches}
    return {owner for owner in routed if any(name in stage for path in paths_of(plan, owner) for stage in path)}


def steps_from(plan: Plan, target: str, source: str) -> dict[str, None]:
    """Return the target and every step after it: later stages, and the paths of routes on the way."""
    found: dict[str, None] = {}
    index = plan.stage_of.get(target, len(plan.timeline))
    todo = [plan.timeline[index:]] if target in plan.stage_of else [*_tails(plan, target)]
    while todo:
        for stage in todo.pop():
            for name in stage:
                is_before = plan.stage_of.get(name, index) < index  # a path may rejoin the timeline before the target
                if name in found or is_before:
                    continue
                found[name] = None
                todo.extend(paths_of(plan, name))
    found.setdefault(source, None)
    return found


def _tails(plan: Plan, target: str) -> Iterator[Path]:
    """Yield the rest of every path off the timeline that a step is on, from this step on."""
    for path in _paths_off_timeline(plan):
        for i, stage in enumerate(path):
            if target in stage:
                yield path[i:]


def _paths_off_timeline(plan: Plan) -> Iterator[Path]:
    for name in dict.fromkeys((*plan.diverges, *plan.branches)):
        yield from paths_of(plan, name)
