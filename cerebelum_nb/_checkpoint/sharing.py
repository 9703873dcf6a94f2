"""What variables share, and what would not come back from JSON as it was."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from math import isfinite
from typing import Any

from .._values.tags import DEEPEST

__all__ = ["SCALARS", "comes_back", "containers", "groups_of", "memories_of", "memory_of"]

SCALARS = (int, float, str, bool, type(None), bytes, complex)
_EXACT = frozenset({int, str, bool, type(None)})
"""What JSON always brings back the same, by exact type."""
_TEXT = frozenset({str})


def memory_of(value: Any) -> Any:
    """The array whose memory an array looks at; other values are their own."""
    if type(value).__module__ != "numpy":
        return value
    root: Any = value
    while type(getattr(root, "base", None)) is type(value):
        root = root.base
    return root


def memories_of(value: Any) -> set[int]:
    """The ids of a frame or an array, and of the memory that it looks at and may share with others.

    Before pandas 3 a column of a frame shares its memory; since then a change makes a copy ("copy on write").
    """
    found = {id(value), id(memory_of(value))}
    pandas: Any = sys.modules.get("pandas")
    if pandas is None or not isinstance(value, (pandas.DataFrame, pandas.Series)):
        return found
    if int(pandas.__version__.partition(".")[0]) >= 3 or pandas.options.mode.copy_on_write is True:
        return found
    columns = [value] if value.ndim == 1 else (value.iloc[:, number] for number in range(value.shape[1]))
    for array in (column.array for column in columns):
        # Other kinds of columns are an object that frame and column share; these are wrapped anew for who asks.
        is_numpy = type(array).__module__.startswith("pandas.core.arrays.numpy_")
        found.add(id(memory_of(array.to_numpy())) if is_numpy else id(array))
    return found


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


def comes_back(value: Any, seen: set[int], levels: int = DEEPEST) -> bool:
    """Whether JSON brings a value back the same: by exact types, finite, and with no list or dict twice.

    Args:
        value: anything.
        seen: the ids of the lists and dicts that were seen already; those of the value are added.
        levels: how deep they may be nested.
    """
    kind = type(value)
    if kind in _EXACT:
        return True
    if kind is float:
        return isfinite(value)
    if (kind is not dict and kind is not list) or not levels or id(value) in seen:
        return False
    seen.add(id(value))
    inner = value
    if kind is dict:
        if not _TEXT.issuperset(map(type, value)):
            return False
        inner = value.values()
    if _EXACT.issuperset(map(type, inner)):  # most often
        return True
    return all(comes_back(one, seen, levels - 1) for one in inner)


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
