"""What happens when a log is connected to, beyond the store itself: layers above register it here."""

from __future__ import annotations

from collections.abc import Callable, Iterable

__all__ = ["notifiers"]

notifiers: list[Callable[[str, str | Iterable[str]], Callable[[], None]]] = []
"""Start notifying somebody of what happens in the log at a path, and return the function that ends it."""
