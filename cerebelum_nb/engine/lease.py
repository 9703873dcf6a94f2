"""Leases: which executions this process runs, and the heartbeat that says it is alive.

One holder per store and process; the heartbeat is a thread of its own, so that a busy event loop does not lose its
leases. The same thread notices that another process has written to the log.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import ExecutionBusyError, StoreError
from ..store.base import Store

if TYPE_CHECKING:
    from .execution import Execution

__all__ = ["HEARTBEAT_SECONDS", "LEASE_SECONDS", "LeaseKeeper", "keeper_of"]

LEASE_SECONDS = 30
HEARTBEAT_SECONDS = 5
LOOK_SECONDS = 0.5
IDLE_SECONDS = 10

_keepers: weakref.WeakKeyDictionary[Store, LeaseKeeper] = weakref.WeakKeyDictionary()
_keepers_lock = threading.Lock()


def keeper_of(store: Store) -> LeaseKeeper:
    """Return this process's keeper of leases in ``store``."""
    with _keepers_lock:
        keeper = _keepers.get(store)
        if keeper is None:
            keeper = _keepers[store] = LeaseKeeper(store)
        return keeper


class LeaseKeeper:
    """The leases of this process in one store."""

    def __init__(self, store: Store) -> None:
        self._store = weakref.ref(store)
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._running: dict[str, Execution] = {}
        self._leftovers: dict[str, list[Callable[[], bool]]] = {}
        self._beat_at = 0
        self._thread: threading.Thread | None = None
        self._seen: int | None = None
        self.listeners: set[Callable[[], object]] = set()

    def holder(self, now: int) -> int:
        """Return the key under which this process holds leases, and say that it is alive."""
        with self._lock:
            ttl = LEASE_SECONDS * 1_000_000
            if self._holder is None:
                self._holder = self._must_store().register(now, ttl)
                self._beat_at = now
            elif abs(now - self._beat_at) >= (HEARTBEAT_SECONDS - LOOK_SECONDS) * 1_000_000:
                self._must_store().heartbeat(self._holder, now, ttl)
                self._beat_at = now
            return self._holder

    def claim(self, execution_id: str, now: int) -> int:
        """Take the lease of a recorded execution and return the holder's key.

        Raises:
            ExecutionBusyError: it runs here or in another living process, or a step of it is still at work.
        """
        holder = self.holder(now)
        self._refuse_busy(execution_id)
        self._must_store().claim(execution_id, holder, now)
        return holder

    def enter(self, execution: Execution) -> None:
        """Note that an execution runs here, and keep the heartbeat going."""
        with self._lock:
            self._running[execution.id] = execution
            store = self._must_store()
            if self._thread is None and store.location != ":memory:":
                self._thread = threading.Thread(target=self._beat, name="cerebelum-heartbeat", daemon=True)
                self._thread.start()

    def leave(self, execution: Execution, leftovers: list[Callable[[], bool]]) -> None:
        """Note that an execution no longer runs here; ``leftovers`` tell whether a step of it is still at work."""
        with self._lock:
            self._running.pop(execution.id, None)
            if leftovers:
                self._leftovers[execution.id] = leftovers
        self.tell()

    def forget_ended(self, execution_id: str) -> None:
        """Let go of what is left of stopped steps, once they have ended."""
        with self._lock:
            left = [is_alive for is_alive in self._leftovers.pop(execution_id, ()) if is_alive()]
            if left:
                self._leftovers[execution_id] = left
        self.tell()

    def tell(self) -> None:
        """Say to those who asked that something has changed in this process: a run ended, an approval was decided."""
        for listener in list(self.listeners):
            listener()

    def running(self, execution_id: str) -> Execution | None:
        """Return the execution if it runs in this process.

        One whose event loop was closed under it, as at the end of ``asyncio.run``, can never go on: it is over.
        """
        execution = self._running.get(execution_id)
        if execution is not None:
            execution.end_with_loop()
        return self._running.get(execution_id)

    def _refuse_busy(self, execution_id: str) -> None:
        if self.running(execution_id) is not None:
            raise ExecutionBusyError(
                f"execution {execution_id} is running in this process already: wait for it, watch it, or stop it first",
                execution_id=execution_id,
                holder="this process",
            )
        alive = [is_alive for is_alive in self._leftovers.pop(execution_id, ()) if is_alive()]
        if alive:
            self._leftovers[execution_id] = alive
            raise ExecutionBusyError(
                f"a step of execution {execution_id} that was stopped is still at work in this process (a thread "
                f"cannot be killed): wait until it has ended, or restart the kernel, then resume again",
                execution_id=execution_id,
                holder="this process",
            )

    def _must_store(self) -> Store:
        store = self._store()
        assert store is not None, "the store outlives its keeper"
        return store

    def _beat(self) -> None:
        """Keep the leases, and look for what others wrote, until nothing has run here for a while."""
        since, idle = 0.0, 0.0
        while True:
            time.sleep(LOOK_SECONDS)
            store = self._store()
            with self._lock:
                executions = list(self._running.values())
                idle = 0.0 if executions else idle + LOOK_SECONDS
                if store is None or idle > IDLE_SECONDS:
                    self._thread = None
                    return
            if not executions:
                continue
            for execution in executions:
                execution.end_with_loop()  # nobody else may look, and other processes wait for its lease
            since += LOOK_SECONDS
            try:
                if since >= HEARTBEAT_SECONDS:
                    since = 0.0
                    self.holder(executions[0].clock.now())
                self._look(store, executions)
            except StoreError:
                pass  # the run's own commits meet and report it
            del store, executions  # so that a log nobody else holds can be closed

    def _look(self, store: Store, executions: list[Execution]) -> None:
        version = store.data_version()
        if version == self._seen:
            return
        self._seen = version
        for execution in executions:
            execution.look_soon()
