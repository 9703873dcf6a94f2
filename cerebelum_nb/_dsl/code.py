"""Find out which code a step runs, and whether it runs on the event loop."""

from __future__ import annotations

import functools
import hashlib
import inspect
import types
from collections.abc import Callable
from typing import Any

__all__ = ["DECORATIONS", "PARTS", "code_of", "is_async", "parts_of"]

DECORATIONS = "__cerebelum_decorations__"
"""The attribute in which decorators under ``@step`` keep their arguments: a changed interval is changed code."""
PARTS = "__cerebelum_parts__"
"""The attribute of a generated function that returns the parts of its code."""


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling it returns a coroutine, as far as its definition shows.

    A plain wrapper of an async function does not show it; when it runs, its return value does.
    """
    if type(fn) is types.FunctionType and not fn.__dict__:  # as nearly all are; `inspect` would take 2 us a step
        return bool(fn.__code__.co_flags & inspect.CO_COROUTINE)
    while isinstance(fn, functools.partial):
        fn = fn.func
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(vars(type(fn)).get("__call__"))


def code_of(fn: Callable[..., Any]) -> str | None:
    """Digest the code that a step's function runs now; None when its source is unknown."""
    found = _fingerprinter()(fn)
    decorations = getattr(fn, DECORATIONS, None)
    if found is None or not decorations:
        return found.digest if found else None
    return hashlib.sha256(f"{found.digest}{decorations!r}".encode()).hexdigest()[:16]


def parts_of(fn: Callable[..., Any]) -> tuple[Any, ...]:
    """Return the parts of a step's code, each a :class:`~cerebelum_nb._dsl.fingerprint.Part`; none without a source."""
    from .fingerprint import Part

    if (own := getattr(fn, PARTS, None)) is not None:
        parts: tuple[Any, ...] = own()
        return parts
    found = _fingerprinter()(fn)
    decorations = getattr(fn, DECORATIONS, None)
    if found is None or not decorations:
        return found.parts if found else ()
    digest = hashlib.sha256(repr(decorations).encode()).hexdigest()[:16]
    return (*found.parts, Part(kind="decorator", name="what is under @step", digest=digest, text=repr(decorations)))


@functools.cache
def _fingerprinter() -> Callable[[Callable[..., Any]], Any]:
    from .fingerprint import fingerprint  # it imports ast and tokenize, which a mere import of ours does not need

    return fingerprint
