"""A log may come from an attacker: whatever is in it, no page runs it, and no page breaks."""

from __future__ import annotations

import json
import pickle
import sqlite3
from contextlib import closing
from urllib.parse import quote

import pytest

from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._web.names import to_path

from .conftest import Caller, Page
from .hostile import WORDS, write


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "<b>.db"
    write(path)
    caller = Caller(path, allow_resume=True)
    yield caller
    caller.close()


def harmless(text: str) -> None:
    """Check that a page has no script but ours, no handler, and no address that runs something."""
    for tag, attributes in Page(text).tags:
        assert tag not in ("iframe", "object", "embed", "base", "img"), (tag, attributes)
        if tag == "script":
            assert (attributes.get("src") or "").partition("?")[0].endswith("static/live.js")
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src", "action", "formaction"):
                assert (value or "./").startswith(("../", "./", "?", "e/", "w/", "#")), value


def test_the_list_runs_nothing(hostile):
    name = next(iter(hostile.logs))
    page = hostile.get(f"/{name}/")
    harmless(page)
    assert len([row for row in Page(page).of("tr") if row.get("id")]) == len(WORDS)
    harmless(hostile.get(f"/{name}/?q={quote(WORDS[0])}"))
    harmless(hostile.get(f"/{name}/?workflow={quote(WORDS[1])}"))


@pytest.mark.parametrize("word", WORDS, ids=range(len(WORDS)))
def test_every_page_of_an_execution_runs_nothing(hostile, word):
    name, one = next(iter(hostile.logs)), f"e/{to_path(word)}"
    for page in (
        one,
        f"{one}/at/3",
        f"{one}/step/{to_path(word)}",
        f"{one}/step/{to_path(word + '-2')}",
        f"{one}/step/{to_path(word + '-3')}",
        f"{one}?step={quote(word)}",
        f"{one}?type={quote(word)}",
        f"w/{to_path(word)}",
        f"w/{to_path(word)}/start",
        f"diff?a={quote(word)}&b={quote(WORDS[0])}",
    ):
        if len(page) < 8_000:
            answer = hostile("GET", f"/{name}/{page}")
            assert answer.status_code == 200 or ("-3" in page and answer.status_code == 404), (page, answer.text)
            harmless(answer.text)


@pytest.mark.parametrize("word", WORDS[:-1], ids=range(len(WORDS) - 1))
def test_what_the_feed_sends_runs_nothing(hostile, word):
    name = next(iter(hostile.logs))
    answer = hostile("GET", f"/{name}/e/{to_path(word)}/feed?once=1")
    for html in json.loads(answer.text)["parts"].values():
        harmless(html)


@pytest.mark.parametrize("word", WORDS[:-1], ids=range(len(WORDS) - 1))
def test_a_download_is_not_shown_as_a_page(hostile, word):
    name, one = next(iter(hostile.logs)), f"e/{to_path(word)}"
    for path in (f"{one}/export.jsonl", f"{one}/export.csv", f"{one}/value/1", f"{one}/output/1.1/{to_path(word)}"):
        answer = hostile("GET", f"/{name}/{path}")
        assert answer.status_code == 200, path
        assert answer.headers["content-disposition"].startswith("attachment; ")
        assert answer.headers["content-security-policy"].startswith("sandbox")
        assert "text/html" not in answer.headers["content-type"]


def test_the_runbook_may_run_nothing(hostile):
    name = next(iter(hostile.logs))
    answer = hostile("GET", f"/{name}/e/{to_path(WORDS[0])}/runbook")
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


@pytest.mark.parametrize("word", WORDS[:-1], ids=range(len(WORDS) - 1))
def test_the_api_answers_with_json(hostile, word):
    name = next(iter(hostile.logs))
    for path in ("executions", f"executions/{to_path(word)}", f"executions/{to_path(word)}/events"):
        answer = hostile("GET", f"/{name}/api/{path}")
        assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert isinstance(answer.json(), dict)


def test_an_error_shows_the_request_without_running_it(hostile):
    name = next(iter(hostile.logs))
    for path in ("/<script>/", "/%3Cscript%3E/x", f"/{name}/e/%3Cscript%3E", f"/{name}/?state=%3Cscript%3E"):
        harmless(hostile("GET", path).text)


class Trap:
    """A value that records when it is unpickled."""

    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


def test_no_value_is_unpickled_also_of_a_log_that_is_trusted(log):
    with SqliteStore(log) as store:
        assert store.trusted
    with closing(sqlite3.connect(log)) as db:
        db.execute("INSERT INTO maintenance (reason) VALUES ('test')")
        changed = db.execute("UPDATE payload SET data = ? WHERE codec = 'cloudpickle'", (pickle.dumps(Trap()),))
        assert changed.rowcount
        db.execute("DELETE FROM maintenance")
        db.commit()
    caller = Caller(log)
    for path in (
        "/shop/e/done-1",
        "/shop/e/done-1/step/finish",
        "/shop/api/executions/done-1",
        "/shop/diff?a=done-1&b=done-2",
        "/shop/e/done-1/runbook",
        "/shop/e/done-1/export.csv",
    ):
        caller.get(path)
    events = caller("GET", "/shop/api/executions/done-1/events").json()["events"]
    (version,) = [one["version"] for one in events if (one["type"], one["step"]) == ("StepCompleted", "finish")]
    assert caller("GET", f"/shop/e/done-1/value/{version}").content == pickle.dumps(Trap())
    assert not Trap.sprung
    caller.close()


def test_impossible_events_are_reported_and_not_raised(log):
    with closing(sqlite3.connect(log)) as db:
        db.execute("INSERT INTO maintenance (reason) VALUES ('test')")
        changed = "UPDATE event SET step = 'lost[1]' WHERE step = 'ship' AND type = 'StepStarted'"
        assert db.execute(changed).rowcount == 1
        db.execute("DELETE FROM maintenance")
        db.commit()
    caller = Caller(log)
    for path in ("e/failed-1", "e/failed-1/at/5", "e/failed-1?type=StepFailed", "diff?a=failed-1&b=done-1"):
        answer = caller("GET", f"/shop/{path}")
        assert answer.status_code == 503 and "does not fit those before it" in answer.text
    told = caller("GET", "/shop/e/failed-1/feed?once=1").json()
    assert "does not fit those before it" in told["parts"]["p-trouble"]
    assert "x-failed-1" in caller.get("/shop/")
    caller.close()


def test_showing_a_log_writes_nothing(log):
    before = log.read_bytes()
    caller = Caller(log)
    for path in ("/shop/", "/shop/e/done-1", "/shop/e/asking-1", "/shop/w/check", "/shop/e/done-1/runbook"):
        caller.get(path)
    caller.close()
    assert log.read_bytes() == before
