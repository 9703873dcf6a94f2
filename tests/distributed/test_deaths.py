"""Workers, servers and callers that die: what the history shows, and that nothing finished is done again."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import flows
import nbformat
import pytest

from cerebelum_nb import ExecutionStoppedError, OutcomeUnknownError, WorkflowError, history
from cerebelum_nb._cli.code import workflows_in
from cerebelum_nb._core.fold import fold
from cerebelum_nb._distributed.cluster import Cluster
from cerebelum_nb._distributed.executor import DistributedExecutor
from cerebelum_nb._distributed.worker import Worker
from cerebelum_nb._engine.hints import advise
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.archive import verify

from .conftest import HERE, Server, die_with_parent


class Story:
    """One execution, the marks of its steps in a folder, and the workers that run it."""

    def __init__(self, url, folder, log, heartbeat=2.0):
        self.url, self.folder, self.log = url, folder, log
        self.executor = DistributedExecutor(url, heartbeat=heartbeat, release_after=0.5)

    @property
    def marks(self):
        path = self.folder / "marks"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    async def seen(self, word):
        async with asyncio.timeout(60):
            while word not in self.marks:
                await asyncio.sleep(0.02)

    async def wait_for_heartbeat(self, execution_id, step):
        """Wait until a step has sent a heartbeat."""
        cluster = await Cluster.connect(self.url)
        async with asyncio.timeout(60):
            while not (await cluster.at_work(execution_id)).heartbeats.get(step):
                await asyncio.sleep(0.05)

    def start(self, flow, execution_id):
        running = self.executor.execute(flow, {"folder": str(self.folder)}, execution_id=execution_id, store=self.log)
        return asyncio.ensure_future(running)

    def open_gate(self):
        (self.folder / "gate").touch()

    def events(self, execution_id, *kinds):
        """Return the type, step and reason of each event of these kinds."""
        return [
            (type(event).__name__, getattr(event, "step", None), getattr(event, "reason", None))
            for event in self.log.events(execution_id)
            if type(event).__name__ in kinds
        ]


@pytest.fixture
def story(server, tmp_path, log):
    return Story(server.url, tmp_path, log)


@pytest.fixture
async def other(server):
    """Start a worker in this process, after another one is gone."""
    started = []

    async def start(flow, url=server.url):
        worker = Worker(url, "other").register_workflow(flow).start()
        started.append(worker)
        await worker.ready()
        return worker

    yield start
    for worker in started:
        await worker.close()


async def test_a_worker_killed_in_a_group_costs_no_finished_step_and_no_finished_operation(
    story, start_worker, other, server, log
):
    doomed = start_worker(server.url, "doomed").ready()
    running = story.start(flows.mortal, "m1")
    await story.seen("quick")
    await story.wait_for_heartbeat("m1", "held")
    doomed.kill()
    await other(flows.mortal)
    story.open_gate()
    assert (await running).output == 2
    assert sorted(story.marks) == ["held", "held", "late", "once", "quick"]
    assert story.events("m1", "StepInterrupted") == [("StepInterrupted", "held", "its worker died")]
    by = history.steps("m1", store=log).set_index(["step", "attempt"])["worker"]
    assert [by["held", 1], by["held", 2], by["quick", 1]] == ["doomed", "other", "doomed"]


async def test_a_child_outlives_the_worker_of_its_caller_and_of_its_own_steps(story, start_worker, other, server, log):
    doomed = start_worker(server.url, "doomed").ready()
    running = story.start(flows.family, "fam1")
    await story.seen("held")
    while not (children := log.executions(caller="fam1")[0]):  # its copy comes a moment later
        await asyncio.sleep(0.02)
    (child,) = children
    await story.wait_for_heartbeat(child.execution_id, "held")
    doomed.kill()
    await other(flows.family)
    story.open_gate()
    result = await running
    assert result.results["born"] == 2 and log.execution(child.execution_id).summary.state == "COMPLETED"
    assert sorted(story.marks) == ["held", "held", "late", "once", "quick"]
    assert story.events(child.execution_id, "StepInterrupted") == [("StepInterrupted", "held", "its worker died")]
    assert {step for _, step, _ in story.events("fam1", "StepInterrupted")} <= {"born"}


async def test_another_worker_continues_at_the_line_where_a_killed_one_waited_last(
    story, start_worker, other, server, log
):
    doomed = start_worker(server.url, "doomed").ready()
    running = story.start(flows.reminder, "line1")
    await story.seen("reminder")
    await story.wait_for_heartbeat("line1", "reminded")
    doomed.kill()
    await other(flows.reminder)
    story.open_gate()
    assert (await running).output == ["reminder", "welcome"]
    assert story.marks == ["welcome", "reminder", "reminder"]
    assert not [reason for _, _, reason in story.events("line1", "StepCheckpointed") if reason]


async def test_a_step_that_failed_on_a_cluster_continues_at_its_line_there_and_here(
    story, other, server, log, tmp_path
):
    await other(flows.repair)
    with pytest.raises(WorkflowError, match="it continues at line"):
        await story.start(flows.repair, "line2")
    (tmp_path / "divisor").write_text("0")
    with pytest.raises(WorkflowError, match="ZeroDivisionError"):
        await story.executor.resume(flows.repair, "line2", store=log)
    (tmp_path / "divisor").write_text("1")
    assert "continues at line" in flows.repair.plan_resume("line2", store=log)["repaired"].reasons[-1]
    assert (await flows.repair.resume("line2", store=log)).output == 1
    assert story.marks == ["top"]


async def test_a_worker_killed_in_an_external_effect_pauses_the_run_until_a_person_decides(
    story, start_worker, other, server
):
    doomed = start_worker(server.url, "doomed").ready()
    running = story.start(flows.external, "m2")
    await story.seen("charged")
    doomed.kill()
    await other(flows.external)
    with pytest.raises(ExecutionStoppedError, match=r"'charged'.*started, and its outcome is unknown"):
        await running
    with pytest.raises(OutcomeUnknownError):
        await story.executor.resume(flows.external, "m2", store=story.log)
    done = {"charged": "receipt by hand"}
    result = await story.executor.resume(flows.external, "m2", mark_done=done, store=story.log)
    assert result.results["charged"] == "receipt by hand" and story.marks == ["charged"]


async def test_a_sleep_outlives_the_worker_in_which_it_began(story, start_worker, other, server):
    doomed = start_worker(server.url, "doomed").ready()
    running = story.start(flows.sleeper, "m3")
    await story.seen("asleep")
    wait_until_hibernated = ("WorkflowHibernated", None, None)
    while wait_until_hibernated not in story.events("m3", "WorkflowHibernated"):
        await asyncio.sleep(0.05)
    doomed.kill()
    state, row = fold(story.log.events("m3")), story.log.execution("m3")
    assert (row.on_cluster, advise(state, "m3", on_cluster=row.on_cluster)) == (True, None)  # no scheduler wakes it
    await other(flows.sleeper)
    assert (await running).results["slept"] == "awake"
    assert story.events("m3", "StepInterrupted", "WorkflowAwakened") == [
        ("StepInterrupted", "slept", "it hibernated"),
        ("WorkflowAwakened", None, "it was due"),
    ]


async def test_a_worker_that_is_stopped_gives_back_what_it_cannot_finish(story, start_worker, other, server):
    ended = start_worker(server.url, "ended", "--grace", "0.2").ready()
    running = story.start(flows.long, "m4")
    await story.seen("at")
    ended.send(signal.SIGTERM)
    ended.process.wait(30)
    await other(flows.long)
    story.open_gate()
    assert (await running).results["worked"] == "done"
    assert story.events("m4", "StepInterrupted") == [("StepInterrupted", "worked", "worker ended ended")]


@pytest.mark.soak
async def test_a_worker_that_was_suspended_causes_no_late_effect(story, start_worker, other, server):
    frozen = start_worker(server.url, "frozen").ready()
    running = story.start(flows.mortal, "m5")
    await story.seen("held")
    frozen.send(signal.SIGSTOP)
    await other(flows.mortal)
    while story.marks.count("held") < 2:
        await asyncio.sleep(0.05)
    frozen.send(signal.SIGCONT)
    await asyncio.sleep(2.5)  # a heartbeat, which tells it that it was superseded
    story.open_gate()
    assert (await running).output == 2
    lines = (story.folder / "marks").read_text().splitlines()
    assert [line for line in lines if line.startswith("late")] == [f"late {os.getpid()}"]


async def test_a_server_killed_in_a_step_loses_nothing(tmp_path, log, other):
    server = Server(tmp_path, str(tmp_path / "temporal.db")).start()
    try:
        story = Story(server.url, tmp_path, log, heartbeat=30.0)
        await other(flows.long, server.url)
        running = story.start(flows.long, "m6")
        await story.seen("at")
        server.kill()
        story.open_gate()
        await asyncio.sleep(0.5)
        server.start()
        assert (await running).results["worked"] == "done"
        assert story.marks == ["at"] and story.events("m6", "StepInterrupted") == []
    finally:
        server.kill()


@pytest.mark.soak
@pytest.mark.parametrize("dies", ["the server", "both"])
async def test_a_sleep_outlives_the_server_and_its_worker(tmp_path, log, other, start_worker, dies):
    server = Server(tmp_path, str(tmp_path / "temporal.db")).start()
    try:
        story = Story(server.url, tmp_path, log)
        doomed = start_worker(server.url, "doomed").ready()
        running = story.start(flows.sleeper, "m10")
        while not story.events("m10", "WorkflowHibernated"):
            await asyncio.sleep(0.05)
        server.kill()
        if dies == "both":
            doomed.kill()
        await asyncio.sleep(0.5)
        server.start()
        if dies == "both":
            await other(flows.sleeper, server.url)
        assert (await running).results["slept"] == "awake" and story.marks == ["asleep"]
        assert story.events("m10", "StepInterrupted") == [("StepInterrupted", "slept", "it hibernated")]
    finally:
        server.kill()


@pytest.mark.soak
async def test_of_a_group_of_twenty_only_the_steps_of_the_killed_worker_run_again(story, start_worker, server):
    workers = {worker.pid: worker for worker in (start_worker(server.url, name).ready() for name in ("left", "right"))}
    running = story.start(flows.crowd, "m11")
    async with asyncio.timeout(60):
        while len(story.marks) < 20:
            await asyncio.sleep(0.02)
    by = dict(line.split() for line in (story.folder / "marks").read_text().splitlines())
    doomed, lost = next(
        (pid, [name for name in by if by[name] == str(pid)]) for pid in workers if str(pid) in by.values()
    )
    workers[doomed].kill()
    async with asyncio.timeout(60):
        while len(story.marks) < 20 + len(lost):
            await asyncio.sleep(0.02)
    story.open_gate()
    result = await running
    assert [result.results[f"c{number}"] for number in range(20)] == list(range(20))
    assert sorted(story.marks) == sorted([*by, *lost])
    assert sorted(step for _, step, _ in story.events("m11", "StepInterrupted")) == sorted(lost)


@pytest.mark.soak
async def test_a_follower_that_is_killed_loses_nothing(story, other, server, tmp_path):
    await other(flows.long)
    running = story.start(flows.long, "m12")
    await story.seen("at")
    copy = tmp_path / "copy.db"
    command = [sys.executable, "-m", "cerebelum_nb", "follow", "m12", "--core", server.url, "--db", str(copy)]
    follower = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent)
    while not copy.exists() or not SqliteStore(copy).events("m12"):
        await asyncio.sleep(0.1)
    follower.kill()
    follower.wait()
    story.open_gate()
    await running
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    with SqliteStore(copy) as copied:
        assert copied.events("m12") == story.log.events("m12") and verify(store=copied).ok


async def test_an_execution_outlives_the_process_that_started_it(story, other, server, log):
    await other(flows.long)
    program = (
        "import asyncio, flows; from cerebelum_nb import connect; connect(':memory:'); "
        f"asyncio.run(flows.long.execute({{'folder': {str(story.folder)!r}}}, execution_id='m7', "
        f"core_url={server.url!r}))"
    )
    caller = subprocess.Popen([sys.executable, "-c", program], cwd=HERE, preexec_fn=die_with_parent)
    await story.seen("at")
    caller.kill()
    caller.wait()
    story.open_gate()
    assert (await story.executor.follow(flows.long, "m7", store=log)).results["worked"] == "done"


async def test_a_warning_says_that_an_execution_waits_for_a_worker(story, other, caplog):
    story.open_gate()
    running = story.start(flows.long, "m8")
    while "no worker of" not in caplog.text:
        await asyncio.sleep(0.05)
        assert not running.done()
    assert f"cerebelum worker flows --core {story.url}" in caplog.text
    await other(flows.long)
    await running


@pytest.mark.soak
def test_a_worker_loads_the_definitions_of_a_notebook_and_runs_nothing_else_of_it(server, tmp_path, log, start_worker):
    cells = [
        "from cerebelum_nb import step, workflow",
        "@step\ndef greet(inputs):\n    return f\"hello {inputs['name']}\"",
        "@workflow\ndef greeting(wf):\n    wf.timeline(greet)",
        "raise SystemExit('this cell is no definition')",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, tmp_path / "analysis.ipynb")
    start_worker(server.url, "cells", code=tmp_path / "analysis.ipynb").ready()
    greeting = workflows_in(str(tmp_path / "analysis.ipynb"))["greeting"]
    executor = DistributedExecutor(server.url, quiet=True)
    result = asyncio.run(executor.execute(greeting, {"name": "ana"}, execution_id="nb1", store=log))
    assert result.output == "hello ana"
    assert [event.worker for event in log.events("nb1") if hasattr(event, "worker")][-1] == "cells"


def test_a_worker_with_other_code_says_so_before_it_runs(story, start_worker, server, tmp_path, caplog):
    changed = (HERE / "flows.py").read_text().replace('return "done"', 'return "done otherwise"')
    (tmp_path / "flows.py").write_text(changed)
    start_worker(server.url, "newer", code=tmp_path / "flows.py").ready()
    story.open_gate()
    result = asyncio.run(
        story.executor.execute(flows.long, {"folder": str(story.folder)}, execution_id="m9", store=story.log)
    )
    assert result.results["worked"] == "done otherwise"
    assert story.events("m9", "StepInterrupted") == [
        ("StepInterrupted", "worked", "worker newer has another version of it")
    ]
    assert "worker newer has another version of step 'worked' than this process" in caplog.text
    codes = [
        event.code
        for event in story.log.events("m9")
        if getattr(event, "step", "") == "worked" and hasattr(event, "code")
    ]
    assert len(set(codes)) == 2
