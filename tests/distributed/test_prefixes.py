"""Every run of the driver starts from rows: from any prefix of any history it ends the same."""

from __future__ import annotations

import asyncio
import re

import flows
import pytest

from cerebelum_nb import WorkflowError
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._distributed.cluster import Cluster
from cerebelum_nb._distributed.executor import DistributedExecutor
from cerebelum_nb._distributed.settings import Terms


def end_of(events):
    """Return the outcome of an execution: its state, its results, its error."""
    state = fold(events)
    check(state)
    outputs = repr(sorted(state.outputs.items()))
    results = re.sub(r"child \w+ of", "its child", outputs)  # a child's id derives from its caller's
    return state.lifecycle, results, None if state.error is None else state.error.type


async def whole(cluster, execution_id):
    """Return the events of an execution after it has ended."""
    found = []
    async for change in cluster.changes(execution_id):
        found += change.events
    return found


@pytest.mark.parametrize(
    ("flow", "every"),
    [
        pytest.param(flow, every, id=f"{flow.name}-{every}", marks=pytest.mark.soak if every == 1 else [])
        for flow in flows.CONFORMING
        for every in ((1, 4) if flow is flows.operations else (1,))  # all of them take minutes
        if flow is not flows.signalled  # it waits for somebody
    ],
)
async def test_from_any_prefix_of_its_history_an_execution_ends_the_same(flow, every, log, server, worker):
    cluster, inputs = await Cluster.connect(server.url), {"given": ["ana", "bo"]}
    try:
        await DistributedExecutor(server.url, quiet=True).execute(
            flow, inputs, execution_id=f"{flow.name}-whole", store=log
        )
    except WorkflowError:
        pass
    recorded = await cluster.events(f"{flow.name}-whole")
    sizes = range(1, len(recorded), every)
    for size in sizes:
        await cluster.launch(f"{flow.name}-{size}", flow.plan(), recorded[:size], Terms(), again=False)
    found = await asyncio.gather(*(whole(cluster, f"{flow.name}-{size}") for size in sizes))
    expected = end_of(recorded)
    for size, events in zip(sizes, found, strict=True):
        assert events[:size] == recorded[:size]
        assert end_of(events) == expected, f"from {recorded[size - 1]}"
