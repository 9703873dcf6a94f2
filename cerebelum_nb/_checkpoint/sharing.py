"""What variables share, and what would not come back from JSON as it was."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

__all__ = ["SCALARS", "containers", "groups_of", "is_finite", "memory_of", "stands_twice"]

SCALARS = (int, float, str, bool, type(None), bytes, complex)


def memory_of(value: Any) -> Any:
    """The array whose memory an array looks at; other values are their own."""
    if type(value).__module__ != "numpy":
        return value
    root: Any = value
    while type(getattr(root, "base", None)) is type(value):
        root = root.base
    return root


def containers(value: Any, seen: set[int] | None = None) -> Iterable[Any]:
    """The lists and dicts in a value, and itself."""
    seen = set() if seen is None else seen
    if id(value) in seen or type(value) in SCALARS:
        return
    seen.add(id(value))
    yield value
    if type(value) is dict or type(value) is list:
        for inner in value.values() if type(value) is dict else value:
            yield from containers(inner, seen)


def stands_twice(value: Any, seen: set[int]) -> bool:
    """Whether a list or a dict stands twice in a plain value: JSON would make two of it."""
    if type(value) is dict or type(value) is list:
        if id(value) in seen:
            return True
        seen.add(id(value))
        return any(stands_twice(inner, seen) for inner in (value.values() if type(value) is dict else value))
    return False


def is_finite(value: Any) -> bool:
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is dict or type(value) is list:
        return all(map(is_finite, value.values() if type(value) is dict else value))
    return True


def groups_of(shared: dict[str, set[int]]) -> list[list[str]]:
    """Put names together that share an object."""
    parent = {name: name for name in shared}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    owner: dict[int, str] = {}
    for name, ids in shared.items():
        for one in ids:
            parent[root(name)] = root(owner.setdefault(one, name))
    groups: dict[str, list[str]] = {}
    for name in shared:
        groups.setdefault(root(name), []).append(name)
    return list(groups.values())
