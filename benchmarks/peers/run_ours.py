"""The shapes on cerebelum_nb at ``full``: WAL, one fsync per commit. Prints one JSON object."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from benchmarks.concurrency import at_once
from benchmarks.disk import checkpointed_size
from benchmarks.workloads import chain, fan, timed
from cerebelum_nb._store.sqlite import SqliteStore


async def measure(path: Path, steps: int, siblings: int, executions: int) -> dict[str, float]:
    line, spread, short = chain(steps), fan(siblings), chain(10, name="short")
    with SqliteStore(path, durability="full") as store:
        await short.execute(store=store)
        before = checkpointed_size(path)
        found = {"sequential": await timed(line, store)}
        found["disk"] = (checkpointed_size(path) - before) / steps
        await spread.execute(store=store)
        found["fanout"] = await timed(spread, store)
        found["concurrency"] = await at_once(short, executions, store)
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(Path(sys.argv[1]), *map(int, sys.argv[2:5])))))
