"""What forms do: deciding and cancelling; resuming and forking in other processes."""

from __future__ import annotations

import pytest

from cerebelum_nb._core.events import (
    ApprovalReceived,
    ApprovalRejected,
    SignalReceived,
    WorkflowCancelled,
    WorkflowTagged,
)
from cerebelum_nb._store.sqlite import SqliteStore

from ..waiting import wait_for
from .conftest import SAME, Caller, Page

SCRIPT = """
from pathlib import Path
from cerebelum_nb import connect, step, workflow

log = connect({log!r})

@step
def build(inputs):
    return inputs.get("size", "small")

@step
def ship(build):
    if not Path("fixed").exists():
        raise RuntimeError("no crane")
    return f"{{build}} shipped"

@build.on_rollback
def unbuild(build):
    Path("undone").touch()

@workflow
def deliver(wf):
    wf.timeline(build >> ship)

if __name__ == "__main__":
    deliver.run(execution_id="late-1")
"""


def events_of(log, execution_id):
    with SqliteStore(log, read_only=True) as store:
        return store.events(execution_id)


@pytest.mark.parametrize(
    ("response", "kept"),
    [('{"ok": true}', '{"ok":true}'), ("fine by me", '"fine by me"'), ("", "null"), (" 7 ", "7"), ("[" * 5000, None)],
)
def test_an_approval_takes_json_or_text(dashboard, log, response, kept):
    answer = dashboard.post("/shop/e/asking-1/approve", step="review", response=response, reason="seen", by="ana")
    assert (answer.status_code, answer.headers["location"]) == (303, "../asking-1")
    last = events_of(log, "asking-1")[-1]
    assert isinstance(last, ApprovalReceived)
    assert (last.by, last.reason) == ("ana via dashboard", "seen")
    assert last.response.json == kept or kept is None


def test_a_rejection_keeps_its_reason_and_who(dashboard, log):
    dashboard.post("/shop/e/asking-1/reject", step="review", reason="too dear", by="")
    last = events_of(log, "asking-1")[-1]
    assert isinstance(last, ApprovalRejected) and (last.by, last.reason) == ("dashboard", "too dear")


def test_the_hub_provides_the_name_of_the_user(dashboard, log, monkeypatch):
    monkeypatch.setenv("JUPYTERHUB_USER", "maria")
    dashboard.post("/shop/e/asking-1/approve", by="somebody else")
    last = events_of(log, "asking-1")[-1]
    assert isinstance(last, ApprovalReceived) and last.by == "maria via dashboard"


def test_a_proxy_provides_the_name_of_the_user(log):
    caller = Caller(log, user_header="X-Forwarded-User")
    caller("POST", "/shop/e/asking-1/approve", {"by": "somebody else"}, x_forwarded_user="maria", **SAME)
    last = events_of(log, "asking-1")[-1]
    assert isinstance(last, ApprovalReceived) and last.by == "maria via dashboard"
    caller.close()


def test_the_second_decision_is_refused_with_who_was_first(dashboard):
    dashboard.post("/shop/e/asking-1/approve", by="ana")
    answer = dashboard.post("/shop/e/asking-1/reject", by="bob")
    assert answer.status_code == 409
    assert "was approved by ana via dashboard" in Page(answer.text).words


def test_a_signal_is_sent_with_its_data(dashboard, log):
    answer = dashboard.post("/shop/e/paying-1/signal", name="paid", data='{"eur": 36}', by="ana", signal_id="t-1")
    assert (answer.status_code, answer.headers["location"]) == (303, "../paying-1")
    last = events_of(log, "paying-1")[-1]
    assert isinstance(last, SignalReceived)
    assert (last.name, last.data.json, last.by, last.signal_id) == ("paid", '{"eur":36}', "ana via dashboard", "t-1")
    words = Page(dashboard.get("/shop/e/paying-1")).words
    assert "from ana via dashboard" in words and "1 is kept until the step takes it: no process runs it now" in words


def test_tags_are_added_and_removed_as_on_the_command_line(dashboard, log):
    assert dashboard.post("/shop/e/done-1/tag", change="+eu prod, test", by="ana").status_code == 303
    assert dashboard.post("/shop/e/done-1/tag", change="-test").status_code == 303
    first, last = events_of(log, "done-1")[-2:]
    assert isinstance(first, WorkflowTagged) and isinstance(last, WorkflowTagged)
    assert (first.added, first.by, last.removed) == (("eu", "prod", "test"), "ana via dashboard", ("test",))
    assert "#prod" in Page(dashboard.get("/shop/e/done-1")).words
    assert dashboard.post("/shop/e/done-1/tag", change="+a +a:b -a").status_code == 400


@pytest.mark.parametrize(
    ("path", "name", "status"), [("paying-1", "a:b", 400), ("paying-1", "", 400), ("done-1", "paid", 409)]
)
def test_a_signal_that_no_step_can_take_is_refused(dashboard, path, name, status):
    assert dashboard.post(f"/shop/e/{path}/signal", name=name).status_code == status


def test_cancelling_ends_it_for_good(dashboard, log):
    assert dashboard.post("/shop/e/asleep-1/cancel", reason="no need", by="ana").status_code == 303
    last = events_of(log, "asleep-1")[-1]
    assert isinstance(last, WorkflowCancelled) and (last.reason, last.by) == ("no need", "ana via dashboard")
    assert dashboard.post("/shop/e/asleep-1/cancel").status_code == 409


def test_a_step_without_an_open_approval_cannot_be_approved(dashboard):
    assert dashboard.post("/shop/e/asking-1/approve", step="build").status_code == 409
    assert dashboard.post("/shop/e/done-1/approve").status_code == 409


def wait_until(page, words):
    """Read a page until it shows some words."""
    wait_for(lambda: words in Page(page()).words, lambda: f"{words!r} on the page {Page(page()).words}", every=0.1)


@pytest.fixture
def late(tmp_path, monkeypatch):
    """A failed execution of a script in the working directory, and a dashboard that may resume it."""
    import runpy
    from contextlib import suppress

    from cerebelum_nb import WorkflowError, connect

    monkeypatch.chdir(tmp_path)
    (tmp_path / "late.py").write_text(SCRIPT.format(log=str(tmp_path / "late.db")))
    with suppress(WorkflowError):
        runpy.run_path("late.py", run_name="__main__")
    connect(":memory:")
    caller = Caller(tmp_path / "late.db", allow_resume=True)
    yield caller
    caller.close()


@pytest.mark.process
def test_a_resume_runs_in_its_own_process(late, tmp_path):
    (tmp_path / "fixed").touch()
    assert late.post("/late/e/late-1/resume").headers["location"] == "../late-1"
    wait_until(lambda: late.get("/late/e/late-1"), "small shipped")


@pytest.mark.process
def test_a_fork_is_shown_as_soon_as_it_is_there(late, tmp_path):
    (tmp_path / "fixed").touch()
    answer = late.post("/late/e/late-1/fork", step="build", inputs='{"size": "large"}')
    fork = answer.headers["location"].removeprefix("../")
    assert fork != "late-1"
    wait_until(lambda: late.get(f"/late/e/{fork}"), "large shipped")


@pytest.mark.process
def test_a_failed_run_is_rolled_back_on_request(late, tmp_path):
    assert "Steps that can be undone: build" in Page(late.get("/late/e/late-1")).words
    assert late.post("/late/e/late-1/rollback").status_code == 303
    wait_until(lambda: late.get("/late/e/late-1"), "rolled back")
    assert (tmp_path / "undone").exists()


@pytest.mark.process
def test_the_page_says_why_a_resume_could_not_begin(late, tmp_path):
    (tmp_path / "late.py").unlink()
    late.post("/late/e/late-1/resume")
    wait_until(lambda: late.get("/late/e/late-1"), "ended with code 6")


@pytest.mark.parametrize("inputs", ["[1]", "{", "x"])
def test_new_inputs_of_a_fork_are_names_with_values(dashboard, log, inputs):
    caller = Caller(log, allow_resume=True)
    assert caller.post("/shop/e/failed-1/fork", step="build", inputs=inputs).status_code == 400
    caller.close()
