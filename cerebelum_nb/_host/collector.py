"""Python's cyclic garbage collector, while much is made that stays."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["uncollected"]


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the collector from running in the block, which makes many objects and no rings.

    It looks through all objects again whenever their number has grown by a quarter, and finds nothing: a third of the
    time of a resume after 10,000 steps.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
