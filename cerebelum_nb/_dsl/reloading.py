"""Finding the new definition after its module was executed again, by ``%autoreload`` or ``importlib.reload``.

IPython itself updates functions and classes that a notebook imported by name, but no other objects, so a fixed step ran
with its old code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["by_name", "load_of", "newest"]

T = TypeVar("T")


def load_of(fn: Callable[..., Any]) -> object:
    """Return what identifies the current load of a function's module: each reload makes a new spec."""
    return getattr(sys.modules.get(fn.__module__ or ""), "__spec__", None)


def newest(definition: T, name: str, fn: Callable[..., Any], load: object) -> T:
    """Return the definition with this name in its module now, if that was reloaded since.

    Args:
        definition: a step or a workflow.
        name: its name.
        fn: its function.
        load: the result of :func:`load_of` when it was made.
    """
    if load is None or load_of(fn) is load:
        return definition
    for item in vars(sys.modules[fn.__module__]).values():
        if type(item) is type(definition) and getattr(item, "name", None) == name:
            return item
    return definition


def by_name(made: Any) -> str | None:
    """Return the name of a decorated function in its module; None if the module has something else there."""
    found: Any = sys.modules.get(made.__module__)
    for part in made.__qualname__.split("."):
        found = getattr(found, part, None)
    return str(made.__qualname__) if found is made else None
