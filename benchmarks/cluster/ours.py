"""Workflows of no-op steps, for ``cerebelum worker``: a chain, and 1 -> N -> 1."""

from __future__ import annotations

import asyncio
import os

from cerebelum_nb import step, workflow

COUNT = int(os.environ.get("BENCHMARK_STEPS", "100"))


def made(name: str):
    async def body():
        return 1

    body.__name__ = body.__qualname__ = name
    return step(body)


CHAIN = [made(f"s{number}") for number in range(COUNT)]
WIDE = [made(f"w{number}") for number in range(COUNT)]
FIRST, LAST = made("first"), made("last")


@step
async def hold(context):
    if context.attempt == 1:
        await asyncio.sleep(600)  # its worker is killed meanwhile


@workflow
def held(wf):
    wf.timeline(hold)


@workflow
def chain(wf):
    path = CHAIN[0]
    for one in CHAIN[1:]:
        path = path >> one
    wf.timeline(path)


@workflow
def wide(wf):
    wf.timeline(FIRST >> WIDE >> LAST)
