"""Workflows whose executions the browser shows; a script that runs one of them."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Literal

from cerebelum_nb import ProgressReporter, Secret, connect, foreach, step, wait_for_approval, wait_for_signal, workflow


@step
def build(inputs):
    print("layer 1: pulled")
    return {"image": "shop:1", **inputs}


@step
async def copy(build, context):
    """Work and print until there is a file ``stop``."""
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


@step
async def hear(build):
    return await wait_for_signal("paid")


@workflow
def wait(wf):
    wf.timeline(build >> [ask, hear])


@step
def regions():
    return ["ams3", "nyc1"]


@step
def place(region):
    if region == "nyc1":
        raise RuntimeError("no room")
    return region


@workflow
def each(wf):
    wf.timeline(regions >> foreach(place, region=regions))


@dataclass
class Order:
    size: Literal["small", "large"]
    count: int = 1
    until: date | None = None
    colours: list[str] = field(default_factory=lambda: ["red"])
    token: Secret | None = None


@step
def pick(inputs: Order):
    return f"{inputs.count} picked until {inputs.until}"


@workflow(inputs=Order)
def order(wf):
    wf.timeline(pick)


if __name__ == "__main__":
    what, id_ = sys.argv[1:]
    connect("shop.db", durability="normal", hibernate_after="1ms" if what == "wait" else "1h")
    {"release": release, "deploy": deploy, "wait": wait, "each": each, "order": order}[what].run(
        {"size": "small"}, execution_id=id_
    )
