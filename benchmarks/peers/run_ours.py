"""The shapes on cerebelum_nb at ``full``: WAL, one fsync per commit. Prints one JSON object.

``items`` fans out a list instead, with ``foreach``; ``items loop`` does it in one step with ``context.run``. ``resume
fail`` makes a run that fails after many steps, and ``resume`` resumes it, in another process.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path

from benchmarks import foreach
from benchmarks.concurrency import at_once
from benchmarks.disk import checkpointed_size
from benchmarks.peers.taken import clock, since, taken
from benchmarks.workloads import chain, fan
from cerebelum_nb import WorkflowError
from cerebelum_nb._store.sqlite import SqliteStore


async def shapes(store: SqliteStore, path: Path, steps: int, siblings: int, executions: int) -> dict[str, float]:
    found: dict[str, float] = {}
    line, spread, short = chain(steps), fan(siblings), chain(10, name="short")
    await short.execute(store=store)
    before = checkpointed_size(path)
    with taken(found, "sequential"):
        await line.execute(store=store)
    found["disk"] = (checkpointed_size(path) - before) / steps
    await spread.execute(store=store)
    with taken(found, "fanout"):
        await spread.execute(store=store)
    with taken(found, "concurrency"):
        await at_once(short, executions, store)
    return found


async def resume(store: SqliteStore, steps: int, fails: bool) -> dict[str, float]:
    found: dict[str, float] = {}
    reached: list[tuple[float, float]] = []

    def stop() -> None:
        reached.append(clock())
        raise RuntimeError("so that it can be resumed")

    work = chain(steps + 1, {steps + 1: stop})
    for shape in "resume", "again":
        began = clock()
        with suppress(WorkflowError):
            await (work.execute(store=store) if fails else work.resume(store=store))
        found |= since(began, reached[-1], shape)
    return found


async def items(store: SqliteStore, count: int, loop: bool) -> dict[str, float]:
    found: dict[str, float] = {}
    work = foreach.plain if loop else foreach.items
    await work.execute({"items": list(range(10))}, store=store)
    with taken(found, "items"):
        await work.execute({"items": list(range(count))}, store=store)
    return found


def main(path: Path, sizes: list[int], modes: list[str]) -> None:
    with SqliteStore(path, durability="full") as store:
        if "resume" in modes:
            work = resume(store, sizes[0], "fail" in modes)
        elif "items" in modes:
            work = items(store, sizes[3], "loop" in modes)
        else:
            work = shapes(store, path, *sizes[:3])
        print(json.dumps(asyncio.run(work)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(size) for size in sys.argv[2:6]], sys.argv[6:])
