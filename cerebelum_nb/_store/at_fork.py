"""What happens to open logs, leases and the like when a process forks: the only place that deals with it.

SQLite keeps file locks per process, and its own record of them. A connection that a child process inherits is therefore
a trap: a log opened beside it takes no locks, and its commits vanish when the parent exits. So a fork never happens in
the middle of a transaction, and the child at once closes what it inherited (harmless while the parent holds its locks);
a store reopens its file when it is next used.

A forked child is another process: it has none of its parent's leases and runs none of its executions. Code that keeps
such things registers a callback with :func:`in_child`.
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
    """Tell ``store`` about every fork for as long as it exists."""
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
