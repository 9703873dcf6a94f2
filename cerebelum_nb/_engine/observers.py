"""Observers: functions called with every event of the executions of this process.

There is one registry for every way of running: foreground, background, a scheduler. An observer must never end or hang
a run, so one that raises is logged once and removed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._core.events import Event
    from .ports import Host
    from .scope import Scope

__all__ = ["Observer", "add", "notify", "notify_commit", "prepare", "remove"]

log = logging.getLogger("cerebelum_nb")

_lock = threading.Lock()
_observers: tuple[Observer, ...] = ()
"""Replaced as a whole, so that calling the observers takes no lock: every commit does so."""


class Observer:
    """Functions to call: for each committed event, before an attempt starts, and after each commit.

    ``on_commit`` gets the seconds that the commit took; a commit may hold events of several executions.
    """

    __slots__ = ("before_attempt", "on_commit", "on_event")

    def __init__(
        self,
        on_event: Callable[[Host, int, Event], object] | None = None,
        before_attempt: Callable[[Scope], object] | None = None,
        on_commit: Callable[[float], object] | None = None,
    ) -> None:
        self.on_event, self.before_attempt, self.on_commit = on_event, before_attempt, on_commit


def add(observer: Observer) -> None:
    """Call ``observer`` from now on."""
    global _observers
    with _lock:
        _observers = (*_observers, observer)


def remove(observer: Observer) -> None:
    """Stop calling ``observer``; harmless if it is not registered."""
    global _observers
    with _lock:
        _observers = tuple(other for other in _observers if other is not observer)


def notify(execution: Host, first: int, events: Sequence[Event]) -> None:
    """Call the observers with the events of a commit; ``first`` is the version of the first event."""
    for observer in _observers:
        if observer.on_event is None:
            continue
        try:
            for version, event in enumerate(events, first):
                observer.on_event(execution, version, event)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - not even SystemExit or CancelledError may end a run
            _drop(observer, error)


def prepare(scope: Scope, context: Context) -> None:
    """Call the observers before an attempt, in its context: the step sees the context variables that they set."""
    for observer in _observers:
        if observer.before_attempt is None:
            continue
        try:
            context.run(observer.before_attempt, scope)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            _drop(observer, error)


def notify_commit(seconds: float) -> None:
    """Call the observers with the seconds that a commit took."""
    for observer in _observers:
        if observer.on_commit is None:
            continue
        try:
            observer.on_commit(seconds)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            _drop(observer, error)


def _drop(observer: Observer, error: BaseException) -> None:
    remove(observer)
    with suppress(Exception):  # a logging handler or filter may raise too
        log.warning("an observer raised %s and is not called again", type(error).__name__, exc_info=error)
