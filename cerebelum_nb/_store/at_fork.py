"""What a process does with its open logs, and with what else is its own, when it forks: the one place for it.

SQLite keeps file locks per process and trusts its own books about them, so a connection that a fork carries
into the child is a trap: a log opened next to it takes no locks, and its commits vanish when the
parent exits. Therefore no fork happens in the middle of a transaction, and the child closes at once what it
inherited (which the parent's locks keep harmless); a store opens its file again when it is next used.

A forked child is another process: it has none of its parent's leases and runs nothing that its parent runs. What
holds such things is called by :func:`in_child`.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Protocol

__all__ = ["in_child", "unwatch", "watch"]


class _Forks(Protocol):
    def _before_fork(self) -> None: ...
    def _after_fork(self, *, in_child: bool) -> None: ...


_watched: weakref.WeakSet[_Forks] = weakref.WeakSet()
_held: list[_Forks] = []
_in_child: list[Callable[[], object]] = []


def watch(store: _Forks) -> None:
    """Have ``store`` told of every fork for as long as it lives."""
    _watched.add(store)


def unwatch(store: _Forks) -> None:
    """Forget ``store``: it is closed."""
    _watched.discard(store)


def in_child(callback: Callable[[], object]) -> None:
    """Call ``callback`` in every child that this process forks, before anything else runs there."""
    _in_child.append(callback)


def _before() -> None:
    _held.extend(_watched)
    for store in _held:
        store._before_fork()


def _after(*, in_child: bool) -> None:
    while _held:
        _held.pop()._after_fork(in_child=in_child)
    if in_child:
        for callback in _in_child:
            callback()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before,
        after_in_parent=lambda: _after(in_child=False),
        after_in_child=lambda: _after(in_child=True),
    )
