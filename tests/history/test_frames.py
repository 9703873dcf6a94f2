"""The names and dtypes of the columns of frames are a contract, however they are read."""

from __future__ import annotations

from importlib.util import find_spec

import pandas as pd
import pytest

from cerebelum_nb import history
from cerebelum_nb._history import arrow
from cerebelum_nb.testing import MemoryStore

from .conftest import TEXT

HAS_ARROW = find_spec("pyarrow") is not None

TIME, DURATION, INT = "datetime64[us, UTC]", "timedelta64[us]", "Int64"

EXECUTIONS = {
    "execution_id": TEXT,
    "workflow": "category",
    "state": "category",
    "started_at": TIME,
    "updated_at": TIME,
    "completed_at": TIME,
    "duration": DURATION,
    "total_steps": INT,
    "done_steps": INT,
    "current_step": TEXT,
    "inputs": TEXT,
    "output": TEXT,
    "error": TEXT,
    "error_type": "category",
    "wake_at": TIME,
    "parent": TEXT,
    "parent_version": "Int64",
    "version": INT,
    "caller": TEXT,
    "name": TEXT,
    "tags": TEXT,
}
STEPS = {
    "execution_id": TEXT,
    "workflow": "category",
    "step": "category",
    "item": TEXT,
    "visit": INT,
    "attempt": INT,
    "state": "category",
    "started_at": TIME,
    "completed_at": TIME,
    "duration": DURATION,
    "output": TEXT,
    "error": TEXT,
    "error_type": "category",
    "code_hash": TEXT,
    "worker": "category",
    "source": TEXT,
}
EVENTS = {
    "execution_id": TEXT,
    "version": INT,
    "type": "category",
    "step": "category",
    "item": TEXT,
    "visit": INT,
    "attempt": INT,
    "at": TIME,
    "data": TEXT,
}
MOMENT = {
    "step": TEXT,
    "item": TEXT,
    "visit": INT,
    "attempt": INT,
    "state": "category",
    "started_at": TIME,
    "completed_at": TIME,
    "duration": DURATION,
    "output": TEXT,
    "error": TEXT,
}
DIFF = {
    "step": TEXT,
    "state_a": "category",
    "state_b": "category",
    "attempt_a": INT,
    "attempt_b": INT,
    "duration_a": DURATION,
    "duration_b": DURATION,
    "duration_diff": DURATION,
    "inputs_changed": "boolean",
    "code_changed": "boolean",
    "output_changed": "boolean",
    "output_a": TEXT,
    "output_b": TEXT,
    "difference": TEXT,
    "cells_changed": INT,
    "max_abs_diff": "float64",
}
FRAMES = [(history.executions, EXECUTIONS), (history.steps, STEPS), (history.events, EVENTS)]


@pytest.fixture(params=["sqlite3", "arrow"] if HAS_ARROW else ["sqlite3"], autouse=True)
def way(request, monkeypatch):
    """Read in bulk by sqlite3, then the same by Arrow."""
    monkeypatch.setattr(arrow, "pays_off", lambda db: request.param == "arrow")
    return request.param


def dtypes(frame):
    return {name: str(dtype) for name, dtype in frame.dtypes.items()}


@pytest.mark.parametrize(("read", "expected"), FRAMES)
def test_every_table_has_its_columns_and_dtypes(runs, read, expected):
    assert dtypes(read(store=runs.store)) == expected


@pytest.mark.parametrize(("read", "expected"), FRAMES)
def test_an_empty_frame_has_the_same_columns_and_dtypes(empty, read, expected):
    frame = read(store=empty)
    assert len(frame) == 0
    assert dtypes(frame) == expected


def test_a_snapshot_has_its_columns_even_before_the_first_step(runs):
    for version in (1, None):
        assert dtypes(history.state_at("deploy-1", version, store=runs.store).steps) == MOMENT


def test_a_comparison_has_its_columns(runs):
    assert dtypes(history.diff("check-1", "check-2", store=runs.store)) == DIFF
    assert dtypes(history.diff("deploy-1", "check-2", store=runs.store)) == DIFF


@pytest.mark.parametrize(("read", "expected"), FRAMES)
def test_several_logs_add_a_first_column(runs, empty, read, expected):
    for logs in ([runs.store, empty], [empty], {"a": runs.store, "b": runs.store}):
        frame = getattr(history.open(logs), read.__name__)()
        assert dtypes(frame) == {"log": "category", **expected}


@pytest.mark.skipif(not HAS_ARROW, reason="pyarrow is not installed: there is one way of reading")
@pytest.mark.parametrize("read", [history.steps, history.events])
def test_both_ways_of_reading_give_the_same(runs, monkeypatch, read):
    runs.fix("deploy-1")
    one = read(store=runs.store)
    monkeypatch.setattr(arrow, "pays_off", lambda db: False)
    pd.testing.assert_frame_equal(one, read(store=runs.store))


@pytest.mark.parametrize(("read", "expected"), [*FRAMES, (history.diff, DIFF)])
def test_every_column_is_documented(read, expected):
    assert [name for name in expected if f"``{name}``" not in read.__doc__] == []


@pytest.mark.parametrize("read", [history.executions, history.steps, history.events])
def test_the_index_counts_rows(runs, read):
    assert read(store=runs.store).index.equals(pd.RangeIndex(len(read(store=runs.store))))


def test_expanded_payload_is_typed(runs):
    frame = history.events("deploy-1", expand=True, store=runs.store)
    expected = {
        "inputs.size": TEXT,
        "total_steps": INT,
        "code": TEXT,
        "output.ip": TEXT,
        "output.big": INT,
        "output_ref.preview": TEXT,
        "output_ref.size": INT,
        "error.type": TEXT,
        "due_at": TIME,
        "duration_ms": INT,
        "data.why": TEXT,
        "failed_step": TEXT,
    }
    assert {name: str(frame[name].dtype) for name in expected} == expected


def test_expanded_events_keep_every_row_and_the_header(runs):
    plain = history.events(store=runs.store)
    frame = history.events(expand=True, store=runs.store)
    pd.testing.assert_frame_equal(frame[list(EVENTS)[:-1]], plain.drop(columns="data"))


def test_expanding_nothing_leaves_the_header(empty):
    assert list(history.events(expand=True, store=empty).columns) == list(EVENTS)[:-1]


def test_an_expanded_integer_is_exact(runs):
    frame = history.events(type="StepCompleted", expand=True, store=runs.store)
    assert frame["output.big"].dropna().tolist() == [2**60 + 1]


def test_an_expanded_value_that_is_no_object_is_one_column(runs):
    frame = history.events("check-1", type="StepCompleted", expand=True, store=runs.store)
    assert frame["output"].tolist() == [[1, 2, 3]]


def test_a_log_in_memory_reads_the_same(runs):
    memory = MemoryStore()
    runs.store, file = memory, runs.store
    runs.deploy("deploy-1")
    assert dtypes(history.steps(store=memory)) == STEPS
    assert history.steps(store=memory)["state"].tolist() == history.steps("deploy-1", store=file)["state"].tolist()
