"""``history.open``: several logs read as one."""

from __future__ import annotations

import pytest

from cerebelum_nb import history
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import ExecutionNotFoundError, StoreError
from cerebelum_nb.testing import MemoryStore


@pytest.fixture
def other(runs, tmp_path):
    """Another log: ``check-9``, newer than every run of the first log, and ``check-1``, an id that both have."""
    with SqliteStore(tmp_path / "other.db", durability="normal") as store:
        first, runs.store = runs.store, store
        runs.check("check-1")
        runs.clock.advance("1d")
        runs.check("check-9")
        runs.store = first
        yield store


@pytest.fixture
def logs(runs, other):
    return history.open({"here": runs.store, "there": other})


def rows(frame, *columns):
    return frame[list(columns)].astype("str").to_numpy().tolist()


def test_every_function_of_history_is_a_method():
    missing = [name for name in history.__all__ if name != "open" and not hasattr(history.open(MemoryStore()), name)]
    assert missing == [], "add them to History in history/logs.py"


def test_a_method_is_documented_as_the_function_is():
    assert history.open(MemoryStore()).steps.__doc__ == history.steps.__doc__


def test_executions_are_newest_first_across_logs(logs):
    assert rows(logs.executions(), "log", "execution_id")[:2] == [["there", "check-9"], ["here", "check-2"]]


def test_the_newest_few_are_those_of_all_logs(logs):
    assert rows(logs.executions(limit=2), "log", "execution_id") == [["there", "check-9"], ["here", "check-2"]]


def test_a_filter_holds_in_every_log(logs):
    assert set(logs.executions("check", state="completed")["log"]) == {"here", "there"}
    assert set(logs.executions(state="failed")["log"]) == {"here"}


def test_a_log_without_a_name_goes_by_its_path(runs, other, tmp_path):
    frame = history.open([runs.store, tmp_path / "other.db"]).executions()
    assert set(frame["log"]) == {str(runs.store.path), str(tmp_path / "other.db")}


def test_categories_of_all_logs_are_kept_in_order(logs):
    states = logs.steps()["state"].cat.categories.tolist()
    assert states == history.steps(store=logs.named["here"])["state"].cat.categories.tolist()


def test_payloads_are_expanded_over_all_logs(logs):
    frame = logs.events(type="StepCompleted", expand=True)
    assert {"output", "output.ip"} <= set(frame.columns)
    assert frame.loc[frame["log"] == "there", "output"].tolist() == [[1, 2, 3], [1, 2, 3]]


# -- one execution --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", ["steps", "events"])
def test_an_execution_is_found_in_whichever_log_holds_it(logs, read):
    frame = getattr(logs, read)("check-9")
    assert set(map(tuple, rows(frame, "log", "execution_id"))) == {("there", "check-9")}


def test_outputs_and_states_come_from_the_log_that_holds_the_execution(logs):
    assert logs.outputs("check-9")["ping"] == [1, 2, 3]
    assert logs.state_at("deploy", step="provision").results["provision"]["ip"] == "10.0.0.1"


def test_executions_of_two_logs_are_compared(logs):
    assert not logs.diff("check-2", "check-9")["output_changed"].any()


@pytest.mark.parametrize("read", ["steps", "outputs", "state_at"])
def test_an_id_in_two_logs_says_so(logs, read):
    with pytest.raises(ExecutionNotFoundError, match=r"found in 2 logs: 'check-1' in here, 'check-1' in there.*logs\["):
        getattr(logs, read)("check-1")


def test_an_id_that_begins_others_is_exact(logs, runs):
    for name in ("check-99", "check-98"):
        runs.check(name)
        assert set(logs.steps("check-9")["log"]) == {"there"}


def test_a_prefix_that_several_executions_share_is_refused(logs):
    with pytest.raises(ExecutionNotFoundError, match="Several executions begin with 'check'"):
        logs.steps("check")


def test_an_id_in_no_log_is_refused_with_near_ones(logs):
    with pytest.raises(ExecutionNotFoundError, match=r"in any of these logs: here, there. Did you mean 'deploy-1'"):
        logs.steps("deploy-7")


def test_one_of_the_logs_is_picked_by_its_name(logs):
    assert set(logs["there"].executions()["execution_id"]) == {"check-1", "check-9"}
    with pytest.raises(KeyError, match="available: here, there"):
        logs["elsewhere"]


def test_a_function_of_one_log_says_so(logs):
    with pytest.raises(
        StoreError, match=r"reads one log, and there are 2: here, there. Pick one, such as logs\['here'"
    ):
        history.outputs("check-9", store=logs)


# -- sql ------------------------------------------------------------------------------------------------------


def test_one_query_counts_and_sorts_across_logs(logs):
    frame = logs.sql("SELECT workflow, count(*) AS runs FROM executions GROUP BY 1 ORDER BY 2 DESC")
    assert rows(frame, "workflow", "runs") == [["check", "4"], ["deploy", "1"]]


def test_a_query_may_name_the_log(logs):
    frame = logs.sql("SELECT log, execution_id FROM executions WHERE log = :log ORDER BY 2", log="there")
    assert rows(frame, "log", "execution_id") == [["there", "check-1"], ["there", "check-9"]]
    assert str(frame["log"].dtype) == "category"


def test_a_query_of_logs_in_memory_and_in_files(runs):
    memory = MemoryStore()
    file, runs.store = runs.store, memory
    runs.check("check-8")
    frame = history.open({"it's": memory, "file": file}).sql("SELECT log, count(*) AS runs FROM executions GROUP BY 1")
    assert rows(frame, "log", "runs") == [["file", "3"], ["it's", "1"]]


def test_a_filter_of_a_query_is_an_index_search_in_every_log(logs):
    plan = logs.sql("EXPLAIN QUERY PLAN SELECT * FROM events WHERE execution_id = 'check-9'")["detail"]
    assert not plan.str.contains(r"SCAN (?:e|x)\b").any(), plan.tolist()


@pytest.mark.parametrize("statement", ["DELETE FROM executions", "DROP VIEW executions", "DELETE FROM log0.event"])
def test_a_statement_that_writes_is_refused(logs, statement):
    with pytest.raises(StoreError, match="only reads"):
        logs.sql(statement)


def test_a_wrong_query_names_the_columns_there_are(logs):
    with pytest.raises(ValueError, match=r"column: lag. Did you mean 'log'[\s\S]*executions\(log, execution_id"):
        logs.sql("SELECT lag FROM executions")


@pytest.fixture
def many(runs, other):
    """More logs than SQLite attaches, in files and in memory."""
    return history.open({"here": runs.store, "there": other, **{f"none {n}": MemoryStore() for n in range(12)}})


def test_one_query_asks_more_logs_than_sqlite_attaches(many):
    frame = many.sql(
        "SELECT x.log, count(*) AS steps, max(x.started_at) AS latest FROM Executions x JOIN steps s "
        "ON s.log = x.log AND s.execution_id = x.execution_id GROUP BY 1 ORDER BY 1"
    )
    assert rows(frame, "log", "steps") == [["here", "8"], ["there", "2"]]
    assert str(frame["latest"].dtype) == "datetime64[us, UTC]"
    assert len(many.sql("SELECT * FROM events WHERE execution_id = 'check-9'")) == 4


def test_many_logs_are_asked_with_the_columns_of_one(many, runs):
    for view in ("executions", "steps", "events"):
        one = history.sql(f"SELECT * FROM {view}", store=runs.store)
        of_all = many.sql(f"SELECT * FROM {view} WHERE log = 'here'")
        assert ["log", *one.columns] == list(of_all.columns)
        assert rows(one, *one.columns) == rows(of_all, *one.columns)


@pytest.mark.parametrize("statement", ["DELETE FROM executions", "DROP TABLE steps"])
def test_what_is_copied_of_many_logs_can_only_be_read(many, statement):
    with pytest.raises(StoreError, match="only reads"):
        many.sql(statement)


def test_a_wrong_query_of_many_logs_names_the_columns_there_are(many):
    with pytest.raises(ValueError, match=r"(?s)no such table: step. Did you mean 'steps'.*executions\(log, exec"):
        many.sql("SELECT * FROM step")


def test_a_damaged_log_says_which_it_may_be(logs, other):
    with other.path.open("r+b") as file:
        file.seek(2048)
        file.write(b"\xff" * 20 * 2048)
    with pytest.raises(StoreError, match=r"(?s)other.db.* is damaged"):
        logs.sql("SELECT * FROM events")


# -- bad input ------------------------------------------------------------------------------------------------


def test_a_path_without_a_log_is_refused_at_once(tmp_path):
    with pytest.raises(StoreError, match="There is no log at"):
        history.open([tmp_path / "typo.db"])


def test_an_empty_list_of_logs_is_refused():
    with pytest.raises(ValueError, match="needs at least one log"):
        history.open([])


def test_two_logs_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two of these logs are named ':memory:': give them"):
        history.open([MemoryStore(), MemoryStore()])
