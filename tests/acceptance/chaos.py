"""A workflow with an effect, and what the processes that run it note of themselves; see test_chaos.py.

Usage: python chaos.py schedule; a kernel imports it and calls start(). Where: $LOG and $MARKS. $MACHINE is the machine
that a process says it is on: of a process on another machine only the heartbeat shows. $LEASE: seconds.
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
"""When this process last began to look whether an execution is still its own, and found that it was."""


def note(what, execution_id, **more):
    """Write what was done just now where no death can take it back; the clock is that of all processes here."""
    line = json.dumps({"what": what, "id": execution_id, "pid": os.getpid(), "at": time.monotonic(), **more})
    with Path(os.environ["MARKS"]).open("ab", buffering=0) as file:
        file.write(line.encode() + b"\n")


class Noting(leases.Leases):
    """Notes what this process took over, and when it looked."""

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
    """Do in a forked child what only its parent may do."""
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
        child.kill()  # a child of threads may hang in a lock; it holds nothing that others wait for
    sleep("50ms")
    time.sleep(1.0)  # when it was suspended here, its next call is the effect
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
    """Run executions behind the cell; of a kernel that is resumed, those that were taken over end with an error."""
    store = start.store = getattr(start, "store", None) or open_log()
    return [shop.start(store=store, execution_id=name) for name in names]


if __name__ == "__main__":
    import chaos  # the workflow is to be known by a module that others can import

    run_forever(chaos.open_log(), max_deaths=1000, tell=lambda text: print(text, file=sys.stderr))
