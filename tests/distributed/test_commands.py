"""The command line on a cluster: the same commands with ``--core``."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import flows
import pytest

from cerebelum_nb import WorkflowError, history
from cerebelum_nb._archive.export import exported
from cerebelum_nb._distributed.executor import DistributedExecutor
from cerebelum_nb._store.sqlite import SqliteStore

from ..waiting import wait_for
from .conftest import HERE, free_ports


def cerebelum(*words, code=0, folder=HERE, **env):
    done = subprocess.run(
        [sys.executable, "-m", "cerebelum_nb", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
async def failed(server, worker, log, request):
    name = f"{request.node.name[5:]}-1"
    with pytest.raises(WorkflowError):
        await DistributedExecutor(server.url).execute(flows.failing, execution_id=name, store=log)
    return name


def test_reading_commands_show_the_executions_of_a_cluster(server, failed):
    there = ("--core", server.url)
    # What the server lists comes from an index that it fills a moment after an execution has ended.
    wait_for(lambda: failed in cerebelum("list", *there, COLUMNS="200"), "the list has it")
    assert "raises: ValueError: it cannot" in cerebelum("status", failed[:-2], *there)
    shown = json.loads(cerebelum("events", failed, "--json", *there))
    assert [event["type"] for event in shown["events"]][-2:] == ["StepFailed", "WorkflowFailed"]
    assert "failed" in cerebelum("watch", failed, "--db", f"temporal://{server.url}")
    assert f"cerebelum follow --once --core {server.url}" in cerebelum(
        "export", failed, "--db", f"temporal://{server.url}", code=5
    )


def test_following_copies_executions_into_a_log(server, failed, tmp_path):
    cerebelum("follow", failed, "--core", server.url, "--db", str(tmp_path / "copy.db"))
    with SqliteStore(tmp_path / "copy.db") as copy:
        assert copy.execution(failed).summary.state == "FAILED"
        assert history.graph(failed, store=copy).plan is not None and b"def raises" in exported(copy, failed, "html")
        assert copy.execution(failed).holder is None


async def test_an_approval_is_decided_and_an_execution_cancelled_by_command(server, worker, log):
    executor = DistributedExecutor(server.url)
    for name, words in (
        ("by-command", ("approve", "--response", "7")),
        ("cancelled", ("cancel", "--reason", "enough")),
    ):
        running = asyncio.ensure_future(executor.execute(flows.approved, execution_id=name, store=log))
        while not any(type(event).__name__ == "ApprovalRequested" for event in log.events(name)):
            await asyncio.sleep(0.02)
        verb, *options = words
        await asyncio.to_thread(cerebelum, verb, name, *options, "--core", server.url)
        await asyncio.wait([running])
    assert log.execution("by-command").summary.state == "COMPLETED"
    assert log.execution("cancelled").summary.state == "CANCELLED"


async def test_names_tags_and_notes_are_as_in_a_kernel_and_nothing_is_taken_from_a_cache(server, worker, log, caplog):
    executor = DistributedExecutor(server.url)
    for name in ("noted-1", "noted-2"):
        await executor.execute(flows.publishing, execution_id=name, store=log, name="release 4.2", tags=["eu"])
    assert "a cluster takes no cached results: publishes of 'publishing' will run" in caplog.text
    shown = log.execution("noted-2").summary
    assert (shown.name, shown.tags) == ("release 4.2", ("eu", "there"))
    assert history.notes("noted-2", store=log)["value"].tolist() == ['"https://a.example.org"', '{"of":3}']
    assert history.steps("noted-2", store=log)["source"].isna().all()
    there = ("--core", server.url)
    wait_for(lambda: "noted-2" in cerebelum("list", *there, "--tag", "eu", "--name", "release*"), "the list has it")
    refused = " ".join(cerebelum("tag", "noted-2", "+late", *there, code=1).split())
    assert "has ended and no longer takes tags there" in refused


async def test_an_execution_is_tagged_while_it_waits_on_a_cluster(server, worker, log):
    running = asyncio.ensure_future(
        DistributedExecutor(server.url).execute(flows.approved, execution_id="tagged-there", store=log)
    )
    while not any(type(event).__name__ == "ApprovalRequested" for event in log.events("tagged-there")):
        await asyncio.sleep(0.02)
    told = await asyncio.to_thread(cerebelum, "tag", "tagged-there", "+hot", "--core", server.url)
    assert told == "tagged-there: hot\n"
    await asyncio.to_thread(cerebelum, "approve", "tagged-there", "--response", "7", "--core", server.url)
    await running
    assert log.execution("tagged-there").summary.tags == ("hot",)


@pytest.mark.soak
def test_a_cluster_is_started_shown_and_stopped(tmp_path):
    home = {"CEREBELUM_CLUSTER_HOME": str(tmp_path)}
    port = str(next(port for port in free_ports(20) if port < 65000))
    try:
        assert f"the cluster is at localhost:{port}" in cerebelum("cluster", "up", "--port", port, **home)
        assert f"localhost:{port}" in cerebelum("cluster", "status", **home)
        assert f"localhost:{port}" in cerebelum("cluster", "up", "--port", port, **home)
    finally:
        cerebelum("cluster", "down", "--port", port, **home)
    assert "runs here" in cerebelum("cluster", "status", code=1, **home)


@pytest.mark.soak
def test_short_commands_end_as_they_should(server):
    for _ in range(40):  # the SDK aborts one in five processes that end right after a call
        cerebelum("list", "--core", server.url)
