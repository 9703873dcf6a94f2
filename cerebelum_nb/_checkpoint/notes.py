"""Notes for the author of a step: where it cannot continue, and what is not kept there."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .places import Place, own_nodes
from .twin import Twin

__all__ = ["notes"]


def notes(twin: Twin) -> Iterator[str]:
    """List where a function cannot be entered and why, what `with` is entered again, and which globals are not kept."""
    waits = [place for place in twin.places if place.waits]
    for place in waits:
        if place.refusal:
            yield f"line {place.line}: it cannot continue there: {place.refusal}; it continues at the wait before it"
    around: dict[int, Place] = {}
    for place in waits:
        for outer in () if place.refusal else place.withs:
            around.setdefault(outer.number, place)
    for number, place in around.items():
        outer = twin.places[number]
        yield f"line {outer.line}: its `with` is left, and entered again when it continues at line {place.line}"
    yield from _not_kept(twin, waits)


def _not_kept(twin: Twin, waits: list[Place]) -> Iterator[str]:
    """Name the variables of a module or an enclosing function that are changed before a wait."""
    declared = {
        name
        for place in twin.places
        if isinstance(place.node, (ast.Global, ast.Nonlocal))
        for name in place.node.names
        if name not in twin.code.co_cellvars
    }
    for name in sorted(declared):
        changed = next((place for place in twin.places if _stores(place, name)), None)
        wait = next((one for one in waits if changed is not None and one.number > changed.number), None)
        if changed is not None and wait is not None:
            yield (
                f"line {changed.line}: `{name}` is changed here, and another process that continues at line "
                f"{wait.line} has it as it was defined"
            )


def _stores(place: Place, name: str) -> bool:
    nodes = own_nodes(place.node)
    return any(isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store) for n in nodes)
