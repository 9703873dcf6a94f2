"""Sends notifications about a log. It follows the log, so it also notices killed processes.

A notifier is a thread and never raises into a run. outbox.py keeps what was sent, channels.py has the destinations,
news.py the messages.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Self
from urllib.parse import quote

from .._core.events import Event
from .._core.state_name import ExecutionState
from .._store.log_file import path_of
from ..errors import CerebelumError
from .channels import Channel, channels
from .follow import Follower
from .news import KINDS, News, news_of, news_of_interrupted, news_of_late, open_requests, sum_up
from .outbox import Due, Outbox

__all__ = ["DEFAULT", "Notifier", "notify_from_here"]

log = logging.getLogger("cerebelum_nb")

DEFAULT = ("failed", "approval", "interrupted", "late")
"""The default kinds."""

_OVERLAP = 600_000_000
"""µs before the last look from which events are read again: a commit may have waited that long for the log's lock."""
_PER_MINUTE = 4
"""Messages of one kind; with five kinds at most twenty a minute."""
_AT_ONCE = 100
_TRIES = 3
_LATE = 60_000_000


class Notifier:
    """Sends notifications of a log to one or several URLs until it is closed.

    Args:
        path: the log's file; it is only read. What was sent is recorded next to it, in ``LOG.notified``.
        to: the destinations: see :func:`cerebelum_nb._observe.channels.channels`.
        on: the kinds: ``failed``, ``approval``, ``interrupted``, ``late``, ``completed``; by default all but the
            last.
        link: the address of a dashboard of this log, to which ``/e/ID`` is added.
        every: seconds between two looks.
        patience: seconds that a process must be gone before its executions count as interrupted: a scheduler may resume
            them in that time.
        now: returns the time, µs since the epoch.
        pause: waits before a message is sent again.

    Raises:
        CerebelumError: there is no valid destination, or the log or its outbox cannot be read.

    Example:
        >>> Notifier("history.db", "somebody")
        Traceback (most recent call last):
        ...
        cerebelum_nb.errors.CerebelumError: the receiver must be a URL such as https://..., env:NAME or file:PATH
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        to: str | Iterable[str],
        *,
        on: Iterable[str] = DEFAULT,
        link: str = "",
        every: float = 1.0,
        patience: float = 10.0,
        now: Callable[[], int] = lambda: time.time_ns() // 1000,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._kinds = frozenset(on)
        if unknown := self._kinds - KINDS.keys():
            raise CerebelumError(f"unknown kind of event: {', '.join(sorted(unknown))}. Choose from {', '.join(KINDS)}")
        self.channels: tuple[Channel, ...] = channels([to] if isinstance(to, str) else to)
        self._link, self._every, self._patience = link.rstrip("/"), every, round(patience * 1e6)
        self._now, self._pause = now, pause
        self._sent: dict[str, deque[int]] = {kind: deque() for kind in KINDS}
        self._gone: dict[tuple[str, int], int | None] = {}  # since when it is known, None once it was sent
        self._late: set[tuple[str, int]] = set()
        self._last_warning = ""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        began, location = now(), path_of(path)
        if not Path(location).exists():
            Follower(location)  # raises if something is wrong, so that no outbox is created next to a missing log
        self.outbox = Outbox(f"{location}.notified")
        try:
            since = self.outbox.seen
            self._follower = Follower(location, since=None if since is None else since - _OVERLAP)
        except BaseException:
            self.outbox.close()
            raise
        self._seen_at = since or 0
        if since is None:
            self.outbox.seen = began
        self._is_first = since is None

    def start(self) -> Self:
        """Look repeatedly, in a thread, until :meth:`close`."""
        self._thread = threading.Thread(target=self._work, name="notifier", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Send what is known, and end; closing twice is harmless."""
        if self._ended.is_set():
            return
        self._ended.set()
        if self._thread is not None:
            self._thread.join(30)
        self._follower.close()
        self.outbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def look(self) -> None:
        """Look once: keep what is new, and send what is due.

        Raises:
            CerebelumError: the log or the outbox cannot be read or written.
        """
        now = self._now()
        found = [*self._events(), *self._conditions(now)]
        self.outbox.add(found, now)
        if found or now - self._seen_at > 60_000_000:
            self.outbox.seen = self._seen_at = now
        for kind, waiting in self.outbox.waiting(now).items():
            self._send(kind, waiting, now)

    def send_test(self) -> None:
        """Send a test message to every destination.

        Raises:
            CerebelumError: one could not be reached.
        """
        store = self._follower.store
        title = f"A test of cerebelum notify, for the log {store.location}"
        news = News(kind="test", execution_id="", workflow="", version=0, at=self._now(), title=title)
        for channel in self.channels:
            try:
                channel.send(news, self._link)
            except CerebelumError as error:
                raise CerebelumError(f"{channel.shown} could not be reached: {error}") from None

    def _work(self) -> None:
        while True:
            last = self._ended.is_set()
            try:
                self.look()
                self._last_warning = ""
            except Exception as error:  # noqa: BLE001 - nothing that happens here may reach a run
                if str(error) != self._last_warning:
                    self._last_warning = str(error)
                    log.warning("notifications: %s", error)
            if last:
                return
            self._ended.wait(self._every)

    # -- news -----------------------------------------------------------------------------------------------

    def _events(self) -> Iterator[News]:
        store = self._follower.store
        changes = self._follower.look()
        if self._is_first:  # open approvals are also reported if they were requested earlier
            self._is_first = False
            yield from self._earlier_approvals()
        for change in changes:
            try:
                events = self._follower.events(change)
                yield from news_of(store, change.execution_id, change.workflow, events, self._kinds)
            except CerebelumError as error:  # this execution cannot be read; others can
                log.warning("notifications: %s: %s", change.execution_id, error)

    def _earlier_approvals(self) -> Iterator[News]:
        if "approval" not in self._kinds:
            return
        store = self._follower.store
        rows, _ = store.executions(states=[ExecutionState.WAITING_FOR_APPROVAL], limit=_AT_ONCE, exact=False)
        for row in rows:
            events: list[tuple[int, Event]] = [*enumerate(store.events(row.execution_id, upto=row.version), start=1)]
            yield from news_of(store, row.execution_id, row.summary.workflow, open_requests(events), self._kinds)

    def _conditions(self, now: int) -> Iterator[News]:
        """Find news without an event: a process that has died, an execution that was due but not resumed."""
        store = self._follower.store
        if "interrupted" in self._kinds:
            rows = {(row.execution_id, row.version): row for row in store.abandoned(limit=_AT_ONCE)}
            self._gone = {key: self._gone.get(key, now) for key in rows}
            for key, row in rows.items():
                since = self._gone[key]
                if since is not None and now - since >= self._patience:
                    self._gone[key] = None
                    yield news_of_interrupted(store, row)
        if "late" in self._kinds:
            late = {(row.execution_id, row.version): row for row in store.due(now - _LATE, limit=_AT_ONCE)}
            yield from (news_of_late(store, row, now) for key, row in late.items() if key not in self._late)
            self._late = set(late)

    # -- sending --------------------------------------------------------------------------------------------

    def _send(self, kind: str, waiting: int, now: int) -> None:
        """Send what is waiting, within the limit per minute; the last message sums up the rest."""
        sent = self._sent[kind]
        while sent and now - sent[0] >= 60_000_000:
            sent.popleft()
        free = _PER_MINUTE - len(sent)
        if free <= 0:
            return
        due = self.outbox.claim(kind, now, max(waiting, free))
        alone = due if len(due) <= free else due[: free - 1]
        for one in alone:
            self._deliver(one.news, [one], now)
        rest = due[len(alone) :]
        if rest:
            self._deliver(sum_up([one.news for one in rest]), rest, now)

    def _deliver(self, news: News, due: list[Due], now: int) -> None:
        self._sent[news.kind].append(now)
        link = ""
        if self._link:
            link = f"{self._link}/e/{quote(news.execution_id)}" if news.execution_id else self._link
        reached = set(frozenset.intersection(*(one.reached for one in due)))
        for channel in self.channels:
            if channel.name not in reached and self._try_to_send(channel, news, link):
                reached.add(channel.name)
        sent = [one.news for one in due]
        if all(channel.name in reached for channel in self.channels):
            self.outbox.delivered(sent, now)
        elif not self.outbox.failed(sent, frozenset(reached), now):
            log.warning("notifications: gave up after a day: %s", news.title)

    def _try_to_send(self, channel: Channel, news: News, link: str) -> bool:
        reason = ""
        for number in range(_TRIES):
            if number:
                if self._ended.is_set():
                    break
                self._pause(float(number))
            try:
                channel.send(news, link)
                return True
            except Exception as error:  # noqa: BLE001 - Apprise's services may raise anything
                reason = str(error) if isinstance(error, CerebelumError) else type(error).__name__
        log.warning("notifications: %s could not be reached: %s", channel.shown, reason)
        return False


_running: dict[str, Notifier] = {}
"""The notifiers that `connect` started, by log."""


def notify_from_here(path: str, to: str | Iterable[str]) -> Callable[[], None]:
    """Send notifications of a log in the background until this process ends.

    Returns:
        A function that ends it earlier.

    Raises:
        CerebelumError: there is no valid destination.
    """
    if (before := _running.pop(path, None)) is not None:
        before.close()
    notifier = _running[path] = Notifier(path, to).start()
    process = os.getpid()

    def end() -> None:
        if os.getpid() == process:  # a forked child does not have the thread, and must not close its parent's files
            notifier.close()

    atexit.register(end)
    return end
