"""A process that dies: runs or resumes the workflow below and kills itself (SIGKILL) after its n-th commit.

Usage: python mortal.py LOG MARKS start|resume|fork|resume-fork N   (N = 0: it lives to the end)
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

import cerebelum_nb
from cerebelum_nb import flow, poll, retry, sleep, step, workflow
from cerebelum_nb._store.sqlite import SqliteStore

LOG, MARKS, MODE, DIE_AFTER = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])


class MortalStore(SqliteStore):
    """A log that kills its process right after one of its commits."""

    commits = 0

    def commit(self, commits):
        rejected = super().commit(commits)
        MortalStore.commits += 1
        if MortalStore.commits == DIE_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)
        return rejected


def mark(what):
    """Note a side effect, in a file that survives a crash."""
    with MARKS.open("a") as file:
        file.write(what + "\n")
        file.flush()
        os.fsync(file.fileno())
    return what


@step
async def create(inputs, context):
    return {"id": await context.run("create-droplet", mark, f"create {inputs['size']}")}


@step
async def wait_for_ip(create):
    seen = []

    def check():
        seen.append(len(seen))
        return "10.0.0.1" if len(seen) >= 6 else None

    return await poll(check, interval=1, max_attempts=30)


@step
def configure(wait_for_ip, context):
    context.run("write-config", mark, "configure")
    sleep(1)
    context.run("reload", mark, "reload")
    return f"configured {wait_for_ip}"


@step(retries=3, retry_delay="1ms")
async def migrate(configure, context):
    await context.run("backup", mark, "backup")
    if context.attempt == 1:
        raise ConnectionError("database is starting")
    return ["m1", "m2"]


@step
async def certificate(configure):
    tries = []

    def issue():
        tries.append(1)
        if len(tries) < 4:
            raise TimeoutError("not issued")
        return "cert"

    await sleep("2ms")
    return await retry(issue, max_attempts=9, delay=1)


@step
async def check(migrate, certificate):
    return {"status": "degraded", "migrations": len(migrate)}


@step
async def repair(check, context):
    looks = iter(range(100))
    await sleep(1)
    await poll(lambda: next(looks) >= 6, interval=1)
    return await context.run("repair", mark, "repair")


@step
async def notify(check, repair=None):
    return (check["status"], repair)  # a tuple: stored by pickle


@workflow
def deploy(wf):
    wf.timeline(create >> wait_for_ip >> configure >> [migrate, certificate] >> check >> notify)
    wf.diverge(from_step=check, patterns={"degraded": repair >> notify, "down": flow.fail("down")})


async def main():
    store = MortalStore(LOG, durability="normal")
    if MODE == "start":
        result = await deploy.execute({"size": "s"}, store=store, execution_id="the-one")
    elif MODE == "fork":
        result = await deploy.fork("the-one", configure, fork_id="the-fork", store=store)
    else:
        result = await deploy.resume("the-fork" if MODE == "resume-fork" else "the-one", store=store)
    print(repr(dict(result.results)))


if __name__ == "__main__":
    print(cerebelum_nb.__version__, file=sys.stderr)
    asyncio.run(main())
