"""What it costs that a step can be entered at the statement where it waited.

CPU of an operation in a step with checkpoints to one without, in memory and in SQLite; of a body of statements that do
not wait; of a step that never waits; and the bytes that a checkpoint adds to the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from cerebelum_nb import sleep, step, workflow
from cerebelum_nb._dsl.builder import WorkflowBuilder
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._workflow.workflow import Workflow
from cerebelum_nb.testing import FakeClock, MemoryStore

from .measure import Figure, Settings, compare, interleave, value_of

__all__ = ["run"]

NAME = "checkpoints"
WAITS = 40
ROUNDS = 10
"""Short rounds, and the least of many: what else the machine does makes a long one longer than a checkpoint costs."""
STATEMENTS = 30_000
RUNS = 200


def run(settings: Settings) -> list[Figure]:
    count, statements, runs = settings.size(WAITS), settings.size(STATEMENTS), settings.times(RUNS)
    figures: list[Figure] = []
    stores: dict[str, Callable[[], MemoryStore | SqliteStore]] = {
        "in memory": MemoryStore,
        "SQLite, normal": lambda: SqliteStore(settings.file("checkpoints.db"), durability="normal"),
    }
    for title, make in stores.items():
        measure = lambda made, make=make: _cpu(made, make(), count) / count * 1e6  # type: ignore[misc]  # noqa: E731
        taken = _sides(settings.times(ROUNDS) * settings.repeat, measure, _waiting)
        added = [max(0.0, min(taken["with"]) - min(taken["without"]))]
        detail = f"{count} waits, the least of many rounds; a dict, a list and a loop over a range are kept each time"
        figures.append(value_of(NAME, f"a checkpoint, {title}", added, "us", target=150, detail=detail))
    taken = _sides(settings.repeat, lambda made: _cpu(made, MemoryStore(), statements), _computing)
    figures.append(
        compare(
            NAME,
            "statements that do not wait",
            taken["with"],
            taken["without"],
            target=1.05,
            detail=lambda a, b: f"{statements} statements: {a * 1e3:.1f} to {b * 1e3:.1f} ms",
        )
    )
    taken = _sides(
        settings.repeat, lambda made: sum(_cpu(made, MemoryStore(), 1) for _ in range(runs)) / runs, _nothing
    )
    figures.append(
        compare(
            NAME,
            "a step that never waits",
            taken["with"],
            taken["without"],
            target=1.05,
            detail=lambda a, b: f"{a * 1e6:.0f} to {b * 1e6:.0f} us a run",
        )
    )
    return figures


def _sides(
    rounds: int, measure: Callable[[Workflow], float], make: Callable[[str | None], Workflow]
) -> dict[str, list[float]]:
    on, off = make("waits"), make(None)
    measure(on), measure(off)  # the first time compiles
    return interleave({"with": lambda: measure(on), "without": lambda: measure(off)}, rounds)


def _cpu(made: Workflow, store: MemoryStore | SqliteStore, count: int) -> float:
    async def live() -> None:
        with FakeClock():
            await made.execute({"count": count}, store=store)

    began = time.process_time()
    asyncio.run(live())
    taken = time.process_time() - began
    store.close()
    return taken


def _waiting(checkpoint: str | None) -> Workflow:
    @step(checkpoint=checkpoint)
    async def wait(inputs: dict[str, int]) -> int:
        seen, last = [0], {"number": 0}
        for number in range(inputs["count"]):
            await sleep(1)
            seen[0] += number
            last["number"] = number
        return seen[0]

    @workflow(name=f"waiting, {checkpoint}")
    def waiting(wf: WorkflowBuilder) -> None:
        wf.timeline(wait)

    return waiting


def _computing(checkpoint: str | None) -> Workflow:
    @step(checkpoint=checkpoint)
    async def compute(inputs: dict[str, int]) -> int:
        found = 0
        for number in range(inputs["count"]):
            found = found * 3 % 7 + number
        await sleep(1)  # a step without an operation is compiled as it stands
        return found

    @workflow(name=f"computing, {checkpoint}")
    def computing(wf: WorkflowBuilder) -> None:
        wf.timeline(compute)

    return computing


def _nothing(checkpoint: str | None) -> Workflow:
    @step(checkpoint=checkpoint)
    async def nothing() -> int:
        return 1

    @workflow(name=f"nothing, {checkpoint}")
    def made(wf: WorkflowBuilder) -> None:
        wf.timeline(nothing)

    return made
