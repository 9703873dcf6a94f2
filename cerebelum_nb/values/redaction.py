"""Masking the secrets of a value made of dicts, lists and scalars, and marking their places again.

What counts as a secret is said in `secret`; values of other types are not looked into here.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

from .secret import MASK, Secret, Vault, join_path

__all__ = ["DEEPEST", "SCALARS", "NotJsonError", "gather", "put", "redact"]

DEEPEST = 200
"""Deeper values are pickled: sqlite's JSON functions and browsers stop at some 1,000 levels."""

SCALARS = frozenset({str, int, float, bool, type(None)})


class NotJsonError(Exception):
    """The value is not made of dicts, lists and scalars."""


def gather(value: object, vault: Vault, seen: set[int], depth: int) -> None:
    """Add the secrets of a JSON-like value, before any of its texts is masked."""
    if isinstance(value, Secret):
        vault.add(value)
    elif type(value) in (dict, list) and id(value) not in seen and depth < DEEPEST:
        seen.add(id(value))
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):  # type: ignore[arg-type]
            if vault.hides(key):
                vault.add(item)
            if type(item) not in SCALARS:
                gather(item, vault, seen, depth + 1)


def redact(value: object, vault: Vault, path: str, masked: list[str], depth: int) -> object:
    """Copy a JSON-like value with every secret masked, listing their paths."""
    if isinstance(value, Secret):
        masked.append(path)
        return MASK
    match value:
        case None | bool():
            return value
        case str() if type(value) is str:
            text = vault.mask(value)
            if text != value:
                masked.append(path)
            return text
        case int() | float() if type(value) in SCALARS:
            if not isfinite(value) if isinstance(value, float) else value.bit_length() > 10_000:
                raise NotJsonError
            if vault.covers(value):
                masked.append(path)
                return MASK
            return value
        case dict() if type(value) is dict and depth < DEEPEST:
            copy: dict[str, object] = {}
            for key, item in value.items():
                if type(key) is not str:
                    raise NotJsonError
                name = vault.mask(key)
                if name != key:
                    name = _unused(name, copy, value)
                inner = join_path(path, name)
                if name != key:
                    masked.append(inner)
                if vault.hides(key) and item is not None:
                    masked.append(inner)
                    copy[name] = MASK
                else:
                    copy[name] = redact(item, vault, inner, masked, depth + 1)
            return copy
        case list() if type(value) is list and depth < DEEPEST:
            return [redact(item, vault, join_path(path, i), masked, depth + 1) for i, item in enumerate(value)]
    raise NotJsonError


def _unused(name: str, *taken: dict[str, object]) -> str:
    number, free = 1, name
    while any(free in keys for keys in taken):
        number += 1
        free = f"{name} ({number})"
    return free


def put(value: Any, path: list[str | int], item: object) -> Any:
    """Set what stands at a path of a decoded value, in place; returns the value."""
    if not path:
        return item
    holder = value
    for key in path[:-1]:
        holder = holder[key]
        if isinstance(holder, Secret):  # it stands under a place that was masked as a whole
            return value
    holder[path[-1]] = item
    return value
