"""Pickle values with cloudpickle, but the classes of ``__main__`` by reference.

cloudpickle stores a class of a notebook or script by value. After a restart such a value belongs to a copy of its
class: ``isinstance``, ``==`` and ``is`` for an enum's member are all False, and the globals that its methods read are
in the log. So classes are stored by name, as plain pickle does; only a class that cannot be found by name is copied.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
from functools import cached_property, lru_cache
from typing import Any

from .classes import MAIN, MOVED, Home, main_class, reference, resolve

__all__ = ["Unpickler", "dumps", "fingerprint", "loads", "pickler"]


def dumps(value: object, home: Home = ()) -> bytes:
    """Pickle a value; this raises whatever its classes raise."""
    return _pickled(value, home, pickler())


def fingerprint(value: object, home: Home = ()) -> bytes:
    """Digest a value without the parts that reading it changes: caches of ``cached_property``, the blocks of a frame.

    Returns:
        A digest that detects a change in place; ``b""`` if the value cannot be pickled.
    """
    try:
        return hashlib.sha256(_pickled(value, home, _cacheless())).digest()
    except Exception:  # noqa: BLE001 - anything may be inside
        return b""


def loads(payload: bytes, home: Home = ()) -> Any:
    """Unpickle a value; classes of ``__main__`` are searched for in the home first."""
    return Unpickler(io.BytesIO(payload), home).load()


def _pickled(value: object, home: Home, pickler: Any) -> bytes:
    out = io.BytesIO()
    made = pickler(out)
    made.home = home
    made.dump(value)
    return out.getvalue()


@lru_cache(maxsize=1)
def pickler() -> Any:
    """Return the class of the picklers; each has a ``home``."""
    import cloudpickle  # not at the top: a run whose values are all JSON does not need it

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
        home: Home = ()

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, type) and obj.__module__ == MAIN and reference(obj, self.home) is not None:
                return main_class, (obj.__qualname__,)
            if isinstance(obj, io.TextIOWrapper) and obj not in (sys.stdout, sys.stderr, sys.stdin):
                raise pickle.PicklingError("an open file would become a copy of what it holds")
            return super().reducer_override(obj)

    return Pickler


@lru_cache(maxsize=1)
def _cacheless() -> Any:
    class Cacheless(pickler()):  # type: ignore[misc]  # as above
        def reducer_override(self, obj: Any) -> Any:
            if type(obj).__module__.partition(".")[0] == "pandas" and not isinstance(obj, type):
                if type(obj).__name__ == "DataFrame":
                    columns = [obj.iloc[:, i].array for i in range(obj.shape[1])]
                    return tuple, ((obj.columns, obj.index, columns, obj.attrs, obj.flags.allows_duplicate_labels),)
                made = obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
                return made if isinstance(made, str) else (*made[:2], *map(_without_cache, made[2:3]), *made[3:])
            cached = _cached(type(obj)) & vars(obj).keys() if hasattr(obj, "__dict__") else ()
            if not cached or isinstance(obj, type):
                return super().reducer_override(obj)
            reduced = obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
            if isinstance(reduced, str) or len(reduced) < 3 or not isinstance(reduced[2], dict):
                return reduced
            state = {name: item for name, item in reduced[2].items() if name not in cached}
            return (*reduced[:2], state, *reduced[3:])

    return Cacheless


def _without_cache(state: Any) -> Any:
    """Return the state of an array or index of pandas without the dict in which it keeps what it has computed."""
    if isinstance(state, dict):
        return {name: item for name, item in state.items() if name != "_cache"}
    if isinstance(state, tuple):
        parts = map(_without_cache, state)
        return tuple(part for part in parts if not (isinstance(part, dict) and not part))
    return state


def _cached(cls: type) -> set[str]:
    return {name for base in cls.__mro__ for name, made in vars(base).items() if isinstance(made, cached_property)}


class Unpickler(pickle.Unpickler):
    """Loads the pickles that `dumps` makes."""

    def __init__(self, file: io.BytesIO, home: Home) -> None:
        super().__init__(file)
        self._home = home

    def find_class(self, module: str, name: str) -> Any:
        module = MOVED.get(module, module)
        if module == main_class.__module__ and name == main_class.__name__:
            return lambda qualname: resolve(f"{MAIN}:{qualname}", self._home)
        return super().find_class(module, name)
