"""What a process does with its open logs when it forks.

SQLite keeps file locks per process and trusts its own books about them, so a connection that a fork carries
into the child is a trap: a log opened beside it takes no locks of its own, and its commits vanish when the
parent exits. Therefore no fork happens in the middle of a transaction, and the child closes at once what it
inherited (which the parent's locks keep harmless); a store opens its file again when it is next used.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["unwatch", "watch"]


class _Forks(Protocol):
    def _before_fork(self) -> None: ...
    def _after_fork(self, *, in_child: bool) -> None: ...


_watched: weakref.WeakSet[_Forks] = weakref.WeakSet()
_held: list[_Forks] = []


def watch(store: _Forks) -> None:
    """Have ``store`` told of every fork for as long as it lives."""
    _watched.add(store)


def unwatch(store: _Forks) -> None:
    """Forget ``store``: it is closed."""
    _watched.discard(store)


def _before() -> None:
    _held.extend(_watched)
    for store in _held:
        store._before_fork()


def _after(*, in_child: bool) -> None:
    while _held:
        _held.pop()._after_fork(in_child=in_child)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before,
        after_in_parent=lambda: _after(in_child=False),
        after_in_child=lambda: _after(in_child=True),
    )
