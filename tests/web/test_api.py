"""The JSON API; and no request to any address makes the dashboard fail."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cerebelum_nb import ExecutionClient
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._web.names import from_path, to_path

from .conftest import SAME, Caller


def test_lists_have_the_names_of_the_status_client(dashboard):
    found = dashboard("GET", "/shop/api/executions?limit=3").json()
    assert [one["execution_id"] for one in found["executions"]] == ["paying-1", "asleep-1", "asking-1"]
    assert [one["status"] for one in found["executions"]] == ["WAITING_FOR_SIGNAL", "SLEEPING", "WAITING_FOR_APPROVAL"]
    older = dashboard("GET", f"/shop/api/executions?limit=50&before={found['before']}").json()
    assert [one["execution_id"] for one in older["executions"]] == ["failed-1", "done-2", "done-1"]
    assert older["before"] is None


def test_an_execution_has_the_fields_of_the_status_client(dashboard, log):
    with SqliteStore(log, trusted=False) as store:
        client = ExecutionClient(store)
        status = client.run_sync(client.get_execution_status("failed-1")).to_dict()
    assert dashboard("GET", "/shop/api/executions/failed-1").json() == status


def test_events_are_read_from_a_version_on(dashboard):
    events = dashboard("GET", "/shop/api/executions/failed-1/events?after=2").json()
    assert [one["version"] for one in events["events"]] == [*range(3, events["total"] + 1)]
    assert dashboard("GET", "/shop/api/executions/failed-1/events?after=x").status_code == 400


def send(caller, path, **said):
    """Send JSON as a program does, without an origin."""
    return caller("POST", f"/shop/api/executions/{path}", json.dumps(said), content_type="application/json")


def test_a_program_sends_a_signal_once(dashboard, log):
    answer = send(dashboard, "paying-1/signal", name="paid", data={"eur": [36]}, signal_id="hook-7", by="stripe")
    assert answer.json() == {"execution_id": "paying-1", "action": "signal", "sent": True}
    assert send(dashboard, "paying-1/signal", name="paid", signal_id="hook-7").json()["sent"] is False
    with SqliteStore(log, read_only=True) as store:
        last = store.events("paying-1")[-1]
    assert (last.data.json, last.by) == ('{"eur":[36]}', "stripe via dashboard")


def test_a_program_decides(dashboard):
    assert send(dashboard, "asking-1/approve", response="a text", by="ci").json()["action"] == "approve"
    answer = send(dashboard, "asking-1/reject")
    assert answer.status_code == 409 and "was approved by ci via dashboard" in answer.json()["error"]


@pytest.mark.parametrize("body", ["[]", "{", '{"name": 1}', "1", '{"name": ["paid"]}', b"\xff"])
def test_a_body_that_is_not_an_object_with_texts_is_refused(dashboard, body):
    answer = dashboard("POST", "/shop/api/executions/paying-1/signal", body, content_type="application/json")
    assert answer.status_code == 400 and answer.json()["error"]


def test_metrics_are_scraped_with_the_token(dashboard):
    found = dashboard("GET", "/metrics", accept="text/plain")
    assert found.headers["content-type"].startswith("text/plain")
    assert 'cerebelum_executions{state="waiting_for_signal",workflow="sell"} 1.0' in found.text
    send(dashboard, "asleep-1/cancel")
    told = 'cerebelum_executions_ended_total{outcome="cancelled",workflow="nap"} 1.0'
    assert told in dashboard("GET", "/shop/metrics").text


def test_a_log_that_cannot_be_read_has_no_metrics(dashboard, log):
    dashboard.get("/metrics")
    log.write_bytes(b"x" * 4096)
    assert dashboard("GET", "/metrics").status_code == 503


def test_an_error_is_json(dashboard):
    answer = dashboard("GET", "/shop/api/executions/none")
    assert answer.status_code == 404 and "none" in answer.json()["error"]


@settings(max_examples=50)
@given(st.text(max_size=20))
def test_any_name_is_one_segment_of_a_path(name):
    segment = to_path(name)
    assert from_path(segment) == name
    assert segment not in (".", "..") and not set(segment) & set("/\\%?#;: ")


@pytest.fixture(scope="module")
def shared(made):
    caller = Caller(made, read_only=False)
    yield caller
    caller.close()


NAMES = [
    "q",
    "workflow",
    "state",
    "show",
    "since",
    "before",
    "limit",
    "type",
    "step",
    "after",
    "a",
    "b",
    "version",
    "seen",
]
PATHS = [
    "",
    "feed",
    "e/done-1",
    "e/failed-1/feed",
    "e/done-1/at",
    "diff",
    "api/executions",
    "api/executions/done-1/events",
]
WORDS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["failed", "active", "1h", "0", "-1", "1.1", "9" * 40, "1e999", "NaN", "٣", "\ud800", "%", "done-1"]
    ),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(PATHS), st.dictionaries(st.sampled_from(NAMES), WORDS, max_size=4))
def test_no_query_makes_it_fail(shared, path, query):
    told = "&".join(f"{name}={quote(value, errors='surrogatepass')}" for name, value in query.items())
    answer = shared("GET", f"/shop/{path}?once=1&{told}")
    assert answer.status_code in (200, 204, 303, 400, 404, 414), (answer.status_code, answer.text)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(st.sampled_from(["shop", "e", "done-1", "at", "step", "value", "api", "w"]), WORDS), max_size=6)
)
def test_no_path_makes_it_fail(shared, segments):
    path = "/".join(quote(segment, safe="", errors="surrogatepass") for segment in segments)
    answer = shared("GET", f"/{path}")
    assert answer.status_code in (200, 204, 303, 307, 400, 404, 405, 414), (answer.status_code, answer.text)


ACTIONS = ["approve", "reject", "cancel", "signal", "resume", "fork", "rollback"]
JSONS = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(ACTIONS),
    st.dictionaries(st.sampled_from(["name", "data", "response", "step", "by", "inputs", "signal_id"]), JSONS),
)
def test_no_json_makes_it_fail(shared, what, said):
    answer = send(shared, f"done-1/{what}", **said)
    assert answer.status_code in (400, 403, 404, 409), (answer.status_code, answer.text)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from(ACTIONS))
def test_no_form_makes_it_fail(shared, body, what):
    headers = {"content-type": "application/x-www-form-urlencoded", **SAME}
    answer = shared("POST", f"/shop/e/done-1/{what}", body, **headers)
    assert answer.status_code in (400, 403, 409), (answer.status_code, answer.text)
