"""Decorated step functions: a decorator runs from its top, and calls the function at the place where it is entered."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, cast

__all__ = ["around", "innermost"]


def innermost(fn: Any) -> types.FunctionType | None:
    """Return the function inside decorators made with functools.wraps; None if one of them hides it.

    Example:
        >>> def plain(): pass
        >>> innermost(plain) is plain, innermost(functools.lru_cache(plain))
        (True, None)
    """
    while isinstance(fn, types.FunctionType):
        inner = fn.__dict__.get("__wrapped__")
        if inner is None:
            return fn
        if not _cells_holding(fn, inner) or inspect.iscoroutinefunction(fn) != inspect.iscoroutinefunction(inner):
            return None
        fn = inner
    return None


def around(fn: types.FunctionType, made: Callable[..., Any]) -> Callable[..., Any]:
    """Return a copy of a decorated function that calls ``made`` instead of the innermost one."""
    inner = fn.__dict__.get("__wrapped__")
    if inner is None:
        return made
    cells, called = fn.__closure__ or (), around(inner, made)
    held = _cells_holding(fn, inner)
    copy = types.FunctionType(
        fn.__code__,
        fn.__globals__,
        fn.__name__,
        fn.__defaults__,
        tuple(types.CellType(called) if index in held else cell for index, cell in enumerate(cells)),
    )
    copy.__kwdefaults__ = fn.__kwdefaults__
    return cast(Callable[..., Any], functools.update_wrapper(copy, called))


def _cells_holding(fn: types.FunctionType, inner: object) -> list[int]:
    """Return the indexes of the decorator's cells that hold the decorated function."""
    empty = types.CellType()
    return [i for i, cell in enumerate(fn.__closure__ or ()) if cell != empty and cell.cell_contents is inner]
