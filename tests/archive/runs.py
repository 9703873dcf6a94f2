"""Workflows whose runs the tests of the archive keep and carry."""

from __future__ import annotations

import datetime

from cerebelum_nb import Secret, WorkflowError, poll, step, workflow
from cerebelum_nb.store.sqlite import SqliteStore


@step
def build(inputs):
    print("building\nthe image")
    return {"image": "app:1", "size": inputs["size"], "note": "é😀"}


@step
def stamp(build):
    return datetime.date(2026, 11, 20)


@step(retries=1)
async def verify(context, stamp, inputs):
    await poll(lambda: True, interval="1s")
    if context.attempt == 1 or inputs.get("broken"):
        raise RuntimeError(f"port 443 of <b>{stamp}</b> is closed")
    return "fine"


@workflow
def deploy(wf):
    wf.timeline(build >> stamp >> verify)


@step
def fill():
    return "x" * 3000


@workflow
def fat(wf):
    wf.timeline(fill)


async def make(store: SqliteStore) -> None:
    """Run one that completes, one that fails, and one that has a secret."""
    await deploy.execute({"size": "s-1"}, execution_id="done-1", store=store)
    await fat.execute(execution_id="fat-1", store=store)
    try:
        await deploy.execute(
            {"size": "s-2", "broken": True, "token": Secret("s3cr3t-token")}, execution_id="failed-1", store=store
        )
    except WorkflowError:
        pass
