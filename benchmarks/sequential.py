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
from .workloads import chain, commits_of, timed

__all__ = ["run"]

NAME = "sequential"
STEPS = 1_000
TARGETS: dict[Durability, float] = {"normal": 2.0, "full": 1.3}


def run(settings: Settings) -> list[Figure]:
    work = chain(settings.size(STEPS))
    recorded = settings.file("recorded.db")
    with SqliteStore(recorded) as store:
        asyncio.run(work.execute(store=store))
    return [
        *_counts(work, settings),
        *(_against_floor(work, recorded, durability, settings) for durability in TARGETS),
    ]


def _against_floor(work: Workflow, recorded: Path, durability: Durability, settings: Settings) -> Figure:
    settings.progress(durability)
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
        f"{steps:,} steps, {durability}",
        taken["ours"],
        taken["floor"],
        target=TARGETS[durability],
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
