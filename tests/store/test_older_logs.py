"""Logs that older commits wrote, as users have them: today's code reads, verifies, resumes and forks them.

The logs are in tests/fixtures, made by make_log.py there with the older code. Each holds an event of every type.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from cerebelum_nb import connect, history
from cerebelum_nb._core.events import EVENT_TYPES
from cerebelum_nb._core.fold import fold
from cerebelum_nb._store.schema import SCHEMA_VERSION
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.archive import pack, unpack, verify
from cerebelum_nb.testing import FakeClock

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
LOGS = sorted(FIXTURES.glob("*.db"))


@pytest.fixture(params=LOGS, ids=lambda path: path.stem)
def log(request, tmp_path):
    path = tmp_path / request.param.name
    shutil.copy(request.param, path)
    with SqliteStore(path, durability="normal") as log, FakeClock():
        log.hibernate_after = timedelta.max  # the clock jumps: waits end in this process
        yield log


@pytest.fixture
def shop(monkeypatch):
    monkeypatch.syspath_prepend(str(FIXTURES))
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    import shop

    shop.BROKEN[0] = False
    yield shop
    sys.modules.pop("shop", None)


def test_it_is_brought_up_to_date(log):
    with closing(log.read_connection()) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


@pytest.mark.parametrize("older", LOGS, ids=lambda path: path.stem)
def test_it_is_read_as_it_is_where_nothing_may_be_written(older, tmp_path):
    path = Path(shutil.copy(older, tmp_path / older.name))
    before = path.read_bytes()
    with SqliteStore(path, read_only=True) as log:
        rows, total = log.executions(caller="")
        assert total == len(rows) > 1 and {row.summary.caller for row in rows} == {None}
        assert log.execution("every").version == len(log.events("every"))
        assert len(history.executions(store=log)) == total
    assert path.read_bytes() == before


def test_events_of_every_type_it_could_hold_are_read(log):
    found = {type(event).__name__ for event in log.events("every")}
    with closing(sqlite3.connect(next(path for path in LOGS if path.name == log.path.name))) as db:
        written = {kind for (kind,) in db.execute("SELECT DISTINCT type FROM event")}
    assert found == written and found <= EVENT_TYPES.keys() and len(found) >= 33


def test_it_verifies(log):
    found = verify(store=log)
    assert found.ok, str(found)


def test_every_run_folds_and_shows(log):
    for row in log.executions()[0]:
        assert fold(log.events(row.execution_id)).version == row.version
        assert len(history.events(row.execution_id, expand=True, store=log)) == row.version
    assert len(list(history.replay("failed", store=log))) == log.execution("failed").version
    assert history.outputs("done", store=log)["price"] == 42
    assert history.steps("failed", store=log)["error_type"].dropna().tolist() == ["OSError"]
    assert set(history.executions(store=log)["execution_id"]) == {"done", "failed", "approving", "forked", "every"}
    assert history.diff("failed", "forked", store=log)["output_changed"].any()
    if log.path.stem != "c53f978":  # it holds no plans; those of the others are plain text
        assert history.graph("done", store=log).plan.workflow == "quick"


def test_it_is_asked_as_it_is_where_it_may_not_be_written(log, tmp_path):
    shutil.copy(next(path for path in LOGS if path.name == log.path.name), tmp_path / "kept.db")
    with SqliteStore(tmp_path / "kept.db", read_only=True) as kept:
        both = history.open({"kept": kept, "now": log})
        counts = both.sql("SELECT log, count(*) AS n FROM steps GROUP BY 1 ORDER BY 1")
        assert counts["n"].nunique() == 1, "the same columns and rows, though its own views are older"
        assert history.executions(store=kept)["error_type"].dropna().tolist() == ["OSError"]


async def test_what_failed_is_resumed(log, shop):
    result = await shop.shop.resume("failed", store=log)
    assert result.output == {"shipped": 42}
    steps = history.steps("failed", store=log)
    assert steps[steps["step"] == "agree"]["attempt"].tolist() == [1], "what was finished is not run again"
    assert history.graph("failed", store=log).states["ship"] == "completed", "a resume records the plan"


async def test_a_fork_of_it_runs(log, shop):
    result = await shop.shop.fork("failed", from_step="ship", store=log, fork_id="again")
    assert result.output == {"shipped": 42}
    assert verify(store=log).ok


async def test_a_fork_in_it_is_forked(log, shop):
    result = await shop.shop.fork("forked", from_step="cool_down", store=log, fork_id="third")
    assert result.output == {"shipped": 42}


def test_a_run_is_carried_into_another_log(log, tmp_path):
    pack("failed", tmp_path / "failed.cerebelum", store=log)
    with connect(tmp_path / "other.db") as other:
        unpack(tmp_path / "failed.cerebelum", store=other)
        assert verify(store=other).ok
        assert history.outputs("failed", store=other)["price"] == 42
