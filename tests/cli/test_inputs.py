"""`cerebelum run CODE --size small`: the inputs of a workflow as options, in the help, and invalid ones."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

CODE = """
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from cerebelum_nb import Secret, step, workflow


@dataclass
class Inputs:
    size: Literal["small", "large"]
    regions: list[str] = field(default_factory=lambda: ["ams3"])
    ports: list[int] = field(default_factory=list)
    count: int = 1
    dry_run: bool = False
    until: date | None = None
    version: str = "1.0"
    name: str = "nobody"
    token: Secret | None = None


@step
def plan(inputs: Inputs):
    return [inputs.size, inputs.regions, inputs.ports, inputs.count, inputs.dry_run, str(inputs.until), inputs.version]


@workflow(inputs=Inputs)
def release(wf):
    wf.timeline(plan)


@step
def plainly(inputs):
    return inputs


@workflow
def untyped(wf):
    wf.timeline(plainly)
"""


@pytest.fixture
def run(call, folder):
    (folder / "typed.py").write_text(CODE)
    return lambda *words: call("run", "typed.py:release", *words)


def output(done):
    assert done.code == 0, done.err
    return done.json["step_outputs"]["plan"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--size", "small"], ["small", ["ams3"], [], 1, False, "None", "1.0"]),
        (["--size=large", "--count", "3"], ["large", ["ams3"], [], 3, False, "None", "1.0"]),
        (["--size", "small", "--count", "-3"], ["small", ["ams3"], [], -3, False, "None", "1.0"]),
        (
            ["--size", "small", "--dry-run", "--until", "2026-12-24"],
            ["small", ["ams3"], [], 1, True, "2026-12-24", "1.0"],
        ),
        (["--size", "small", "--dry_run", "--no-dry-run"], ["small", ["ams3"], [], 1, False, "None", "1.0"]),
        (
            ["--size", "small", "--regions", "ams3", "--regions", "7", "--ports", "80", "--ports", "443"],
            ["small", ["ams3", "7"], [80, 443], 1, False, "None", "1.0"],
        ),
        (["--size", "small", "--ports", "[80, 443]"], ["small", ["ams3"], [80, 443], 1, False, "None", "1.0"]),
        (["--size", "small", "--version", "1.10"], ["small", ["ams3"], [], 1, False, "None", "1.10"]),
        (["-i", "size=large", "--size", "small"], ["small", ["ams3"], [], 1, False, "None", "1.0"]),
    ],
)
def test_inputs_are_options(run, words, expected):
    assert output(run(*words, "--json")) == expected


def test_all_problems_are_named_at_once(run):
    done = run("--size", "medium", "--region", "ams3", "--count", "many", "stray", "--until")
    assert done.code == 2
    assert done.err.splitlines() == [
        "Error: the inputs do not fit Inputs, 5 problems:",
        "  - --region is neither an option nor an input. Did you mean '--regions'?",
        "  - 'stray' is unexpected: an input is given as --NAME VALUE",
        "  - --until needs a value",
        "  - size is 'medium', not one of 'small', 'large'",
        "  - count is 'many', not a whole number",
    ]


def test_a_wrong_option_is_refused_with_the_nearest(run):
    assert "--wiat is neither an option nor an input. Did you mean '--wait'?" in run("--size", "small", "--wiat").err


def test_the_help_lists_the_inputs_of_the_named_workflow(run):
    shown = run("--help").out
    told = " ".join(shown.partition("Inputs of 'release':")[2].split())
    assert "--size small|large Required." in told
    assert '--regions TEXT Can be repeated. Default: ["ams3"].' in told
    assert "--dry-run / --no-dry-run Default: false." in told
    assert "--until DATE" in told and "--count INTEGER Default: 1." in told
    assert "-i name=TEXT Default: nobody." in told  # --name is an option of the command itself
    assert "--secret token" in told


def test_the_help_for_code_that_cannot_be_loaded_says_why(call):
    done = call("run", "nothing.py", "--help")
    assert done.code == 0 and "Inputs:" in done.out and "nothing.py" in done.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["typed.py:untyped", "--size", "small"], "give them with -i: -i size=VALUE"),
        (["typed.py:untyped", "stray"], "'stray' is unexpected: an input is -i NAME=VALUE"),
        (["--size", "small", "typed.py:release"], "CODE comes first, then the inputs"),
    ],
)
def test_an_unreadable_input_is_a_usage_error(run, call, words, told):
    done = call("run", *words)
    assert done.code == 2 and told in done.err.replace("\n", " ")


def test_the_help_of_a_workflow_without_a_class_says_how_to_give_its_inputs(run, call):
    assert "give them with -i NAME=VALUE" in call("run", "typed.py:untyped", "-h").out


def test_the_workflow_of_an_execution_is_run_again_without_naming_its_code(run, call, monkeypatch, tmp_path):
    assert run("--size", "small", "--id", "first-1").code == 0
    monkeypatch.chdir(tmp_path)
    again = ("run", "--db", "shop/.cerebelum/history.db", "--code-of", "first-1")
    assert output(call(*again, "--size", "large", "--count=3", "--json"))[0] == "large"
    done = call(*again, "--count", "many", "stray")
    assert done.code == 2
    assert done.err.splitlines()[1:] == [
        "  - 'stray' is unexpected: an input is given as --NAME VALUE",
        "  - size is missing: give one of 'small', 'large'",
        "  - count is 'many', not a whole number",
    ]
    assert call("run", "--db", "shop/.cerebelum/history.db", "--code-of", "none").code == 3
    assert "Missing argument 'CODE[:WORKFLOW]'" in call("run").err


def test_code_named_by_an_execution_from_elsewhere_is_not_run(run, call, folder):
    assert run("--size", "small", "--id", "first-1").code == 0
    with closing(sqlite3.connect(folder / ".cerebelum" / "history.db")) as db:
        db.execute("INSERT INTO foreign_execution VALUES ('first-1')")
        db.commit()
    (folder / "typed.py").write_text("raise SystemExit('it was run')")
    done = call("run", "--code-of", "first-1")
    assert done.code == 6 and "was not started by you on this machine. To start another one" in done.err.replace(
        "\n", " "
    )
    assert f"cerebelum run {folder}/typed.py:release" in done.err
    (folder / "typed.py").unlink()
    assert "typed.py, which no longer exists. To start another one" in call("run", "--code-of", "first-1").err
