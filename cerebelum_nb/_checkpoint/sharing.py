"""Objects shared between variables, and values that JSON would change."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from math import isfinite
from typing import Any

from .._values.tags import DEEPEST

__all__ = ["SCALARS", "comes_back", "containers", "groups_of", "is_array", "memories_of", "memory_of"]

SCALARS = (int, float, str, bool, type(None), bytes, complex)
_EXACT = frozenset({int, str, bool, type(None)})
"""What JSON always brings back the same, by exact type."""
_TEXT = frozenset({str})


def is_array(value: Any) -> bool:
    """Whether a value looks at memory as arrays do: NumPy's, those of its subclasses, and records of them."""
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, (numpy.ndarray, numpy.void))


def memory_of(value: Any) -> Any:
    """The array whose memory an array looks at; other values are their own."""
    root = value
    while is_array(root) and is_array(root.base):
        root = root.base
    return root


def memories_of(frame: Any) -> tuple[set[int], bool]:
    """The ids of the memory that a frame or a series of pandas looks at, and whether others of pandas share it.

    Before pandas 3 a column of a frame shares its memory; since then a change makes a copy ("copy on write").
    """
    pandas: Any = sys.modules.get("pandas")
    if pandas is None or not isinstance(frame, (pandas.DataFrame, pandas.Series)):
        return set(), False
    columns = [frame] if frame.ndim == 1 else [frame.iloc[:, number] for number in range(frame.shape[1])]
    found = {
        # An array that is not NumPy's is an object of its own, which frame and column share.
        id(memory_of(column.to_numpy()) if type(column.dtype).__module__.startswith("numpy") else column.array)
        for column in columns
    }
    copies = int(pandas.__version__.partition(".")[0]) >= 3 or pandas.options.mode.copy_on_write is True
    return found, not copies


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
