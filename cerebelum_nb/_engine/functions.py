"""What a function that is given to an operation is called in the log, and which code it has."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .._values import fingerprint_args

__all__ = ["CODE", "code_of", "name_of"]

CODE = "__cerebelum_code__"
"""Where a function that stands for one in another process has the digest of that one's code."""


def code_of(fn: Callable[..., Any]) -> str:
    """Digest what a function does, without the values it holds: those may change between two attempts."""
    from .._dsl.fingerprint import fingerprint  # here, as it loads `ast` and `inspect`, which most steps do without

    known: str | None = getattr(fn, CODE, None)
    if known is not None:
        return known
    found = fingerprint(fn)
    if found is None:
        return name_of(fn)
    return fingerprint_args(tuple(part.digest for part in found.parts if part.kind in ("code", "helper", "class")), {})


def name_of(fn: Any) -> str:
    """Return the name of a function, or of the class of what is called."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return str(getattr(fn, "__name__", type(fn).__name__))
