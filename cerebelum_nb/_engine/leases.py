"""Leases: which executions this process runs, and the heartbeat that shows it is alive.

A lease is the right to append to an execution. One process has it; the store rejects the commits of all others.

- On the holder's machine, a lease lasts as long as the holder's process, which is visible there.
- A process that cannot see the holder relies on its heartbeat. It may take the execution over after a lease's length
  without one (_store/heartbeats.py).

So a holder that was suspended may have been superseded. It finds out, whichever comes first, from its next commit, when
it reads the log after another process has written to it, or right before its next effect (:meth:`Leases.check`). A
forked child holds no leases.

There is one holder per store and process. The heartbeat has its own thread where threads can start, so that a busy
event loop does not lose its leases. The same thread notices that another process has written to the log.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from .._core.record import record
from .._store import at_fork
from .._store.base import Store
from ..errors import ExecutionBusyError, StoreError
from .ports import LeasedRun
from .threads import can_start_threads

__all__ = ["Lease", "LeaseTimes", "Leases", "leases_of", "running_here", "started_elsewhere", "superseded"]

log = logging.getLogger("cerebelum_nb")


@record
class LeaseTimes:
    """The times of leases, in seconds.

    Attributes:
        lease: how long a lease lasts without a heartbeat.
        heartbeat: the time between two heartbeats.
        look: the time between two checks of the log.
        idle: after how long without executions the heartbeat stops.
        grace: how long an execution whose process died keeps the slot that others wait for (queue.py).
    """

    lease: float = 30.0
    heartbeat: float = 5.0
    look: float = 0.5
    idle: float = 10.0
    grace: float = 10.0

    @property
    def ttl(self) -> int:
        """The length of a lease, µs."""
        return round(self.lease * 1e6)


class Lease(NamedTuple):
    """A lease that was taken: its holder, and the last heartbeat of the previous holder, µs since the epoch."""

    holder: int
    last_heartbeat: int | None


times = LeaseTimes()
"""The times of this process; tests set shorter ones."""

_by_store: weakref.WeakKeyDictionary[Store, Leases] = weakref.WeakKeyDictionary()
_by_store_lock = threading.Lock()


def leases_of(store: Store) -> Leases:
    """Return this process's leases in ``store``."""
    with _by_store_lock:
        leases = _by_store.get(store)
        if leases is None:
            leases = _by_store[store] = Leases(store)
        return leases


def superseded(execution_id: str) -> ExecutionBusyError:
    """Return the error for an execution that another process took over while this one was running it."""
    return ExecutionBusyError(
        f"another process took over execution {execution_id}: this one missed its heartbeats for too long (a laptop "
        f"that slept, for example), or somebody changed the log. What was committed is kept, and nothing more is done "
        f"here; watch it with `cerebelum watch {execution_id}`, or resume it when that process has ended",
        execution_id=execution_id,
        holder="another process",
    )


def running_here(execution_id: str) -> ExecutionBusyError:
    """Return the error for an execution that this process is already running."""
    return ExecutionBusyError(
        f"execution {execution_id} is already running in this process: wait for it, watch it, or stop it first",
        execution_id=execution_id,
        holder="this process",
    )


def started_elsewhere(execution_id: str) -> ExecutionBusyError:
    """Return the error for an execution whose start another process recorded first."""
    return ExecutionBusyError(
        f"another process has just started execution {execution_id}, so nothing of it was done here. Watch it with "
        f"`cerebelum watch {execution_id}`, or choose another execution_id. When it has ended, the same call with "
        f"resume=True gets its result or resumes it",
        execution_id=execution_id,
        holder="another process",
    )


class Leases:
    """The leases of this process in one store."""

    def __init__(self, store: Store) -> None:
        self._store = weakref.ref(store)
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._running: dict[str, LeasedRun] = {}
        self._queued: dict[str, LeasedRun] = {}  # those that have been queued for their slot
        self._leftovers: dict[str, list[Callable[[], bool]]] = {}
        self._beat_at = 0.0
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # runs the heartbeat where threads cannot start
        self._seen: int | None = None
        self.listeners: set[Callable[[], object]] = set()

    def holder(self, now: int) -> int:
        """Return the key of this process as a holder, after a heartbeat if one is due."""
        with self._lock:
            if self._holder is None:
                self._holder = self._must_store().register(now, times.ttl)
                self._beat_at = time.monotonic()
        if time.monotonic() - self._beat_at >= times.heartbeat - times.look:  # not under the lock, as it may block
            self._must_store().heartbeat(self._holder, now, times.ttl)
            self._beat_at = time.monotonic()
        return self._holder

    def claim(self, execution_id: str, now: int) -> Lease:
        """Take the lease of a recorded execution.

        Raises:
            ExecutionBusyError: it is running, here or in another living process, or one of its stopped steps still is.
        """
        holder = self.holder(now)
        self._refuse_busy(execution_id)
        return Lease(holder, self._must_store().claim(execution_id, holder, now))

    def check(self, execution: LeasedRun) -> None:
        """Check, right before an effect without a commit, that this process may still run an execution.

        Raises:
            ExecutionBusyError: another process has taken it over.
        """
        if not self._must_store().holds(execution.id, execution.holder):
            raise superseded(execution.id)

    async def wait_until_seen(self, execution_id: str) -> None:
        """Watch the holder of an execution until it is known whether the execution may be taken over.

        Returns at once if it has no holder, or its holder is known to be alive or dead. Otherwise returns after a
        heartbeat, or after the length of the lease without one.
        """
        store, last = self._must_store(), math.inf
        while execution_id not in self._running and (holder := store.execution(execution_id).holder) is not None:
            left = 0.0 if holder.key == self._holder else store.lease_left(holder)
            if left in (0.0, math.inf) or left >= last:  # it grows after a heartbeat
                return
            if last == math.inf:
                log.warning(
                    "execution %s is held by %s, which cannot be seen from here: waiting up to %.0f s for a heartbeat "
                    "before taking it over",
                    execution_id,
                    holder,
                    left,
                )
            last = left
            await asyncio.sleep(min(left, times.look))

    def enter(self, execution: LeasedRun) -> None:
        """Register an execution that runs here, and start the heartbeat if needed.

        All threads of a process share its leases, so the log cannot tell two threads apart: this registry does.

        Raises:
            ExecutionBusyError: another thread of this process is running it.
        """
        with self._lock:
            if self._running.setdefault(execution.id, execution) is not execution:
                raise running_here(execution.id)
            store = self._must_store()
            if store.location == ":memory:":
                return
            if can_start_threads():
                if self._thread is None:
                    self._thread = threading.Thread(target=self._beat, name="cerebelum-heartbeat", daemon=True)
                    self._thread.start()
            elif self._loop is None or self._loop.is_closed():
                self._loop = execution.loop
                self._beat_from(execution.loop, self._rounds())

    def leave(self, execution: LeasedRun, leftovers: list[Callable[[], bool]]) -> None:
        """Remove an execution that no longer runs here; ``leftovers`` tell whether its steps are still at work."""
        with self._lock:
            if self._running.get(execution.id) is not execution:
                return
            del self._running[execution.id]
            self._queued.pop(execution.id, None)
            if leftovers:
                self._leftovers[execution.id] = leftovers
        self.notify_queued()
        self.notify()

    def note_queued(self, execution: LeasedRun) -> None:
        """Register an execution that runs here and is queued for its slot."""
        self._queued[execution.id] = execution

    def notify_queued(self) -> None:
        """Make the executions that are queued here check whether their slots are free."""
        for execution in list(self._queued.values()):
            if execution.queued:
                execution.look_at_queue_soon()

    def forget_ended(self, execution_id: str) -> None:
        """Forget the stopped steps of an execution that have ended.

        It is called once for each step that ends, so it only checks from the last one back to one still at work.
        """
        with self._lock:
            left = self._leftovers.get(execution_id, [])
            while left and not left[-1]():
                left.pop()
            if not left:
                self._leftovers.pop(execution_id, None)
        self.notify()

    def notify(self) -> None:
        """Call the listeners: something changed in this process, such as the end of a run or a decided approval."""
        for listener in list(self.listeners):
            listener()

    def running(self, execution_id: str) -> LeasedRun | None:
        """Return an execution if it runs in this process.

        An execution whose event loop was closed, as by ``asyncio.run``, can never continue and is ended here.
        """
        execution = self._running.get(execution_id)
        if execution is not None:
            execution.end_with_loop()
        return self._running.get(execution_id)

    def runs_another(self, execution: LeasedRun) -> bool:
        """Whether another run of the same execution is at work in this process."""
        return self._running.get(execution.id, execution) is not execution

    def disown(self) -> None:
        """Forget everything without writing to the store: in a forked child all of it belongs to the parent."""
        for execution in self._running.values():
            execution.disown()
        self._lock = threading.Lock()
        self._holder, self._thread, self._loop, self._seen = None, None, None, None
        self._running, self._queued, self._leftovers = {}, {}, {}
        self.listeners = set()

    def _refuse_busy(self, execution_id: str) -> None:
        if self.running(execution_id) is not None:
            raise running_here(execution_id)
        alive = [is_alive for is_alive in self._leftovers.pop(execution_id, ()) if is_alive()]
        if alive:
            self._leftovers[execution_id] = alive
            raise ExecutionBusyError(
                f"a step of execution {execution_id} that was stopped is still running in this process (a thread "
                f"cannot be killed): wait until it has ended, or restart the kernel, then resume again",
                execution_id=execution_id,
                holder="this process",
            )

    def _must_store(self) -> Store:
        store = self._store()
        assert store is not None, "the store outlives its leases"
        return store

    def _beat(self) -> None:
        """Send heartbeats from a separate thread."""
        for _ in self._rounds():
            time.sleep(times.look)

    def _beat_from(self, loop: asyncio.AbstractEventLoop, rounds: Iterator[None]) -> None:
        """Send heartbeats from an event loop, where no thread can start; a step that blocks the loop delays them."""
        for _ in rounds:
            loop.call_later(times.look, self._beat_from, loop, rounds)
            return

    def _rounds(self) -> Iterator[None]:
        """Renew the leases and check for events of others, until nothing has run here for a while."""
        since, idle, failing = 0.0, 0.0, False
        while True:
            yield
            store = self._store()
            with self._lock:
                executions = list(self._running.values())
                idle = 0.0 if executions else idle + times.look
                if store is None or idle > times.idle:
                    self._thread = self._loop = None
                    return
            if not executions:
                continue
            for execution in executions:
                execution.end_with_loop()  # possibly the only check, and other processes wait for the lease
            since += times.look
            try:
                if since >= times.heartbeat:
                    self.holder(executions[0].clock.now())
                    since = 0.0
                self._look(store, executions)
                failing = False
            except StoreError:
                pass  # the run's own commits will report it; the next round tries again
            except Exception as error:  # noqa: BLE001 - this thread serves all executions here: it must not end
                if not failing:
                    with suppress(Exception):  # the user's logging handler may raise
                        log.warning("the heartbeat of %s failed and will be tried again: %r", store.location, error)
                failing = True
            del store, executions  # so that an unreferenced log can be closed

    def _look(self, store: Store, executions: list[LeasedRun]) -> None:
        version = store.data_version()
        for execution in executions:
            if version != self._seen or execution.queued:  # the death of another process is not written
                execution.look_soon()
        self._seen = version


def _in_child() -> None:
    """Forget the parent's leases; its threads do not exist in the child, and its locks may be held."""
    global _by_store_lock
    _by_store_lock = threading.Lock()
    for leases in list(_by_store.values()):
        leases.disown()


at_fork.in_child(_in_child)
