"""Starting a workflow from its page: the form of its inputs, their problems, and the process that is started."""

from __future__ import annotations

import html
import linecache
import runpy
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cerebelum_nb import connect
from cerebelum_nb._web.starting import find_startable

from ..waiting import wait_for
from .conftest import SAME, Caller, Page

CODE = """
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import Enum
from typing import Any, Literal

from cerebelum_nb import Secret, connect, step, workflow


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Deploy:
    size: Literal["small", "large"]
    version: str
    token: Secret | None = None
    regions: list[str] = field(default_factory=lambda: ["ams3"])
    count: int = 1
    dry: bool = False
    colour: Colour = Colour.BLUE
    until: date | None = None
    rest: timedelta = timedelta(minutes=2)
    password: str = "letmein-letmein"
    more: Any = None


@step
def plan(inputs: Deploy):
    said = f"{inputs.count} x {inputs.version} ({inputs.size}) in {inputs.regions} until {inputs.until}"
    return f"{said}, {inputs.token.reveal() if inputs.token else 'no token'}"


@workflow(inputs=Deploy)
def deploy(wf):
    wf.timeline(plan)


@step
def plainly(inputs):
    return inputs


@workflow
def untyped(wf):
    wf.timeline(plainly)


if __name__ == "__main__":
    connect({log!r}, redact=["password"])
    deploy.run(Deploy("small", "1.0"), execution_id="first-1")
    untyped.run({{"size": "small"}}, execution_id="plain-1")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a script, and the log of its first runs."""
    folder = tmp_path_factory.mktemp("release")
    script = folder / "release.py"
    script.write_text(CODE.replace("{log!r}", repr(str(folder / "release.db"))).replace("{{", "{").replace("}}", "}"))
    runpy.run_path(str(script), run_name="__main__")
    connect(":memory:")
    return folder


@pytest.fixture
def release(place, monkeypatch):
    """A dashboard that may start the workflows in the log."""
    monkeypatch.chdir(place)
    caller = Caller(place / "release.db", allow_resume=True)
    yield caller
    caller.close()


def kept(path: Path) -> bytes:
    """Return all bytes of a log through SQLite: opening and closing its file would drop the locks of this process."""
    with closing(sqlite3.connect(path)) as db:
        return db.serialize()


def test_the_form_has_a_field_for_each_input(release):
    page = Page(release.get("/release/w/deploy/start"))
    shown = {one["name"]: one for one in (*page.of("input"), *page.of("select"), *page.of("textarea")) if one["name"]}
    assert [name for name in shown if name.startswith("in.")] == [
        *("in.version", "in.token", "in.count", "in.until", "in.rest", "in.password"),
        *("in.size", "in.dry", "in.colour"),
        *("in.regions", "in.more"),
    ]
    assert {name for name, one in shown.items() if "aria-required" in one} == {"in.size", "in.version"}
    assert [shown[name].get("value") for name in ("in.count", "in.rest", "in.version")] == ["1", "2m", ""]
    assert shown["in.until"]["type"] == "date" and shown["in.token"]["type"] == "password"
    assert [one["value"] for one in page.of("option") if "selected" in one] == ["false", "blue"]
    assert '["ams3"]' in page.words


def test_the_default_of_a_redacted_input_is_not_in_the_page(release, place):
    assert "letmein" not in release.get("/release/w/deploy/start")
    assert b"letmein" not in kept(place / "release.db")


def test_the_form_of_a_workflow_without_declared_inputs_takes_json(release):
    page = Page(release.get("/release/w/untyped/start"))
    assert [one["name"] for one in page.of("textarea")] == ["inputs"]
    answer = release.post("/release/w/untyped/start", inputs="[1]")
    assert answer.status_code == 422 and "inputs must be a JSON object" in Page(answer.text).words


@pytest.mark.process
def test_every_problem_is_shown_beside_its_field(release):
    form = {"in.size": "medium", "in.count": "many", "in.regions": "[1", "in.until": "2026-12-24", "name": "four"}
    answer = release.post("/release/w/deploy/start", **form)
    page = Page(answer.text)
    assert answer.status_code == 422
    wrong = {one["name"]: one["aria-describedby"] for _, one in page.tags if "aria-invalid" in one}
    assert [*wrong] == ["in.size", "in.version", "in.regions", "in.count"]
    for name, said in (
        ("in.size", "size is 'medium', not one of 'small', 'large'"),
        ("in.version", "version is missing: give text"),
        ("in.regions", "regions is '[1', not a list of text"),
        ("in.count", "count is 'many', not a whole number"),
    ):
        assert f'id="{wrong[name]}">{html.escape(said)}<'.replace("&#x27;", "&#39;") in answer.text
    values = {one["name"]: one.get("value") for one in page.of("input")}
    assert (values["in.count"], values["in.until"], values["name"]) == ("many", "2026-12-24", "four")


@pytest.mark.process
def test_a_form_that_is_sent_twice_starts_one_execution_in_a_process_of_its_own(release, place):
    form = {"in.size": "large", "in.version": "1.10", "in.count": "3", "in.regions": '["nyc1"]', "in.rest": "90s"}
    more = {
        "in.until": "2026-12-24",
        "in.token": "hush-hush-hush",
        "name": "four",
        "tags": "prod, eu",
        "id": "second-1",
    }
    for _ in range(2):
        answer = release.post("/release/w/deploy/start", **form, **more)
        assert (answer.status_code, answer.headers["location"]) == (303, "../../e/second-1")
    shown = "3 x 1.10 (large) in ['nyc1'] until 2026-12-24"
    wait_for(
        lambda: shown in Page(release.get("/release/e/second-1")).words, lambda: f"{shown!r} on the page", every=0.1
    )
    assert "four" in Page(release.get("/release/e/second-1")).words
    assert b"hush-hush" not in kept(place / "release.db")
    found = release("GET", "/release/api/executions?workflow=deploy").json()["executions"]
    assert [one["execution_id"] for one in found] == ["second-1", "first-1"]
    assert found[0]["tags"] == ["eu", "prod"]


@pytest.mark.process
def test_a_program_receives_every_problem(release):
    body = '{"inputs": {"size": "medium", "token": "hush-hush"}, "id": "third-1"}'
    address = "/release/api/workflows/deploy/start"
    answer = release("POST", address, body, content_type="application/json")
    wrong = ["size is 'medium', not one of 'small', 'large'", "version is missing: give text"]
    assert (answer.status_code, answer.json()["problems"]) == (422, wrong)


def test_only_a_dashboard_that_may_resume_starts_anything(place):
    for settings in ({}, {"read_only": True}):
        caller = Caller(place / "release.db", **settings)
        page = Page(caller.get("/release/w/deploy/start"))
        assert page.of("form") == []
        assert f"cerebelum run {place}/release.py:deploy -i size=... -i version=..." in page.words
        assert caller.post("/release/w/deploy/start").status_code == 403
        caller.close()
    caller = Caller(place / "release.db", allow_resume=True)
    assert caller("POST", "/release/w/deploy/start", {"in.size": "small"}).status_code == 403, "not from our page"
    assert caller("POST", "/release/w/none/start", {}, **SAME).status_code == 404
    caller.close()


def test_a_workflow_of_a_cell_is_not_started_and_the_page_says_what_to_do(tmp_path: Path):
    cell = "<ipython-input-1-abc>"
    source = "from cerebelum_nb import step, workflow\n@step\ndef a(): ...\n@workflow\ndef w(wf): wf.timeline(a)\n"
    linecache.cache[cell] = (len(source), None, source.splitlines(keepends=True), cell)
    names = {"__name__": "__main__"}
    exec(compile(source, cell, "exec"), names)
    with connect(tmp_path / "cell.db"):
        names["w"].run()  # type: ignore[attr-defined]
    connect(":memory:")
    caller = Caller(tmp_path / "cell.db", allow_resume=True)
    page = Page(caller.get("/cell/w/w/start"))
    assert page.of("form") == [] and "It was defined in a notebook or at a prompt" in page.words
    assert find_startable(caller.logs["cell"], "w").place == ""
    caller.close()
