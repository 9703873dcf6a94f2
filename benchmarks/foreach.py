"""What an item of a foreach costs: beside a plain loop of ``context.run``, and with ten times as many items."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from statistics import median

from cerebelum_nb import Context, Workflow, foreach, step, workflow
from cerebelum_nb._dsl.builder import WorkflowBuilder
from cerebelum_nb._store.sqlite import SqliteStore

from .measure import Figure, Settings, compare, interleave

__all__ = ["run"]

NAME = "foreach"
FEW, MANY = 1_000, 10_000
AT_ONCE = 100


@step
async def each(item: int) -> int:
    """Do nothing for an item."""
    return item


@workflow
def items(wf: WorkflowBuilder) -> None:
    """Run it for every item."""
    wf.timeline(foreach(each, item="inputs.items", max_concurrency=AT_ONCE))


@step
async def loop(inputs: dict[str, list[int]], context: Context) -> list[int]:
    """Do the same in one step, each time as an operation."""
    return [await context.run("each", int, item) for item in inputs["items"]]


@workflow
def plain(wf: WorkflowBuilder) -> None:
    """Run the loop."""
    wf.timeline(loop)


def run(settings: Settings) -> list[Figure]:
    few, many = settings.size(FEW), settings.size(MANY)
    with SqliteStore(settings.file("foreach.db"), durability="normal") as store, asyncio.Runner() as runner:

        def cpu(work: Workflow, count: int) -> float:
            began = time.process_time()
            runner.run(work.execute({"items": list(range(count))}, store=store))
            return (time.process_time() - began) / count

        cpu(items, few), cpu(plain, few)
        settings.progress("beside a plain loop")
        sides = {"ours": lambda: cpu(items, few), "loop": lambda: cpu(plain, few)}
        beside = interleave(sides, settings.repeat)
        settings.progress("ten times as many")
        sides = {"many": lambda: cpu(items, many), "few": lambda: cpu(items, few)}
        grown = interleave(sides, max(1, settings.repeat // 3))

        def peak(count: int) -> float:
            tracemalloc.start()
            runner.run(items.execute({"items": list(range(count))}, store=store))
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            return most / count

        settings.progress("memory")
        memory = {count: median(peak(count) for _ in range(1)) for count in (few, many)}
    return [
        compare(
            NAME,
            f"{few:,} items to a loop of context.run, CPU",
            beside["ours"],
            beside["loop"],
            target=None,
            detail=lambda a, b: f"{a * 1e6:.0f} us an item, the loop {b * 1e6:.0f} us",
        ),
        compare(
            NAME,
            f"an item of {many:,} to one of {few:,}, CPU",
            grown["many"],
            grown["few"],
            target=1.2,
            detail=lambda a, b: f"{a * 1e6:.0f} us to {b * 1e6:.0f} us",
        ),
        Figure(
            benchmark=NAME,
            name=f"an item of {many:,} to one of {few:,}, peak memory",
            value=memory[many] / memory[few],
            target=1.2,
            detail=f"{memory[many] / 1e3:.1f} kB to {memory[few] / 1e3:.1f} kB",
        ),
    ]
