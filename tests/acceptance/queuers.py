"""A workflow that runs once at a time, for processes that are killed.

Usage: python queuers.py LOG MARKS ID SECONDS | scheduler
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from cerebelum_nb import step, workflow
from cerebelum_nb._engine import leases
from cerebelum_nb._scheduler.scheduler import run_forever
from cerebelum_nb._store.sqlite import SqliteStore

leases.times = leases.LeaseTimes(look=0.05, grace=0.3)
MARKS = Path(sys.argv[2])


def mark(*words):
    with MARKS.open("a") as file:
        file.write(" ".join(map(str, (time.monotonic_ns(), *words))) + "\n")


@step
async def work(inputs, context):
    mark("in", context.execution_id, os.getpid())
    await asyncio.sleep(inputs["seconds"])
    mark("out", context.execution_id, os.getpid())


@workflow(concurrency_key="service")
def deploy(wf):
    wf.timeline(work)


if __name__ == "__main__":
    with SqliteStore(sys.argv[1], durability="normal") as log:
        if sys.argv[3] == "scheduler":
            run_forever(log)
        else:
            deploy.run({"service": "api", "seconds": float(sys.argv[4])}, store=log, execution_id=sys.argv[3])
