"""How long the event loop waits for its turn while the engine has much to do at once: a fan-out, and many executions.

A probe asks for a turn every millisecond and notes how late it came. The steps do nothing, so that all the waiting is
the engine's doing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from statistics import quantiles

from cerebelum_nb._store.sqlite import SqliteStore

from .measure import Figure, Settings
from .workloads import chain, fan

__all__ = ["run"]

NAME = "turns"
MANY = 10_000
LONGEST_MS, P99_MS = 10.0, 15.0
_EVERY = 0.001


def run(settings: Settings) -> list[Figure]:
    many = settings.size(MANY)
    wide, short = fan(many), chain(1, name="one_of_many")

    async def apart(store: SqliteStore) -> None:
        await asyncio.gather(*(short.execute(store=store) for _ in range(settings.size(1_000))))

    async def together(store: SqliteStore) -> None:
        await wide.execute(store=store)

    figures = []
    works = {f"1 -> {many:,} -> 1": together, f"{settings.size(1_000):,} executions at once": apart}
    for name, work in works.items():
        settings.progress(name)
        with SqliteStore(settings.file("turns.db"), durability="normal") as store:
            late = sorted(asyncio.run(_lateness(work(store))))
        p99 = quantiles(late, n=100, method="inclusive")[-1] if len(late) > 1 else late[0]
        figures += [
            Figure(benchmark=NAME, name=f"longest turn, {name}", value=late[-1] * 1e3, unit="ms", target=LONGEST_MS),
            Figure(benchmark=NAME, name=f"loop lag p99, {name}", value=p99 * 1e3, unit="ms", target=P99_MS),
        ]
    return figures


async def _lateness(work: Awaitable[None]) -> list[float]:
    """Await the work, and return by how many seconds each turn that was asked for came late."""
    loop, late = asyncio.get_running_loop(), list[float]()

    async def ask() -> None:
        while True:
            due = loop.time() + _EVERY
            await asyncio.sleep(_EVERY)
            late.append(max(0.0, loop.time() - due))

    probe = asyncio.create_task(ask())
    await asyncio.sleep(0)
    await work
    await asyncio.sleep(_EVERY)
    probe.cancel()
    return late or [0.0]
