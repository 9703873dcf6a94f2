"""A log to append to, over each store; times are plain numbers, no clock runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cerebelum_nb._core.events import StepCompleted, StepStarted, WorkflowStarted
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._core.summary import Summary
from cerebelum_nb._core.value import Value
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.holder import ProcessIdentity
from cerebelum_nb._store.memory import MemoryStore
from cerebelum_nb._store.sqlite import SqliteStore

SECOND = 1_000_000
NOW = 1_795_179_600 * SECOND + 123_456  # 2026-11-20T13:00:00.123456Z
TTL = 30 * SECOND

ELSEWHERE = ProcessIdentity(host="elsewhere", pid=4711, boot_id="another-boot/1/another-machine", started="1")
"""A process on another machine: nothing can be proved of it here."""

RUNNING = Summary(workflow="deploy", state=ExecutionState.RUNNING, started_at=NOW, updated_at=NOW)


class Log:
    """A store and this test's lease on it."""

    now, ttl, second = NOW, TTL, SECOND

    def __init__(self, store):
        self.store = store
        self.seconds = 1000.0
        store.heartbeats.monotonic = lambda: self.seconds
        self.me = store.register(NOW, TTL)

    def elsewhere(self, now=NOW, ttl=TTL):
        """Register a process on another machine; by its clock it is ``now``."""
        return self.store.register(now, ttl, ELSEWHERE)

    def commit(self, execution_id, after, *events, holder="me", release=False, is_move=False, **shown):
        """Say what would be committed; ``shown`` are fields of the summary, which a move does without."""
        return Commit(
            execution_id=execution_id,
            after=after,
            events=events,
            summary=None if is_move else replace(RUNNING, **shown),
            holder=self.me if holder == "me" else holder,
            release=release,
        )

    def append(self, execution_id, after, *events, **how):
        """Commit events of one execution; return what was rejected."""
        return self.store.commit([self.commit(execution_id, after, *events, **how)])

    def start(self, execution_id, **how):
        """Create an execution of one event."""
        inputs = Value("json", '{"size":"s-1"}')
        started = WorkflowStarted(at=NOW, workflow=how.get("workflow", "deploy"), inputs=inputs, total_steps=3)
        return self.append(execution_id, 0, started, **how)

    def move(self, ended="migrate", began="verify", at=NOW + SECOND):
        """Make the two events with which an execution goes from one step to the next."""
        return (
            StepCompleted(at=at, step=ended, output=Value("json", "null")),
            StepStarted(at=at, step=began, code="c0de"),
        )

    def step(self, name="migrate", at=NOW, output="null", **header):
        """Make the two events of a step that completes a second after it started."""
        return (
            StepStarted(at=at, step=name, code="c0de", **header),
            StepCompleted(at=at + SECOND, step=name, output=Value("json", output), **header),
        )


@pytest.fixture(params=["sqlite", "memory"])
def log(request, tmp_path):
    store = SqliteStore(tmp_path / "log.db", durability="normal") if request.param == "sqlite" else MemoryStore()
    yield Log(store)
    store.close()


@pytest.fixture
def sqlite_log(tmp_path):
    with SqliteStore(tmp_path / "log.db", durability="normal") as store:
        yield Log(store)


@pytest.fixture
def log_of():
    return Log
