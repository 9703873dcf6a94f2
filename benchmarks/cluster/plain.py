"""The same shapes written by hand for Temporal: a worker, given the server's address."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

QUEUE = "plain"
LIMITS = {
    "start_to_close_timeout": timedelta(minutes=10),
    "heartbeat_timeout": timedelta(seconds=10),
    "retry_policy": RetryPolicy(maximum_attempts=1),
}


@activity.defn
async def one(name: str) -> int:
    return 1


@workflow.defn
class Chain:
    @workflow.run
    async def run(self, count: int) -> int:
        for number in range(count):
            await workflow.execute_activity(one, f"s{number}", **LIMITS)
        return 1


@workflow.defn
class Wide:
    @workflow.run
    async def run(self, count: int) -> int:
        await workflow.execute_activity(one, "first", **LIMITS)
        await asyncio.gather(*(workflow.execute_activity(one, f"w{n}", **LIMITS) for n in range(count)))
        return await workflow.execute_activity(one, "last", **LIMITS)


async def main() -> None:
    client = await Client.connect(sys.argv[1])
    worker = Worker(
        client,
        task_queue=QUEUE,
        workflows=[Chain, Wide],
        activities=[one],
        max_concurrent_activities=200,
        workflow_runner=UnsandboxedWorkflowRunner(),
        workflow_task_executor=ThreadPoolExecutor(8),
    )
    async with worker:
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
