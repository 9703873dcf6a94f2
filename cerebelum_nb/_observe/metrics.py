"""Metrics for Prometheus: those of a log, whichever processes run its executions, and those of this process.

Both are collectors for a registry of prometheus_client. tally.py does the counting.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from .._engine import observers
from .._store.event_key import event_of
from .._store.executions import ABANDONED, ACTIVE, DUE, current, to_holder
from .extras import need
from .follow import Follower, Header
from .tally import Count, Durations, Tally

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from .._core.events import Event
    from .._engine.execution import Execution
    from .._engine.ports import Host

__all__ = ["LogMetrics", "ProcessMetrics"]

_STATES = (
    "QUEUED",
    "RUNNING",
    "SLEEPING",
    "WAITING_FOR_APPROVAL",
    "WAITING_FOR_SIGNAL",
    "WAITING_FOR_CHILD",
    "PAUSED",
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "ROLLED_BACK",
)


class LogMetrics:
    """The metrics of a log, read from its file: register it with a Prometheus registry.

    Gauges show what the log holds. Counters and histograms count what is appended while this object exists, and only
    grow: deleting executions from the log does not reset them.

    Args:
        path: the log's file; it is only read.

    Raises:
        StoreError: there is no such log, or it cannot be read.
        CerebelumError: prometheus_client is not installed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from prometheus_client import CollectorRegistry
        >>> from cerebelum_nb._store.sqlite import SqliteStore
        >>> with tempfile.TemporaryDirectory() as folder, SqliteStore(Path(folder, "log.db")) as log:
        ...     registry, metrics = CollectorRegistry(), LogMetrics(log.location)
        ...     registry.register(metrics)
        ...     processes = registry.get_sample_value("cerebelum_processes")
        ...     metrics.close()
        >>> processes
        0
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        need("prometheus_client", "metrics")
        self._follower = Follower(path)
        self._tally = Tally(self._began)
        self._lock = threading.Lock()
        for workflow, _ in self._follower.counts:
            self._tally.workflow(workflow)
        self._read_open_approvals()

    def close(self) -> None:
        """Close the log; closing twice is harmless."""
        self._follower.close()

    def describe(self) -> Iterable[Metric]:
        """Describe nothing in advance, so that registering reads nothing."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Read what is new in the log and yield its metrics.

        Raises:
            StoreError: the log cannot be read.
        """
        with self._lock:
            for change in self._follower.look():
                for event in self._follower.headers(change):
                    self._tally.add(change.key, change.workflow, event)
            found = [*_build(), *_counted(self._tally), *self._gauges(time.time_ns() // 1000)]
        yield from found

    def _gauges(self, now: int) -> Iterator[Metric]:
        follower, tally = self._follower, self._tally
        by_state: dict[tuple[str, str], float] = {}
        for (workflow, state), number in follower.counts.items():
            label = (tally.workflow(workflow), state.lower())
            by_state[label] = by_state.get(label, 0) + number
        for workflow in {workflow for workflow, _ in by_state}:
            for state in _STATES:  # a state without executions is 0, not absent
                by_state.setdefault((workflow, state.lower()), 0)
        yield _gauge("executions", "Executions in the log.", ("workflow", "state"), by_state)
        asked = {workflow: times for workflow, times in tally.approvals().items() if times}
        open_now = {(workflow,): float(len(times)) for workflow, times in asked.items()}
        oldest = {(workflow,): min(times) / 1e6 for workflow, times in asked.items()}
        yield _gauge("approvals_open", "Approvals that are waiting for a person.", ("workflow",), open_now)
        yield _gauge(
            "approvals_oldest_timestamp_seconds", "When the oldest open approval was asked for.", ("workflow",), oldest
        )
        with follower.reading() as db:
            due, first = db.execute(
                f"SELECT count(*), min(wake_at) FROM execution WHERE {DUE} AND wake_at <= ?", (now,)
            ).fetchone()
            (next_at,) = db.execute(
                f"SELECT min(wake_at) FROM execution WHERE {DUE} AND wake_at > ?", (now,)
            ).fetchone()
            (left,) = db.execute(
                f"SELECT count(*) FROM execution INDEXED BY execution_left WHERE {ABANDONED}"
            ).fetchone()
            columns = "key, host, pid, boot_id, started, heartbeat_at, expires_at"
            holders = [to_holder(row) for row in db.execute(f"SELECT {columns} FROM holder")]
            held = dict(
                db.execute(
                    f"""SELECT holder, count(*) FROM execution WHERE holder IS NOT NULL
                    AND +state IN ({ACTIVE}) GROUP BY holder"""
                ).fetchall()
            )
            size = db.execute("PRAGMA page_count").fetchone()[0] * db.execute("PRAGMA page_size").fetchone()[0]
        dead = [holder.key for holder in holders if not follower.store.lease_left(holder)]
        lost = left + sum(held.get(key, 0) for key in dead)
        yield _gauge("executions_interrupted", "Executions that should run and whose process is gone.", (), {(): lost})
        yield _gauge("processes", "Live processes that run executions of the log.", (), {(): len(holders) - len(dead)})
        yield _gauge("wakeups_due", "Executions that should have been woken but were not.", (), {(): due})
        lag = (now - first) / 1e6 if first else 0
        yield _gauge("wakeup_lag_seconds", "How late the oldest wake-up is.", (), {(): lag})
        following = {(): next_at / 1e6} if next_at else {}
        yield _gauge("next_wakeup_timestamp_seconds", "When the next wake-up is due.", (), following)
        last = {(): follower.last_at / 1e6} if follower.last_at else {}
        yield _gauge("last_event_timestamp_seconds", "When something was last recorded.", (), last)
        yield _gauge("log_size_bytes", "Size of the log's file.", (), {(): size})

    def _began(self, key: Hashable, event: Header | None) -> int | None:
        """Look up when an attempt or an execution started."""
        with self._follower.reading() as db:
            if event is None:
                sql = f"""SELECT at FROM event e WHERE {event_of(":key")}
                    AND type IN ('WorkflowStarted', 'WorkflowForked') ORDER BY e.key DESC LIMIT 1"""
                found = db.execute(sql, {"key": key}).fetchone()
            else:
                sql = f"""SELECT at FROM event e WHERE {event_of(":key", upto=":upto")} AND type = 'StepStarted'
                    AND step = :step AND visit = :visit AND attempt = :attempt ORDER BY e.key DESC LIMIT 1"""
                which = {"step": event.step, "visit": event.visit, "attempt": event.attempt}
                found = db.execute(sql, {"key": key, "upto": event.version - 1, **which}).fetchone()
        return int(found[0]) if found else None

    def _read_open_approvals(self) -> None:
        """Add the earlier requests for approval that are still open to the tally."""
        with self._follower.reading() as db:
            sql = f"""SELECT key, workflow, {current("version")} FROM execution
                WHERE state IN ({ACTIVE}) LIMIT 10000"""
            active = db.execute(sql).fetchall()
        past = Tally(lambda key, event: None)
        for key, workflow, last in active:
            for event in self._follower.headers_of(key, 0, last):
                past.add(key, workflow, event)
        self._tally.take_open_approvals(past)


class ProcessMetrics:
    """The metrics of the executions of this process, in any log: register it with a Prometheus registry.

    It counts from now until it is closed. It adds ``cerebelum_commit_duration_seconds``, which is not in the log;
    :class:`LogMetrics` has the gauges of a log.

    Raises:
        CerebelumError: prometheus_client is not installed.

    Example:
        >>> from prometheus_client import CollectorRegistry
        >>> registry, metrics = CollectorRegistry(), ProcessMetrics()
        >>> registry.register(metrics)
        >>> result = release.run(store=MemoryStore())
        >>> registry.get_sample_value("cerebelum_executions_started_total", {"workflow": "release"})
        1
        >>> metrics.close()
    """

    def __init__(self) -> None:
        need("prometheus_client", "metrics")
        self._running: Execution | None = None
        self._tally = Tally(self._began)
        self._lock = threading.Lock()
        self._observer = observers.Observer(self._on_event, on_commit=self._on_commit)
        observers.add(self._observer)

    def close(self) -> None:
        """Count nothing more; closing twice is harmless."""
        observers.remove(self._observer)

    def describe(self) -> Iterable[Metric]:
        """Describe nothing in advance."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield what was counted."""
        with self._lock:
            found = [*_build(), *_counted(self._tally)]
            found.append(_histogram("commit_duration_seconds", "How long commits took.", self._tally.commit_seconds))
        yield from found

    def _on_event(self, host: Host, version: int, event: Event) -> None:
        execution = cast("Execution", host)  # only executions record events, not trials of a step
        with self._lock:
            self._running = execution
            self._tally.add(execution.id, execution.plan.workflow, Header.of(version, event))
            self._running = None

    def _began(self, key: Hashable, event: Header | None) -> int | None:
        """Return when an execution started elsewhere; its attempts all start here."""
        return self._running.state.started_at if event is None and self._running is not None else None

    def _on_commit(self, seconds: float) -> None:
        with self._lock:
            self._tally.commit_seconds.add(seconds)


# -- conversion to Prometheus's types -----------------------------------------------------------------------


def _build() -> Iterator[Metric]:
    from prometheus_client.core import InfoMetricFamily

    text = "The version of cerebelum_nb that serves these metrics."
    yield InfoMetricFamily("cerebelum_build", text, {"version": _version()})


@cache  # reading it from a file took a third of a scrape
def _version() -> str:
    return version("cerebelum_nb")


def _counted(tally: Tally) -> Iterator[Metric]:
    yield _counter("executions_started", "Executions started, forks included.", tally.started)
    yield _counter("executions_ended", "Executions that came to an end.", tally.ended)
    yield _counter("executions_resumed", "Executions that were resumed, woken or taken over.", tally.resumed)
    yield _counter("step_attempts", "Attempts of steps that ended.", tally.attempts)
    yield _histogram("step_duration_seconds", "How long attempts took, waits included.", tally.step_seconds)
    yield _histogram("execution_duration_seconds", "From start to end, waits and pauses included.", tally.run_seconds)
    yield _histogram("approval_wait_seconds", "From asking for an approval to a decision.", tally.approval_seconds)


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"cerebelum_{name}", text, labels=labels)
    for given, value in values.items():
        family.add_metric(given, value)
    return family


def _counter(name: str, text: str, count: Count) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"cerebelum_{name}", text, labels=count.labels)
    for given, value in count.values.items():
        family.add_metric(given, value)
    return family


def _histogram(name: str, text: str, durations: Durations) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(f"cerebelum_{name}", text, labels=durations.labels)
    bounds = [*map(str, map(float, durations.bounds)), "+Inf"]
    for given, (numbers, (total,)) in durations.values.items():
        reached, buckets = 0, []
        for bound, number in zip(bounds, numbers, strict=True):
            reached += number
            buckets.append((bound, float(reached)))
        family.add_metric(given, buckets, total)
    return family
