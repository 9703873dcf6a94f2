"""The workflows of the archive's tests."""

from __future__ import annotations

import datetime
import time
import zlib
from hashlib import sha256

from cerebelum_nb import Secret, WorkflowError, poll, step, workflow
from cerebelum_nb._core.events import (
    Event,
    SleepStarted,
    StepCompleted,
    StepStarted,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowHibernated,
    WorkflowPaused,
    WorkflowStarted,
)
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._core.value import ErrorInfo, Value
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.sqlite import SqliteStore


@step
def build(inputs):
    print("building\nthe image")
    return {"image": "app:1", "size": inputs["size"], "note": "é😀"}


class Day(datetime.date):
    """A value that is pickled."""


@step
def stamp(build):
    return Day(2026, 11, 20)


@step(retries=1)
async def verify(context, stamp, inputs):
    await poll(lambda: True, interval="1s")
    if context.attempt == 1 or inputs.get("broken"):
        raise RuntimeError(f"port 443 of <b>{stamp}</b> is closed")
    return "fine"


@workflow
def deploy(wf):
    wf.timeline(build >> stamp >> verify)


@step
def fill():
    return "x" * 3000


@workflow
def fat(wf):
    wf.timeline(fill)


async def make(store: SqliteStore) -> None:
    """Make a run that completes, one that fails, and one that has a secret."""
    await deploy.execute({"size": "s-1"}, execution_id="done-1", store=store)
    await fat.execute(execution_id="fat-1", store=store)
    try:
        await deploy.execute(
            {"size": "s-2", "broken": True, "token": Secret("s3cr3t-token")}, execution_id="failed-1", store=store
        )
    except WorkflowError:
        pass


SECOND = 1_000_000
DAY = 86_400 * SECOND


def value(data: bytes, codec: str) -> Value:
    """A value that is stored as bytes."""
    return Value(codec, type="bytes", preview="...", digest=sha256(data).hexdigest(), size=len(data), payload=data)


def finished(
    store: SqliteStore,
    execution_id: str,
    *,
    days: float = 0,
    workflow: str = "deploy",
    end: str = "completed",
    data: bytes = b"shared",
    codec: str = "cloudpickle",
    code: str = "c0de",
) -> None:
    """Write a run of one step that ended so many days ago, without running it."""
    at = time.time_ns() // 1000 - round(days * DAY)
    started = WorkflowStarted(at=at - SECOND, workflow=workflow, inputs=Value("json", "{}"), total_steps=1)
    begun: list[Event] = [started, StepStarted(at=at - SECOND, step="load", code=code)]
    done = StepCompleted(at=at, step="load", output=value(data, codec))
    ends: dict[str, list[Event]] = {
        "completed": [done, WorkflowCompleted(at=at, last_step="load")],
        "cancelled": [done, WorkflowCancelled(at=at)],
        "failed": [done, WorkflowFailed(at=at, error=ErrorInfo(type="ValueError", message="no"))],
        "paused": [done, WorkflowPaused(at=at, reason="stop")],
        "sleeping": [
            SleepStarted(at=at, step="load", op="sleep:0", duration_ms=1, due_at=at),
            WorkflowHibernated(at=at, wake_at=at + 999 * DAY),
        ],
        "running": [],
    }
    events = [*begun, *ends[end]]
    parts = zlib.compress(b'[["code","load","d","pass"]]')
    holder = store.register(at, SECOND)
    store.commit(
        [
            Commit(
                execution_id=execution_id,
                after=0,
                events=events,
                summary=summarise(fold(events)),
                holder=holder,
                release=True,
                payloads=[Value("code", digest=f"code:{code}", size=len(parts), payload=parts)],
            )
        ]
    )
    store.retire(holder)
