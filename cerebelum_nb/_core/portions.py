"""Work in portions: a generator that yields where the event loop may run, and returns its result.

The work is written once. Sync code does it at once; async code lets the loop run between two portions
(_engine/portions.py).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import TypeAlias, TypeVar, cast

from .._host.collector import uncollected

__all__ = ["MOST", "Portions", "at_once", "portions_of"]

T = TypeVar("T")

Portions: TypeAlias = Generator[None, None, T]

MOST = 256
"""How many members of a collection are handled between two places where the loop may run."""


def portions_of(members: Iterable[T]) -> Iterator[tuple[T, bool]]:
    """Yield each member, and whether the portion is full: the work should yield then.

    Example:
        >>> [full for _, full in portions_of(range(257))].index(True)
        255
    """
    for number, member in enumerate(members, 1):
        yield member, number % MOST == 0


def at_once(work: Portions[T]) -> T:
    """Do the work at once, and return its result.

    Example:
        >>> def sum_of(numbers):
        ...     total = 0
        ...     for number, full in portions_of(numbers):
        ...         total += number
        ...         if full:
        ...             yield
        ...     return total
        >>> at_once(sum_of(range(1000)))
        499500
    """
    try:
        next(work)  # most work is a single portion
        with uncollected():
            while True:
                next(work)
    except StopIteration as end:
        return cast(T, end.value)
