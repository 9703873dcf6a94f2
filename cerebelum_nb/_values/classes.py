"""Refer to classes as ``module:qualname``, and find them in any process that defines them.

The classes of a notebook or a script belong to ``__main__``. Another process may have the same definitions in another
module: the command line loads a script or a notebook as a module that is not in ``sys.modules``. So the namespaces of
the workflow's steps, its *home*, are searched too.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["MOVED", "Home", "UnknownClassError", "main_class", "reference", "resolve"]

Home = tuple[Mapping[str, Any], ...]
"""The global namespaces of the functions that use a value."""

MAIN = "__main__"
MOVED = {
    "cerebelum_nb.core.model": "cerebelum_nb._core.state_name",
    "cerebelum_nb._core.model": "cerebelum_nb._core.state_name",
    "cerebelum_nb.engine.context": "cerebelum_nb._operations.context",
    "cerebelum_nb.values.classes": __name__,
}
"""The new names of modules that values in older logs name: of ``ExecutionState``, of ``Context``, and of `main_class`,
to which pickles refer for every class of ``__main__``."""


class UnknownClassError(LookupError):
    """A class named by a value is not defined here."""


def reference(cls: type, home: Home = ()) -> str | None:
    """Return a reference with which `resolve` finds a class.

    None if there is none, for example because the class is local to a function or was redefined.

    Example:
        >>> from fractions import Fraction
        >>> reference(Fraction)
        'fractions:Fraction'
    """
    name = f"{cls.__module__}:{cls.__qualname__}"
    try:
        return name if resolve(name, home, importing=False) is cls else None
    except UnknownClassError:
        return None


def resolve(name: str, home: Home = (), *, importing: bool = True) -> type:
    """Return the class that `reference` named.

    Args:
        name: ``module:qualname``.
        home: where else to look for the names of ``__main__``.
        importing: False finds only what is already imported, so that no code runs.

    Raises:
        UnknownClassError: there is no such class here.
    """
    module, _, qualname = name.partition(":")
    module = MOVED.get(module, module)
    for namespace in _namespaces(module, home, importing):
        found: Any = namespace
        for part in qualname.split("."):
            found = found.get(part) if isinstance(found, Mapping) else getattr(found, part, None)
        if isinstance(found, type) and found.__qualname__ == qualname:
            return found
    raise UnknownClassError(f"there is no class {qualname} in {module}")


def _namespaces(module: str, home: Home, importing: bool) -> Iterable[Mapping[str, Any]]:
    if module == MAIN:
        yield from home
        yield vars(sys.modules[MAIN])
        return
    if module not in sys.modules:
        # The module may be the running program, which must not be run a second time.
        program = getattr(sys.modules[MAIN], "__file__", None)
        if program is not None and Path(program).stem == module:
            yield vars(sys.modules[MAIN])
            return
        if not importing:
            return
        try:
            importlib.import_module(module)
        except Exception as error:  # a module may raise anything
            raise UnknownClassError(f"the module {module} cannot be imported ({error})") from error
    yield vars(sys.modules[module])


def main_class(qualname: str) -> type:
    """Return a class of ``__main__``; pickles refer to this function instead of the class itself."""
    return resolve(f"{MAIN}:{qualname}")
