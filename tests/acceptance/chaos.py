"""A workflow with an effect, and notes by the processes that run it; see test_chaos.py.

Usage: python chaos.py schedule; a kernel imports it and calls start(). $LOG and $MARKS are the files to use. $MACHINE
is the machine that a process claims to be on: of a process on another machine only the heartbeat is visible. $LEASE is
in seconds.
"""

import json
import multiprocessing
import os
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

from cerebelum_nb import OperationError, sleep, step, workflow
from cerebelum_nb._engine import leases
from cerebelum_nb._scheduler.scheduler import run_forever
from cerebelum_nb._store import holder
from cerebelum_nb._store.sqlite import SqliteStore

MACHINE, LEASE = os.environ["MACHINE"], float(os.environ["LEASE"])
holder._boot_id = lambda: f"{MACHINE}/1/{MACHINE}"
holder.socket = SimpleNamespace(gethostname=lambda: MACHINE)
leases.times = leases.LeaseTimes(lease=LEASE, heartbeat=LEASE / 10, look=LEASE / 20)
warnings.filterwarnings("ignore", "This process .* is multi-threaded")  # from Python 3.12 on, of every fork

checked = {}
"""When this process last began to check whether it still holds an execution, and found that it did."""


def note(what, execution_id, **more):
    """Write a note that survives the process; all processes here have the same clock."""
    line = json.dumps({"what": what, "id": execution_id, "pid": os.getpid(), "at": time.monotonic(), **more})
    with Path(os.environ["MARKS"]).open("ab", buffering=0) as file:
        file.write(line.encode() + b"\n")


class Noting(leases.Leases):
    """Notes which executions this process takes over, and when it checks them."""

    def claim(self, execution_id, now):
        since = time.monotonic()
        lease = super().claim(execution_id, now)
        note("claim", execution_id, since=since)
        return lease

    def check(self, execution):
        since = time.monotonic()
        super().check(execution)
        checked[execution.id] = since


leases.Leases = Noting


def charge(execution_id):
    note("effect", execution_id, checked=checked.get(execution_id))
    return execution_id.upper()


def steal(context):
    """Do in a forked child what only the parent may do."""
    try:
        context.run("charge", charge, context.execution_id)
    except OperationError:
        note("refused", context.execution_id)
    os._exit(0)


@step
async def work(context):
    await sleep("200ms")
    return context.execution_id


@step
def pay(work, context):
    if sum(work.encode()) % 3 == 0:
        child = multiprocessing.get_context("fork").Process(target=steal, args=(context,))
        child.start()
        child.join(5)
        child.kill()  # a forked child may hang in a lock of a thread; nobody waits for it
    sleep("50ms")
    time.sleep(1.0)  # if it is suspended here, its next call is the effect
    return context.run("charge", charge, work)


@step
async def last(pay):
    await sleep("300ms")
    return pay


@workflow
def shop(wf):
    wf.timeline(work >> pay >> last)


def open_log():
    return SqliteStore(os.environ["LOG"], durability="normal")


def start(names):
    """Run executions in the background; those that were taken over from a suspended kernel end with an error."""
    store = start.store = getattr(start, "store", None) or open_log()
    return [shop.start(store=store, execution_id=name) for name in names]


if __name__ == "__main__":
    import chaos  # the workflow must belong to a module that others can import

    run_forever(chaos.open_log(), max_deaths=1000, tell=lambda text: print(text, file=sys.stderr))
