"""1,000 no-op steps one after another, against a floor of the same rows and the same number of commits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

from cerebelum_nb import Workflow
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.sqlite import Durability, SqliteStore

from .floor import Floor
from .measure import Figure, Settings, compare, interleave
from .workloads import carrying, chain, commits_of, timed

__all__ = ["run"]

NAME = "sequential"
STEPS = 1_000
TARGETS: dict[Durability, float] = {"normal": 1.4, "full": 1.2}
PURE_TARGETS: dict[Durability, float] = {"normal": 0.7, "full": 0.2}
CARRYING_TARGETS: dict[Durability, float] = {"normal": 1.6, "full": 1.3}


def run(settings: Settings) -> list[Figure]:
    work = chain(settings.size(STEPS))
    recorded = settings.file("recorded.db")
    with SqliteStore(recorded) as store:
        asyncio.run(work.execute(store=store))
    return [
        *_counts(work, settings),
        *(_against_floor(work, recorded, durability, settings) for durability in TARGETS),
        _on_fresh_logs(work, recorded, settings),
        *_carrying(settings),
        *_pure(recorded, settings),
    ]


def _pure(recorded: Path, settings: Settings) -> list[Figure]:
    """Measure steps with ``pure=True``, against a floor that commits each step."""
    work = chain(settings.size(STEPS), pure=True)
    return [
        _against_floor(work, recorded, durability, settings, target, ", pure")
        for durability, target in PURE_TARGETS.items()
    ]


def _carrying(settings: Settings) -> list[Figure]:
    """Measure a chain in which every step takes the result of the one before it and returns a small dict."""
    work = carrying(settings.size(STEPS))
    recorded = settings.file("carried.db")
    with SqliteStore(recorded) as store:
        asyncio.run(work.execute(store=store))
    return [
        _against_floor(work, recorded, durability, settings, target, ", each with a value")
        for durability, target in CARRYING_TARGETS.items()
    ]


def _on_fresh_logs(work: Workflow, recorded: Path, settings: Settings) -> Figure:
    """Measure the first run in a new log, whose -wal file is still short; the floor begins anew as well."""
    settings.progress("full, fresh log")
    steps = settings.size(STEPS)

    def ours() -> float:
        with SqliteStore(settings.file("fresh.db"), durability="full") as store:
            return asyncio.run(timed(work, store)) / steps

    def plain() -> float:
        floor = Floor(settings.file("fresh-floor.db"), "full", recorded)
        try:
            return floor.write(floor.commits()) / steps
        finally:
            floor.close()

    ours(), plain()
    taken = interleave({"ours": ours, "floor": plain}, settings.repeat)
    return compare(
        NAME,
        f"{steps:,} steps, full, fresh log",
        taken["ours"],
        taken["floor"],
        target=1.2,
        detail=lambda a, b: f"{a * 1e6:.0f} us a step, floor {b * 1e6:.0f} us",
    )


def _against_floor(
    work: Workflow, recorded: Path, durability: Durability, settings: Settings, target: float = 0.0, what: str = ""
) -> Figure:
    settings.progress(durability + what)
    steps = settings.size(STEPS)
    floor = Floor(settings.file("floor.db"), durability, recorded)
    with SqliteStore(settings.file("ours.db"), durability=durability) as store, asyncio.Runner() as loop:

        def ours() -> float:
            return loop.run(timed(work, store)) / steps

        def plain() -> float:
            return floor.write(floor.commits()) / steps

        ours(), plain()
        taken = interleave({"ours": ours, "floor": plain}, settings.repeat)
    floor.close()
    return compare(
        NAME,
        f"{steps:,} steps{what}, {durability}",
        taken["ours"],
        taken["floor"],
        target=target or TARGETS[durability],
        detail=lambda a, b: f"{a * 1e6:.0f} us a step, floor {b * 1e6:.0f} us",
    )


class WatchedStore(SqliteStore):
    """A log that notes which threads write to it."""

    written_by: set[int]

    def commit(self, commits: Sequence[Commit]) -> dict[str, str]:
        self.written_by.add(threading.get_ident())
        return super().commit(commits)


def _counts(work: Workflow, settings: Settings) -> list[Figure]:
    """Count the commits of a run, and the threads they come from."""
    steps = settings.size(STEPS)
    with WatchedStore(settings.file("counted.db"), durability="normal") as store:
        store.written_by = set()
        asyncio.run(chain(1, name="first").execute(store=store))  # registers this process as a lease's holder
        with commits_of(store) as commits:
            asyncio.run(work.execute(store=store))
    return [
        Figure(
            benchmark=NAME,
            name=f"commits of {steps:,} steps, besides the one that starts the run",
            value=len(commits) - 1,
            unit="",
            target=steps,
            target_is="exactly",
            detail="one a step",
        ),
        Figure(
            benchmark=NAME,
            name="threads that append, besides the event loop's",
            value=len(store.written_by - {threading.get_ident()}),
            unit="",
            target=0,
            target_is="exactly",
            detail="no thread hop",
        ),
    ]
