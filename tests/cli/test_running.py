"""``cerebelum run``: from a module, a file or a notebook, with inputs, in the foreground or for a scheduler."""

from __future__ import annotations

import json

import pytest

from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._store.sqlite import SqliteStore

from ..programs import Popen
from ..waiting import wait_for
from .conftest import CEREBELUM, LOG, environment

CODE = """
from cerebelum_nb import sleep, step, workflow

@step
def build(inputs):
    return inputs

@step
async def rest(inputs):
    await sleep("2h")

@step
def refuse(inputs):
    raise RuntimeError("no")

@workflow
def deploy(wf):
    wf.timeline(build)

@workflow
def nap(wf):
    wf.timeline(rest)

@workflow(name="bad one")
def bad(wf):
    wf.timeline(refuse)
"""


KEYED = """
from cerebelum_nb import step, workflow

@step
def build(inputs):
    return inputs

@workflow(concurrency_key="service")
def keyed(wf):
    wf.timeline(build)
"""


def test_a_queued_execution_names_the_one_before_it(spawn, folder):
    (folder / "keyed.py").write_text(KEYED)
    for name in ("k1", "k2"):
        assert spawn("run", "keyed.py", "-i", "service=api", "--id", name, "--detach").code == 0
    assert "queued behind k1" in spawn("status", "k2").out
    assert "after k1" in spawn("active").out


@pytest.fixture
def code(folder):
    (folder / "code.txt").write_text(CODE)
    (folder / "ship.py").write_text(CODE)
    cells = [CODE, "result = await deploy.execute({})"]
    cells = [{"cell_type": "code", "source": source, "metadata": {}} for source in cells]
    (folder / "ship.ipynb").write_text(json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}))
    return folder


@pytest.mark.parametrize("given", ["ship:deploy", "ship.py:deploy", "ship.ipynb:deploy"])
def test_a_module_a_file_and_a_notebook_run(spawn, code, given):
    done = spawn("run", given, "-i", "size=small", "-i", "count=3", "-i", 'version="1.10"', "--json")
    assert done.code == 0, done.err
    assert done.json["step_outputs"]["build"] == {"size": "small", "count": 3, "version": "1.10"}


def test_inputs_come_from_a_file_and_an_option_wins(spawn, code):
    (code / "inputs.json").write_text('{"size": "small", "count": 3}')
    done = spawn("run", "ship:deploy", "--inputs", "inputs.json", "-i", "count=4", "--json")
    assert done.json["step_outputs"]["build"] == {"size": "small", "count": 4}


def test_a_failure_is_shown_and_can_be_resumed_by_its_id(spawn, code):
    done = spawn("run", "ship.py:bad", "--id", "b1")
    assert done.code == 1 and "refuse: RuntimeError: no" in done.out and "cerebelum resume b1" in done.out
    (code / "ship.py").write_text(CODE.replace('raise RuntimeError("no")', 'return "fine"'))
    assert spawn("resume", "b1").code == 0


def test_an_id_runs_once(spawn, code):
    assert spawn("run", "ship:deploy", "--id", "x1", "--resume", "-i", "a=1").code == 0
    assert spawn("run", "ship:deploy", "--id", "x1", "--resume", "-i", "a=1").code == 0
    refused = spawn("run", "ship:deploy", "--id", "x1", "-i", "a=1")
    assert refused.code == 7 and "x1" in refused.err


def test_a_long_wait_ends_the_command(spawn, code):
    done = spawn("run", "ship:nap", "--id", "n1")
    assert done.code == 0 and "no process is running it" in done.err


def test_a_start_is_recorded_for_a_scheduler(spawn, code):
    done = spawn("run", "ship.py:deploy", "--id", "d1", "--detach")
    assert done.code == 0 and "cerebelum scheduler" in done.out
    with SqliteStore(LOG) as log:
        assert log.execution("d1").summary.state is ExecutionState.SLEEPING
        scheduler = Popen([*CEREBELUM, "scheduler"], env=environment())
        try:
            wait_for(lambda: log.execution("d1").summary.state is ExecutionState.COMPLETED, "it is completed")
        finally:
            scheduler.terminate()
            scheduler.wait(60)


def test_wrong_inputs_are_all_named_and_declared_text_is_not_parsed(spawn, code):
    shape = "from dataclasses import dataclass\n@dataclass\nclass Ship:\n    version: str\n    count: int = 1\n"
    (code / "typed.py").write_text(shape + CODE.replace("@workflow\ndef deploy", "@workflow(inputs=Ship)\ndef deploy"))
    wrong = spawn("run", "typed.py:deploy", "-i", "count=many", "-i", "size=3")
    assert wrong.code == 2
    assert (
        "version is missing: give text\n  - count is 'many', not a whole number\n  - size is not an input" in wrong.err
    )
    done = spawn("run", "typed.py:deploy", "-i", "version=1.10", "--json")
    assert done.json["inputs"] == {"version": "1.10", "count": 1}
    assert spawn("run", "typed.py:deploy", "--schema").json["required"] == ["version"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "told"),
    [
        (["ship.py"], 6, "has several workflows: choose the one to run, such as ship.py:deploy ship.py:nap"),
        (["ship.py:deplo"], 6, "ship.py has no workflow 'deplo'. Did you mean 'deploy'?"),
        (["nowhere:deploy"], 6, "the module 'nowhere' is not found"),
        (
            ["ship.py:deploy", "-i", "size", "-i", "a=1", "-i", "a=2"],
            2,
            "'size' is not NAME=VALUE, such as size=small; a",
        ),
        (["ship.py:deploy", "--inputs", "nothing.json"], 2, "nothing.json cannot be read"),
        (["ship.py:deploy", "--inputs", "code.txt"], 2, "code.txt is not JSON (line 2"),
        (["ship.py:deploy", "--resume"], 2, "--resume needs the --id"),
        (["ship.py:deploy", "--id", "-x"], 2, "must not begin with '-'"),
    ],
)
def test_code_that_cannot_run_is_refused(call, code, arguments, exit_code, told):
    done = call("run", *arguments)
    assert done.code == exit_code and told in " ".join(done.err.split())


def test_a_schedule_is_made_shown_paused_and_deleted(spawn, code):
    made = spawn(
        "schedule", "add", "ship.py:deploy", "--cron", "0 6 * * 1-5", "--timezone", "Europe/Madrid", "-i", "n=3"
    )
    assert made.code == 0, made.err
    assert "schedule deploy of workflow 'deploy' is active: 0 6 * * 1-5 Europe/Madrid; next " in made.out
    assert "    cerebelum scheduler" in made.out
    (shown,) = spawn("schedule", "list", "--json").json["schedules"]
    assert (shown["schedule_id"], shown["inputs"], shown["catch_up_seconds"]) == ("deploy", {"n": 3}, 3600.0)
    following = spawn("schedule", "next", "dep", "-n", "3").out.splitlines()
    assert len(following) == 3 and all(" 06:00:00 +0" in line for line in following)
    assert "is paused" in spawn("schedule", "pause", "deploy").out
    assert "paused" in spawn("schedule", "list").out
    for columns in (40, 80):
        lines = spawn("schedule", "list", COLUMNS=str(columns)).out.splitlines()
        assert max(map(len, lines)) <= columns and "NEXT" in lines[0]
    assert "is active" in spawn("schedule", "resume", "deploy").out
    assert "is deleted" in spawn("schedule", "delete", "deploy").out
    assert "no schedules yet" in spawn("schedule", "list").err


@pytest.mark.parametrize(
    ("given", "code_", "told"),
    [
        ((), 2, "give either --cron '0 6 * * 1-5' or --every '2 hours'"),
        (("--cron", "0 6 * *"), 2, "has 4 fields"),
        (("--cron", "@daily", "--timezone", "Madrid"), 2, "Did you mean 'Europe/Madrid'?"),
        (("--every", "1s", "--catch-up", "soon"), 2, "'soon' is invalid"),
    ],
)
def test_a_schedule_that_is_not_understood_says_how_to_write_it(spawn, code, given, code_, told):
    done = spawn("schedule", "add", "ship.py:deploy", *given)
    assert done.code == code_ and told in done.err


def test_a_schedule_that_is_not_there_is_not_found(spawn, code):
    assert spawn("schedule", "add", "ship.py:deploy", "--every", "1h", "--json").json["every_seconds"] == 3600.0
    done = spawn("schedule", "pause", "deploi")
    assert done.code == 3 and "Did you mean 'deploy'?" in done.err
