"""What keeping a log costs: verifying it, and pruning one of 100,000 executions."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

from cerebelum_nb import archive
from cerebelum_nb._core.events import Event, StepCompleted, StepStarted, WorkflowCompleted, WorkflowStarted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._core.value import Value
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.sqlite import SqliteStore

from .disk import checkpointed_size
from .measure import Figure, Settings, interleave, value_of

__all__ = ["run"]

NAME = "keeping"
EXECUTIONS = 100_000
KEPT = 1_000


def run(settings: Settings) -> list[Figure]:
    count = settings.size(EXECUTIONS)
    path = settings.file("keeping.db")
    with SqliteStore(path, durability="normal") as store:
        _fill(store, count)
        settings.progress(f"{count:,} executions written")
        events = count * 4

        def bare() -> float:
            """Read every row, hash and all, and do nothing with it."""
            with closing(sqlite3.connect(path)) as db:
                began = time.perf_counter()
                for _ in db.execute("SELECT * FROM event ORDER BY key"):
                    pass
                return (time.perf_counter() - began) / events * 1e6

        def verify() -> float:
            began = time.perf_counter()
            found = archive.verify(store=store)
            assert found.ok and found.events == events, str(found)
            return (time.perf_counter() - began) / events * 1e6

        taken = interleave({"verify": verify, "bare": bare}, min(3, settings.repeat))
        before = checkpointed_size(path)
        began = time.perf_counter()
        kept = min(KEPT, count // 2)
        done = archive.prune(keep_last=kept, store=store)
        seconds = time.perf_counter() - began
        assert len(done.execution_ids) == count - kept
    rate = 1e6 / min(taken["verify"])
    return [
        value_of(
            NAME,
            "verify, an event",
            taken["verify"],
            "us",
            target=None,
            detail=f"{rate:,.0f} events/s; only to read them {min(taken['bare']):.1f} us each",
        ),
        value_of(
            NAME,
            f"prune {len(done.execution_ids):,} of {count:,} executions",
            [seconds * 1e3],
            "ms",
            target=None,
            detail=f"{before / 1e6:.0f} MB before, {checkpointed_size(path) / 1e6:.1f} after",
        ),
    ]


def _fill(store: SqliteStore, count: int) -> None:
    """Write executions of one step each as the engine does, many in a transaction."""
    holder = store.register(1, 10**15)
    for start in range(0, count, 1_000):
        store.commit([_commit(n, holder) for n in range(start, min(count, start + 1_000))])
    store.retire(holder)


def _commit(n: int, holder: int) -> Commit:
    at = n * 10**6
    events: list[Event] = [
        WorkflowStarted(at=at, workflow="w", inputs=Value("json", "{}"), total_steps=1),
        StepStarted(at=at, step="a", code="0123456789abcdef"),
        StepCompleted(at=at, step="a", output=Value("json", "null")),
        WorkflowCompleted(at=at, last_step="a"),
    ]
    return Commit(
        execution_id=f"x{n:09d}",
        after=0,
        events=events,
        summary=summarise(fold(events)),
        holder=holder,
        release=True,
    )
