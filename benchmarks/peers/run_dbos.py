"""The shapes on DBOS over SQLite, or with ``postgres`` over a PostgreSQL of its own. Prints one JSON object.

``wal`` puts the file into WAL mode first, which DBOS leaves as it is; without it DBOS uses SQLite's default,
the rollback journal. Either way ``synchronous`` stays at SQLite's default, full: an fsync per commit.
``async`` runs async steps, as ours are (DBOS hands their database work to threads); ``sync`` plain functions,
which spares it that. ``resume fail`` makes a workflow that fails after many steps, and ``resume`` forks it at that
step, in another process: so DBOS resumes what failed.
"""

import asyncio
import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from functools import partial
from pathlib import Path

import psycopg  # type: ignore[import-not-found]  # it lives in an environment of its own
from dbos import DBOS, SetWorkflowID  # type: ignore[import-not-found]  # see above

from benchmarks.peers.servers import postgres
from benchmarks.peers.taken import clock, since, size, taken


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


reached: list[tuple[float, float]] = []


@DBOS.step()  # type: ignore[untyped-decorator]  # see above
def stop() -> None:
    reached.append(clock())
    raise RuntimeError("so that it can be resumed")


@DBOS.workflow()  # type: ignore[untyped-decorator]  # see above
def broken(steps: int) -> None:
    for _ in range(steps):
        nothing_sync()
    stop()


def resume(steps: int, fails: bool) -> dict[str, float]:
    found: dict[str, float] = {}
    for shape in "resume", "again":
        began = clock()
        with suppress(Exception):
            if fails:
                with SetWorkflowID("line"):
                    broken(steps)
            else:
                DBOS.fork_workflow("line", steps + 1).get_result()
        found |= since(began, reached[-1], shape)
    return found


@DBOS.workflow()  # type: ignore[untyped-decorator]  # see above
async def fan(siblings: int) -> None:
    await nothing()
    await asyncio.gather(*(nothing() for _ in range(siblings)))
    await nothing()


def size_of_database(url: str) -> int:
    with psycopg.connect(url) as db:
        bytes_: int = db.execute("SELECT pg_database_size(current_database())").fetchone()[0]
        return bytes_


async def at_once(executions: int) -> None:
    handles = [await DBOS.start_workflow_async(line, 10) for _ in range(executions)]
    await asyncio.gather(*(handle.get_result() for handle in handles))


def at_once_sync(executions: int) -> None:
    handles = [DBOS.start_workflow(line_sync, 10) for _ in range(executions)]
    for handle in handles:
        handle.get_result()


async def measure(size: Callable[[], int], steps: int, siblings: int, executions: int) -> dict[str, float]:
    found: dict[str, float] = {}
    await line(10)
    before = size()
    with taken(found, "sequential"):
        await line(steps)
    found["disk"] = (size() - before) / steps
    await fan(siblings)
    with taken(found, "fanout"):
        await fan(siblings)
    with taken(found, "concurrency"):
        await at_once(executions)
    return found


def measure_sync(size: Callable[[], int], steps: int, executions: int) -> dict[str, float]:
    found: dict[str, float] = {}
    line_sync(10)
    before = size()
    with taken(found, "sequential"):
        line_sync(steps)
    found["disk"] = (size() - before) / steps
    with taken(found, "concurrency"):
        at_once_sync(executions)
    return found


def main(path: Path, sizes: list[int], modes: list[str]) -> None:
    steps, siblings, executions, _ = sizes
    if "wal" in modes:
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode = WAL")
    with postgres(path) if "postgres" in modes else nullcontext(f"sqlite:///{path}") as url:
        measured = partial(size_of_database, url) if "postgres" in modes else partial(size, path)
        DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR"})
        DBOS.launch()
        try:
            if "resume" in modes:
                found = resume(steps, "fail" in modes)
            elif "sync" in modes:
                found = measure_sync(measured, steps, executions)
            else:
                found = asyncio.run(measure(measured, steps, siblings, executions))
        finally:
            DBOS.destroy()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(size) for size in sys.argv[2:6]], sys.argv[6:])
