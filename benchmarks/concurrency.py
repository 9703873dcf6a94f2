"""100 executions of 10 steps at once at ``full``, against a floor that commits every step by itself."""

from __future__ import annotations

import asyncio
import time

from cerebelum_nb import Workflow
from cerebelum_nb._store.base import Store
from cerebelum_nb._store.sqlite import SqliteStore

from .floor import Floor
from .measure import Figure, Settings, compare, interleave
from .workloads import chain, commits_of

__all__ = ["at_once", "run"]

NAME = "concurrency"
EXECUTIONS = 100
STEPS = 10


async def at_once(work: Workflow, executions: int, store: Store) -> float:
    """Run so many executions at the same time and return the seconds they took together."""
    began = time.perf_counter()
    await asyncio.gather(*(work.execute(store=store) for _ in range(executions)))
    return time.perf_counter() - began


def run(settings: Settings) -> list[Figure]:
    executions = settings.size(EXECUTIONS)
    work = chain(STEPS, name="one_of_many")
    recorded = settings.file("recorded.db")
    with SqliteStore(recorded) as store:
        asyncio.run(at_once(work, executions, store))
    floor = Floor(settings.file("floor.db"), "full", recorded)
    with SqliteStore(settings.file("ours.db"), durability="full") as store, asyncio.Runner() as loop:

        def ours() -> float:
            return loop.run(at_once(work, executions, store))

        def plain() -> float:
            return floor.write(floor.commits(together=True))

        ours(), plain()
        with commits_of(store) as commits:
            ours()
        taken = interleave({"ours": ours, "floor": plain}, settings.repeat)
        most = len(floor.commits())
    floor.close()
    steps = executions * STEPS
    return [
        compare(
            NAME,
            f"{executions} x {STEPS} steps at once, full: times the floor's speed",
            taken["ours"],
            taken["floor"],
            target=2.0,
            target_is="at least",
            detail=lambda a, b: (
                f"{steps / a:,.0f} steps/s in {len(commits)} commits, floor {steps / b:,.0f} in {most:,}"
            ),
        )
    ]
