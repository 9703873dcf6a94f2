"""The status client, on real runs in real files, with a fake clock and killed processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from cerebelum_nb import ExecutionState, Secret, WorkflowError, connect, sleep, step, workflow
from cerebelum_nb._client.client import (
    ApprovalInfo,
    ExecutionClient,
    ExecutionStatus,
    Preview,
    SleepInfo,
    StepStatus,
)
from cerebelum_nb._core.events import (
    ApprovalRequested,
    StepCompleted,
    StepStarted,
    WorkflowHibernated,
    WorkflowStarted,
)
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._core.value import Value
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import CerebelumError, ExecutionNotFoundError, StoreError
from cerebelum_nb.testing import FakeClock, MemoryStore

from .programs import Popen

HOUR = 3_600_000


@step
async def provision(inputs):
    return {"ip": "10.0.0.1", "size": inputs["size"]}


@step
async def measure(provision):
    return pd.DataFrame({"ms": [1, 2]})


@step
async def wait(measure):
    await sleep("2h", data={"why": "quiet hours"})


@step
async def verify(wait, inputs):
    if inputs.get("broken"):
        raise RuntimeError("not there")
    return "fine"


@workflow
def deploy(wf):
    wf.timeline(provision >> measure >> wait >> verify)


@step
async def ping():
    return "pong"


@workflow
def check(wf):
    wf.timeline(ping)


@pytest.fixture
def clock():
    with FakeClock() as clock:
        yield clock


@pytest.fixture
def store(tmp_path, clock):
    with SqliteStore(tmp_path / "log.db", durability="normal") as store:
        store.hibernate_after = timedelta.max  # the clock jumps, so runs wait in their process
        yield store


@pytest.fixture
def client(store):
    return ExecutionClient(store)


def run(store, execution_id="deploy-1", flow=deploy, **inputs):
    try:
        asyncio.run(flow.execute({"size": "s-1", **inputs}, store=store, execution_id=execution_id))
    except WorkflowError:
        pass


def status_of(client, execution_id="deploy-1"):
    return asyncio.run(client.get_execution_status(execution_id))


def page_of(client, **filters):
    return asyncio.run(client.list_executions(**filters))


def ids(executions):
    return [found.execution_id for found in executions]


def asleep(store, look, *, slept="30m"):
    """Run a deployment until it sleeps, move the clock on, and return what ``look`` sees then."""

    async def main():
        with FakeClock(autojump=False) as clock:
            handle = deploy.start({"size": "s-1"}, store=store, execution_id="deploy-1")
            while handle.status is not ExecutionState.SLEEPING:
                await asyncio.sleep(0)
            clock.advance(slept)
            seen = await look(clock)
            handle.stop()
            await asyncio.wait([asyncio.ensure_future(handle.wait())])
            return seen

    return asyncio.run(main())


def record(store, *events, holder=None):
    """Write an execution's events like an engine that no longer runs it."""
    me = store.register(0, 1)
    store.commit(
        [
            Commit(
                execution_id="made",
                after=0,
                events=events,
                summary=summarise(fold(events)),
                holder=me,
                release=holder is None,
            )
        ]
    )


STARTED = WorkflowStarted(at=0, workflow="made", inputs=Value("json", "{}"), total_steps=2)


# -- the contract of names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "names"),
    [
        (
            ExecutionStatus,
            """execution_id workflow_name status started_at completed_at current_step_index total_steps
            current_step_name progress_percentage completed_steps inputs
            step_outputs error sleep_info approval_info elapsed_seconds
            interrupted caller queued_behind name tags notes""",
        ),
        (StepStatus, "step_name step_index status started_at completed_at duration_seconds output error"),
        (SleepInfo, "duration_ms sleep_started_at remaining_ms data"),
        (ApprovalInfo, "approval_type data timeout_ms requested_at remaining_timeout_ms"),
    ],
)
def test_the_fields_of_a_status(cls, names):
    assert [field.name for field in fields(cls)] == names.split()


def test_a_status_cannot_be_changed(client, store):
    run(store)
    with pytest.raises(FrozenInstanceError):
        status_of(client).status = ExecutionState.FAILED
    with pytest.raises(FrozenInstanceError):
        status_of(client).completed_steps = ()


# -- one execution ------------------------------------------------------------------------------------------


def test_a_completed_execution_is_at_100_percent(client, store):
    run(store)
    status = status_of(client)
    assert (status.status, status.progress_percentage) == (ExecutionState.COMPLETED, 100.0)


def test_a_completed_execution_has_its_times(client, store):
    run(store)
    status = status_of(client)
    assert status.started_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert status.completed_at == datetime(2026, 1, 1, 2, tzinfo=UTC)
    assert status.elapsed_seconds == 7200


def test_a_failed_execution_says_where_and_why(client, store):
    run(store, broken=True)
    status = status_of(client)
    assert (status.status, status.current_step_name) == (ExecutionState.FAILED, "verify")
    assert status.error == "RuntimeError: not there"


def test_progress_is_the_share_of_steps_done(client, store):
    run(store, broken=True)
    status = status_of(client)
    assert (status.current_step_index, status.total_steps, status.progress_percentage) == (3, 4, 75.0)


def test_progress_below_the_end_is_never_100(client, store):
    total = 2000
    record(
        store,
        WorkflowStarted(at=0, workflow="made", inputs=Value("json", "{}"), total_steps=total),
        *(event for n in range(total) for event in (StepStarted(at=0, step=str(n)), _completed(str(n)))),
    )
    assert status_of(client, "made").progress_percentage == 99.9


def _completed(name):
    return StepCompleted(at=0, step=name, output=Value("json", "null"))


def test_completed_steps_are_in_order_of_completion(client, store):
    run(store, broken=True)
    steps = status_of(client).completed_steps
    assert [(found.step_name, found.step_index, found.status) for found in steps] == [
        ("provision", 0, "COMPLETED"),
        ("measure", 1, "COMPLETED"),
        ("wait", 2, "COMPLETED"),
    ]


def test_a_completed_step_has_its_time_and_value(client, store):
    run(store)
    waited = status_of(client).completed_steps[2]
    assert (waited.duration_seconds, waited.output, waited.error) == (7200, None, None)


def test_values_are_decoded(client, store):
    run(store)
    status = status_of(client)
    assert status.inputs == {"size": "s-1"}
    assert status.step_outputs["provision"] == {"ip": "10.0.0.1", "size": "s-1"}
    pd.testing.assert_frame_equal(status.completed_steps[1].output, pd.DataFrame({"ms": [1, 2]}))


def test_a_secret_input_stays_secret(client, store):
    run(store, token=Secret("hunter22"))
    assert str(status_of(client).inputs["token"]) == "********"


@step
async def locate():
    return slice(1, 2)


@workflow
def search(wf):
    wf.timeline(locate)


def test_an_untrusted_value_is_a_preview(store):
    execution_id = asyncio.run(search.execute(store=store)).execution_id
    with SqliteStore(store.location, trusted=False) as untrusted:
        output = status_of(ExecutionClient(untrusted), execution_id).step_outputs["locate"]
    assert isinstance(output, Preview)
    assert (output, output.type, "not trusted" in output.reason) == ("slice(1, 2, None)", "builtins.slice", True)


def test_a_value_whose_bytes_are_missing_is_a_preview(client, store):
    run(store)
    with store.maintenance("test") as db:
        db.execute("DELETE FROM payload")
    assert isinstance(status_of(client).step_outputs["measure"], Preview)


def test_an_id_may_be_shortened(client, store):
    run(store)
    assert status_of(client, "dep").execution_id == "deploy-1"


def test_an_unknown_id_is_refused_with_similar_ids(client, store):
    run(store)
    with pytest.raises(ExecutionNotFoundError, match="Did you mean 'deploy-1'"):
        status_of(client, "deploy-9")


# -- sleeping and waiting -----------------------------------------------------------------------------------


def test_a_sleep_says_what_remains(client, store):
    status = asleep(store, lambda _: client.get_execution_status("deploy-1"))
    assert status.status is ExecutionState.SLEEPING
    assert status.sleep_info == SleepInfo(
        duration_ms=2 * HOUR,
        sleep_started_at=datetime(2026, 1, 1, tzinfo=UTC),
        remaining_ms=HOUR + HOUR // 2,
        data={"why": "quiet hours"},
    )


def test_what_remains_is_computed_when_it_is_read(client, store):
    async def look(clock):
        first = await client.get_execution_status("deploy-1")
        clock.advance("1h")
        return first, await client.get_execution_status("deploy-1")

    first, then = asleep(store, look)
    assert (first.sleep_info.remaining_ms - then.sleep_info.remaining_ms) == HOUR
    assert (then.elapsed_seconds - first.elapsed_seconds) == 3600


def test_a_sleep_that_is_over_is_not_listed(client, store):
    run(store)
    assert status_of(client).sleep_info is None


def test_an_approval_says_what_is_asked_and_what_remains(client, store, clock):
    requested = ApprovalRequested(
        at=0,
        step="ask",
        op="approval:manual:0",
        approval_type="manual",
        data=Value("json", '{"cost":5}'),
        due_at=clock.now() + HOUR * 1000,
    )
    record(store, STARTED, StepStarted(at=0, step="ask"), requested)
    status = status_of(client, "made")
    assert status.status is ExecutionState.WAITING_FOR_APPROVAL
    assert status.approval_info == ApprovalInfo(
        approval_type="manual",
        data={"cost": 5},
        timeout_ms=clock.now() // 1000 + HOUR,
        requested_at=datetime(1970, 1, 1, tzinfo=UTC),
        remaining_timeout_ms=HOUR,
    )


# -- interrupted --------------------------------------------------------------------------------------------

FOREVER = """
import asyncio, sys
from cerebelum_nb import step, workflow
from cerebelum_nb._store.sqlite import SqliteStore

@step
async def begin():
    return 1

@step
async def hang(begin):
    print("hangs", flush=True)
    await asyncio.Event().wait()

@workflow
def stuck(wf):
    wf.timeline(begin >> hang)

asyncio.run(stuck.execute(store=SqliteStore(sys.argv[1]), execution_id="stuck-1"))
"""


@pytest.fixture
def hanging(tmp_path):
    """Another process that runs ``stuck-1``."""
    command = [sys.executable, "-W", "error", "-c", FOREVER, str(tmp_path / "log.db")]
    child = Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "hangs\n"
    yield child
    child.kill()
    child.communicate()


@pytest.mark.process
def test_an_execution_that_another_process_runs_is_not_interrupted(hanging, client):
    status = status_of(client, "stuck-1")
    assert (status.status, status.interrupted) == (ExecutionState.RUNNING, False)


@pytest.mark.process
def test_an_execution_of_a_killed_process_is_interrupted(hanging, client):
    hanging.send_signal(signal.SIGKILL)
    hanging.wait()
    status = status_of(client, "stuck-1")
    assert (status.status, status.interrupted) == (ExecutionState.RUNNING, True)
    assert (status.current_step_name, status.current_step_index) == ("hang", 1)
    assert ids(asyncio.run(client.list_active_workflows())) == ["stuck-1"]


def test_an_execution_that_this_process_runs_is_not_interrupted(client, store):
    status = asleep(store, lambda _: client.get_execution_status("deploy-1"), slept="90m")
    assert status.interrupted is False


def test_an_execution_without_a_lease_is_interrupted(client, store):
    record(store, STARTED, StepStarted(at=0, step="one"))
    assert status_of(client, "made").interrupted is True


def test_a_hibernating_execution_is_not_interrupted(client, store):
    requested = ApprovalRequested(at=0, step="ask", op="approval:manual:0", approval_type="manual")
    record(store, STARTED, StepStarted(at=0, step="ask"), requested, WorkflowHibernated(at=0))
    assert status_of(client, "made").interrupted is False


def test_an_execution_that_has_ended_is_not_interrupted(client, store):
    run(store)
    assert status_of(client).interrupted is False


# -- lists --------------------------------------------------------------------------------------------------


@pytest.fixture
def several(store, clock):
    """Three checks, an hour apart, then a failed deployment."""
    for n in range(3):
        run(store, f"check-{n}", flow=check)
        clock.advance("1h")
    run(store, broken=True)


def test_lists_are_newest_first(several, client):
    executions, total, has_more = page_of(client)
    assert ids(executions) == ["deploy-1", "check-2", "check-1", "check-0"]
    assert (total, has_more) == (4, False)


def test_a_page_says_whether_more_follow(several, client):
    page = page_of(client, limit=2, offset=1)
    assert (ids(page.executions), page.total, page.has_more) == (["check-2", "check-1"], 4, True)


def test_a_page_behind_the_end_is_empty(several, client):
    assert page_of(client, offset=9) == ([], 4, False)


def test_a_list_of_one_workflow(several, client):
    assert page_of(client, workflow_name="check", limit=1)[1:] == (3, True)


@pytest.mark.parametrize("status", ["failed", "Failed", ExecutionState.FAILED])
def test_a_list_of_one_state(several, client, status):
    assert ids(page_of(client, status=status).executions) == ["deploy-1"]


def test_an_unknown_state_is_refused_with_the_most_similar_one(client):
    with pytest.raises(ValueError, match=r"no state 'sleping'. Did you mean 'SLEEPING'"):
        page_of(client, status="sleping")


@pytest.mark.parametrize("wrong", [{"limit": -1}, {"limit": None}, {"offset": 1.5}])
def test_limit_and_offset_are_whole_numbers_from_zero(client, wrong):
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        page_of(client, **wrong)


def test_a_list_reads_no_steps(several, client, store):
    statements = []
    store._db.set_trace_callback(statements.append)
    page_of(client, workflow_name="check")
    assert [sql for sql in statements if "FROM event" in sql and "FROM execution" not in sql] == []


def test_an_entry_of_a_list_reads_its_details_when_they_are_used(several, client):
    entry = page_of(client, limit=1).executions[0]
    assert entry.to_dict() == status_of(client).to_dict()


def test_an_entry_is_as_it_was_when_it_was_listed(client, store):
    record(store, STARTED, StepStarted(at=0, step="one"))
    entry = page_of(client).executions[0]
    me = store.register(0, 1)
    store.claim("made", me, 0)
    events = [*store.events("made"), _completed("one")]
    summary = summarise(fold(events))
    store.commit([Commit(execution_id="made", after=2, events=events[2:], summary=summary, holder=me)])
    assert entry.completed_steps == ()


def test_executions_that_run_sleep_or_wait_are_active(client, store):
    run(store, "check-1", flow=check)
    active = asleep(store, lambda _: client.list_active_workflows())
    assert ids(active) == ["deploy-1"]


def test_a_stopped_execution_is_not_active(client, store):
    asleep(store, lambda _: client.list_active_workflows())
    assert status_of(client).status is ExecutionState.PAUSED
    assert asyncio.run(client.list_active_workflows()) == []


# -- JSON and reprs -----------------------------------------------------------------------------------------


def test_a_status_as_json_has_its_fields(client, store):
    run(store)
    shown = json.loads(json.dumps(status_of(client).to_dict()))
    assert list(shown) == [field.name for field in fields(ExecutionStatus)]
    assert shown["started_at"] == "2026-01-01T00:00:00.000000Z"
    assert shown["completed_steps"][0]["output"] == {"ip": "10.0.0.1", "size": "s-1"}


def test_json_shows_the_preview_of_other_values(client, store):
    run(store)
    assert status_of(client).to_dict()["step_outputs"]["measure"].startswith("DataFrame 2 rows")


def test_json_without_details_reads_no_steps(several, client):
    shown = page_of(client).executions[0].to_dict(details=False)
    assert {"completed_steps", "inputs", "step_outputs", "sleep_info", "approval_info", "notes"} & set(shown) == set()


def test_the_repr_is_one_line(client, store):
    run(store, broken=True)
    assert repr(status_of(client)) == "<deploy deploy-1: FAILED at verify, 3 of 4 steps (75 %), 2h>"


def test_the_text_shows_state_reason_and_steps(client, store):
    run(store, broken=True)
    assert str(status_of(client)) == (
        "deploy deploy-1: FAILED at verify, 3 of 4 steps (75 %), 2h\n"
        "  RuntimeError: not there\n"
        '  provision       0ms  {"ip": "10.0.0.1", "size": "s-1"}\n'
        "  measure         0ms  DataFrame 2 rows x 1 columns: 'ms' int64\n"
        "  wait             2h  null"
    )


def test_the_text_shows_what_remains_of_a_sleep(client, store):
    text = asleep(store, lambda _: _text(client))
    assert "  sleeps for another 1h 30m\n" in text


async def _text(client):
    return str(await client.get_execution_status("deploy-1"))


def test_the_notebook_shows_a_table_without_markup_from_values(client, store):
    run(store, size="<b>")
    shown = status_of(client)._repr_mimebundle_()
    assert shown["text/plain"] == str(status_of(client))
    assert "<table>" in shown["text/html"] and "<b>&quot;" not in shown["text/html"]
    assert "&lt;b&gt;" in shown["text/html"]


# -- which log ----------------------------------------------------------------------------------------------


def test_the_default_is_the_log_of_the_session(store, monkeypatch):
    run(store)
    monkeypatch.setattr("cerebelum_nb._store.connect._default", None)
    with connect(store.location):
        assert status_of(ExecutionClient()).workflow_name == "deploy"


def test_a_path_names_a_log(store):
    run(store)
    with ExecutionClient(store.location) as client:
        assert page_of(client).total == 1


def test_a_path_without_a_log_is_refused(tmp_path):
    with pytest.raises(StoreError, match="There is no log at"):
        ExecutionClient(tmp_path / "typo.db")


@pytest.mark.parametrize("url", ["https://engine.example.com", "grpc://host:9000"])
def test_a_url_that_is_not_the_address_of_a_cluster_is_refused(url):
    with pytest.raises(CerebelumError, match=r"a core url is HOST:PORT"):
        ExecutionClient(url)


def test_a_log_in_memory_reads_the_same(clock):
    store = MemoryStore()
    run(store, broken=True)
    assert status_of(ExecutionClient(store)).current_step_name == "verify"


def test_names_of_a_foreign_log_are_shown_escaped_and_cut(tmp_path):
    with SqliteStore(tmp_path / "log.db") as log, contextlib.suppress(WorkflowError):
        deploy.run(execution_id="k1", store=log)
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as db:
        name = "\x1b[2J<b>\n" + "w" * 5000
        db.execute("UPDATE execution SET workflow = ?, current_step = ?, error = ?", (name, name, name))
        db.commit()
    with SqliteStore(tmp_path / "log.db") as log:
        (shown,), _, _ = ExecutionClient(log).run_sync(ExecutionClient(log).list_executions())
        for text in (str(shown), repr(shown), shown._repr_mimebundle_()["text/html"]):
            assert "\x1b" not in text and "\\x1b[2J" in text
        assert "<b>" not in shown._repr_mimebundle_()["text/html"].partition("</b>")[0].removeprefix("<div><b>")
        assert len(repr(shown)) < 1000
