"""Limits of what a log from anybody may cost; values are harmless in other processes and in spreadsheets."""

from __future__ import annotations

import copy
import pickle
import zlib

import pytest
from click.testing import CliRunner

from cerebelum_nb import SerializationError, archive, history, step, workflow
from cerebelum_nb._cli import main
from cerebelum_nb._core import events as e
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._core.value import ErrorInfo, Value
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._text.json_text import indented, parse
from cerebelum_nb._values import arrow, decode
from cerebelum_nb._values.bounds import inflate
from cerebelum_nb._workflow.execution_id import check_id


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


def test_json_that_is_nested_too_deeply_is_a_value_error():
    with pytest.raises(ValueError, match="nested too deeply"):
        parse("[" * 200_000 + "]" * 200_000)


def test_arrow_bytes_with_offsets_outside_the_data_are_refused():
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra [arrow])")
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
    with pytest.raises(ValueError, match="200 characters, all printable"):
        check_id(name)


def test_a_cell_of_a_csv_is_not_a_formula(tmp_path):
    with SqliteStore(tmp_path / "h.db") as store:
        plan.run(execution_id="=1+2", store=store)
        archive.export("=1+2", tmp_path / "t.csv", store=store)
    assert (tmp_path / "t.csv").read_text().splitlines()[1].startswith("'=1+2,")


DEEP = "[" * 100_000 + "]" * 100_000


def test_json_that_is_nested_too_deeply_is_not_indented():
    assert indented(DEEP) == DEEP
    assert indented("[" * 900 + "]" * 900).count("[") == 900
    assert indented('{"a":1}') == '{\n  "a": 1\n}'


@pytest.mark.parametrize("codec", ["json", "tagged"])
def test_a_value_that_is_nested_too_deeply_cannot_be_restored_and_says_so(codec):
    with pytest.raises(SerializationError, match=r"The output of step 'a' .* nested too deeply"):
        decode(Value(codec, DEEP), lambda digest: b"", where="The output of step 'a'")


@pytest.fixture
def hostile(tmp_path):
    """Make a log whose run holds values that are nested too deeply for Python."""
    header = {"step": "deep", "visit": 1, "attempt": 1}
    value = Value("json", f'{{"a":{DEEP}}}')
    error = ErrorInfo(type="ValueError", message="no")
    events = [
        e.WorkflowStarted(at=1, workflow="w", inputs=value, total_steps=2),
        e.StepStarted(at=2, **header),
        e.ApprovalRequested(at=3, **header, op="approval:go", approval_type="go", data=value),
        e.ApprovalReceived(at=4, **header, op="approval:go", response=value),
        e.StepCompleted(at=5, **header, output=value),
        e.StepStarted(at=6, step="bad", visit=1, attempt=1),
        e.StepFailed(at=7, step="bad", visit=1, attempt=1, error=error, output=value),
        e.WorkflowFailed(at=8, error=error, failed_step="bad"),
    ]
    with SqliteStore(tmp_path / "h.db", durability="normal") as store:
        held = store.register(1, 10**9)
        summary = summarise(fold(events))
        store.commit([Commit(execution_id="k1", after=0, events=events, summary=summary, holder=held, release=True)])
        yield store


@pytest.mark.parametrize(
    "command",
    [
        "status k1",
        "status k1 --json",
        "events k1",
        "events k1 --json",
        "list --json",
        "debug k1",
        "export k1 -o out.html",
        "pack k1 -o out.cerebelum",
        "pack k1 -o scrubbed.cerebelum --redact password",
    ],
)
def test_every_command_reads_a_log_whose_json_is_nested_too_deeply(hostile, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["--db", str(hostile.path), *command.split()], input="show a\nnext\nquit\n")
    assert not isinstance(done.exception, RecursionError), command
    assert done.exception is None or isinstance(done.exception, SystemExit), (command, done.exception)


def test_every_frame_reads_a_log_whose_json_is_nested_too_deeply(hostile):
    assert history.executions(expand=True, store=hostile)["execution_id"].tolist() == ["k1"]
    assert len(history.steps(expand=True, store=hostile)) == 2
    assert len(history.events("k1", expand=True, store=hostile)) == 8
