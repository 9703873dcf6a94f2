"""What waits: 1,000 executions in one process, 100,000 hibernated ones, and 10,000 sleeps in one execution."""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import sys
import time
from contextlib import closing
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from cerebelum_nb import foreach, sleep, step, workflow
from cerebelum_nb._core.events import SleepStarted, StepStarted, WorkflowHibernated, WorkflowStarted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._core.value import Value
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.testing import FakeClock, MemoryStore

from .measure import Figure, Settings, compare, in_child, interleave

__all__ = ["run"]

NAME = "waiting"
ASLEEP = 1_000
HIBERNATED = 10_000, 100_000
FEW, MANY = 1_000, 10_000
DAY = 86_400_000_000


@step
async def nap() -> None:
    """Sleep, below the threshold."""
    await sleep("30m")


@workflow
def lazy(wf):  # type: ignore[no-untyped-def]
    """Only sleep."""
    wf.timeline(nap)


@step
async def rest(item: int) -> None:
    """Sleep for days, on a clock that jumps."""
    await sleep("2 days")


@workflow
def beside(wf):  # type: ignore[no-untyped-def]
    """Sleep for every item, all at once."""
    wf.timeline(foreach(rest, item="inputs.items", max_concurrency=MANY))


def cpu_of_a_sleeper(count: int) -> float:
    """Run so many at once to their end; return the CPU seconds that each takes."""
    with closing(MemoryStore()) as store, FakeClock():
        began = time.process_time()
        beside.run({"items": list(range(count))}, store=store)
        return (time.process_time() - began) / count


def resident() -> float:
    """Read this process's resident memory, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


async def asleep(store: SqliteStore, count: int) -> float:
    """Let so many executions sleep here; return how much more memory that takes, MB."""
    first = lazy.start(store=store)
    await asyncio.sleep(0.2)
    gc.collect()
    before = resident()
    runs = [lazy.start(store=store) for _ in range(count)]
    await asyncio.sleep(2)
    gc.collect()
    taken = resident() - before
    for one in (first, *runs):
        one.stop()
    await asyncio.sleep(0.5)
    return taken


def hibernated(store: SqliteStore, numbers: range) -> None:
    """Write executions that hibernate in a sleep."""
    holder = store.register(0, 2 * DAY)
    none = Value("json", "{}")
    commits = []
    for number in numbers:
        head = {"step": "nap", "visit": 1, "attempt": 1}
        events = [
            WorkflowStarted(at=1, workflow="lazy", inputs=none, total_steps=1, module="benchmarks.waiting"),
            StepStarted(at=2, **head),
            SleepStarted(at=3, **head, op="sleep:1d:0:0", duration_ms=1, due_at=DAY + number),
            WorkflowHibernated(at=4, wake_at=DAY + number),
        ]
        summary = summarise(fold(events))
        commits.append(
            Commit(execution_id=f"h{number}", after=0, events=events, summary=summary, holder=holder, release=True)
        )
    for start in range(0, len(commits), 500):
        store.commit(commits[start : start + 500])


def next_due(store: SqliteStore, times: int) -> list[float]:
    """Find the next due and what is due, as a scheduler does; return the milliseconds of each time."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        store.next_wake()
        store.due(DAY, limit=100)
        store.abandoned(limit=100)
        taken.append((time.perf_counter() - began) * 1e3)
    return taken


def run(settings: Settings) -> list[Figure]:
    count, rows = settings.size(ASLEEP), [settings.size(number) for number in HIBERNATED]
    memory = in_child("-m", "benchmarks.waiting", str(settings.file("asleep.db")), str(count))["memory"]
    with SqliteStore(settings.file("hibernated.db"), durability="normal") as store:
        medians = []
        for written, number in pairwise((0, *rows)):
            hibernated(store, range(written, number))
            medians.append(statistics.median(next_due(store, 50)))
    few, many = settings.size(FEW), settings.size(MANY)
    sides = {"many": lambda: cpu_of_a_sleeper(many), "few": lambda: cpu_of_a_sleeper(few)}
    sleepers = interleave(sides, settings.repeat)
    return [
        Figure(
            benchmark=NAME,
            name=f"{count:,} asleep in one process: memory more",
            value=max(0.0, memory),
            unit="MB",
            target=20.0,
            target_is="at most",
            detail=f"{memory * 1e3 / count:,.1f} kB each",
        ),
        Figure(
            benchmark=NAME,
            name=f"the next due of {rows[-1]:,} hibernated",
            value=medians[-1],
            unit="ms",
            target=5.0,
            target_is="at most",
            detail=f"of {rows[0]:,}: {medians[0]:.3f} ms",
        ),
        compare(
            NAME,
            f"one of {many:,} sleepers in an execution to one of {few:,}, CPU",
            sleepers["many"],
            sleepers["few"],
            target=1.2,
            detail=lambda a, b: f"{a * 1e6:.0f} us and {b * 1e6:.0f} us each",
        ),
    ]


def main(path: str, count: int) -> None:
    """Run in the child, whose memory nothing has used before."""
    with SqliteStore(path, durability="normal") as store:
        store.hibernate_after = timedelta(hours=1)
        print(json.dumps({"memory": asyncio.run(asleep(store, count))}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
