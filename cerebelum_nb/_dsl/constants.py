"""Decide how a value counts in a fingerprint: by value, by name, or as user code to follow.

This module only looks at values; fingerprint.py finds what a function reaches.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import sys
import sysconfig
import types
from collections import defaultdict, deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import Any

__all__ = [
    "LARGEST",
    "attribute_of",
    "constant",
    "digest_of",
    "is_live",
    "is_of_the_shell",
    "is_ours",
    "is_user",
    "is_users",
    "name_of",
    "shorten",
    "state_of",
]

LARGEST = 10_000
"""Containers with more members count by type and length only."""

CHEAP = 4_000_000
"""Bytes of the largest array or table whose content counts: a start digests it in a few milliseconds."""

SHORT = 20
"""An array with more numbers is shown by a digest."""

SHOWN = 200
"""Longer texts of constants are cut, and a digest is added."""

DEEPEST = 20

_OURS = __name__.partition(".")[0]
_EXACT = (bytearray, date, datetime, time, timedelta, PurePath, range, complex)
_EXACT_LATE = (("decimal", "Decimal"), ("fractions", "Fraction"), ("uuid", "UUID"))  # 4 ms, for what few programs use
_NAMED = (type, types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.MethodWrapperType)


def _is_late(value: object) -> bool:
    """Whether a value is exact, and its class is in a module that this one does not import."""
    known = (getattr(sys.modules.get(module), name, None) for module, name in _EXACT_LATE)
    return any(cls is not None and isinstance(value, cls) for cls in known)


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
    if isinstance(value, _EXACT) or _is_late(value):
        return repr(value)
    if is_ours(value):
        return None
    if isinstance(value, re.Pattern):  # its repr is cut
        return f"re.compile({value.pattern!r}, {value.flags})"
    root = cls.__module__.partition(".")[0]
    if root == "zoneinfo":
        return repr(value)
    if root in ("numpy", "pandas"):
        return _array(value, room, depth) if root == "numpy" else _table(value, room, depth)
    if isinstance(value, (list, tuple, dict, set, frozenset, deque, types.MappingProxyType)):
        return _container(value, room, depth)
    if is_dataclass(cls):
        return _fields(value, {f.name: getattr(value, f.name, None) for f in fields(value)}, room, depth)
    if isinstance(value, (types.SimpleNamespace, BaseException)) and not is_user(cls.__module__):
        return _fields(value, {"args": getattr(value, "args", ()), **vars(value)}, room, depth)
    for base in (str, int, float, bytes):
        if isinstance(value, base):
            return f"{cls.__qualname__}({base.__repr__(value)})"
    return None if is_user(cls.__module__) else _rebuilt(value, room, depth)


def _fields(value: Any, found: dict[str, Any], room: list[int], depth: int) -> str | None:
    texts = _all(found.values(), room, depth)
    if texts is None:
        return None
    return f"{type(value).__qualname__}({', '.join(f'{n}={text}' for n, text in zip(found, texts, strict=True))})"


def _container(value: Any, room: list[int], depth: int) -> str | None:
    cls = type(value)
    plain = cls in (list, tuple, dict, set, frozenset)
    if len(value) > LARGEST:
        return f"<{cls.__name__} of {len(value):,}>"
    if isinstance(value, (dict, types.MappingProxyType)):
        keys, items = _all(value, room, depth), _all(value.values(), room, depth)
        if keys is None or items is None:
            return None
        text = "{" + ", ".join(f"{key}: {item}" for key, item in zip(keys, items, strict=True)) + "}"
    else:
        texts = _all(value, room, depth)
        if texts is None:
            return None
        if isinstance(value, tuple):
            text = f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"
        elif isinstance(value, (list, deque)):
            text = f"[{', '.join(texts)}]"
        else:
            text = f"{{{', '.join(sorted(texts))}}}"
            return f"{cls.__name__}({text})" if plain else f"{cls.__qualname__}({text})"
    if plain:
        return text
    extra = dict(vars(value)) if hasattr(value, "__dict__") else {}
    if isinstance(value, defaultdict):
        extra["default_factory"] = name_of(value.default_factory)
    more = _all(extra.values(), room, depth)
    if more is None:
        return None
    return f"{cls.__qualname__}({', '.join([text, *(f'{n}={item}' for n, item in zip(extra, more, strict=True))])})"


def _array(value: Any, room: list[int], depth: int) -> str | None:
    """Write a numpy array or number, whose bytes count."""
    dtype = getattr(value, "dtype", None)
    if dtype is None or not hasattr(value, "tobytes"):
        return _rebuilt(value, room, depth)
    head = f"{type(value).__qualname__} of {dtype}, {value.shape}"
    if value.size > LARGEST and (dtype.hasobject or value.nbytes > CHEAP):
        return None
    if dtype.hasobject or value.size <= SHORT:
        text = _data(value.tolist(), room, depth + 1)
        return None if text is None else f"<{head}: {text}>"
    return f"<{head}: {hashlib.sha256(value.tobytes()).hexdigest()[:16]}>"


def _table(value: Any, room: list[int], depth: int) -> str | None:
    """Write a pandas frame, series or index, whose cells, labels and types count."""
    if not hasattr(value, "memory_usage"):
        return _rebuilt(value, room, depth)
    import pandas as pd

    used = value.memory_usage()
    if (used if isinstance(used, int) else used.sum()) > CHEAP:
        return None
    try:
        cells = pd.util.hash_pandas_object(value).to_numpy().tobytes()
    except TypeError:  # cells that have no hash
        return None
    types_of = value.dtypes if isinstance(value, pd.DataFrame) else value.dtype
    labels = (value.columns.tolist(), value.columns.names) if isinstance(value, pd.DataFrame) else value.name
    index = value.names if isinstance(value, pd.Index) else value.index.names
    text = _data([str(types_of), labels, list(index)], room, depth + 1)
    if text is None:
        return None
    digest = hashlib.sha256(cells).hexdigest()[:16]
    return f"<{type(value).__qualname__}, {value.shape}: {text}, {digest}>"


def _rebuilt(value: Any, room: list[int], depth: int) -> str | None:
    """Write an object of installed code that defines equality, as what it would be rebuilt from."""
    cls = type(value)
    equals: object = cls.__eq__
    if equals is object.__eq__ or isinstance(value, (*_NAMED, types.ModuleType)):
        return None
    try:
        made = value.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 - a live object, or a __reduce__ that raises
        return None
    name = f"{cls.__module__}.{cls.__qualname__}"
    if isinstance(made, str):
        return f"{name} {made}"
    _, args, state, items, pairs = (*made, None, None, None)[:5]
    args = tuple(name_of(item) if isinstance(item, _NAMED) else item for item in args)
    members = (args, state, None if items is None else list(items), None if pairs is None else dict(pairs))
    text = _data(members, room, depth + 1)
    return None if text is None else f"{name}{text}"


def _all(values: Iterable[Any], room: list[int], depth: int) -> list[str] | None:
    texts = []
    for value in values:
        room[0] -= 1
        text = _data(value, room, depth + 1) if room[0] >= 0 and depth < DEEPEST else None
        if text is None:
            return None
        texts.append(text)
    return texts


def shorten(text: str) -> str:
    """Cut a long text; a digest keeps different texts different."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({digest_of(text)})"


def digest_of(text: str) -> str:
    """Digest a text as 16 hex characters."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def name_of(value: Any) -> str:
    """Name an object that does not count by value: a module, a function or a class, or any object by its class.

    User code is named without its module, which is ``__main__`` in a script or a cell, and another one when imported.
    """
    if isinstance(value, types.ModuleType):
        return f"<module {value.__name__}>"
    if isinstance(value, types.FunctionType):  # not its __module__, which functools.wraps copies
        return f"<{_where(value.__globals__.get('__name__'))}{value.__code__.co_qualname}>"
    if isinstance(value, _NAMED):
        return f"<{_where(getattr(value, '__module__', None) or 'builtins')}{value.__qualname__}>"
    cls = type(value)
    name = getattr(value, "name", None) if is_ours(value) or isinstance(value, logging.Logger) else None
    return f"<{_where(cls.__module__)}{cls.__qualname__}{f' {name}' if isinstance(name, str) else ''}>"


def _where(module: str | None) -> str:
    return "" if is_user(module) else f"{module}."


def is_live(value: object) -> bool:
    """Whether a value has content that is not in the fingerprint, so that a change cannot be detected."""
    if isinstance(value, (types.ModuleType, *_NAMED)) or is_ours(value):
        return False
    return type(value).__name__ not in _EMPTY and not isinstance(value, (logging.Logger, functools.partial))


_EMPTY = {
    "lock",
    "RLock",
    "_RLock",
    "Lock",
    "Event",
    "Condition",
    "Semaphore",
    "ContextVar",
    "_lru_cache_wrapper",
    "object",
}


def is_of_the_shell(value: object) -> bool:
    """Whether IPython has put it into the notebook, like ``exit`` and ``display``, which a script does not have."""
    module = value.__globals__.get("__name__") if isinstance(value, types.FunctionType) else type(value).__module__
    return str(module).partition(".")[0] in ("IPython", "ipykernel")


def state_of(value: object) -> dict[str, object]:
    """Return the attributes of an object without running any code of it."""
    found: dict[str, object] = {}
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            member = vars(cls).get(name)
            if isinstance(member, types.MemberDescriptorType):
                with suppress(AttributeError):
                    found[name] = member.__get__(value)
    members = getattr(value, "__dict__", None)
    found.update(members if isinstance(members, dict) else {})
    return {name: item for name, item in found.items() if not (name.startswith("__") and name.endswith("__"))}


def attribute_of(value: object, name: str) -> object:
    """Read an attribute without running a property or a ``__getattr__``."""
    if isinstance(value, (classmethod, staticmethod, property)):
        return getattr(value, name, None)
    members = getattr(value, "__dict__", None)
    return members.get(name) if isinstance(members, dict) else None


def is_ours(value: object) -> bool:
    """Whether an object belongs to this library, such as a step or a secret."""
    return any(cls.__module__.partition(".")[0] == _OURS for cls in type(value).__mro__)


def is_users(fn: types.FunctionType) -> bool:
    """Whether a function is user code, even if `functools.wraps` has given it another module."""
    return is_user(fn.__globals__.get("__name__"), fn.__code__.co_filename)


@lru_cache(maxsize=4096)
def is_user(module: str | None, file: str = "") -> bool:
    """Whether code is user code: not part of the standard library, of an installed package, or of this one."""
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
