"""Histories of earlier releases replay on the present driver: an open execution survives an upgrade.

The corpus is made by ``python -m tests.distributed.make_replay``, which adds a file for each feature; files of earlier
releases stay. A change of the driver that breaks one needs ``workflow.patched``.
"""

from __future__ import annotations

import json

import pytest

from .conftest import HERE

CORPUS = sorted((HERE / "replay").glob("*.json"))


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
async def test_a_recorded_history_replays(path):
    from temporalio.client import WorkflowHistory
    from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

    from cerebelum_nb._distributed.driver import Drive, DriveChild

    history = WorkflowHistory.from_json(path.stem, json.loads(path.read_text()))
    replayer = Replayer(workflows=[Drive, DriveChild], workflow_runner=UnsandboxedWorkflowRunner())
    await replayer.replay_workflow(history)


async def test_another_order_of_steps_does_not_replay():
    from temporalio.client import WorkflowHistory
    from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

    from cerebelum_nb._distributed.driver import Drive

    text = next(path for path in CORPUS if "group" in path.stem).read_text().replace('"one:1:1"', '"other:1:1"')
    history = WorkflowHistory.from_json("changed", json.loads(text))
    replayer = Replayer(workflows=[Drive], workflow_runner=UnsandboxedWorkflowRunner())
    with pytest.raises(Exception, match=r"[Nn]ondeterminism"):
        await replayer.replay_workflow(history)


async def test_the_sdk_still_has_the_attribute_that_lets_a_turn_take_longer_than_two_seconds(server):
    from temporalio.worker import UnsandboxedWorkflowRunner, Worker

    from cerebelum_nb._distributed.connection import connect
    from cerebelum_nb._distributed.driver import Drive
    from cerebelum_nb._distributed.worker import allow_long_turns

    taker = Worker(
        await connect(server.url),
        task_queue="cerebelum:some",
        workflows=[Drive],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    allow_long_turns(taker)
    assert taker._workflow_worker._deadlock_timeout_seconds == 30
