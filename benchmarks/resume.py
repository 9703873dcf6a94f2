"""How much CPU passes between ``resume`` of a run with 500, 1,000 or 10,000 finished steps and its next step's start.

Each repetition is a fresh interpreter, as after a kernel restart: the package is imported, the steps are
defined and the log is open; then the clock runs. The last step notes the time and fails, so that it can be
resumed again; the second resume in the same process is given too.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from .measure import Figure, Settings, in_child, value_of

__all__ = ["run"]

NAME = "resume"
TARGETS_MS = {500: 3.0, 1_000: 30.0, 10_000: 40.0}
"""By the number of finished steps."""


def run(settings: Settings) -> list[Figure]:
    return [figure for steps, target in TARGETS_MS.items() for figure in _of(settings.size(steps), target, settings)]


def _of(steps: int, target: float, settings: Settings) -> list[Figure]:
    path = settings.file("resume.db")
    cold, warm = list[float](), list[float]()
    for attempt in range(settings.repeat + 1):
        found = in_child("-m", "benchmarks.resume", str(path), str(steps))
        if attempt:  # the first makes the run that the others resume
            cold.append(found["cold"] * 1e3)
            warm.append(found["warm"] * 1e3)
    name = f"CPU from resume after {steps:,} finished steps to the next step's start"
    return [
        value_of(
            NAME,
            f"{name}, fresh process",
            cold,
            "ms",
            target=target,
            detail="what is imported late included",
        ),
        value_of(NAME, f"{name}, again", warm, "ms", target=target, detail="second resume in the same process"),
    ]


def main(path: str, steps: int) -> None:
    """Run in the child: execute when there is nothing to resume, else resume twice."""
    from cerebelum_nb import WorkflowError, step, workflow
    from cerebelum_nb._dsl.builder import WorkflowBuilder
    from cerebelum_nb._store.sqlite import SqliteStore

    from .workloads import no_op

    started: list[float] = []

    @step
    async def last() -> None:
        started.append(time.process_time())
        raise RuntimeError("so that it can be resumed")

    finished = [no_op(f"step_{i}") for i in range(1, steps + 1)]

    @workflow
    def resumed(wf: WorkflowBuilder) -> None:
        wf.timeline([*finished, last])

    async def cpu(*, resume: bool) -> float:
        began = time.process_time()
        try:
            await (resumed.resume(store=store) if resume else resumed.execute(store=store))
        except WorkflowError:
            return started[-1] - began
        raise AssertionError("the last step fails")

    with SqliteStore(path, durability="normal") as store:
        is_new = not store.executions()[1]
        if is_new:
            asyncio.run(cpu(resume=False))
        print(json.dumps({"cold": asyncio.run(cpu(resume=True)), "warm": asyncio.run(cpu(resume=True))}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
