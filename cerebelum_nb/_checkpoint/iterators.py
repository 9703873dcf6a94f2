"""Pickles iterators and views of dicts and sets, so that they still see their dict or set afterwards.

Python pickles an iterator of a dict as an iterator of a list, and a view as a view of another dict: neither sees later
changes of the dict. Pickles in logs name `Rest` and `_view`, so both must stay in this module under these names.
"""

from __future__ import annotations

import collections
import gc
import pickle
import types
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Rest", "reduce_iterator"]

_READ: dict[str, Callable[[Any, Any], Any]] = {
    "keys": lambda _, key: key,
    "values": lambda of, key: of[key],
    "items": lambda of, key: (key, of[key]),
}
_SOME: dict[Any, Any] = {}
_ITERATORS: dict[type, tuple[str, Callable[[Any], Iterator[Any]]]] = {
    **{type(iter(getattr(_SOME, name)())): (name, iter) for name in _READ},
    **{type(reversed(getattr(_SOME, name)())): (name, reversed) for name in _READ},
}
_VIEWS = {type(getattr(of, name)()): name for of in (_SOME, collections.OrderedDict[Any, Any]()) for name in _READ}
_SET_ITERATOR = type(iter(set[Any]()))
_ORDERED_ITERATOR = type(iter(collections.OrderedDict[Any, Any]()))
_LIST_ITERATORS = (type(iter(list[Any]())), type(reversed(list[Any]())))


class Rest:
    """The rest of an iteration over a dict or a set. It notices changes as Python's own iterator does.

    Args:
        of: the dict or set.
        kind: ``"keys"`` (also for a set), ``"values"`` or ``"items"``.
        left: the keys that are left, the next one last.
        size: the number of keys when it was pickled; -1 after a change was noticed.
    """

    def __init__(self, of: Any, kind: str, left: list[Any], size: int) -> None:
        self._of, self._kind, self._left, self._size = of, kind, left, size

    def __iter__(self) -> Rest:
        return self

    def __next__(self) -> Any:
        if self._of is None:
            raise StopIteration
        if self._size != len(self._of) or (self._left and self._left[-1] not in self._of):
            self._size = -1
            raise RuntimeError(f"{'Set' if isinstance(self._of, set) else 'dictionary'} changed size during iteration")
        if not self._left:
            self._of = None
            raise StopIteration
        return _READ[self._kind](self._of, self._left.pop())


def reduce_iterator(obj: Any) -> tuple[Any, ...] | None:
    """Return what pickles an iterator or a view; None if Python's own way is right for the object.

    Raises:
        pickle.PicklingError: it would come back different.
    """
    kind = type(obj)
    if kind in _ITERATORS:
        of = _container_of(obj, dict)
        if of is None:  # it is exhausted
            return None
        name, order = _ITERATORS[kind]
        count = len(_rest_of(obj))
        return Rest, (of, name, list(order(of))[len(of) - count :][::-1], len(of))
    if kind is _SET_ITERATOR:
        of = _container_of(obj, set)
        return None if of is None else (Rest, (of, "keys", _rest_of(obj)[::-1], len(of)))
    if kind in _VIEWS:
        return _view, (_container_of(obj, dict), _VIEWS[kind])
    if kind is types.MappingProxyType:
        of = _container_of(obj, dict)
        return None if of is None else (types.MappingProxyType, (of,))
    if kind is _ORDERED_ITERATOR and _container_of(obj, dict) is not None:
        raise pickle.PicklingError("it would not see later changes of its OrderedDict")
    if kind in _LIST_ITERATORS:
        _, (of, *_), *state = obj.__reduce__()
        if state and not -1 <= state[0] <= len(of) - (kind is not _LIST_ITERATORS[0]):
            raise pickle.PicklingError("its list is now shorter than its position")
    return None


def _container_of(obj: Any, kind: type) -> Any:
    """Return the dict or set that an iterator or a view refers to; only the garbage collector knows it."""
    return next((one for one in gc.get_referents(obj) if isinstance(one, kind)), None)


def _rest_of(iterator: Any) -> list[Any]:
    """Return the rest of an iterator without advancing it; raise RuntimeError if its dict or set changed its size."""
    left: list[Any] = iterator.__reduce__()[1][0]
    return left


def _view(of: Any, kind: str) -> Any:
    return getattr(of, kind)()
