"""What is to happen when a log is connected to, and is no business of a store: layers above register it here."""

from __future__ import annotations

from collections.abc import Callable, Iterable

__all__ = ["notifiers"]

notifiers: list[Callable[[str, str | Iterable[str]], Callable[[], None]]] = []
"""Start to notify somebody of what happens in the log at a path, and return what ends it."""
