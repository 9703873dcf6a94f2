"""Work in portions: a generator that yields where the event loop may run, and returns its result.

The work is written once. Sync code does it at once; async code lets the loop run between two portions
(_engine/portions.py).
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from itertools import islice
from typing import TypeAlias, TypeVar, cast

from .._host.collector import uncollected

__all__ = ["MOST", "Portions", "at_once", "portions_of"]

T = TypeVar("T")

Portions: TypeAlias = Generator[None, None, T]

MOST = 256
"""How many members of a collection are handled between two places where the loop may run."""


def portions_of(members: Collection[T]) -> Iterator[tuple[list[T], bool]]:
    """Yield the members in portions, each with whether there are more: then the work should yield after it.

    Example:
        >>> [(len(portion), more) for portion, more in portions_of(range(257))]
        [(256, True), (1, False)]
    """
    rest, left = iter(members), len(members)
    while left > 0:
        left -= MOST
        yield list(islice(rest, MOST)), left > 0


def at_once(work: Portions[T]) -> T:
    """Do the work at once, and return its result.

    Example:
        >>> def sum_of(numbers):
        ...     total = 0
        ...     for portion, more in portions_of(numbers):
        ...         total += sum(portion)
        ...         if more:
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
