"""The functions of history on real runs in a real file."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

from cerebelum_nb import ExecutionState, connect, history
from cerebelum_nb._history import queries
from cerebelum_nb._history.frames import EXECUTIONS
from cerebelum_nb._history.since import since_micros
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import ExecutionNotFoundError, SerializationError, StoreError, UntrustedValueError

from .conftest import TEXT, check, ping

IDS = ["check-2", "check-1", "deploy-1"]


def ids(frame):
    return frame["execution_id"].tolist()


# -- executions ---------------------------------------------------------------------------------------------


def test_executions_are_newest_first(runs):
    assert ids(history.executions(store=runs.store)) == IDS


def test_executions_of_one_workflow(runs):
    assert ids(history.executions("check", store=runs.store)) == ["check-2", "check-1"]


def test_an_unknown_workflow_warns(runs, empty):
    with pytest.warns(UserWarning, match="no run of a workflow 'chek'. Did you mean 'check'?"):
        assert history.executions("chek", store=runs.store).empty
    with pytest.raises(ValueError, match=r"'check-1' is the id of an execution.*history.state_at\('check-1'\)"):
        history.executions("check-1", store=runs.store)
    assert history.executions("check", state="failed", store=runs.store).empty
    assert history.executions("chek", store=empty).empty, "a log without runs knows no names yet"


@pytest.mark.parametrize("state", ["failed", "fail", "FAILED", ExecutionState.FAILED, ["failed", "running"]])
def test_executions_in_a_state(runs, state):
    assert ids(history.executions(state=state, store=runs.store)) == ["deploy-1"]


def test_an_unknown_state_is_refused_with_the_nearest(runs):
    with pytest.raises(ValueError, match=r"no state 'faild'. Did you mean 'FAILED'"):
        history.executions(state="faild", store=runs.store)


def test_a_workflow_is_given_by_name_or_as_itself(runs):
    assert ids(history.executions(check, store=runs.store)) == ["check-2", "check-1"]
    assert ids(history.steps(None, check, store=runs.store)) == ["check-1", "check-2"]


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (
            lambda log: history.executions(100, store=log),
            "workflow= must be .*not 100; .*limit=100",
        ),
        (lambda log: history.executions("check", 7, store=log), "state"),
        (lambda log: history.executions(["check"], store=log), "workflow= must be the name"),
        (lambda log: history.steps(7, store=log), "an execution id must be text"),
        (lambda log: history.steps(None, 7, store=log), "workflow= must be the name"),
        (lambda log: history.steps(None, "check", 7, store=log), "steps= takes steps or their names"),
        (lambda log: history.steps(None, "check", "ping", 7, store=log), "state of a step"),
        (lambda log: history.events("check-1", 7, store=log), "type of event"),
        (lambda log: history.events("check-1", None, "ping", store=log), "expand= must be True or False, not 'ping'"),
        (lambda log: history.try_step(ping, workflow=7, store=log), "workflow= must be the name"),
        (lambda log: history.plot_time(7, store=log), "workflow= must be the name"),
        (lambda log: history.plot_failures(7, store=log), "workflow= must be the name"),
        (lambda log: history.plot_durations(7, store=log), "workflow= must be the name"),
        (lambda log: history.plot_trend(7, store=log), "workflow= must be the name"),
    ],
)
def test_a_filter_of_another_type_is_refused_by_its_name(runs, ask, told):
    with pytest.raises(TypeError, match=told):
        ask(runs.store)


def test_filters_are_given_by_place_or_by_name(runs):
    by_name = history.steps(workflow="deploy", step="measure", state="retried", store=runs.store)
    pd.testing.assert_frame_equal(history.steps(None, "deploy", "measure", "retried", store=runs.store), by_name)
    assert len(by_name) == 1


def test_the_newest_few(runs):
    assert ids(history.executions(limit=1, store=runs.store)) == ["check-2"]


@pytest.mark.parametrize("limit", [-1, 1.5, True])
def test_a_limit_is_a_whole_number_from_zero(runs, limit):
    with pytest.raises((TypeError, ValueError), match="limit must be"):
        history.executions(limit=limit, store=runs.store)


@pytest.mark.parametrize(
    "since",
    [
        timedelta(hours=1),
        "1h",
        "1 hour",
        "2026-01-02T03:00+02:00",
        datetime(2026, 1, 2, tzinfo=UTC),
        pd.Timestamp("2026-01-02", tz="UTC"),
        pd.Timedelta("1h"),
    ],
    ids=repr,
)
def test_executions_since(runs, since):
    assert ids(history.executions(since=since, store=runs.store)) == ["check-2"]


@pytest.fixture
def in_tokyo(monkeypatch):
    """The local zone is nine hours ahead of UTC."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "since",
    [
        datetime(2026, 1, 2, 11, 1),  # noqa: DTZ001  # local time is the point
        pd.Timestamp("2026-01-02 11:01"),
        "2026-01-02 11:01",
        datetime(2026, 1, 2, 2, 1, tzinfo=UTC),
    ],
    ids=repr,
)
def test_a_time_without_a_zone_is_local_time(runs, in_tokyo, since):
    assert ids(history.executions(since=since, store=runs.store)) == ["check-2"], "it started at 02:01 UTC"
    later = since + timedelta(seconds=1) if isinstance(since, datetime) else f"{since}:01"
    assert ids(history.executions(since=later, store=runs.store)) == []


def test_a_date_begins_at_local_midnight(runs, in_tokyo):
    assert ids(history.executions(since=date(2026, 1, 2), store=runs.store)) == ["check-2"]
    assert ids(history.executions(since="2026-01-03", store=runs.store)) == []


def test_a_parameter_without_a_zone_is_local_time(runs, in_tokyo):
    query = "SELECT execution_id FROM executions WHERE started_at >= :t"
    start = datetime(2026, 1, 2, 11, 1)  # noqa: DTZ001  # local time is the point
    assert ids(history.sql(query, t=start, store=runs.store)) == ["check-2"]
    assert ids(history.sql(query, t=start + timedelta(seconds=1), store=runs.store)) == []


def test_a_zone_may_be_given_for_the_arguments_and_the_answer(runs):
    frame = history.executions(since="2026-01-02 03:01", tz="Europe/Berlin", store=runs.store)
    assert ids(frame) == ["check-2"]
    assert str(frame["started_at"].iloc[0]) == "2026-01-02 03:01:00+01:00"
    times = ["started_at", "updated_at", "completed_at", "wake_at"]
    assert set(map(str, frame[times].dtypes)) == {"datetime64[us, Europe/Berlin]"}


@pytest.mark.parametrize(
    "read",
    [history.executions, history.steps, history.events, lambda **how: history.sql("SELECT * FROM steps", **how)],
    ids=["executions", "steps", "events", "sql"],
)
def test_every_table_is_given_in_local_time(runs, in_tokyo, read):
    frame = read(tz="local", store=runs.store)
    times = frame.select_dtypes("datetimetz")
    assert len(times.columns) and {str(t.utcoffset()) for t in times.stack().dropna()} == {"9:00:00"}


def test_a_zone_that_does_not_exist_is_refused_with_the_nearest(runs):
    with pytest.raises(ValueError, match=r"no time zone 'Europe/Berln'. Did you mean 'Europe/Berlin'"):
        history.executions(tz="Europe/Berln", store=runs.store)
    with pytest.raises(TypeError, match="tz= must be the name of a time zone"):
        history.executions(tz=9, store=runs.store)


@pytest.mark.parametrize("since", [timedelta.max, datetime(1, 1, 1, tzinfo=UTC), "30000 days"], ids=repr)
def test_a_time_before_every_log_finds_all(runs, since):
    assert ids(history.executions(since=since, store=runs.store)) == IDS


@pytest.mark.parametrize("since", ["last tuesday", "", "NaT", "3"])
def test_a_time_that_is_not_understood_is_refused(runs, since):
    with pytest.raises(ValueError, match="is not understood: write"):
        history.executions(since=since, store=runs.store)


def test_a_number_is_not_a_time(runs):
    with pytest.raises(TypeError, match="since= must be a datetime"):
        history.executions(since=5, store=runs.store)


def test_the_columns_of_an_execution(runs):
    (row,) = history.executions("deploy", store=runs.store).to_dict("records")
    assert row["state"] == "FAILED"
    assert row["started_at"] == pd.Timestamp("2026-01-01", tz="UTC")
    assert row["duration"] == timedelta(hours=2, minutes=1)
    assert (row["done_steps"], row["total_steps"]) == (4, 5)
    assert row["error"] == "RuntimeError: not there"
    assert row["inputs"] == '{"size":"s-1","token":"********"}'


def test_the_output_is_that_of_the_last_step(runs):
    assert history.executions("check", limit=1, store=runs.store)["output"].tolist() == ["[1,2,3]"]


def test_failures_are_counted_by_the_type_of_their_error(runs):
    executions = history.executions(store=runs.store)
    assert executions["error_type"].value_counts().to_dict() == {"RuntimeError": 1}
    attempts = history.steps(store=runs.store)
    assert attempts["error_type"].value_counts().to_dict() == {"RuntimeError": 1, "ValueError": 1}
    assert executions["error_type"].isna().equals(executions["error"].isna())
    assert attempts["error_type"].isna().equals(attempts["error"].isna())


# -- values as columns --------------------------------------------------------------------------------------


def test_inputs_become_columns(runs):
    frame = history.executions("deploy", expand="inputs", store=runs.store)
    assert frame["inputs.size"].tolist() == ["s-1"]
    assert frame["inputs.token"].tolist() == ["********"]
    assert "inputs" not in frame and "output" in frame
    assert list(frame.columns).index("inputs.size") == list(EXECUTIONS).index("inputs"), "they stand where it stood"


def test_outputs_become_columns_and_other_values_are_parsed(runs):
    frame = history.executions(expand=True, store=runs.store)
    assert frame["output"].tolist()[:2] == [[1, 2, 3], [1, 2, 3]]
    steps = history.steps("deploy-1", expand=True, store=runs.store).set_index(["step", "attempt"])
    assert steps.loc[("provision", 1), "output.ip"] == "10.0.0.1"
    assert steps.loc[("provision", 1), "output.big"] == 2**60 + 1
    assert steps.loc[("measure", 2), "output"].startswith("DataFrame 2 rows"), "what is no JSON stays a preview"


def test_values_as_columns_of_several_logs(runs, empty):
    frame = history.open({"a": runs.store, "b": empty}).steps(expand=True)
    assert frame["output.ip"].dropna().tolist() == ["10.0.0.1"]


def test_expanding_an_empty_table_leaves_its_columns(empty):
    assert list(history.executions(expand=True, store=empty).columns) == list(EXECUTIONS)


def test_a_column_that_holds_no_values_is_refused(runs):
    with pytest.raises(ValueError, match="no column of values 'error'"):
        history.executions(expand="error", store=runs.store)


# -- steps and events ---------------------------------------------------------------------------------------


def test_steps_are_one_row_per_attempt_in_order_of_start(runs):
    frame = history.steps("deploy-1", store=runs.store)
    assert frame[["step", "attempt", "state"]].values.tolist() == [
        ["provision", 1, "COMPLETED"],
        ["measure", 1, "RETRIED"],
        ["connect", 1, "COMPLETED"],
        ["measure", 2, "COMPLETED"],
        ["wait", 1, "COMPLETED"],
        ["verify", 1, "FAILED"],
    ]


def test_the_duration_of_a_step_is_from_start_to_end(runs):
    frame = history.steps("deploy-1", store=runs.store).set_index("step")
    assert frame.loc["wait", "duration"] == timedelta(hours=2)


def test_a_value_that_is_not_json_shows_its_preview(runs):
    frame = history.steps("deploy-1", store=runs.store).set_index(["step", "attempt"])
    assert frame.loc[("measure", 2), "output"].startswith("DataFrame 2 rows")
    assert frame.loc[("connect", 1), "output"] == "<object object>"


def test_the_error_of_an_attempt_is_its_type_and_message(runs):
    frame = history.steps("deploy-1", store=runs.store)
    assert frame["error"].dropna().tolist() == ['ValueError: said "output": no', "RuntimeError: not there"]


def test_a_resume_shows_as_another_attempt(runs):
    runs.fix("deploy-1")
    frame = history.steps("deploy-1", store=runs.store)
    assert frame.loc[frame["step"] == "verify", ["attempt", "state"]].values.tolist() == [
        [1, "FAILED"],
        [2, "COMPLETED"],
    ]


def test_one_step_and_one_state(runs):
    steps = history.steps(step="verify", store=runs.store)
    assert set(steps["step"]) == {"verify"}
    failed = history.steps(state="failed", store=runs.store)
    assert set(failed["state"]) == {"FAILED"} and len(failed) == len(steps)
    assert history.steps("deploy-1", step="ping", store=runs.store).empty
    assert set(history.steps(step=["verify", "ping"], state=["completed"], store=runs.store)["step"]) == {"ping"}
    assert set(history.events(type="StepFailed", step="verify", store=runs.store)["step"]) == {"verify"}
    with pytest.raises(ValueError, match=r"no state of a step 'faild'\. Did you mean 'FAILED'"):
        history.steps(state="faild", store=runs.store)
    with pytest.raises(TypeError, match="steps= takes steps or their names, not 7"):
        history.events(step=7, store=runs.store)


def test_steps_of_one_workflow(runs):
    assert ids(history.steps(workflow="check", store=runs.store)) == ["check-1", "check-2"]


def test_the_steps_view_shows_the_same(runs):
    frame = history.steps(store=runs.store)
    view = history.sql("SELECT * FROM steps", store=runs.store)
    same = ["execution_id", "workflow", "step", "attempt", "visit", "state", "started_at", "completed_at", "code_hash"]
    pd.testing.assert_frame_equal(frame[same], view[same])


def test_events_are_in_order_of_their_versions(runs):
    frame = history.events("deploy-1", store=runs.store)
    assert frame["version"].tolist() == list(range(1, len(frame) + 1))
    assert frame["type"].iloc[[0, -1]].tolist() == ["WorkflowStarted", "WorkflowFailed"]


def test_events_of_some_types(runs):
    frame = history.events(type=["SleepStarted", "sleepcompleted"], store=runs.store)
    assert frame["type"].tolist() == ["SleepStarted", "SleepCompleted"]


def test_an_unknown_type_of_event_is_refused_with_the_nearest(runs):
    with pytest.raises(ValueError, match="Did you mean 'StepCompleted'"):
        history.events(type="StepComplete", store=runs.store)


@pytest.mark.parametrize("read", [history.steps, history.events])
def test_an_id_may_be_shortened(runs, read):
    assert set(ids(read("dep", store=runs.store))) == {"deploy-1"}


@pytest.mark.parametrize("read", [history.steps, history.events, history.outputs])
def test_an_unknown_id_is_refused_with_near_ones(runs, read):
    with pytest.raises(ExecutionNotFoundError, match="Did you mean 'deploy-1'") as caught:
        read("deploy-7", store=runs.store)
    assert caught.value.suggestions[0] == "deploy-1"


def test_an_ambiguous_id_is_refused(runs):
    with pytest.raises(ExecutionNotFoundError, match="Several executions"):
        history.steps("check", store=runs.store)


# -- outputs ------------------------------------------------------------------------------------------------


def test_outputs_are_in_order_of_completion(runs):
    assert list(history.outputs("deploy-1", store=runs.store)) == ["provision", "connect", "measure", "wait"]


def test_an_output_is_decoded_when_it_is_looked_up(runs):
    outputs = history.outputs("deploy-1", store=runs.store)
    pd.testing.assert_frame_equal(outputs["measure"], pd.DataFrame({"ms": [1, 2]}))


def test_outputs_of_a_path_outlive_the_call(runs):
    assert history.outputs("deploy-1", store=runs.store.path)["measure"]["ms"].tolist() == [1, 2]


def test_the_repr_shows_previews_of_what_cannot_be_loaded(runs):
    shown = repr(history.outputs("deploy-1", store=runs.store))
    assert "'measure': DataFrame 2 rows x 1 columns" in shown
    assert "'connect': <object object>" in shown


def test_an_untrusted_value_is_refused_with_its_preview(runs):
    runs.probe("probe-1")
    with (
        SqliteStore(runs.store.location, trusted=False) as untrusted,
        pytest.raises(UntrustedValueError, match="<Probe>"),
    ):
        history.outputs("probe-1", store=untrusted)["probe"]


def test_a_frame_of_an_untrusted_log_is_read_for_it_is_arrow(runs):
    with SqliteStore(runs.store.location, trusted=False) as untrusted:
        assert history.outputs("deploy-1", store=untrusted)["measure"]["ms"].tolist() == [1, 2]


def test_a_value_that_was_not_kept_is_refused_with_its_preview(runs):
    with pytest.raises(SerializationError, match="was not kept"):
        history.outputs("deploy-1", store=runs.store)["connect"]


# -- sql ----------------------------------------------------------------------------------------------------


def test_a_query_is_typed(runs):
    frame = history.sql(
        "SELECT workflow, count(*) AS n, min(started_at) AS first, avg(total_steps) AS mean FROM executions "
        "WHERE workflow = :w GROUP BY 1",
        w="check",
        store=runs.store,
    )
    assert [str(dtype) for dtype in frame.dtypes] == ["category", "Int64", "datetime64[us, UTC]", "float64"]
    assert frame["n"].tolist() == [2]


def test_an_empty_answer_is_typed_by_the_names_of_its_columns(empty):
    frame = history.sql("SELECT state, started_at, version, error, 1 AS x FROM executions", store=empty)
    assert [str(d) for d in frame.dtypes] == ["category", "datetime64[us, UTC]", "Int64", TEXT, "object"]


def test_a_datetime_is_compared_as_the_views_write_times(runs):
    frame = history.sql(
        "SELECT execution_id FROM executions WHERE started_at >= :t",
        t=datetime(2026, 1, 2, tzinfo=UTC),
        store=runs.store,
    )
    assert ids(frame) == ["check-2"]


def test_two_columns_may_have_one_name(runs):
    frame = history.sql("SELECT 1 AS x, 'a' AS x", store=runs.store)
    assert frame.values.tolist() == [[1, "a"]]


def test_json_functions_may_be_used(runs):
    frame = history.sql("SELECT value FROM json_each('[1, 2]')", store=runs.store)
    assert frame["value"].tolist() == [1, 2]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM event",
        "DELETE FROM executions",
        "UPDATE steps SET state = 'COMPLETED'",
        "INSERT INTO events (version) VALUES (1)",
        "REPLACE INTO executions (execution_id) VALUES ('x')",
        "UPDATE execution SET state = 'COMPLETED'",
        "INSERT INTO maintenance VALUES ('x')",
        "DROP VIEW steps",
        "CREATE TABLE mine (x)",
        "PRAGMA query_only = OFF",
        "PRAGMA user_version = 99",
        "ATTACH '{folder}/other.db' AS other",
        "VACUUM INTO '{folder}/other.db'",
        "BEGIN IMMEDIATE",
    ],
)
def test_a_statement_that_writes_is_refused(runs, tmp_path, statement):
    before = history.events(store=runs.store)
    with pytest.raises(StoreError, match=r"only reads.*nothing was changed. Use SELECT"):
        history.sql(statement.format(folder=tmp_path), store=runs.store)
    pd.testing.assert_frame_equal(history.events(store=runs.store), before)
    assert not (tmp_path / "other.db").exists()


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT stat FROM executions", "no such column: stat. Did you mean 'state'"),
        ("SELECT * FROM step", "no such table: step. Did you mean 'steps'"),
        ("SELECT * FROM steps WHERE step = :s", "history.sql\\(query, name=...\\)"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("SELEC 1", "syntax error"),
        ("", "query is empty"),
    ],
)
def test_a_wrong_query_says_what_is_wrong(runs, query, told):
    with pytest.raises(ValueError, match=told):
        history.sql(query, store=runs.store)


# -- which log ----------------------------------------------------------------------------------------------


def test_the_default_is_the_log_of_the_session(runs, monkeypatch):
    monkeypatch.setattr("cerebelum_nb._store.connect._default", None)
    with connect(runs.store.location):
        assert ids(history.executions()) == IDS


def test_a_path_names_a_log(runs):
    assert ids(history.executions(store=runs.store.location)) == IDS


def test_a_path_without_a_log_is_refused_and_made_no_log(tmp_path):
    with pytest.raises(StoreError, match="There is no log at"):
        history.executions(store=tmp_path / "typo.db")
    assert not (tmp_path / "typo.db").exists()


# -- indexes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (queries.executions(states=["FAILED"], limit=50), "x USING INDEX execution_by_state (state=?)"),
        (queries.executions(workflow="w"), "x USING INDEX execution_by_workflow (workflow=?)"),
        (queries.executions(since=1), "x USING INDEX execution_by_start (<expr>>?)"),
        (queries.executions(workflow="w", since=1), "execution_by_workflow (workflow=? AND <expr>>?)"),
        (queries.executions(states=["FAILED"], since=1), "execution_by_state (state=? AND <expr>>?)"),
        (queries.steps(execution_id="x"), "e USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (queries.steps(workflow="w"), "e USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (queries.steps(workflow="w"), "x USING INDEX execution_by_workflow (workflow=?)"),
        (queries.events(execution_id="x"), "e USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (queries.events(execution_id="x"), "sqlite_autoindex_execution_1 (execution_id=?)"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.select.split()[1].rstrip(","),
)
def test_a_filter_is_an_index_search(runs, query, index):
    db = runs.store.read_connection()
    try:
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query.sql}", query.parameters)]
    finally:
        db.close()
    assert any(index in line for line in plan), plan
    assert not [line for line in plan if line.startswith(("SCAN e", "SCAN x"))], plan


@pytest.mark.parametrize(
    "query",
    [
        queries.executions(states=["FAILED"], limit=50),
        queries.executions(limit=50),
        queries.events("x"),
        queries.events(),
    ],
    ids=["the newest in a state", "the newest", "events of one", "all events"],
)
def test_rows_that_an_index_returns_in_order_are_not_sorted_again(runs, query):
    plan = history.sql(f"EXPLAIN QUERY PLAN {query.sql.replace('?', '1')}", store=runs.store)["detail"]
    assert not plan.str.contains("USE TEMP B-TREE").any(), plan.tolist()


OF_ANY = [
    ("SELECT * FROM executions ORDER BY started_at DESC LIMIT 50", "execution_by_start"),
    ("SELECT * FROM executions WHERE started_at >= '2026' LIMIT 50", "execution_by_start"),
    ("SELECT * FROM executions WHERE workflow = 'w' ORDER BY started_at DESC LIMIT 50", "execution_by_workflow"),
    ("SELECT * FROM executions WHERE state = 'FAILED' ORDER BY started_at DESC LIMIT 50", "execution_by_state"),
    ("SELECT * FROM steps WHERE execution_id = 'x'", "sqlite_autoindex_execution_1"),
    ("SELECT * FROM steps WHERE workflow = 'w' LIMIT 50", "execution_by_workflow"),
    ("SELECT * FROM steps LIMIT 50", "SCAN x"),
    ("SELECT * FROM events WHERE execution_id = 'x'", "sqlite_autoindex_execution_1"),
    ("SELECT * FROM events LIMIT 50", "SCAN"),
]
"""Queries and the index that answers them: SQLite pushes filters, orders and limits into each arm of a union."""

OF_ONE = [
    ("SELECT state, count(*) FROM executions GROUP BY state", "COVERING INDEX execution_by_state"),
    ("SELECT count(*) FROM executions WHERE workflow = 'w'", "COVERING INDEX execution_by_workflow"),
    ("SELECT step FROM steps JOIN executions x USING (execution_id) WHERE x.state = 'FAILED'", "execution_by_state"),
]
"""Groups and joins, which it does not push: over several logs these read every row that the filters leave."""


@pytest.mark.parametrize(("query", "index"), [*OF_ANY, *OF_ONE])
def test_a_view_is_as_fast_as_the_tables_under_it(runs, query, index):
    check_plan(query, index, runs.store)


@pytest.mark.parametrize(("query", "index"), OF_ANY)
def test_a_view_of_several_logs_is_as_fast_as_their_tables(runs, query, index):
    check_plan(query, index, history.open({"a": runs.store, "b": runs.store}))


def check_plan(query, index, asked):
    plan = history.sql(f"EXPLAIN QUERY PLAN {query}", store=asked)
    rows = dict(zip(plan["id"], plan.itertuples(), strict=True))

    def is_of_one_execution(row):  # within the subquery that finds the attempts of one execution
        return "CORRELATED" in row.detail or (row.parent in rows and is_of_one_execution(rows[row.parent]))

    whole = [row.detail for row in rows.values() if not is_of_one_execution(row)]
    assert any(index in line for line in whole), whole
    assert not [line for line in whole if "TEMP B-TREE" in line or "MATERIALIZE" in line], whole


def test_the_last_counts_from_the_clock(runs):
    assert since_micros("1h") == runs.clock.now() - 3_600_000_000


def test_an_error_shows_the_callers_line_and_nothing_of_how_a_log_is_opened(tmp_path):
    connect(tmp_path / "log.db").close()
    with pytest.raises(ExecutionNotFoundError) as caught:
        history.steps("nobody", store=tmp_path / "log.db")
    shown = caught.value._render_traceback_()
    assert next(line.strip() for line in shown if line.startswith("    ")).startswith("history.steps(")
    assert not any(name in "\n".join(shown) for name in ("contextlib", "_history/"))
