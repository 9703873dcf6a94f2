"""How a value counts in a fingerprint: by value, by name, or as user code to follow.

Only looks at values; what a function reaches is found in `fingerprint`.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
import types
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from pathlib import PurePath
from typing import Any
from uuid import UUID

__all__ = [
    "LARGEST",
    "attribute_of",
    "constant",
    "digest_of",
    "is_ours",
    "is_user",
    "is_users",
    "name_of",
    "shown",
]

LARGEST = 10_000
"""Containers with more members count by type and length only."""

SHOWN = 200
"""Longer texts of constants are cut and carry a digest."""

DEEPEST = 20

_OURS = __name__.partition(".")[0]
_EXACT = (date, datetime, time, timedelta, Decimal, Fraction, PurePath, UUID, range, complex)
_NAMED = (type, types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.MethodWrapperType)


def constant(value: object) -> str | None:
    """Write plain data so that equal values give equal texts in every process; None for anything else."""
    return _data(value, [LARGEST], 0)


def _data(value: Any, room: list[int], depth: int) -> str | None:
    cls = type(value)
    if value is None or cls in (bool, int, float, str, bytes):
        try:
            return repr(value)
        except ValueError:  # an int with too many digits
            return hex(value)
    if isinstance(value, Enum):
        return f"{cls.__qualname__}.{value.name}"
    if isinstance(value, _EXACT):
        return repr(value)
    if cls in (list, tuple, set, frozenset, dict):
        return _container(value, room, depth)
    if is_dataclass(cls) and not is_ours(value):
        names = [field.name for field in fields(value)]
        texts = _all((getattr(value, name, None) for name in names), room, depth)
        if texts is None:
            return None
        pairs = zip(names, texts, strict=True)
        return f"{cls.__qualname__}({', '.join(f'{name}={text}' for name, text in pairs)})"
    return None


def _container(value: Any, room: list[int], depth: int) -> str | None:
    cls = type(value)
    if len(value) > LARGEST:
        return f"<{cls.__name__} of {len(value):,}>"
    if cls is dict:
        keys, items = _all(value, room, depth), _all(value.values(), room, depth)
        if keys is None or items is None:
            return None
        return "{" + ", ".join(f"{key}: {item}" for key, item in zip(keys, items, strict=True)) + "}"
    texts = _all(value, room, depth)
    if texts is None:
        return None
    if cls is list:
        return f"[{', '.join(texts)}]"
    if cls is tuple:
        return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"
    return f"{cls.__name__}({{{', '.join(sorted(texts))}}})"


def _all(values: Iterable[Any], room: list[int], depth: int) -> list[str] | None:
    texts = []
    for value in values:
        room[0] -= 1
        text = _data(value, room, depth + 1) if room[0] >= 0 and depth < DEEPEST else None
        if text is None:
            return None
        texts.append(text)
    return texts


def shown(text: str) -> str:
    """Cut a long text, so that cut texts of different ones differ."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({digest_of(text)})"


def digest_of(text: str) -> str:
    """Digest a text as 16 hex characters."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def name_of(value: Any) -> str:
    """Name a thing that does not count by value: a module, a function or class, an object by its class."""
    if isinstance(value, types.ModuleType):
        return f"<module {value.__name__}>"
    if isinstance(value, _NAMED):
        return f"<{getattr(value, '__module__', None) or 'builtins'}.{value.__qualname__}>"
    cls = type(value)
    name = getattr(value, "name", None) if is_ours(value) else None
    return f"<{cls.__module__}.{cls.__qualname__}{f' {name}' if isinstance(name, str) else ''}>"


def attribute_of(value: object, name: str) -> object:
    """Read an attribute without running a property or a ``__getattr__``."""
    if isinstance(value, (classmethod, staticmethod, property)):
        return getattr(value, name, None)
    members = getattr(value, "__dict__", None)
    return members.get(name) if isinstance(members, dict) else None


def is_ours(value: object) -> bool:
    """Whether an object is of this library: a step, a secret."""
    return any(cls.__module__.partition(".")[0] == _OURS for cls in type(value).__mro__)


def is_users(fn: types.FunctionType) -> bool:
    """Whether a function is the user's own; `functools.wraps` cannot make it look so."""
    return is_user(fn.__globals__.get("__name__"), fn.__code__.co_filename)


@lru_cache(maxsize=4096)
def is_user(module: str | None, file: str = "") -> bool:
    """Whether code is the user's own: not of the standard library, of a package, or of this one."""
    root = (module or "").partition(".")[0]
    if root == "__main__":
        return True
    if root == _OURS or root in sys.stdlib_module_names:
        return False
    loaded = sys.modules.get(module or "")
    file = file or getattr(loaded, "__file__", None) or next(iter(getattr(loaded, "__path__", ())), "")
    parts = PurePath(file).parts
    if "site-packages" in parts or "dist-packages" in parts:
        return False
    return not any(file.startswith(sysconfig.get_path(name) + os.sep) for name in ("stdlib", "platstdlib"))
