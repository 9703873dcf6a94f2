"""Walk the members of a value, with the text of their path: ``['rows'][3].price``.

It finds the culprit in a value that cannot be stored. It must not import cloudpickle or change anything.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from .preview import preview
from .redactor import Redactor

__all__ = ["find", "members"]

Found = tuple[str, object]


def members(value: Any, redactor: Redactor | None = None) -> Iterator[tuple[str, object, object]]:
    """Yield ``(suffix of the path, key, member)`` for the members of a container, an object or a function."""
    if type(value).__module__.startswith("pandas"):
        if type(value).__name__ == "DataFrame":
            yield from ((f"[{preview(name, 60, redactor=redactor)}]", name, column) for name, column in value.items())
        return
    match value:
        case dict():
            for key, item in value.items():
                name = preview(key, 60, redactor=redactor)
                if not isinstance(key, (str, int)):
                    yield f".key({name})", None, key
                yield f"[{name}]", key, item
        case list() | tuple():
            for index, item in enumerate(value):
                yield f"[{index}]", index, item
        case set() | frozenset():
            for item in value:
                yield f"{{{preview(item, 60, redactor=redactor)}}}", None, item
        case types.FunctionType():
            for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
                with suppress(ValueError):  # an empty cell
                    yield f".closure[{name!r}]", name, cell.cell_contents
            for name in value.__code__.co_names:
                if name in value.__globals__:
                    yield f".globals[{name!r}]", name, value.__globals__[name]
        case types.MethodType():
            yield ".__self__", None, value.__self__
        case partial():
            yield ".func", None, value.func
            yield from ((f".args[{i}]", None, item) for i, item in enumerate(value.args))
            yield from ((f".keywords[{key!r}]", key, item) for key, item in value.keywords.items())
    if isinstance(value, (type, types.ModuleType, types.FunctionType, partial)):
        return
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__"):
                with suppress(AttributeError):  # a slot never set
                    yield f".{name}", name, getattr(value, name)
    with suppress(TypeError):
        for name, item in vars(value).items():
            yield f".{name}", name, item


def find(
    value: object,
    path: str,
    matches: Callable[[object, object], bool],
    *,
    redactor: Redactor | None = None,
    deepest: bool = False,
) -> Found | None:
    """Find the first member for which ``matches(key, member)`` is true; return its path and the member.

    Args:
        value: the value to search; it is not tested itself.
        path: its name, with which the returned path begins.
        matches: the test.
        redactor: secrets to mask in the path.
        deepest: True if every holder of the culprit matches too: then only matching members are searched.
    """
    seen: set[int] = set()
    holders: list[object] = []  # keeps temporary members alive, so that ids are unique

    def look(value: object, path: str, depth: int) -> Found | None:
        if id(value) in seen or depth > 100:
            return None
        seen.add(id(value))
        holders.append(value)
        for suffix, key, member in members(value, redactor):
            if matches(key, member):
                return (look(member, path + suffix, depth + 1) if deepest else None) or (
                    path + suffix,
                    member,
                )
            if not deepest and _is_data(member):
                found = look(member, path + suffix, depth + 1)
                if found is not None:
                    return found
        return None

    return look(value, path, 0)


def _is_data(value: object) -> bool:
    """Whether to search inside a member: not in objects of the standard library, which lead to loggers and modules."""
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        return True
    return type(value).__module__.partition(".")[0] not in sys.stdlib_module_names
