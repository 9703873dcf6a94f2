"""Workflows whose runs end in every way, and a log to run them in."""

from __future__ import annotations

from cerebelum_nb import WorkflowError, step, wait_for_approval, workflow
from cerebelum_nb._store.sqlite import SqliteStore


@step
def fetch(inputs):
    return inputs.get("n", 1)


@step(retries=1, retry_delay=0)
def check(context, fetch, inputs):
    if context.attempt == 1 and inputs.get("flaky"):
        raise ConnectionError("try again")
    if inputs.get("broken"):
        raise ValueError("it is broken")
    return fetch


@step
def ship(check):
    return check


@workflow
def deploy(wf):
    wf.timeline(fetch >> check >> ship)


@step
async def ask(inputs):
    return await wait_for_approval("release", {"size": 1})


@workflow
def release(wf):
    wf.timeline(ask)


class Log:
    """A log, and short ways to run something in it."""

    def __init__(self, path):
        self.path = path
        self.store = SqliteStore(path, durability="normal")

    async def run(self, execution_id=None, workflow=deploy, **inputs):
        """Run to the end, whatever the outcome; return the id."""
        run = workflow.start(inputs, store=self.store, execution_id=execution_id)
        try:
            await run
        except WorkflowError:
            pass
        return run.execution_id

    async def resume(self, execution_id, workflow=deploy, **how):
        try:
            await workflow.resume(execution_id, store=self.store, **how)
        except WorkflowError:
            pass

    async def fork(self, execution_id, fork_id, workflow=deploy, **how):
        try:
            await workflow.fork(execution_id, store=self.store, fork_id=fork_id, **how)
        except WorkflowError:
            pass
