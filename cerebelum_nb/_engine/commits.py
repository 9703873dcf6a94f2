"""Commits: write the batches of executions into the log, and handle rejections and errors.

Batches that are ready at the same time share a transaction. The store can reject a commit of one execution because
another process has appended an event first: its batch is then *rebased* on that event and committed again. A commit can
also fail for all: while another program holds the log's write lock, the batches wait; after any other error, each is
committed alone, so that the error ends only the execution that caused it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from .._core.fold import fold
from .._core.state import State
from .._core.state_copy import copy_part
from .._store import refusals
from .._store.base import Rejection, Store
from ..errors import StoreError
from . import crash, observers
from .execution import Execution, only_decide
from .leases import started_elsewhere, superseded
from .patience import LOCKED_SECONDS, RETRY_SECONDS

__all__ = ["Commits", "rebase"]

_STOP_SECONDS = 5.0
"""How long a stopped run waits for a locked log: the user wants the cell back."""

log = logging.getLogger("cerebelum_nb")


class CommittingEngine(Protocol):
    """What `Commits` needs from its engine. Passed in, not stored, to avoid a reference cycle."""

    loop: asyncio.AbstractEventLoop
    store: Store
    context: contextvars.Context

    def post(self, execution: Execution, handler: Callable[[Any], None], argument: Any) -> None:
        """Put a message into the inbox."""
        ...

    def on_behalf_of(self, execution: Execution, action: Callable[..., object], *arguments: Any) -> None:
        """Call an action for an execution; an exception in it ends that execution."""
        ...

    def failed(self, execution: Execution, error: BaseException) -> None:
        """End an execution with an exception that was raised on its behalf."""
        ...

    def abandon(self, error: BaseException) -> None:
        """Drop all executions here, as if the process had died."""
        ...

    def commit_again(self) -> None:
        """Commit again the batches that wait for the write lock."""
        ...


class Commits:
    """The commits of one engine."""

    __slots__ = ("_held", "_retry")

    def __init__(self) -> None:
        self._held: dict[Execution, float] = {}  # the executions that wait for the log's write lock, and since when
        self._retry: asyncio.TimerHandle | None = None

    @property
    def wait(self) -> bool:
        """Whether batches wait for the log's write lock."""
        return bool(self._held)

    def forget(self, execution: Execution) -> None:
        """Forget an execution that no longer runs here."""
        self._held.pop(execution, None)

    def commit(self, engine: CommittingEngine, executions: Sequence[Execution]) -> None:
        """Write the batches of executions, and start what follows from them; rejected ones again."""
        if self._retry is not None:
            self._hold(engine, executions)
            return
        while executions:
            executions = self._write(engine, executions)

    def try_again(self, engine: CommittingEngine) -> None:
        """Commit the batches that wait for the log's write lock; end executions that have waited too long."""
        self._retry = None
        self.commit(engine, [execution for execution in list(self._held) if not execution.over])
        now = engine.loop.time()
        for execution, since in list(self._held.items()):
            stopped = execution.stopped_at
            if now - since > LOCKED_SECONDS or (stopped is not None and now - stopped > _STOP_SECONDS):
                execution.abort(_locked(engine.store.location, now - since))

    def _write(self, engine: CommittingEngine, executions: Sequence[Execution]) -> list[Execution]:
        """Commit once; return the executions to commit again because their commits were rejected."""
        began = time.perf_counter()
        try:
            commits = [execution.commit() for execution in executions]
            if crash.armed and (crashed := crash.strike(commits, before=True)) is not None:
                engine.abandon(crashed)
                return []
            rejected = engine.store.commit(commits)
        except BaseException as error:  # noqa: BLE001 - a store is a plug-in: any error is retried or ends a run
            self._not_written(engine, executions, error)
            return []
        if crash.armed and (crashed := crash.strike(commits, before=False)) is not None:
            engine.abandon(crashed)
            return []
        observers.notify_commit(time.perf_counter() - began)
        again: list[Execution] = []
        for execution in executions:
            if self._held:
                self._held.pop(execution, None)
            reason = rejected.get(execution.id) if rejected else None
            if reason is None:
                try:
                    execution.committed()
                except BaseException as error:  # noqa: BLE001
                    engine.failed(execution, error)
            elif reason == Rejection.QUEUED:
                engine.on_behalf_of(execution, execution.lost_slot)
                if execution.driver.batch and not execution.over:
                    again.append(execution)
            elif reason != Rejection.STALE:
                execution.abort((superseded if execution.written else started_elsewhere)(execution.id))
            else:
                engine.on_behalf_of(execution, rebase, execution)
                if execution.driver.batch and not execution.over:
                    again.append(execution)
                elif not execution.over:  # it was written after all, or no longer hibernates
                    engine.on_behalf_of(execution, execution.committed)
                    engine.post(execution, only_decide, None)
        return again

    def _not_written(self, engine: CommittingEngine, executions: Sequence[Execution], error: BaseException) -> None:
        if isinstance(error, StoreError) and error.transient:
            self._hold(engine, executions)
        elif isinstance(error, Exception) and len(executions) > 1:  # find out which of them caused it
            for execution in executions:
                self.commit(engine, [execution])
        else:
            for execution in executions:
                execution.abort(error)
            if not isinstance(error, Exception):
                raise error

    def _hold(self, engine: CommittingEngine, executions: Sequence[Execution]) -> None:
        """Keep the batches of executions until the log's write lock is free.

        A timer of the loop retries, not a thread: a try that finds the lock taken blocks the loop only briefly, and the
        batches grow on the loop meanwhile. Outcomes, a stop and a cancellation are still handled, and the commit that
        finally succeeds includes all of them.
        """
        if not self._held and executions:
            engine.loop.call_later(1.0, self._report_lock, engine.store.location)
        for execution in executions:
            self._held.setdefault(execution, engine.loop.time())
        if self._held and self._retry is None:
            self._retry = engine.loop.call_later(RETRY_SECONDS, engine.commit_again, context=engine.context)

    def _report_lock(self, location: str) -> None:
        if self._held:
            with suppress(Exception):  # the user's logging handler or filter may raise
                log.warning(
                    "the log %s is locked by another program: %s waiting for it to record finished steps. Nothing is "
                    "lost; they can be stopped",
                    location,
                    "one run is" if len(self._held) == 1 else f"{len(self._held)} runs are",
                )


def rebase(execution: Execution) -> None:
    """Read the events that others have appended, such as signals, or end the run here if its lease is lost.

    The lease is checked after the events are read: if it was lost before, they may be those of another process that
    runs the execution, and this one must not continue from them.
    """
    store, written, batch = execution.store, execution.written, execution.driver.batch
    state = (execution.log_state or State()) if batch else execution.state
    known = state.version
    events = store.events(execution.id, after=known)
    if not store.holds(execution.id, execution.holder):
        execution.abort(superseded(execution.id))
        return
    new = events[written - known :]
    if not new:
        raise StoreError(refusals.no_append(store.location, execution.id, written))
    fold(events, state)
    if batch:
        execution.log_state = state
        state = copy_part(state)
    if batch and new[: len(batch)] == batch:
        written, new = written + len(batch), new[len(batch) :]
        execution.was_written(state)
    else:
        execution.rebase(state)
    observers.notify(execution, written + 1, new)


def _locked(location: str, seconds: float) -> StoreError:
    return StoreError(
        f"The log {location} stayed locked by another program for {seconds:.0f} s. Find what has it open (a database "
        f"browser with unsaved changes, a long transaction), and close it",
        transient=True,
    )
