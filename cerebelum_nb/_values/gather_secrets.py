"""Find the secrets in a value, before any text in it is masked."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable
from typing import Any

from .redactor import Redactor
from .secret import Secret
from .tags import DEEPEST

__all__ = ["SCALARS", "gather", "held_by"]

SCALARS = frozenset({str, int, float, bool, type(None)})


def gather(value: object, redactor: Redactor, seen: set[int], depth: int) -> None:
    """Add the secrets in a value made of containers and dataclasses to a redactor."""
    if isinstance(value, Secret):
        redactor.add(value)
        return
    members = held_by(value)
    if members is None or id(value) in seen or depth > DEEPEST:
        return
    seen.add(id(value))
    for key, item in members:
        if redactor.hides(key):
            redactor.add(item)
        if type(key) not in SCALARS:
            gather(key, redactor, seen, depth + 1)
        if type(item) not in SCALARS:
            gather(item, redactor, seen, depth + 1)


def held_by(value: Any) -> Iterable[tuple[object, object]] | None:
    """Return the members of a container or dataclass with their keys or places; None for any other value."""
    if isinstance(value, dict):
        return value.items()
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return zip(value._fields, value, strict=False)
        return enumerate(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if hasattr(value, f.name)]
    return None
