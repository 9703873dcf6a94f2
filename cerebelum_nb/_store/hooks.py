"""Functions that ``connect`` calls for layers above the store, which register them here."""

from __future__ import annotations

from collections.abc import Callable, Iterable

__all__ = ["notifiers"]

notifiers: list[Callable[[str, str | Iterable[str]], Callable[[], None]]] = []
"""Each starts notifying the given targets of events in the log at a path, and returns the function that ends it."""
