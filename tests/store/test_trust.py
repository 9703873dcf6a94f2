"""Whose log is it: what this user made on this machine is trusted, what came from elsewhere is not until told so."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from cerebelum_nb import archive, connect, history, step, workflow
from cerebelum_nb._store import trust
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._workflow.find import WorkflowFinder, find_workflow, origin_of
from cerebelum_nb.errors import StoreError, UntrustedValueError, WorkflowNotFoundError

from ..fixtures.older import BEFORE_15


class Point:
    """A value that only a pickle holds."""


@step
def build():
    return Point()


@workflow
def deploy(wf):
    wf.timeline(build)


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A log with one run in it, closed."""
    monkeypatch.setattr("cerebelum_nb._store.connect._default", None)
    with SqliteStore(tmp_path / "h.db") as made:
        deploy.run(execution_id="k1", store=made)
    return tmp_path / "h.db"


@pytest.fixture
def elsewhere(log, monkeypatch, tmp_path):
    """The same log on another machine: no process here made it, and the state folder is another user's."""
    monkeypatch.setattr(trust, "_made_here", set())
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return log


def run_sql(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def as_before(path, *statements):
    """Make a log one of the version before logs had ids."""
    run_sql(
        path,
        "DROP TABLE setting",
        "DROP TABLE foreign_execution",
        *BEFORE_15,
        "PRAGMA user_version = 9",
        *statements,
    )


# -- whose it is --------------------------------------------------------------------------------------------


def test_a_log_is_its_maker_s_own_in_another_process(log, monkeypatch):
    monkeypatch.setattr(trust, "_made_here", set())
    with SqliteStore(log) as again:
        assert again.trust == trust.FULL


def test_a_log_from_elsewhere_is_read_but_not_unpickled_and_its_code_is_not_run(elsewhere):
    with SqliteStore(elsewhere) as found:
        assert found.trust == trust.Trust(pickles=False, code=False, schema=False)
        assert history.executions(store=found)["execution_id"].tolist() == ["k1"]
        with pytest.raises(UntrustedValueError, match="trusted=True"):
            history.outputs("k1", store=found)["build"]


def test_who_says_that_a_log_is_trusted_has_its_values_and_not_yet_its_code(elsewhere):
    with SqliteStore(elsewhere, trusted=True) as found:
        assert isinstance(history.outputs("k1", store=found)["build"], Point)
        assert not found.may_run("k1")


@pytest.mark.parametrize("forged", ["../../../../../etc/passwd", "", "g" * 32, "A" * 32])
def test_an_id_that_is_none_is_not_looked_for(elsewhere, forged):
    run_sql(elsewhere, f"UPDATE setting SET value = '{forged}' WHERE name = 'id'")
    with SqliteStore(elsewhere) as found:
        assert not found.trusted


def test_without_a_home_a_log_is_trusted_in_the_process_that_made_it_and_in_no_other(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))  # nothing can be written below it
    SqliteStore(tmp_path / "h.db").close()
    with SqliteStore(tmp_path / "h.db") as again:
        assert again.trusted
    monkeypatch.setattr(trust, "_made_here", set())
    with SqliteStore(tmp_path / "h.db") as again:
        assert not again.trusted


def test_the_state_folder_and_the_ids_in_it_are_private(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    SqliteStore(tmp_path / "h.db").close()
    (mark,) = trust.state_folder().iterdir()
    assert mark.stat().st_mode & 0o077 == 0 and trust.state_folder().stat().st_mode & 0o077 == 0
    assert mark.read_text() == f"{tmp_path / 'h.db'}\n"


def test_marks_of_logs_that_are_gone_are_deleted_when_there_are_many(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(trust, "_MOST_MARKS", 2)
    monkeypatch.setattr(trust, "_PRUNED_EVERY", 1)
    marks = {}
    for name in ("kept", "moved", "gone", "new"):
        before = set(trust.state_folder().glob("*"))
        SqliteStore(tmp_path / name).close()
        (marks[name],) = set(trust.state_folder().glob("*")) - before
    long_ago = time.time() - 2 * 365 * 86_400
    for name in ("kept", "moved", "gone"):
        os.utime(marks[name], (long_ago, long_ago))
    (tmp_path / "moved").rename(tmp_path / "elsewhere")
    monkeypatch.setattr(trust, "_made_here", set())
    with SqliteStore(tmp_path / "elsewhere") as moved:  # opened once in that time
        assert moved.trusted
    (tmp_path / "gone").unlink()
    SqliteStore(tmp_path / "another").close()
    assert {name for name, mark in marks.items() if mark.exists()} == {"kept", "moved", "new"}


def test_making_a_log_takes_as_long_with_many_marks(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    looked = []
    monkeypatch.setattr(trust, "_prune", looked.append)
    for number in range(100):
        SqliteStore(tmp_path / f"{number}.db").close()
    assert len(looked) < 20, "one in 256 looks through all the marks"


# -- logs of the version before -----------------------------------------------------------------------------


def test_an_older_log_that_a_process_of_this_machine_used_since_it_was_started_is_adopted(elsewhere):
    with SqliteStore(elsewhere) as found:
        found.register(0, 1)
    as_before(elsewhere)
    with SqliteStore(elsewhere) as found:
        assert found.trust == trust.FULL
    with SqliteStore(elsewhere) as found:
        assert found.trust == trust.FULL


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM holder",
        "UPDATE holder SET boot_id = 'another-boot/1'",
        "UPDATE holder SET boot_id = ''",
    ],
)
def test_an_older_log_that_does_not_show_it_is_not_trusted_until_told_so_once(elsewhere, change):
    with SqliteStore(elsewhere) as found:
        found.register(0, 1)
    as_before(elsewhere, change)
    for _ in range(2):
        with SqliteStore(elsewhere) as found:
            assert not found.trusted
    SqliteStore(elsewhere, trusted=True).close()
    with SqliteStore(elsewhere) as found:
        assert found.trust == trust.FULL


def test_an_older_log_that_everybody_may_write_to_is_not_adopted(elsewhere):
    with SqliteStore(elsewhere) as found:
        found.register(0, 1)
    as_before(elsewhere)
    os.chmod(elsewhere, 0o666)  # noqa: PTH101
    with SqliteStore(elsewhere) as found:
        assert not found.trusted


# -- code ---------------------------------------------------------------------------------------------------

SCRIPT = """
from pathlib import Path
from cerebelum_nb import step, workflow
Path(__file__).with_name("ran").touch()
@step
def build(): return 1
@workflow
def deploy(wf): wf.timeline(build)
"""


@pytest.fixture
def unpacked(log, tmp_path):
    """A log of this user's that an execution was unpacked into; it names a script."""
    (tmp_path / "theirs.py").write_text(SCRIPT)
    with SqliteStore(log) as store:
        archive.pack("k1", tmp_path / "k1.cerebelum", store=store)
    with SqliteStore(tmp_path / "mine.db") as mine:
        archive.unpack(tmp_path / "k1.cerebelum", store=mine)
        yield mine


def origin(store, tmp_path, execution_id="k1"):
    import dataclasses

    found = origin_of(store, execution_id)
    return dataclasses.replace(found, module="__main__", source=str(tmp_path / "theirs.py"))


def test_an_execution_that_was_unpacked_does_not_choose_the_code_that_is_run(unpacked, tmp_path):
    named = origin(unpacked, tmp_path)
    assert not unpacked.may_run("k1")
    for find in (
        lambda: find_workflow(named, "k1", may_run=unpacked.may_run("k1")),
        lambda: WorkflowFinder(dict).find(named, "k1", may_run=unpacked.may_run("k1")),
    ):
        with pytest.raises(WorkflowNotFoundError, match=r"resume k1 --module \S*theirs\.py"):
            find()
    assert not (tmp_path / "ran").exists()
    assert find_workflow(named, "k1", module=str(tmp_path / "theirs.py"), may_run=False).name == "deploy"


def test_nor_does_a_module_that_is_not_imported_yet(unpacked, tmp_path):
    import dataclasses

    named = dataclasses.replace(origin(unpacked, tmp_path), module="antigravity")
    with pytest.raises(WorkflowNotFoundError, match="'antigravity' as its code"):
        find_workflow(named, "k1", may_run=False)


def test_a_fork_of_it_and_a_pack_of_it_are_from_elsewhere_too(unpacked, tmp_path):
    unpacked.trusted = True
    deploy.fork_sync("k1", "build", fork_id="k2", store=unpacked)
    deploy.run(execution_id="k3", store=unpacked)
    assert [unpacked.may_run(name) for name in ("k1", "k2", "k3")] == [False, False, True]
    archive.pack("k1", tmp_path / "again.cerebelum", store=unpacked)
    with SqliteStore(tmp_path / "again.cerebelum") as again:
        assert not again.may_run("k1")


# -- schema -------------------------------------------------------------------------------------------------

TRIGGER = "CREATE TRIGGER quiet AFTER INSERT ON holder BEGIN UPDATE execution SET workflow = 'changed'; END"
ALIEN = {
    "a trigger": [TRIGGER],
    "a view": ["CREATE VIEW quiet AS SELECT 1"],
    "a changed view": ["DROP VIEW steps", "CREATE VIEW steps AS SELECT 1"],
    "a changed guard": [
        "DROP TRIGGER event_no_update",
        "CREATE TRIGGER event_no_update AFTER INSERT ON event BEGIN SELECT 1; END",
    ],
}


@pytest.mark.parametrize(
    ("version", "change"),
    # The views of an older log are made again before they are read.
    [(v, c) for v in ("current", "older") for c in ALIEN if (v, c) != ("older", "a changed view")],
)
def test_what_would_run_by_itself_in_a_log_from_elsewhere_is_refused_by_its_name(elsewhere, change, version):
    if version == "older":
        as_before(elsewhere, "DELETE FROM holder")
    run_sql(elsewhere, *ALIEN[change])
    before = Path(elsewhere).read_bytes()
    with pytest.raises(StoreError, match=r"the (trigger|view) (quiet|steps|event_no_update).*trusted=True"):
        SqliteStore(elsewhere)
    with pytest.raises(StoreError, match=r"quiet|steps|event_no_update"):
        archive.unpack(elsewhere, store=elsewhere.with_name("mine.db"))
    assert Path(elsewhere).read_bytes() == before


def test_a_changed_view_of_an_older_log_is_made_again_before_it_is_read(elsewhere):
    run_sql(elsewhere, *ALIEN["a changed view"])
    as_before(elsewhere, "DELETE FROM holder")
    with SqliteStore(elsewhere) as found:
        assert history.sql("SELECT step FROM steps", store=found)["step"].tolist() == ["build"]


def test_triggers_of_one_s_own_are_one_s_own_and_verify_tells_them(log):
    run_sql(log, TRIGGER, "CREATE INDEX fast ON execution (error)")
    with SqliteStore(log) as own:
        own.register(0, 1)
    told = [found.message for found in archive.verify(store=log).findings]
    assert "the trigger quiet does not belong to a log" in told and "the index fast does not belong to a log" in told


def test_a_view_in_place_of_a_table_is_told_and_not_read(log):
    run_sql(log, "PRAGMA foreign_keys = OFF", "PRAGMA legacy_alter_table = ON", "ALTER TABLE payload RENAME TO was")
    run_sql(log, "CREATE VIEW payload AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i FROM n")
    found = archive.verify(store=log)
    assert [one.message for one in found.findings] == ["the table payload is gone, and a view has taken its place"]


# -- how it was connected to --------------------------------------------------------------------------------


def test_whoever_continues_by_the_path_has_the_settings_of_the_last_connect(tmp_path, monkeypatch):
    monkeypatch.setattr("cerebelum_nb._store.connect._default", None)
    connect(tmp_path / "h.db", durability="normal", hibernate_after=timedelta(minutes=5)).close()
    with SqliteStore(tmp_path / "h.db") as again:
        assert (again.durability, again.hibernate_after) == ("normal", timedelta(minutes=5))
    with SqliteStore(tmp_path / "h.db", durability="full") as again:
        assert again.durability == "full"
    connect(tmp_path / "h.db").close()
    with SqliteStore(tmp_path / "h.db") as again:
        assert (again.durability, again.hibernate_after) == ("full", timedelta(hours=1))


def test_a_copy_of_one_s_own_log_is_one_s_own(log):
    shutil.copy(log, log.with_name("copy.db"))
    with SqliteStore(log.with_name("copy.db")) as copy:
        assert copy.trusted
