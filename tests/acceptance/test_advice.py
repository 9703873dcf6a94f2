"""The advice on how to go on is followed to the letter, for each kind of ending; then the execution completes."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from cerebelum_nb import ExecutionClient, ExecutionStoppedError, Secret, WorkflowError, connect, history
from cerebelum_nb._cli import main
from cerebelum_nb._store.connect import resolve_store
from cerebelum_nb._views.watch import Reading

FLOWS = """
import asyncio
from pathlib import Path
from cerebelum_nb import flow, sleep, step, wait_for_approval, workflow


def fixed():
    return Path("fixed").exists()


@step
def fetch(inputs):
    return 1


@step
def fails(fetch):
    if not fixed():
        raise ValueError("not yet")
    return 2


@step
def again(fetch):
    return {"status": "done" if fixed() else "again"}


@step
def refused(fetch):
    return "fine" if fixed() else "bad"


@step
def login(inputs):
    token = inputs["token"].reveal()
    if not fixed():
        raise ValueError("the site is down")
    return len(token)


@step
async def asks():
    return await wait_for_approval("budget")


@step
async def naps():
    if not fixed():
        await asyncio.sleep(3600)
    return 1


@step(effect="external")
async def charges():
    if not fixed():
        await asyncio.sleep(3600)
    return 1


@workflow
def failing(wf):
    wf.timeline(fetch >> fails)


@workflow(max_jumps=3)
def looping(wf):
    wf.timeline(fetch >> again)
    wf.diverge(from_step=again, patterns={"again": flow.back_to(fetch)})


@workflow
def routed(wf):
    wf.timeline(fetch >> refused)
    wf.diverge(from_step=refused, patterns={"bad": flow.fail("it is bad")})


@workflow(name="with secrets")
def secretive(wf):
    wf.timeline(login)


@workflow
def approved(wf):
    wf.timeline(asks)


@workflow
def stopped(wf):
    wf.timeline(naps)


@workflow
def paying(wf):
    wf.timeline(charges)


def make():
    @workflow
    def inner(wf):
        wf.timeline(fetch >> fails)

    return inner


made = make()
"""


@pytest.fixture
def flows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of workflows, each of which ends in another way, and the log of its folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CEREBELUM_DB", raising=False)
    (tmp_path / "flows_of_advice.py").write_text(FLOWS)
    monkeypatch.syspath_prepend(str(tmp_path))
    import importlib

    importlib.invalidate_caches()
    log = connect()
    yield importlib.import_module("flows_of_advice")
    del sys.modules["flows_of_advice"]
    log.close()


ENDINGS = {
    "failed": ("failing", {}),
    "too many jumps": ("looping", {}),
    "a route that fails": ("routed", {}),
    "a secret": ("secretive", {"token": Secret("hush-hush-hush")}),
    "made in a function": ("made", {}),
    "stopped": ("stopped", {}),
    "rejected": ("approved", {}),
    "an external effect": ("paying", {}),
}


async def _end(workflow: object, inputs: dict[str, object]) -> str:
    """Run it until it fails or stops, and return the message."""
    run = workflow.start(inputs, execution_id="k1")  # type: ignore[attr-defined]
    until = {"stopped": "RUNNING", "paying": "RUNNING", "approved": "WAITING_FOR_APPROVAL"}.get(workflow.name)  # type: ignore[attr-defined]
    while until and not (run.status == until and run.execution.state.in_flight):
        await asyncio.sleep(0)
    if workflow.name == "approved":  # type: ignore[attr-defined]
        await ExecutionClient().reject("k1", "too dear")
    elif workflow.name in ("stopped", "paying"):  # type: ignore[attr-defined]
        run.stop()
    with pytest.raises((WorkflowError, ExecutionStoppedError)) as raised:
        await run
    return str(raised.value)


async def _approved() -> None:
    """Approve what the execution waits for, if anything."""
    while True:
        await asyncio.sleep(0.01)
        if str((await ExecutionClient().get_execution_status("k1")).status) == "WAITING_FOR_APPROVAL":
            await ExecutionClient().approve("k1")


def _follow(calls: str, flows: ModuleType) -> None:
    """Run a call as a cell or a script would."""
    import ast
    import inspect

    async def cell() -> None:
        approving = asyncio.ensure_future(_approved())
        try:
            code = compile(calls, "<advice>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            made = eval(code, vars(flows))
            if inspect.isawaitable(made):
                await made
        finally:
            approving.cancel()

    asyncio.run(cell())


def _state() -> str:
    log = connect()
    state = str(history.executions()["state"][0])
    log.close()
    return state


@pytest.mark.parametrize(("name", "inputs"), ENDINGS.values(), ids=ENDINGS.keys())
@pytest.mark.parametrize("source", ["exception", "card"])
def test_the_call_in_python_works(flows: ModuleType, name: str, inputs: dict[str, object], source: str) -> None:
    told = asyncio.run(_end(getattr(flows, name), inputs))
    if source == "card":
        told = Reading(resolve_store(None), "k1").look().to_text()
    Path("fixed").touch()
    calls = re.findall(r"await \w+\.resume\([^\n#]*\)", told)
    assert calls, told
    _follow(calls[0], flows)
    assert _state() == "COMPLETED"


COMMANDS = {kind: ending for kind, ending in ENDINGS.items() if kind != "rejected"}  # it asks again, and waits


@pytest.mark.parametrize(("name", "inputs"), COMMANDS.values(), ids=COMMANDS.keys())
@pytest.mark.parametrize("source", ["exception", "status"])
def test_the_command_works(
    flows: ModuleType, name: str, inputs: dict[str, object], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = asyncio.run(_end(getattr(flows, name), inputs))
    runner = CliRunner()
    if (name, source) == ("paying", "exception"):  # it gives two calls, and no command
        told = "cerebelum resume k1"
    if source == "status":
        told = runner.invoke(main, ["status", "k1"]).output
    Path("fixed").touch()
    done = None
    for _ in range(2):  # of an external effect, a resume says which two commands there are
        commands = re.findall(r"cerebelum (resume [^\n#]*)", told)
        assert commands, told
        monkeypatch.setenv("TOKEN", "hush-hush-hush")
        command = commands[0].replace("--secret token", "--secret token=env:TOKEN")  # nobody is there to be asked
        done = runner.invoke(main, shlex.split(command))
        told = done.output
        if done.exit_code == 0:
            break
    assert _state() == "COMPLETED", told


def test_a_secret_that_is_asked_for_is_given_in_another_process(flows: ModuleType) -> None:
    told = asyncio.run(_end(flows.secretive, {"token": Secret("hush-hush-hush")}))
    assert "cerebelum resume k1 --secret token" in told


def test_an_execution_that_waits_for_approval_shows_the_commands_that_decide(flows: ModuleType) -> None:
    async def waiting() -> None:
        log = connect(hibernate_after=timedelta(0))
        await flows.approved.execute(execution_id="k1")
        log.close()

    asyncio.run(waiting())
    runner = CliRunner()
    (approve,) = re.findall(r"cerebelum (approve [^\n#]*)", runner.invoke(main, ["status", "k1"]).output)
    (resume,) = re.findall(r"cerebelum (resume [^\n#]*)", runner.invoke(main, shlex.split(approve)).output)
    assert runner.invoke(main, shlex.split(resume)).exit_code == 0
    assert _state() == "COMPLETED"
