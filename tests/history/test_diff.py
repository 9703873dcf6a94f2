"""Two executions side by side."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pandas as pd
import pytest

from cerebelum_nb import WorkflowError, history, sleep, step, workflow
from cerebelum_nb._history.value_diff import compare
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import ExecutionNotFoundError


@step
async def table(inputs):
    return pd.DataFrame({"ms": [1.0, 2.0 + inputs["n"]], "host": ["a", "b"]})


@step
async def nap(inputs):
    await sleep(f"{inputs['n'] + 1}h")
    return {"napped": True}


@step
async def last(inputs):
    if inputs["n"] > 1:
        raise RuntimeError("too much")
    return b"bytes"


@workflow
def flow(wf):
    wf.timeline(table >> nap >> last)


@pytest.fixture
def log(runs):
    for name, n in (("one", 0), ("same", 0), ("two", 1), ("three", 2), ("four", 3)):
        try:
            asyncio.run(flow.execute({"n": n}, store=runs.store, execution_id=name))
        except WorkflowError:
            pass
    return runs.store


def row(frame, step):
    return frame.set_index("step").loc[step]


def test_identical_runs_have_changed_nothing(log):
    frame = history.diff("one", "same", store=log)
    changed = frame.filter(like="_changed").drop(columns="cells_changed")
    assert not changed.fillna(False).to_numpy().any()
    assert frame["step"].tolist() == ["(inputs)", "table", "nap", "last"]
    assert frame["difference"].isna().all()
    assert (frame["duration_diff"].dropna() == pd.Timedelta(0)).all()
    assert repr(frame).splitlines()[0] == "a: flow one COMPLETED; b: flow same COMPLETED: nothing differs"


def test_inputs_are_compared_by_path(log):
    found = row(history.diff("one", "two", store=log), "(inputs)")
    assert found["output_changed"]
    assert (found["output_a"], found["output_b"], found["difference"]) == ('{"n":0}', '{"n":1}', "n: 0 -> 1")


def test_the_difference_of_frames_is_the_number_of_cells_and_the_largest_difference(log):
    found = row(history.diff("one", "two", store=log), "table")
    assert (found["cells_changed"], found["max_abs_diff"]) == (1, 1.0)
    assert found["difference"] == "1 cell differs by up to 1"
    assert found["output_a"].startswith("DataFrame 2 rows")


def test_durations_are_subtracted(log):
    found = row(history.diff("one", "two", store=log), "nap")
    assert found["duration_diff"] == pd.Timedelta("1h")
    assert not found["output_changed"]
    assert found["inputs_changed"]
    assert not found["code_changed"]


def test_a_step_that_failed_in_one_shows_its_error(log):
    found = row(history.diff("two", "three", store=log), "last")
    assert (found["state_a"], found["state_b"]) == ("COMPLETED", "FAILED")
    assert found["output_changed"]
    assert found["output_b"] == "RuntimeError: too much"


def test_the_same_error_is_no_change(log):
    found = row(history.diff("three", "four", store=log), "last")
    assert not found["output_changed"]


def test_steps_of_only_one_execution_have_a_row_without_a_comparison(log):
    frame = history.diff("one", "check-1", store=log)
    assert frame["step"].tolist() == ["(inputs)", "table", "nap", "last", "ping"]
    found = row(frame, "ping")
    assert pd.isna(found["state_a"])
    assert found["state_b"] == "COMPLETED"
    assert found[["inputs_changed", "code_changed", "output_changed"]].isna().all()


def test_changed_code_is_reported(runs, log):
    @step(name="last")
    async def fixed(inputs):
        return b"other bytes"

    @workflow(name="flow")
    def again(wf):
        wf.timeline(table >> nap >> fixed)

    asyncio.run(again.execute({"n": 0}, store=log, execution_id="five"))
    found = row(history.diff("one", "five", store=log), "last")
    assert found["code_changed"] and found["output_changed"]


def test_a_value_that_may_not_be_loaded_is_not_compared(runs, log):
    with SqliteStore(log.location, trusted=False) as untrusted:
        found = history.diff("one", "two", store=untrusted)
        assert not row(found, "last")["output_changed"]  # the same bytes
        runs.probe("probe-1")
        other = history.diff("probe-1", "probe-1", store=untrusted)
        assert not other["output_changed"].any()


def test_its_repr_is_a_summary_and_a_selection_is_a_plain_frame(log):
    frame = history.diff("two", "three", store=log)
    lines = repr(frame).splitlines()
    assert lines[0] == "a: flow two COMPLETED; b: flow three FAILED: inputs differ, outcomes of 2 of 3 steps differ"
    assert lines[1].split() == ["step", "a", "b", "took", "a", "took", "b", "changed", "difference"]
    assert "nap" in frame._repr_html_()
    assert type(frame[frame["code_changed"].fillna(False)]) is pd.DataFrame
    assert type(frame[["step"]]) is pd.DataFrame


def test_an_unknown_id_is_refused(log):
    with pytest.raises(ExecutionNotFoundError):
        history.diff("one", "nine", store=log)


# -- values ---------------------------------------------------------------------------------------------------


FRAME = pd.DataFrame({"n": [1, 2, 3], "k": ["a", "b", None]})


@pytest.mark.parametrize(
    ("one", "other", "largest"),
    [
        (6, 8.5, 2.5),
        (6, 8, 2.0),
        (np.int64(6), np.int64(8), 2.0),
        (np.uint8(8), np.uint8(6), 2.0),
        (np.float64(0.5), np.float64(2.0), 1.5),
        (6, 6, None),
        (True, False, None),
        (0.5, float("nan"), None),
        (10**400, 1, None),
    ],
)
def test_the_difference_of_two_numbers(one, other, largest):
    assert compare(one, other).largest == largest


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ({"a": 1}, {"a": 1}, ""),
        (math.nan, math.nan, ""),
        (1, 1.0, "1 -> 1.0"),
        ({"a": [1, 2]}, {"a": [1, 3, 4]}, "a[1]: 2 -> 3; a[2]: added 4"),
        ({"a": 1}, {"b": 1}, "a: removed 1; b: added 1"),
        (list("abcde"), list("vwxyz"), "[0]: 'a' -> 'v'; [1]: 'b' -> 'w'; [2]: 'c' -> 'x'; 2 more"),
        ([1], {"a": 1}, "[1] -> {'a': 1}"),
        (FRAME, FRAME.copy(), ""),
        (FRAME, [1], "DataFrame -> list"),
        (FRAME, FRAME.head(2), "3 rows x 2 columns -> 2 rows x 2 columns; other index"),
        (FRAME, FRAME.assign(z=1), "3 rows x 2 columns -> 3 rows x 3 columns; columns +z"),
        (FRAME, FRAME.rename(columns={"k": "q"}), "columns -k, +q"),
        (FRAME, FRAME[["k", "n"]], "columns in another order"),
        (FRAME, FRAME.assign(n=[1.0, 2.5, 5.0]), "n: int64 -> float64; 2 cells differ by up to 2"),
        (FRAME, FRAME.assign(k=["a", None, None]), "1 cell differs"),
        (FRAME["n"], FRAME["n"] + 1, "3 cells differ by up to 1"),
        (FRAME, FRAME.set_axis(["x", "y", "z"]), "other index"),
        (np.array([1.0, np.nan]), np.array([1.0, np.nan]), ""),
        (np.array([[1, 2]]), np.array([[1, 5]]), "1 cell differs by up to 3"),
        (np.array([1, 2]), np.array([1, 2, 3]), "shape (2,) -> (3,)"),
        (np.array([True, False]), np.array([True, True]), "1 cell differs by up to 1"),
        (np.array([1j, 2]), np.array([1j, 3]), "1 cell differs"),
        (np.array([2**60]), np.array([2**60 + 1]), "1 cell differs by up to 0"),
        ({"frame": FRAME}, {"frame": FRAME.copy()}, ""),
    ],
)
def test_how_two_values_differ(one, other, told):
    found = compare(one, other)
    assert str(found) == told
    assert bool(found) == bool(told)


def test_missing_cells_differ_from_present_ones_only():
    one = pd.DataFrame({"n": pd.array([1, None, None], dtype="Int64")})
    other = pd.DataFrame({"n": pd.array([1, None, 3], dtype="Int64")})
    assert compare(one, other).cells == 1


def test_a_value_that_cannot_be_compared_differs():
    class Odd:
        def __eq__(self, other):
            raise RuntimeError("no")

        __hash__ = None

        def __repr__(self):
            return "odd"

    assert str(compare(Odd(), Odd())) == "odd -> odd"
