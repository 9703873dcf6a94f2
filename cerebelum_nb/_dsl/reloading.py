"""Find the new definition of a step or workflow after ``%autoreload`` or ``importlib.reload`` of its module.

IPython updates the functions and classes that a notebook has imported by name, but no other objects: without this, a
fixed step would run with its old code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["by_name", "load_of", "newest"]

T = TypeVar("T")


def load_of(fn: Callable[..., Any]) -> object:
    """Return an object that identifies the current load of a function's module: each reload makes a new spec."""
    return getattr(sys.modules.get(fn.__module__ or ""), "__spec__", None)


def newest(definition: T, name: str, fn: Callable[..., Any], load: object) -> T:
    """Return the definition with this name that its module has now, if the module was reloaded.

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
    """Return the name under which its module has a step or workflow; None if it has another object there."""
    found: Any = sys.modules.get(made.__module__)
    for part in made.__qualname__.split("."):
        found = getattr(found, part, None)
    return str(made.__qualname__) if found is made else None
