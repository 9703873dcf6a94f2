"""A workflow that others run as a child."""

from __future__ import annotations

from cerebelum_nb import step, workflow

__all__ = ["probe", "smoke_tests", "start"]


@step
async def start(inputs):
    return inputs["image"]


@step
async def probe(start):
    return f"{start} answers"


@workflow
def smoke_tests(wf):
    wf.timeline(start >> probe)
