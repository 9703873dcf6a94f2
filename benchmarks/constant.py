"""A step costs the same late in a long run, and in a log that already holds a million events."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

from cerebelum_nb import Workflow
from cerebelum_nb._store.event_key import event_of
from cerebelum_nb._store.sqlite import SqliteStore

from .measure import Figure, Settings, compare, interleave
from .workloads import chain, timed_cpu

__all__ = ["run"]

NAME = "constant"
LONG_RUN = 10_000
SHORT_RUN = 1_000
EVENTS = 1_000_000
TARGET = 1.2


def run(settings: Settings) -> list[Figure]:
    settings.progress("one long run")
    figures = [_late_in_a_long_run(settings)]
    settings.progress("a large log")
    return [*figures, _in_a_large_log(settings)]


def _late_in_a_long_run(settings: Settings) -> Figure:
    count = settings.size(LONG_RUN)
    marks = [round(count * part) for part in (0.1, 0.2, 0.9, 1.0)]
    cpu: dict[int, float] = {}

    def noting(number: int) -> None:
        cpu[number] = time.process_time()

    work = chain(count, {mark: lambda m=mark: noting(m) for mark in marks}, name="long")  # type: ignore[misc]  # its default
    early, late = list[float](), list[float]()
    with SqliteStore(settings.file("long.db"), durability="normal") as store:
        for _ in range(settings.repeat):
            asyncio.run(work.execute(store=store))
            a, b, c, d = (cpu[mark] for mark in marks)
            early.append((b - a) / (marks[1] - marks[0]))
            late.append((d - c) / (marks[3] - marks[2]))
    return compare(
        NAME,
        f"CPU of steps {marks[2]:,}-{marks[3]:,} to {marks[0]:,}-{marks[1]:,} of one run",
        late,
        early,
        target=TARGET,
        detail=lambda a, b: f"{a * 1e6:.0f} us and {b * 1e6:.0f} us of CPU a step",
    )


def _in_a_large_log(settings: Settings) -> Figure:
    steps, wanted = settings.size(SHORT_RUN), settings.size(EVENTS)
    work, greeting = chain(steps), chain(1, name="greeting")
    large = settings.file("large.db")
    held = _fill(large, work, wanted)
    with SqliteStore(large, durability="normal") as store, asyncio.Runner() as loop:
        loop.run(work.execute(store=store))

        def full() -> float:
            return loop.run(timed_cpu(work, store)) / steps

        def empty() -> float:
            with SqliteStore(settings.file("empty.db"), durability="normal") as fresh:
                loop.run(greeting.execute(store=fresh))  # registers this process as a lease's holder
                return loop.run(timed_cpu(work, fresh)) / steps

        empty()
        taken = interleave({"full": full, "empty": empty}, settings.repeat)
    return compare(
        NAME,
        f"CPU of {steps:,} steps in a log of {held:,} events to an empty one",
        taken["full"],
        taken["empty"],
        target=TARGET,
        detail=lambda a, b: f"{a * 1e6:.0f} us and {b * 1e6:.0f} us of CPU a step",
    )


def _fill(path: Path, work: Workflow, wanted: int) -> int:
    """Make a log of so many events: one real run, copied within the database."""
    with SqliteStore(path, durability="normal") as store:
        asyncio.run(work.execute(store=store))
    db = sqlite3.connect(path, isolation_level=None)
    columns = [
        name for _, name, *_ in db.execute("PRAGMA table_info(execution)") if name not in ("key", "execution_id")
    ]
    (key, events) = db.execute("SELECT max(key) >> 32, count(*) FROM event").fetchone()
    held = events
    db.execute("BEGIN")
    while held < wanted:
        made = db.execute(
            f"INSERT INTO execution (execution_id, {', '.join(columns)}) "
            f"SELECT execution_id || '-' || ?, {', '.join(columns)} FROM execution WHERE key = ?",
            (held, key),
        ).lastrowid
        db.execute(
            f"""INSERT INTO event (key, kind, step, visit, attempt, at, data, hash)
            SELECT (:made << 32) + e.version, kind, step, visit, attempt, at, data, hash FROM event e
            WHERE {event_of(":key")} ORDER BY e.key""",
            {"made": made, "key": key},
        )
        held += events
    db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return int(held)
