"""The workflows of the command line's tests; a module in the folder in which they run."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from cerebelum_nb import ProgressReporter, sleep, step, wait_for_approval, workflow


@step
def ping():
    return {"pong": [1, 2]}


@workflow
def check(wf):
    wf.timeline(ping)


@step
def build(inputs):
    return {"image": "app:1", "size": inputs.get("size")}


@build.on_rollback
def remove_image(build, error=None):
    if Path("registry-down").exists():
        raise OSError("the registry is down")
    Path("removed").write_text(f"{build['image']}: {error}")


@step
def verify(build):
    if not Path("fixed").exists():
        raise RuntimeError("port 443 is closed\nand so is \x1b[31mport 80")
    return "fine"


@workflow
def deploy(wf):
    wf.timeline(build >> verify)


@step
async def review(build):
    return await wait_for_approval("budget", data={"cost": "36 $", "for": ["ams3"]}, timeout_ms=7_200_000)


@workflow
def rollout(wf):
    wf.timeline(build >> review)


@step
async def night():
    await sleep("2h", data={"why": "quiet hours"})


@workflow
def nap(wf):
    wf.timeline(night)


@step(effect="external")
def charge(build):
    if Path("dies").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return "charged"


@workflow
def buy(wf):
    wf.timeline(build >> charge)


@step
async def copy(context, build):
    reporter = ProgressReporter(context)
    percent = 0
    while not Path("arrived").exists():
        percent = min(99, percent + 1)
        reporter.update(percent, "copying")
        await asyncio.sleep(0.02)
    return "copied"


@workflow
def move(wf):
    wf.timeline(build >> copy)


@step
def log_in(inputs):
    if not Path("fixed").exists():
        raise RuntimeError("the server is down")
    return {"user": "ada", "length": len(inputs["token"].reveal())}


@workflow
def visit(wf):
    wf.timeline(log_in)
