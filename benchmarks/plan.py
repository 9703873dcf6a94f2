"""How much CPU a plan takes: what a resume of 200 steps would run, and why.

All steps share a helper and a constant. ``plan()`` is measured while nothing has changed, and after the constant
has, so that a reason is worded for each finished step.
"""

from __future__ import annotations

import asyncio
import linecache
import time
from typing import Any

from cerebelum_nb import Stepper, step, workflow
from cerebelum_nb._dsl.builder import WorkflowBuilder
from cerebelum_nb._store.sqlite import SqliteStore

from .measure import Figure, Settings, value_of

__all__ = ["run"]

NAME = "plan"
STEPS = 200
TARGET_MS = 100.0


def run(settings: Settings) -> list[Figure]:
    count = settings.size(STEPS)
    same, changed = list[float](), list[float]()
    with SqliteStore(settings.file("plan.db"), durability="normal") as store:
        cells = _cells(count)

        @workflow(name="planned")
        def planned(wf: WorkflowBuilder) -> None:
            wf.timeline([cells[f"step_{i}"] for i in range(count)])

        async def measured() -> None:
            stepper = planned.begin(store=store)
            await stepper.run_to(f"step_{count - 2}")
            for into, limit in ((same, 3), (changed, 4)):
                cells["LIMIT"] = limit
                stepper.plan()
                into.extend(_cpu_ms(stepper) for _ in range(settings.repeat))

        asyncio.run(measured())
    name = f"CPU of plan() on {count:,} steps, warm"
    return [
        value_of(NAME, f"{name}, nothing changed", same, "ms", target=TARGET_MS, detail="all but one finished"),
        value_of(NAME, f"{name}, all stale", changed, "ms", target=TARGET_MS, detail="a reason for each step"),
    ]


def _cpu_ms(stepper: Stepper) -> float:
    began = time.process_time()
    stepper.plan()
    return (time.process_time() - began) * 1e3


def _cells(count: int) -> dict[str, Any]:
    """The namespace of a notebook that defines the steps in one cell."""
    needs = ["", *(f"step_{i - 1}" for i in range(1, count))]
    lines = ["LIMIT = 3", "def helper(n):", "    return n + LIMIT"]
    for i, need in enumerate(needs):
        lines += ["@step", f"def step_{i}({need}):", f"    return helper({i})"]
    source = "\n".join(lines) + "\n"
    linecache.cache["<planned>"] = (len(source), None, source.splitlines(keepends=True), "<planned>")
    namespace: dict[str, Any] = {"__name__": "__main__", "step": step}
    exec(compile(source, "<planned>", "exec"), namespace)
    return namespace
