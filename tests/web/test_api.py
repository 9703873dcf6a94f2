"""The JSON API, and that nothing sent to any address makes the dashboard fail."""

from __future__ import annotations

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


def test_an_execution_is_what_the_client_says_of_it(dashboard, log):
    with SqliteStore(log, trusted=False) as store:
        client = ExecutionClient(store)
        status = client.run_sync(client.get_execution_status("failed-1")).to_dict()
    assert dashboard("GET", "/shop/api/executions/failed-1").json() == status


def test_events_are_read_from_a_version_on(dashboard):
    events = dashboard("GET", "/shop/api/executions/failed-1/events?after=2").json()
    assert [one["version"] for one in events["events"]] == [*range(3, events["total"] + 1)]
    assert dashboard("GET", "/shop/api/executions/failed-1/events?after=x").status_code == 400


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
    caller.logs.close()


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


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from(["approve", "reject", "cancel", "signal", "resume", "fork"]))
def test_no_form_makes_it_fail(shared, body, what):
    headers = {"content-type": "application/x-www-form-urlencoded", **SAME}
    answer = shared("POST", f"/shop/e/done-1/{what}", body, **headers)
    assert answer.status_code in (400, 403, 409), (answer.status_code, answer.text)
