"""Objects shared between variables, and values that JSON would change."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from math import isfinite
from typing import Any

from .._values.tags import DEEPEST

__all__ = ["SCALARS", "containers", "groups_of", "is_array", "memories_of", "memory_of", "survives_json"]

SCALARS = (int, float, str, bool, type(None), bytes, complex)
_EXACT = frozenset({int, str, bool, type(None)})
"""The exact types that JSON always brings back unchanged."""
_TEXT = frozenset({str})


def is_array(value: Any) -> bool:
    """Whether a value is a view of memory: a NumPy array, one of a subclass, or a record of one."""
    numpy: Any = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, (numpy.ndarray, numpy.void))


def memory_of(value: Any) -> Any:
    """Return the array that owns the memory of an array; any other value owns its own."""
    root = value
    while is_array(root) and is_array(root.base):
        root = root.base
    return root


def memories_of(frame: Any) -> tuple[set[int], bool]:
    """Return the ids of the memory that a pandas frame or series uses, and whether other pandas objects may share it.

    Before pandas 3 a column shares the memory of its frame; since then a change makes a copy ("copy on write").
    """
    pandas: Any = sys.modules.get("pandas")
    if pandas is None or not isinstance(frame, (pandas.DataFrame, pandas.Series)):
        return set(), False
    columns = [frame] if frame.ndim == 1 else [frame.iloc[:, number] for number in range(frame.shape[1])]
    found = {
        # An array that is not NumPy's is one object, which the frame and its column share.
        id(memory_of(column.to_numpy()) if type(column.dtype).__module__.startswith("numpy") else column.array)
        for column in columns
    }
    copies = int(pandas.__version__.partition(".")[0]) >= 3 or pandas.options.mode.copy_on_write is True
    return found, not copies


def containers(value: Any, seen: set[int] | None = None) -> Iterable[Any]:
    """Yield a value and the lists and dicts in it."""
    seen = set() if seen is None else seen
    if id(value) in seen or type(value) in SCALARS:
        return
    seen.add(id(value))
    yield value
    if type(value) is dict or type(value) is list:
        for inner in value.values() if type(value) is dict else value:
            yield from containers(inner, seen)


def survives_json(value: Any, seen: set[int], levels: int = DEEPEST) -> bool:
    """Whether JSON brings a value back the same: exact types, finite numbers, and no list or dict twice.

    Args:
        value: the value.
        seen: the ids of lists and dicts seen so far; those of the value are added.
        levels: how deep the value may be nested.
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
    if _EXACT.issuperset(map(type, inner)):  # the usual case, without a call per item
        return True
    return all(survives_json(one, seen, levels - 1) for one in inner)


def groups_of(shared: dict[str, set[int]]) -> list[list[str]]:
    """Group the names that share an object."""
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
