"""Make a log with an execution in every state, in the working directory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta

import shop

from cerebelum_nb import ExecutionStoppedError, WorkflowError, connect

store = connect(durability="normal", hibernate_after=timedelta(milliseconds=20))


async def main():
    await shop.check.execute(execution_id="done-1")
    await shop.check.execute(execution_id="done-2")
    try:
        await shop.deploy.execute({"size": "s-1"}, execution_id="failed-1")
    except WorkflowError:
        pass
    await shop.rollout.execute(execution_id="asking-1")
    await shop.nap.execute(execution_id="asleep-1")
    await shop.nap.execute(execution_id="cancelled-1")
    await shop.nap.cancel("cancelled-1", "no need")
    run = shop.move.start(execution_id="paused-1")
    while len(run.results) < 1:
        await asyncio.sleep(0.01)
    run.stop("stopped by the test")
    try:
        await run
    except ExecutionStoppedError:
        pass


if sys.argv[1:] == ["die"]:
    asyncio.run(shop.buy.execute(execution_id="died-1"))
else:
    asyncio.run(main())
    subprocess.run([sys.executable, __file__, "die"], check=False)
