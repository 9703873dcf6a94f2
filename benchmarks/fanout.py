"""1 -> 100 -> 1, against a floor that commits the siblings together: four commits in all."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cerebelum_nb import Workflow
from cerebelum_nb._store.sqlite import Durability, SqliteStore

from .floor import Floor
from .measure import Figure, Settings, compare, interleave
from .workloads import commits_of, fan, timed

__all__ = ["run"]

NAME = "fanout"
SIBLINGS = 100
EACH = 10
"""Executions per measurement: one alone takes too little time."""

TARGETS: dict[Durability, float] = {"normal": 3.0, "full": 4.0}


def run(settings: Settings) -> list[Figure]:
    work = fan(settings.size(SIBLINGS))
    recorded = settings.file("recorded.db")
    with SqliteStore(recorded) as store:
        asyncio.run(work.execute(store=store))
    return [
        _against_floor(work, recorded, "normal", settings),
        _against_floor(work, recorded, "full", settings),
    ]


def _against_floor(work: Workflow, recorded: Path, durability: Durability, settings: Settings) -> Figure:
    settings.progress(durability)
    each = settings.times(EACH)
    floor = Floor(settings.file("floor.db"), durability, recorded)
    with SqliteStore(settings.file("ours.db"), durability=durability) as store, asyncio.Runner() as loop:

        def ours() -> float:
            return loop.run(timed(work, store, each))

        def plain() -> float:
            return floor.write([commit for _ in range(each) for commit in floor.commits()]) / each

        ours(), plain()
        with commits_of(store) as commits:
            loop.run(work.execute(store=store))
        taken = interleave({"ours": ours, "floor": plain}, settings.repeat)
        least = len(floor.commits())
    floor.close()
    return compare(
        NAME,
        f"1 -> {settings.size(SIBLINGS)} -> 1, {durability}",
        taken["ours"],
        taken["floor"],
        target=TARGETS[durability],
        detail=lambda a, b: f"{a * 1e3:.2f} ms in {len(commits)} commits, floor {b * 1e3:.2f} ms in {least}",
    )
