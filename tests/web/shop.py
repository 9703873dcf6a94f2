"""Workflows whose executions the browser looks at; a script that runs one of them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from cerebelum_nb import ProgressReporter, connect, step, wait_for_approval, workflow


@step
def build(inputs):
    print("layer 1: pulled")
    return {"image": "shop:1", **inputs}


@step
async def copy(build, context):
    """Work, and say so, until there is a file ``stop``."""
    reporter = ProgressReporter(context)
    number = 0
    while not Path("stop").exists():
        number += 1
        reporter.update(number % 100, f"block {number}")
        print(f"block {number}: copied", flush=True)
        await asyncio.sleep(0.05)
    return number


@step
async def ask(build):
    return await wait_for_approval("production", data={"image": build["image"]}, timeout_ms=3_600_000)


@step
def roll_out(copy, ask):
    return {"hosts": 3, "said": ask}


@workflow
def release(wf):
    wf.timeline(build >> [copy, ask] >> roll_out)


@step
def break_down(build):
    raise RuntimeError("no healthy backend")


@workflow
def deploy(wf):
    wf.timeline(build >> break_down)


if __name__ == "__main__":
    connect("shop.db", durability="normal")
    {"release": release, "deploy": deploy}[sys.argv[1]].run({"size": "small"}, execution_id=sys.argv[2])
