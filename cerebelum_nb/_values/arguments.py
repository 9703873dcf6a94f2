"""Digest the arguments of an operation; the digest is the same in every process.

It distinguishes operations; it is not a content address and must not be used to restore anything. The order of sets and
dicts, identities and hash seeds do not count; of a live object or an object of this library, only the class counts.
"""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from .gather_secrets import SCALARS
from .large import plain
from .preview import type_name
from .redactor import Redactor
from .secret import Secret

__all__ = ["fingerprint_args"]

_OURS = __name__.partition(".")[0]


def fingerprint_args(args: Sequence[Any], kwargs: Mapping[str, Any], *, redactor: Redactor | None = None) -> str:
    """Digest the arguments of an operation as 16 hex characters.

    Values count by value and exact type (``1``, ``1.0`` and ``True`` differ), functions by qualified name,
    code, defaults and closure, live objects (connections, locks) by class, a `Secret` only by its type: a renewed token
    does not repeat a side effect.

    Args:
        args: positional arguments.
        kwargs: keyword arguments; their order does not count.
        redactor: secrets to mask first, so that the digest of a revealed one cannot be guessed.

    Example:
        >>> fingerprint_args(("a@b.c",), {}) == fingerprint_args(("a@b.c",), {})
        True
    """
    text = _json_text(args, kwargs)
    if text is None:
        digest = _Digest(redactor)
        digest.feed(tuple(args))
        digest.feed(dict(kwargs))
        return digest.hash.hexdigest()[:16]
    masked = redactor.mask(text) if redactor else text
    return hashlib.sha256(masked.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _json_text(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str | None:
    """Write plain data, the common case, as JSON; None for anything else."""
    given = [list(args), dict(kwargs)]
    if plain(given):
        with suppress(ValueError):  # NaN, or an int with too many digits
            return json.dumps(given, sort_keys=True, ensure_ascii=False, check_circular=False, allow_nan=False)
    return None


class _Digest:
    def __init__(self, redactor: Redactor | None = None) -> None:
        self.hash = hashlib.sha256()
        self.redactor = redactor or None
        self.open: dict[int, int] = {}

    def put(self, *parts: str | bytes) -> None:
        for part in parts:
            data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
            self.hash.update(b"%d:" % len(data))
            self.hash.update(data)

    def feed(self, value: Any) -> None:
        """Add a value; a value that contains itself counts by the distance."""
        if type(value) in SCALARS or type(value) in (bytes, bytearray):
            self._leaf(value)
            return
        if id(value) in self.open:
            self.put("cycle", str(len(self.open) - self.open[id(value)]))
            return
        if len(self.open) > 150:
            self.put("deep", type_name(value))
            return
        self.open[id(value)] = len(self.open)
        try:
            self._branch(value)
        finally:
            del self.open[id(value)]

    def _leaf(self, value: Any) -> None:
        if isinstance(value, str):
            self.put("str", self.redactor.mask(value) if self.redactor else value)
        elif isinstance(value, (bytes, bytearray)):
            hidden = self.redactor is not None and self.redactor.reveals(bytes(value))
            self.put(type(value).__name__, b"" if hidden else bytes(value))
        else:
            text = hex(value) if isinstance(value, int) else repr(value)
            self.put(type(value).__name__, self.redactor.mask(text) if self.redactor else text)

    def _branch(self, value: Any) -> None:
        cls = type(value)
        if isinstance(value, Secret):
            self.put("secret")
        elif cls.__module__.partition(".")[0] == _OURS:  # a step's context is a new object in every attempt
            self.put("ours", type_name(value))
        elif cls is dict:
            self.put("dict", str(len(value)))
            for digest in sorted(self._digest_of(item) for item in value.items()):
                self.put(digest)
        elif cls in (set, frozenset):
            self.put(cls.__name__, str(len(value)))
            for digest in sorted(self._digest_of(item) for item in value):
                self.put(digest)
        elif cls in (list, tuple):
            self.put(cls.__name__, str(len(value)))
            for item in value:
                self.feed(item)
        elif isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType)):
            self.put(
                "name",
                getattr(value, "__module__", None) or "",
                getattr(value, "__qualname__", value.__name__),
            )
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.MethodType):
            self.put("method", value.__func__.__qualname__)
            self.feed(value.__self__)
        elif isinstance(value, partial):
            self.put("partial")
            self.feed([value.func, value.args, value.keywords])
        elif cls.__module__.partition(".")[0] == "numpy" and hasattr(value, "dtype") and not value.dtype.hasobject:
            self.put("numpy", cls.__name__, str(value.dtype), str(value.shape), value.tobytes())
        else:
            self._object(value)

    def _digest_of(self, value: Any) -> bytes:
        inner = _Digest(self.redactor)
        inner.open = self.open
        inner.feed(value)
        return inner.hash.digest()

    def _function(self, fn: types.FunctionType) -> None:
        self.put("function", fn.__module__ or "", fn.__qualname__)
        self._code(fn.__code__)
        self.feed([fn.__defaults__, fn.__kwdefaults__])
        for cell in fn.__closure__ or ():
            try:
                self.feed(cell.cell_contents)
            except ValueError:  # an empty cell
                self.put("empty")

    def _code(self, code: types.CodeType) -> None:
        self.put("code", code.co_code, *code.co_names, *code.co_varnames)
        for const in code.co_consts:
            if isinstance(const, types.CodeType):
                self._code(const)
            else:
                self.feed(const)

    def _object(self, value: Any) -> None:
        """Add an object by what it would be rebuilt from, or by its class if it cannot be pickled."""
        try:
            made = value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001 - a live object, or a user's __reduce__ that raises
            self.put("live", type_name(value))
            return
        self.put("object", type_name(value))
        if isinstance(made, str):
            self.put(made)
            return
        make, args, state, items, pairs = (*made, None, None, None)[:5]
        self._made_by(make)
        self.feed(args)
        self.feed(state)
        self.feed(None if items is None else list(items))
        self.feed(None if pairs is None else dict(pairs))

    def _made_by(self, make: Callable[..., Any]) -> None:
        self.put(getattr(make, "__module__", None) or "", getattr(make, "__qualname__", type_name(make)))
