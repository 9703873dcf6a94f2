"""A problem with a cluster is described on one screen, with the command that helps."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading

import flows
import pytest
from temporalio.service import RPCError, RPCStatusCode

from cerebelum_nb import (
    CerebelumError,
    ExecutionBusyError,
    ResumeError,
    StoreError,
    WorkflowDefinitionError,
    foreach,
    step,
    workflow,
)
from cerebelum_nb._distributed import server as servers
from cerebelum_nb._distributed.activities import until_free
from cerebelum_nb._distributed.connection import explain
from cerebelum_nb._distributed.executor import DistributedExecutor
from cerebelum_nb._distributed.worker import Worker

from .conftest import HERE, free_ports


@pytest.fixture
def web_page():
    """A server on a port that is not a Temporal server."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve():
        listener.settimeout(0.1)
        while not over.is_set():
            try:
                one, _ = listener.accept()
            except OSError:
                continue
            with one:
                one.recv(1000)
                one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    over.set()
    thread.join()
    listener.close()


async def test_without_a_server_it_says_how_to_start_one(log):
    (port,) = free_ports(1)
    with pytest.raises(
        StoreError,
        match=rf"(?s)reached at 127.0.0.1:{port} \(nothing listens there\).*cerebelum cluster up --port {port}",
    ) as told:
        await DistributedExecutor(f"127.0.0.1:{port}").execute(flows.grouped, store=log)
    assert len(str(told.value).splitlines()) < 10 and log.executions() == ([], 0)


@pytest.mark.parametrize(
    ("told", "words", "transient"),
    [
        ('Status { code: Cancelled, message: "Timeout expired" }', "it does not answer in time", True),
        ('Status { code: Unknown, message: "transport error", ConnectionReset }', "it closed the connection", True),
        ('Status { code: Internal, message: "h2 protocol error: http2 error" }', "it does not speak gRPC", False),
        ("something new", "something new", True),
    ],
)
def test_errors_of_the_sdk_about_a_connection_are_put_in_words_and_never_guessed(told, words, transient):
    with pytest.raises(StoreError, match=words) as raised:
        explain(RuntimeError(f"Failed client connect: {told}"), "127.0.0.1:7233")
    assert raised.value.transient is transient


def test_a_server_that_is_too_old_is_reported():
    refused = RPCError("unknown method", RPCStatusCode.UNIMPLEMENTED, b"")
    with pytest.raises(StoreError, match="does not know the calls of one, or is too old"):
        explain(refused, "127.0.0.1:7233")


async def test_something_that_is_not_a_temporal_server_is_reported(web_page, log):
    with pytest.raises(
        StoreError,
        match=f"(?s)what listens at {web_page} does not answer as a Temporal server does: it .* `cerebelum cluster up`",
    ):
        await DistributedExecutor(web_page).execute(flows.grouped, store=log)


async def test_a_missing_namespace_comes_with_the_command_that_creates_it(server, log):
    with pytest.raises(
        StoreError, match=r"no namespace 'nowhere'.*\n.*\n +temporal operator namespace create -n nowhere"
    ):
        await DistributedExecutor(server.url, namespace="nowhere").execute(flows.grouped, store=log)


async def test_a_foreach_that_keeps_no_results_is_refused_before_anything_is_started(log):
    @step
    def regions():
        return ["ams3"]

    @step(keep=False)
    def deploy(region):
        return region

    @workflow
    def everywhere(wf):
        wf.timeline(regions >> foreach(deploy, region=regions))

    with pytest.raises(WorkflowDefinitionError, match=r"foreach\(deploy\) .* keeps no results .* run it here"):
        await DistributedExecutor("127.0.0.1:1").execute(everywhere, store=log)


async def test_a_worker_that_lacks_a_step_says_so(log, server, caplog):
    @step
    def build():
        return 1

    @step
    def ship(build):
        return build

    def lacking(*steps):
        return workflow(name="lacking")(lambda wf: wf.timeline(steps[0] >> steps[1] if len(steps) > 1 else steps[0]))

    worker = Worker(server.url, "old").register_workflow(lacking(build)).start()
    await worker.ready()
    running = asyncio.ensure_future(
        DistributedExecutor(server.url).execute(lacking(build, ship), store=log, execution_id="lack1")
    )
    told = "worker old has no step 'ship': it has another version of the workflow"
    while told not in [getattr(event, "reason", "") for event in log.events("lack1")]:
        await asyncio.sleep(0.02)
    assert "worker old has no step 'ship'" in caplog.text
    await DistributedExecutor(server.url).stop("lack1")
    with pytest.raises(CerebelumError):
        await running
    await worker.close()


async def test_a_worker_without_a_workflow_says_what_to_name(server):
    with pytest.raises(CerebelumError, match="cerebelum worker MODULE"):
        await Worker(server.url).run()


async def test_an_id_that_was_used_is_refused_without_resume(server, worker, log):
    executor = DistributedExecutor(server.url)
    await executor.execute(flows.grouped, execution_id="used", store=log)
    with pytest.raises(ResumeError, match="already exists: add resume=True"):
        await executor.execute(flows.grouped, execution_id="used", store=log)


async def test_an_execution_that_runs_on_a_cluster_is_not_resumed_here(server, worker, log):
    executor = DistributedExecutor(server.url)
    running = asyncio.ensure_future(executor.execute(flows.approved, execution_id="there", store=log))
    while not any(type(event).__name__ == "ApprovalRequested" for event in log.events("there")):
        await asyncio.sleep(0.02)
    with pytest.raises(ExecutionBusyError, match=f"runs on the cluster temporal://{server.url}.*--core {server.url}"):
        await flows.approved.resume("there", store=log)
    with pytest.raises(ExecutionBusyError, match=r"is on temporal://.* already"):
        await executor.resume(flows.approved, "there", store=log)
    await executor.stop("there")
    with pytest.raises(CerebelumError):
        await running


def test_another_program_on_the_port_is_not_mistaken_for_a_server(web_page, tmp_path):
    port = int(web_page.rpartition(":")[2])
    with pytest.raises(CerebelumError, match=f"port {port} is taken by another program"):
        servers.start(port, tmp_path)


def test_without_the_sdk_it_says_what_to_install():
    program = """
import sys
sys.modules["temporalio"] = None
import flows
from cerebelum_nb import connect
connect(":memory:")
try:
    flows.grouped.run()
    import asyncio
    asyncio.run(flows.grouped.execute(distributed=True))
except Exception as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=HERE, capture_output=True, text=True, check=True)
    assert "pip install 'cerebelum_nb[temporal]'" in done.stdout, done.stderr


async def test_a_concurrency_key_is_refused_on_a_cluster(log):
    @step
    def build(inputs):
        return inputs

    @workflow(concurrency_key="service")
    def deploy(wf):
        wf.timeline(build)

    with pytest.raises(CerebelumError, match=r"'deploy' has a concurrency_key.*Run it without distributed=True"):
        await deploy.execute({"service": "api"}, store=log, distributed=True)


async def test_a_step_asks_again_if_the_server_is_too_busy_with_its_execution(monkeypatch):
    monkeypatch.setattr("cerebelum_nb._distributed.activities._AGAIN_SECONDS", 0)
    busy, gone = RPCStatusCode.RESOURCE_EXHAUSTED, RPCStatusCode.NOT_FOUND
    answers = [RPCError("Workflow is busy.", busy, b""), "it waits", RPCError("it is gone", gone, b"")]

    async def ask():
        answer = answers.pop(0)
        if isinstance(answer, RPCError):
            raise answer
        return answer

    assert await until_free(ask) == "it waits"
    with pytest.raises(RPCError, match="it is gone"):
        await until_free(ask)
