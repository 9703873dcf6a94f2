"""The shapes on DBOS over SQLite. Prints one JSON object.

``wal`` puts the file into WAL mode first, which DBOS leaves as it is; without it DBOS uses SQLite's default,
the rollback journal. Either way ``synchronous`` stays at SQLite's default, full: an fsync per commit.
``async`` runs async steps, as ours are (DBOS hands their database work to threads); ``sync`` plain functions,
which spares it that.
"""

import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dbos import DBOS  # type: ignore[import-not-found]  # it lives in an environment of its own


@DBOS.step()  # type: ignore[untyped-decorator]  # see above
async def nothing() -> None:
    return None


@DBOS.step()  # type: ignore[untyped-decorator]  # see above
def nothing_sync() -> None:
    return None


@DBOS.workflow()  # type: ignore[untyped-decorator]  # see above
async def line(steps: int) -> None:
    for _ in range(steps):
        await nothing()


@DBOS.workflow()  # type: ignore[untyped-decorator]  # see above
def line_sync(steps: int) -> None:
    for _ in range(steps):
        nothing_sync()


@DBOS.workflow()  # type: ignore[untyped-decorator]  # see above
async def fan(siblings: int) -> None:
    await nothing()
    await asyncio.gather(*(nothing() for _ in range(siblings)))
    await nothing()


def size(path: Path) -> int:
    """Move everything into the database file and return its size."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return path.stat().st_size


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


async def at_once(executions: int) -> None:
    handles = [await DBOS.start_workflow_async(line, 10) for _ in range(executions)]
    await asyncio.gather(*(handle.get_result() for handle in handles))


def at_once_sync(executions: int) -> None:
    handles = [DBOS.start_workflow(line_sync, 10) for _ in range(executions)]
    for handle in handles:
        handle.get_result()


async def measure(path: Path, steps: int, siblings: int, executions: int) -> dict[str, float]:
    await line(10)
    before = size(path)
    began = time.perf_counter()
    await line(steps)
    found = {"sequential": time.perf_counter() - began, "disk": (size(path) - before) / steps}
    await fan(siblings)
    began = time.perf_counter()
    await fan(siblings)
    found["fanout"] = time.perf_counter() - began
    began = time.perf_counter()
    await at_once(executions)
    return {**found, "concurrency": time.perf_counter() - began}


def measure_sync(path: Path, steps: int, executions: int) -> dict[str, float]:
    line_sync(10)
    before = size(path)
    found = {"sequential": seconds(lambda: line_sync(steps))}
    found["disk"] = (size(path) - before) / steps
    return {**found, "concurrency": seconds(lambda: at_once_sync(executions))}


def main(path: Path, sizes: list[int], modes: list[str]) -> None:
    if "wal" in modes:
        db = sqlite3.connect(path)
        db.execute("PRAGMA journal_mode = WAL")
        db.close()
    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{path}", "log_level": "ERROR"})
    DBOS.launch()
    try:
        is_sync = "sync" in modes
        found = measure_sync(path, sizes[0], sizes[2]) if is_sync else asyncio.run(measure(path, *sizes))
    finally:
        DBOS.destroy()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(size) for size in sys.argv[2:5]], sys.argv[5:])
