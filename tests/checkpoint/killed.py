"""Runs a random step on SQLite in a process that kills itself after its nth wait: FOLDER SEED N, 0 for never."""

from __future__ import annotations

import asyncio
import contextlib
import linecache
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from cerebelum_nb import WorkflowError, connect, sleep, step, workflow

from .harness import Managed, Point, count_up
from .programs import write_program


class Effects:
    """The effects of a program, in a file that outlives its process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, what: Any) -> None:
        with self.path.open("a") as file:
            file.write(f"{what!r}\n")

    def __reduce__(self) -> str:
        return "effects"


def program(seed: int) -> str:
    """Write a program that reports when it starts at its top, and does not change its globals, which are not kept."""
    lines = write_program(random.Random(seed)).splitlines()
    lines = [line for line in lines if line.strip() not in ("G += 1", "global G")]
    lines[1:3] = ["    async def step(items):", "        effects.append('top'); inputs = items; z = 2", lines[2]]
    return "\n".join(lines) + "\n"


def main(folder: Path, seed: int, last: int) -> None:
    waits = 0

    async def nap(label: str = "x") -> str:
        nonlocal waits
        await sleep("1ms")
        waits += 1
        if waits == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return str(label)

    async def helper(items: list[Any]) -> int:
        items.append(1)
        await nap("h")
        return len(items)

    source, name = program(seed), f"<program {seed}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space: dict[str, Any] = {"nap": nap, "helper": helper, "count_up": count_up, "Managed": Managed, "Point": Point}
    space |= {"effects": Effects(folder / "effects"), "__name__": "__main__", "contextlib": contextlib}
    exec(compile(source, name, "exec"), space)
    body = step(space["make"]())

    @workflow
    def made(wf: Any) -> None:
        wf.timeline(items >> body)

    with connect(folder / "log.db", durability="normal") as log:
        try:
            result = repr(asyncio.run(made.execute(execution_id="k1", resume=True, store=log)).output)
        except WorkflowError as error:  # that a program raises is its result
            result = type(error.__cause__).__name__
    (folder / "result").write_text(result)


@step
def items() -> list[Any]:
    return [1, [2], 3]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
