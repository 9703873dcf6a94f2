"""A log of real runs: a deployment that fails, is fixed and resumed, and a small workflow beside it."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from cerebelum_nb import Secret, WorkflowError, sleep, step, workflow
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.testing import FakeClock

TEXT = "str" if int(pd.__version__.split(".")[0]) >= 3 else "object"
"""The dtype of text, which differs in pandas 3."""

BROKEN = {"verify"}


@step
async def provision(inputs):
    return {"ip": "10.0.0.1", "size": inputs["size"], "big": 2**60 + 1}


@step(retries=1, retry_delay="1m")
async def measure(provision, context):
    if context.attempt == 1:
        raise ValueError('said "output": no')
    return pd.DataFrame({"ms": [1, 2]})


class Probe:
    """A value that has to be pickled."""

    def __repr__(self):
        return "<Probe>"


@step(keep=False)
async def connect(provision):
    return object()


@step
async def wait(measure):
    await sleep("2h", data={"why": "quiet hours"})


@step
async def verify(wait):
    if "verify" in BROKEN:
        raise RuntimeError("not there")
    return "fine"


@workflow
def deploy(wf):
    wf.timeline(provision >> [measure, connect] >> wait >> verify)


@step
async def ping():
    return [1, 2, 3]


@step
async def probe():
    return Probe()


@workflow
def probing(wf):
    wf.timeline(probe)


@workflow
def check(wf):
    wf.timeline(ping)


@dataclass
class Runs:
    """The store, its clock, and how to add runs."""

    store: SqliteStore
    clock: FakeClock

    def deploy(self, execution_id):
        inputs = {"size": "s-1", "token": Secret("hunter22")}
        with pytest.raises(WorkflowError):
            asyncio.run(deploy.execute(inputs, store=self.store, execution_id=execution_id))

    def check(self, execution_id):
        asyncio.run(check.execute(store=self.store, execution_id=execution_id))

    def probe(self, execution_id):
        asyncio.run(probing.execute(store=self.store, execution_id=execution_id))

    def fix(self, execution_id):
        BROKEN.clear()
        try:
            asyncio.run(deploy.resume(execution_id, store=self.store))
        finally:
            BROKEN.add("verify")


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """The log of :func:`runs`, closed, and the time at its end."""
    path = tmp_path_factory.mktemp("written") / "log.db"
    with SqliteStore(path, durability="normal") as store, FakeClock() as clock:
        store.hibernate_after = timedelta.max  # the clock jumps: runs wait in their process
        made = Runs(store, clock)
        made.deploy("deploy-1")
        made.check("check-1")
        clock.advance("1d")
        made.check("check-2")
        return path, datetime.fromtimestamp(clock.now() / 1e6, UTC)


@pytest.fixture
def runs(written, tmp_path):
    """``deploy-1`` failed at verify, then ``check-1`` completed, a day later ``check-2``."""
    path, now = written
    shutil.copy(path, tmp_path / "log.db")
    with SqliteStore(tmp_path / "log.db", durability="normal") as store, FakeClock(now) as clock:
        store.hibernate_after = timedelta.max
        yield Runs(store, clock)


@pytest.fixture
def empty(tmp_path):
    with SqliteStore(tmp_path / "empty.db", durability="normal") as store:
        yield store
