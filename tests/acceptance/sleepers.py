"""Workflows that wait, for processes that are killed.

Usage: python sleepers.py LOG MARKS start ID... | resume ID | schedule [MODULE]
"""

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

from cerebelum_nb import approval, sleep, step, workflow
from cerebelum_nb._scheduler.scheduler import run_forever
from cerebelum_nb._store.sqlite import SqliteStore

MARKS = Path(os.environ.get("MARKS", "marks"))


def mark(what):
    """Note a side effect, in a file that survives a crash."""
    with MARKS.open("a") as file:
        file.write(what + "\n")
        file.flush()
        os.fsync(file.fileno())
    return what


@step
async def before(context):
    return mark(f"before {context.execution_id}")


@step
async def nap(context):
    await context.run("mail", mark, f"mail {context.execution_id}")
    await sleep("1500ms")
    return mark(f"woke {context.execution_id}")


@step
def after(nap, context):
    return mark(f"after {context.execution_id}")


@workflow
def campaign(wf):
    wf.timeline(before >> nap >> after)


def how_long():
    if os.environ.get("DEADLY"):
        os.kill(os.getpid(), 9)
    return "1500ms"


@step
async def deadly():
    await sleep(how_long())  # evaluated again each time the step is entered at this line


@workflow
def crashing(wf):
    wf.timeline(deadly)


@step(effect="external")
@approval(type="production")
async def release(context):
    return mark(f"released {context.execution_id}")


@workflow
def asking(wf):
    wf.timeline(release)


def open_log(path):
    store = SqliteStore(path, durability="normal")
    store.hibernate_after = timedelta(milliseconds=int(os.environ.get("HIBERNATE_MS", "100")))
    return store


async def start(store, name, ids):
    flow = {"campaign": campaign, "crashing": crashing, "asking": asking}[name]
    results = await asyncio.gather(*(flow.execute(store=store, execution_id=i) for i in ids))
    print(*(result.status for result in results))


if __name__ == "__main__":
    import sleepers  # the workflows must belong to a module that others can import

    log, mode, *rest = sys.argv[1:]
    if mode == "start":
        asyncio.run(sleepers.start(open_log(log), rest[0], rest[1:]))
    else:
        run_forever(open_log(log), modules=rest, max_deaths=int(os.environ.get("MAX_DEATHS", "5")), tell=print)
