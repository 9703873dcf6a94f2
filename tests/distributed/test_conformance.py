"""The same workflow on both engines: the same events in the same order, and the same outcome."""

from __future__ import annotations

import asyncio
import re

import flows
import pytest

from cerebelum_nb import ExecutionClient, WorkflowError
from cerebelum_nb._core.events import SignalAwaited, StepPrinted
from cerebelum_nb._distributed.executor import DistributedExecutor


def shape(log, execution_id):
    """Return what must be equal of each event; printed text is recorded at any time, so it is left out."""
    told = []
    for event in log.events(execution_id):
        if isinstance(event, StepPrinted):
            continue
        names = ("step", "visit", "attempt", "choice")
        op = (getattr(event, "op", None) or "").partition(":")[0]
        told.append((type(event).__name__, *(getattr(event, name, None) for name in names), op))
    return told


def by_attempt(events, group, *, ordered):
    """Group events by attempt, because the members of a group, and items, end in any order; others stay in order."""
    beside = [event for event in events if event[1] in group or (event[1] and "[" in event[1])]
    if ordered:
        return [event for event in events if event not in beside]
    return {event[1]: [one for one in beside if one[1] == event[1]] for event in beside}


def printed(log, execution_id):
    events = [event for event in log.events(execution_id) if isinstance(event, StepPrinted)]
    return sorted("".join(event.text for event in events).splitlines())


async def sent(log, execution_id):
    """Send three signals after the execution has begun to wait for the first."""
    while not any(isinstance(event, SignalAwaited) and event.name == "go" for event in log.events(execution_id)):
        await asyncio.sleep(0.02)
    for number in (1, 2, 3):
        assert await ExecutionClient(log).send_signal(execution_id, "go", number, signal_id=f"s{number}")
    assert not await ExecutionClient(log).send_signal(execution_id, "go", 1, signal_id="s1")


async def end_of(running):
    try:
        told = repr((await running).output)
    except WorkflowError as error:
        told = str(error).splitlines()[0].partition("failed: ")[2]
    return re.sub(r"child \S+ of", "its child", told)  # whose id derives from its caller's


@pytest.mark.parametrize("flow", flows.CONFORMING, ids=lambda flow: flow.name)
async def test_both_engines_record_the_same(flow, log, server, worker):
    inputs, there = {"given": ["ana", "bo"]}, f"{flow.name}-there"
    ends = await asyncio.gather(
        end_of(flow.execute(inputs, store=log, execution_id="here")),
        end_of(
            # A wait that leaves its worker is another attempt, which the kernel makes after an hour only.
            DistributedExecutor(server.url, release_after=60).execute(flow, inputs, store=log, execution_id=there)
        ),
        *([] if flow is not flows.signalled else [sent(log, "here"), sent(log, there)]),
    )
    assert ends[0] == ends[1]
    assert printed(log, there) == printed(log, "here")
    expected, found = shape(log, "here"), shape(log, there)
    plan = flow.plan()
    beside = {step for stage in plan.timeline if len(stage) > 1 for step in stage}
    for which in (True, False):
        assert by_attempt(found, beside, ordered=which) == by_attempt(expected, beside, ordered=which)
