"""The name and the code digest of a function passed to an operation, as the log records them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .._values import fingerprint_args

__all__ = ["CODE", "code_of", "name_of"]

CODE = "__cerebelum_code__"
"""The attribute in which a proxy of another process's function holds the digest of that function's code."""


def code_of(fn: Callable[..., Any]) -> str:
    """Digest a function's code, without its default and closed-over values: those may change between two attempts."""
    from .._dsl.fingerprint import fingerprint  # here: it loads `ast` and `inspect`, which most steps do not need

    known: str | None = getattr(fn, CODE, None)
    if known is not None:
        return known
    found = fingerprint(fn)
    if found is None:
        return name_of(fn)
    return fingerprint_args(tuple(part.digest for part in found.parts if part.kind in ("code", "helper", "class")), {})


def name_of(fn: Any) -> str:
    """Return the name of a function, or of the class of another callable."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return str(getattr(fn, "__name__", type(fn).__name__))
