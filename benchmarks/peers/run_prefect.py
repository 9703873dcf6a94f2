"""The shapes on Prefect as it comes: its own server, which it starts on loopback, over its own SQLite. Prints JSON.

Its folder lies beside ``path``. Tasks are recorded by events that the server takes in later, so part of its CPU falls
behind the end of a flow; results are kept in memory, its default. ``items`` fans out a list with ``map``.
"""

import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

os.environ["PREFECT_HOME"] = f"{sys.argv[1]}-prefect"
os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "true"

from prefect import flow, task  # type: ignore[import-not-found]  # it lives in an environment of its own

from benchmarks.peers.taken import taken

AT_ONCE = 10
"""To a hundred flows at once its server answers with 503, as its SQLite is locked."""


@task  # type: ignore[untyped-decorator]  # see above
def nothing() -> None:
    return None


@task  # type: ignore[untyped-decorator]  # see above
def each(item: int) -> int:
    return item


@flow  # type: ignore[untyped-decorator]  # see above
def line(steps: int) -> None:
    for _ in range(steps):
        nothing()


@flow  # type: ignore[untyped-decorator]  # see above
def fan(siblings: int) -> None:
    nothing()
    for one in [nothing.submit() for _ in range(siblings)]:
        one.result()
    nothing()


@flow  # type: ignore[untyped-decorator]  # see above
def items(count: int) -> list[int]:
    found: list[int] = each.map(range(count)).result()
    return found


def at_once(executions: int) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(line, [10] * executions))


def measure(shapes: dict[str, tuple[Callable[[int], object], int]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for shape, (work, size) in shapes.items():
        work(2)
        with taken(found, shape):
            work(size)
    return found


def main(sizes: list[int], modes: list[str]) -> None:
    steps, siblings, executions, count = sizes
    shapes = {"sequential": (line, steps), "fanout": (fan, siblings), "concurrency": (at_once, executions)}
    print(json.dumps(measure({"items": (items, count)} if "items" in modes else shapes)))


if __name__ == "__main__":
    main([int(size) for size in sys.argv[2:6]], sys.argv[6:])
