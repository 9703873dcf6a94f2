"""What an execution leaves behind in its process, and what one of a single step takes: 5,000 of them in one log."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from pathlib import Path

from cerebelum_nb._store.sqlite import SqliteStore

from .measure import Figure, Settings, in_child, value_of
from .workloads import chain

__all__ = ["run"]

NAME = "memory"
RUNS = 5_000
WARM = 100


def run(settings: Settings) -> list[Figure]:
    runs = settings.size(RUNS)
    found = in_child("-m", "benchmarks.memory", str(settings.file("memory.db")), str(runs))
    return [
        Figure(
            benchmark=NAME,
            name=f"an execution of one step leaves behind, over {runs:,} of them",
            value=found["grown"] / runs,
            unit="bytes",
            target=None,
            detail=f"resident memory grew by {found['grown'] / 1e6:.1f} MB",
        ),
        value_of(NAME, "an execution of one step", found["taken"], "us", target=200.0, detail="CPU, warm, normal"),
    ]


async def measured(store: SqliteStore, runs: int) -> tuple[int, list[float]]:
    """Return by how many bytes this process grows over so many executions, and the CPU of each tenth, us each."""
    work = chain(1, name="single")

    async def some(count: int) -> float:
        began = time.process_time()
        for _ in range(count):
            await work.execute(store=store)
        return (time.process_time() - began) / count * 1e6

    await some(WARM)
    gc.collect()
    before = _resident()
    taken = [await some(max(1, runs // 10)) for _ in range(10)]
    gc.collect()
    return _resident() - before, taken


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def main(path: str, runs: int) -> None:
    """Run in the child, whose memory nothing has used before."""
    with SqliteStore(path, durability="normal") as store:
        grown, taken = asyncio.run(measured(store, runs))
    print(json.dumps({"grown": grown, "taken": taken}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
