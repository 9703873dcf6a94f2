"""Reading in bulk through Arrow: when it is used, and that no other reader or writer is disturbed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from cerebelum_nb import history
from cerebelum_nb._history import arrow, queries
from cerebelum_nb._history.frames import EVENTS, STEPS
from cerebelum_nb._history.sources import snapshot
from cerebelum_nb._store.sqlite import SqliteStore

SECOND_WRITER = """
import sqlite3, sys
try:
    sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None).execute("BEGIN IMMEDIATE")
    print("it got in")
except sqlite3.OperationalError as error:
    print(error)
"""


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(arrow, "pays_off", lambda db: True)


def second_writer(runs):
    done = subprocess.run(
        [sys.executable, "-c", SECOND_WRITER, str(runs.store.path)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.process
def test_reading_in_bulk_leaves_the_locks_of_a_writer_in_this_process(runs, always):
    with runs.store.maintenance("holds the write lock"):
        assert second_writer(runs) == "database is locked"
        history.events(store=runs.store)
        assert second_writer(runs) == "database is locked"


def test_it_reads_the_snapshot_and_not_what_came_later(runs):
    with snapshot(runs.store) as db:
        before = db.execute("SELECT count(*) FROM event").fetchone()
        runs.check("check-3")
        assert arrow.read(db, queries.events(), EVENTS).num_rows == before[0]


def test_no_copy_is_left_behind(runs, always, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "copies"))
    (tmp_path / "copies").mkdir()
    history.events(store=runs.store)
    assert list((tmp_path / "copies").iterdir()) == []


def test_the_log_itself_is_read_if_there_is_no_space_for_a_copy(runs, always, monkeypatch, tmp_path):
    expected = history.events(store=runs.store)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "there is no such folder"))
    pd.testing.assert_frame_equal(history.events(store=runs.store), expected)


def test_a_column_that_begins_with_many_nulls_is_still_text(runs):
    with snapshot(runs.store) as db:
        table = arrow.read(db, queries.steps(), STEPS)
    assert [str(table.schema.field(name).type) for name in ("error", "output", "visit")] == [
        "string",
        "string",
        "int64",
    ]


def test_a_small_log_is_not_copied(runs):
    with snapshot(runs.store) as db:
        assert not arrow.pays_off(db)


def test_a_log_of_many_events_is_copied_and_one_of_large_values_is_not(runs, monkeypatch):
    monkeypatch.setattr(arrow, "FEWEST", 10)
    with snapshot(runs.store) as db:
        monkeypatch.setattr(arrow, "BYTES_AN_EVENT", 10**6)
        assert arrow.pays_off(db)
        monkeypatch.setattr(arrow, "BYTES_AN_EVENT", 1)
        assert not arrow.pays_off(db)


@pytest.mark.parametrize("read", [history.events, history.steps])
def test_one_execution_is_never_worth_a_copy(runs, monkeypatch, read):
    monkeypatch.setattr(arrow, "pays_off", lambda db: pytest.fail("asked"))
    assert len(read("deploy-1", store=runs.store))


def test_a_log_in_memory_is_read_in_bulk_too(runs, always):
    file = history.events(store=runs.store)
    with SqliteStore(":memory:") as memory:
        with snapshot(runs.store) as db:
            db.backup(memory._connected())
        pd.testing.assert_frame_equal(history.events(store=memory), file)


@pytest.mark.soak
@pytest.mark.process
@pytest.mark.timeout(300)
def test_frames_have_the_same_columns_and_dtypes_where_arrow_is_not_installed():
    code = (
        "import sys; sys.modules.update(pyarrow=None, adbc_driver_sqlite=None)\n"
        "import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-c", code, Path(__file__).with_name("test_frames.py")),
            *("-q", "-n", "0", "-p", "no:cacheprovider"),  # a worker would be a process that has pyarrow
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{done.stdout}{done.stderr}", pytrace=False)
