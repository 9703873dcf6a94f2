"""What an execution leaves behind in its process, and what one of a single step takes: 5,000 of them in one log."""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path

from cerebelum_nb._store.sqlite import SqliteStore

from .measure import Figure, Settings, value_of
from .workloads import chain

__all__ = ["run"]

NAME = "memory"
RUNS = 5_000
WARM = 100


def run(settings: Settings) -> list[Figure]:
    runs, work = settings.size(RUNS), chain(1, name="single")
    with SqliteStore(settings.file("memory.db"), durability="normal") as store:

        async def some(count: int) -> float:
            began = time.process_time()
            for _ in range(count):
                await work.execute(store=store)
            return (time.process_time() - began) / count * 1e6

        async def measured() -> tuple[int, list[float]]:
            await some(WARM)
            gc.collect()
            before = _resident()
            taken = [await some(max(1, runs // 10)) for _ in range(10)]
            gc.collect()
            return _resident() - before, taken

        grown, taken = asyncio.run(measured())
    return [
        Figure(
            benchmark=NAME,
            name=f"an execution of one step leaves behind, over {runs:,} of them",
            value=grown / runs,
            unit="bytes",
            target=None,
            detail=f"resident memory grew by {grown / 1e6:.1f} MB",
        ),
        value_of(NAME, "an execution of one step", taken, "us", target=200.0, detail="CPU, warm, normal"),
    ]


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
