"""The shapes on Temporal's development server, over a file. Prints one JSON object.

``activities`` runs every step as an activity, in a worker as it comes; ``local`` as a local activity, which stays in
the worker, and without the sandbox that imports a workflow's module again for every run. The worker is in this process.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

with workflow.unsafe.imports_passed_through():
    from benchmarks.peers.servers import temporal
    from benchmarks.peers.taken import size, taken

QUEUE = "peers"


@activity.defn
async def nothing() -> None:
    return None


def step(local: bool) -> Awaitable[None]:
    run: Any = workflow.execute_local_activity if local else workflow.execute_activity
    started: Awaitable[None] = run(nothing, start_to_close_timeout=timedelta(minutes=1))
    return started


@workflow.defn
class Line:
    @workflow.run
    async def run(self, steps: int, local: bool) -> None:
        for _ in range(steps):
            await step(local)


@workflow.defn
class Fan:
    @workflow.run
    async def run(self, siblings: int, local: bool) -> None:
        await step(local)
        await asyncio.gather(*(step(local) for _ in range(siblings)))
        await step(local)


async def measure(client: Client, path: Path, sizes: list[int], local: bool) -> dict[str, float]:
    steps, siblings, executions = sizes
    found: dict[str, float] = {}

    async def run(work: Any, count: int, name: str) -> None:
        await client.execute_workflow(work, args=[count, local], id=name, task_queue=QUEUE)

    await run(Line.run, 10, "line-warm")
    before = size(path)
    with taken(found, "sequential"):
        await run(Line.run, steps, "line")
    found["disk"] = (size(path) - before) / steps
    await run(Fan.run, siblings, "fan-warm")
    with taken(found, "fanout"):
        await run(Fan.run, siblings, "fan")
    with taken(found, "concurrency"):
        await asyncio.gather(*(run(Line.run, 10, f"one-{number}") for number in range(executions)))
    return found


async def main(path: Path, sizes: list[int], mode: str) -> None:
    with temporal(path) as address:
        client = await Client.connect(address)
        best: dict[str, Any] = {"workflow_runner": UnsandboxedWorkflowRunner()} if mode == "local" else {}
        async with Worker(client, task_queue=QUEUE, workflows=[Line, Fan], activities=[nothing], **best):
            print(json.dumps(await measure(client, path, sizes[:3], mode == "local")))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), [int(one) for one in sys.argv[2:6]], sys.argv[6]))
