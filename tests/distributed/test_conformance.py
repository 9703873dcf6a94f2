"""The same workflow on both engines: the same events in the same order, and the same outcome."""

from __future__ import annotations

import flows
import pytest

from cerebelum_nb import WorkflowError
from cerebelum_nb._core.events import StepCheckpointed, StepPrinted
from cerebelum_nb._distributed.executor import DistributedExecutor


def shape(log, execution_id):
    """What must be equal of each event.

    What is printed is recorded by the clock, between any two others. On a cluster steps start at their top: it has no
    checkpoints.
    """
    told = []
    for event in log.events(execution_id):
        if isinstance(event, (StepPrinted, StepCheckpointed)):
            continue
        names = ("step", "visit", "attempt", "choice")
        op = (getattr(event, "op", None) or "").partition(":")[0]
        told.append((type(event).__name__, *(getattr(event, name, None) for name in names), op))
    return told


def unordered(events, group):
    """Members of a group end in any order: what is told of each is compared."""
    return {name: [event for event in events if event[1] == name] for name in group}


def printed(log, execution_id):
    return "".join(event.text for event in log.events(execution_id) if isinstance(event, StepPrinted))


async def end_of(running):
    try:
        return repr((await running).output)
    except WorkflowError as error:
        return str(error).splitlines()[0].partition("failed: ")[2]


@pytest.mark.parametrize("flow", flows.CONFORMING, ids=lambda flow: flow.name)
async def test_both_engines_record_the_same(flow, log, server, worker):
    here = await end_of(flow.execute(store=log, execution_id="here"))
    there = await end_of(DistributedExecutor(server.url).execute(flow, store=log, execution_id=f"{flow.name}-there"))
    assert there == here
    expected, found = shape(log, "here"), shape(log, f"{flow.name}-there")
    assert printed(log, f"{flow.name}-there") == printed(log, "here")
    group = [step for stage in flow.plan().timeline if len(stage) > 1 for step in stage]
    assert unordered(found, group) == unordered(expected, group)
    assert [event for event in found if event[1] not in group] == [event for event in expected if event[1] not in group]
