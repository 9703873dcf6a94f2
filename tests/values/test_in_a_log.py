"""The result of a step comes back from the log: through events, rows and payloads of a real SQLite file."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import importlib
import itertools
import math
import subprocess
import sys
from decimal import Decimal
from importlib.util import find_spec
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebelum_nb import history
from cerebelum_nb._core.events import StepCompleted, StepStarted, WorkflowStarted
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._core.summary import Summary
from cerebelum_nb._core.value import Value
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._values import arrow, decode, encode
from cerebelum_nb.errors import SerializationError

HAS_ARROW = find_spec("pyarrow") is not None
needs_arrow = pytest.mark.skipif(not HAS_ARROW, reason="pyarrow is not installed: nothing is stored as Arrow")


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    label: str
    inner: Any = None


class Log:
    """A log, and a step in it for every value."""

    def __init__(self, path: Any) -> None:
        self.store = SqliteStore(path, durability="normal")
        self._me = self.store.register(0, 10**15)
        self._number = itertools.count()

    def keep(self, value: Any) -> str:
        name = f"run-{next(self._number)}-"
        events = [
            WorkflowStarted(at=1, workflow="w", inputs=Value("json", "{}"), total_steps=1),
            StepStarted(at=2, step="s"),
            StepCompleted(at=3, step="s", output=encode(value)),
        ]
        summary = Summary(workflow="w", state=ExecutionState.RUNNING, started_at=1, updated_at=3)
        self.store.commit([Commit(execution_id=name, after=0, events=events, summary=summary, holder=self._me)])
        return name

    def around(self, value: Any) -> Any:
        return history.outputs(self.keep(value), store=self.store)["s"]

    def codec(self, name: str) -> str:
        (found,) = [e.output.codec for e in self.store.events(name) if isinstance(e, StepCompleted)]
        return found


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Log(tmp_path_factory.mktemp("values") / "log.db")
    yield made
    made.store.close()


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same types, all the way down; NaN is NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (float, np.floating)) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, Decimal):
        return str(one) == str(other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (pd.DataFrame, pd.Series)):
        check = pd.testing.assert_frame_equal if isinstance(one, pd.DataFrame) else pd.testing.assert_series_equal
        check(one, other, check_exact=True, check_index_type=True)
        return True
    if isinstance(one, np.ndarray):
        equal = np.array_equal(one, other, equal_nan=one.dtype.kind in "fmM")
        return one.dtype == other.dtype and one.shape == other.shape and equal and other.flags.writeable
    if isinstance(one, Point):
        return same(vars(one), vars(other))
    if isinstance(one, dt.datetime):
        return one == other and one.utcoffset() == other.utcoffset() and repr(one.tzinfo) == repr(other.tzinfo)
    return bool(one == other)


zones = st.none() | st.sampled_from([dt.UTC, ZoneInfo("Europe/Paris"), ZoneInfo("Asia/Kolkata")])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
stamps = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1))  # noqa: DTZ001  # zones are given to the column
numbers = st.integers(-(2**63), 2**63 - 1)
dtypes = ["bool", "int8", "uint16", "int64", "float16", "float32", "float64", "complex128", "M8[s]", "m8[us]", "<U3"]


@st.composite
def arrays(draw: Any) -> np.ndarray:
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    shape = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    raw = draw(st.binary(min_size=math.prod(shape) * 8, max_size=math.prod(shape) * 8))
    numbers = np.frombuffer(raw, dtype="int64").reshape(shape) % 1000
    return np.asarray(numbers.astype(dtype), order=draw(st.sampled_from("CF")))


@st.composite
def columns(draw: Any, size: int) -> Any:
    def some(elements: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(elements, min_size=size, max_size=size))

    match draw(st.sampled_from(["int", "float", "Int64", "str", "category", "time", "duration", "bool", "object"])):
        case "int":
            return pd.Series(some(numbers), dtype="int64")
        case "float":
            return pd.Series(some(st.floats(width=32)), dtype="float32")
        case "Int64":
            return pd.Series(some(numbers | st.none()), dtype="Int64")
        case "str":
            return pd.Series(some(texts | st.none()), dtype="str")
        case "category":
            ordered = draw(st.booleans())
            return pd.Series(pd.Categorical(some(st.sampled_from("ab") | st.none()), ["b", "a", "z"], ordered=ordered))
        case "time":
            made = pd.Series(pd.to_datetime(some(stamps | st.none())), dtype="datetime64[us]")
            zone = draw(zones)
            return made if zone is None else made.dt.tz_localize("UTC").dt.tz_convert(zone)
        case "duration":
            return pd.Series(some(st.timedeltas(dt.timedelta(-999), dt.timedelta(999))), dtype="timedelta64[us]")
        case "bool":
            return pd.Series(some(st.booleans() | st.none()), dtype="boolean")
        case _:
            return pd.Series(some(st.integers() | texts | st.none() | st.lists(st.integers())), dtype="object")


@st.composite
def frames(draw: Any) -> pd.DataFrame:
    size = draw(st.integers(0, 4))
    names = draw(st.lists(texts, unique=True, max_size=4) | st.just([0, 1]))
    frame = pd.DataFrame({name: draw(columns(size)) for name in names}, index=range(size))
    match draw(st.sampled_from(["range", "shuffled", "dates", "two levels"])):
        case "shuffled":
            frame.index = pd.Index([size - n for n in range(size)], name="id")
        case "dates":
            frame.index = pd.date_range("2026-01-01", periods=size, tz="Europe/Paris")
        case "two levels":
            frame.index = pd.MultiIndex.from_tuples([(n, "x") for n in range(size)], names=["n", None])
    return frame


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
leaves = (
    plain
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=zones)
    | st.dates()
    | st.timedeltas()
    | st.uuids()
    | st.sampled_from(Colour)
    | st.sets(st.integers() | texts)
    | st.frozensets(st.integers())
    | st.builds(np.float32, st.floats(width=32))
    | st.builds(np.int64, numbers)
    | st.just(pd.Timestamp("2026-03-29 02:30", tz="Asia/Kolkata"))
)
nested = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(texts | st.integers(), inner, max_size=3)
        | st.builds(Point, st.floats(), texts, inner)
    ),
    max_leaves=8,
)


@given(nested)
def test_a_nested_value_comes_back_the_same(log: Log, value: Any) -> None:
    assert same(value, log.around(value))


@given(arrays())
def test_an_array_comes_back_the_same_and_writeable(log: Log, value: np.ndarray) -> None:
    assert same(value, log.around(value))


@given(frames())
def test_a_frame_comes_back_the_same(log: Log, value: pd.DataFrame) -> None:
    assert same(value, log.around(value))


@given(st.integers(0, 3).flatmap(columns), texts | st.none() | st.integers())
def test_a_series_comes_back_the_same(log: Log, value: pd.Series, name: Any) -> None:
    value.name = name
    assert same(value, log.around(value))


@given(frames(), arrays())
def test_a_value_within_another_comes_back_the_same(log: Log, frame: pd.DataFrame, array: np.ndarray) -> None:
    value = {"frame": frame, "arrays": [array, (array,)]}
    assert same(value, log.around(value))


@given(frames())
def test_arrow_bytes_follow_from_the_value_alone(value: pd.DataFrame) -> None:
    encoded = encode(value)
    assert encoded.codec != "arrow" or encode(value.copy()).digest == encoded.digest


# -- Arrow ----------------------------------------------------------------------------------------------------

FRAME = pd.DataFrame({"ms": [1.0, None], "host": ["a", "b"]})


@needs_arrow
@pytest.mark.parametrize("value", [FRAME, FRAME["ms"], np.arange(3.0)], ids=["frame", "series", "array"])
def test_columns_of_plain_types_are_stored_as_arrow(log: Log, value: Any) -> None:
    assert log.codec(log.keep(value)) == "arrow"


@needs_arrow
def test_an_arrow_table_comes_back_the_same(log: Log) -> None:
    import pyarrow as pa

    table = pa.table({"n": [1, None], "tags": [["a"], []]}).replace_schema_metadata({"unit": "ms"})
    name = log.keep(table)
    assert log.codec(name) == "arrow"
    assert history.outputs(name, store=log.store)["s"].equals(table, check_metadata=True)


@pytest.mark.parametrize(
    "value",
    [
        pd.DataFrame({"mixed": [1, "a"]}),
        pd.DataFrame({"n": [1]}, columns=pd.MultiIndex.from_tuples([("n", "x")])),
        np.array([{"a": 1}]),
        np.array(["text"]),
    ],
    ids=["a column of objects", "columns of two levels", "an array of objects", "an array of texts"],
)
def test_what_arrow_cannot_restore_is_pickled(log: Log, value: Any) -> None:
    assert log.codec(log.keep(value)) == "cloudpickle"
    assert same(value, log.around(value))


@needs_arrow
def test_it_is_compact() -> None:
    frame = pd.DataFrame({"n": range(10_000), "host": ["web-1", "web-2"] * 5_000})
    assert encode(frame).size < 10_000 * 8


def test_what_was_pickled_before_still_loads(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(arrow, "dumps", lambda value, **_: None)
        name = log.keep(FRAME)
    assert log.codec(name) == "cloudpickle"
    assert same(FRAME, history.outputs(name, store=log.store)["s"])


@pytest.mark.process
@needs_arrow
def test_without_pyarrow_an_arrow_value_shows_its_preview_and_names_the_extra(log: Log) -> None:
    name = log.keep(FRAME)
    code = (
        "import sys; sys.modules.update(pyarrow=None, adbc_driver_sqlite=None)\n"
        "from cerebelum_nb import history\n"
        "outputs = history.outputs(sys.argv[2], store=sys.argv[1]); print(outputs)\n"
        "try:\n    outputs['s']\nexcept Exception as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, log.store.location, name], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("DataFrame 2 rows x 2 columns") == 2
    assert "SerializationError" in done.stdout
    assert "pip install 'cerebelum_nb[arrow]'" in done.stdout


def test_damaged_arrow_bytes_say_what_the_value_was() -> None:
    value = Value("arrow", type="pandas.DataFrame", preview="DataFrame 2 rows", digest="x")
    for payload in (b"", b"not arrow", (encode(FRAME).payload or b"")[:200]):
        with pytest.raises(SerializationError, match=r"DataFrame 2 rows.*Run the step"):
            decode(value, lambda _, payload=payload: payload)


# -- a class that is gone -------------------------------------------------------------------------------------


def test_a_class_that_no_longer_exists_is_named_and_the_preview_shown(
    log: Log, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vanishing.py").write_text(
        "import dataclasses\n\n@dataclasses.dataclass\nclass Order:\n    number: int\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    name = log.keep(importlib.import_module("vanishing").Order(7))
    (tmp_path / "vanishing.py").write_text("", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "vanishing")
    importlib.invalidate_caches()
    outputs = history.outputs(name, store=log.store)
    written = '{"$dataclass":{"class":"vanishing:Order","fields":{"number":7}}}'
    assert written in repr(outputs)
    with pytest.raises(SerializationError, match=r"no class Order in vanishing\. Define or import it as it was"):
        outputs["s"]
    assert history.steps(name, store=log.store)["output"].tolist() == [written]


# -- the classes of a program -----------------------------------------------------------------------------------

PROGRAM = """
import json, sys, threading
from dataclasses import dataclass
from enum import Enum
from cerebelum_nb import WorkflowError, connect, step, workflow

connect("h.db")
LOCK, KEY = threading.Lock(), "key-of-the-program"

class Mode(Enum):
    FAST = 1

@dataclass(frozen=True)
class Point:
    x: int

class Model:
    "Pickled; a method uses what cannot be pickled, and what should not be."
    def read(self):
        with LOCK:
            return KEY

@step
def made():
    return {"mode": Mode.FAST, "point": Point(1), "model": Model()}

@step
def plain():
    return [Mode.FAST, Point(1)]

@step
def use(made, plain):
    if len(sys.argv) < 2:
        raise RuntimeError("stop here")
    return [made["mode"] is Mode.FAST, made["point"] == Point(1), type(made["model"]) is Model,
            made["model"].read() == KEY, plain[0] is Mode.FAST, plain[1] in {Point(1)}]

@workflow
def plan(wf):
    wf.timeline(made >> plain >> use)

if __name__ == "__main__":
    try:
        result = plan.resume_sync("k1") if len(sys.argv) > 1 else plan.run(execution_id="k1")
        print(json.dumps(result.output))
    except WorkflowError as error:
        print(error.failed_step)
"""


@pytest.mark.process
def test_after_a_restart_values_belong_to_the_classes_that_the_program_defines(tmp_path: Any) -> None:
    (tmp_path / "flow.py").write_text(PROGRAM, encoding="utf-8")

    def program(*args: str) -> str:
        command = [sys.executable, *args]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    assert program("flow.py") == "use"
    with SqliteStore(tmp_path / "h.db") as store:
        outputs = [e.output for e in store.events("k1") if isinstance(e, StepCompleted)]
        assert [output.codec for output in outputs] == ["cloudpickle", "tagged"]
        assert b"key-of-the-program" not in store.payload(outputs[0].digest)
    assert program("flow.py", "again") == "[true, true, true, true, true, true]"


def test_a_class_defined_in_a_function_is_stored_itself() -> None:
    class Local:
        x = 1

    back = decode(encoded := encode(Local()), lambda _: encoded.payload or b"")
    assert back.x == 1
