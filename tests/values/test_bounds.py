"""What a log from anybody may cost, and that what crosses a process border or a spreadsheet does no harm."""

from __future__ import annotations

import copy
import pickle
import zlib

import pytest

from cerebelum_nb import archive, step, workflow
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._values import arrow
from cerebelum_nb._values.bounds import inflate, parse
from cerebelum_nb._workflow.start import check_id


@step
def add(n=1):
    return n + 1


@workflow
def plan(wf):
    wf.timeline(add)


@pytest.mark.parametrize("data", [zlib.compress(b"a" * 1001), b"no zlib", zlib.compress(b"text")[:-5]])
def test_compressed_bytes_that_are_too_large_or_damaged_are_refused(data):
    assert inflate(zlib.compress(b"a" * 1000), 1000) == b"a" * 1000
    with pytest.raises(ValueError):
        inflate(data, 1000)


def test_json_that_is_nested_too_deeply_is_told():
    with pytest.raises(ValueError, match="nested too deeply"):
        parse("[" * 200_000 + "]" * 200_000)


def test_arrow_bytes_whose_offsets_point_nowhere_are_refused():
    pa = pytest.importorskip("pyarrow")
    import numpy as np

    good = arrow.dumps(pa.table({"a": ["hello", "worldworld"]}), compress=False)
    offsets = np.array([0, 5, 15], dtype="i4").tobytes()
    assert good.count(offsets) == 1
    with pytest.raises(ValueError):
        arrow.loads(good.replace(offsets, np.array([0, 5, 1 << 30], dtype="i4").tobytes()))


def test_decorated_functions_and_results_are_pickled_and_copied(monkeypatch):
    import sys
    import types

    module = types.ModuleType(__name__)
    vars(module).update(add=add, plan=plan)
    monkeypatch.setitem(sys.modules, __name__, module)
    for made in (add, plan):
        assert pickle.loads(pickle.dumps(made)) is made
        assert copy.deepcopy(made) is made
    with SqliteStore(":memory:") as store:
        result = plan.run(execution_id="k1", store=store)
    back = pickle.loads(pickle.dumps(result))
    assert (back.output, back.execution_id, dict(back.results)) == (2, "k1", {"add": 2})


@pytest.mark.parametrize("name", ["a\0b", "a\x1b]0;x\x07", "a\nb", "x" * 201])
def test_an_id_that_a_terminal_or_a_file_system_would_act_on_is_refused(name):
    with pytest.raises(ValueError, match="200 characters, all of them printable"):
        check_id(name)


def test_a_cell_of_a_csv_is_no_formula(tmp_path):
    with SqliteStore(tmp_path / "h.db") as store:
        plan.run(execution_id="=1+2", store=store)
        archive.export("=1+2", tmp_path / "t.csv", store=store)
    assert (tmp_path / "t.csv").read_text().splitlines()[1].startswith("'=1+2,")
