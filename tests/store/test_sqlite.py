"""The SQLite store as a file: what it guards, what it shows, and what it says when the file is not right."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from cerebelum_nb._core.events import (
    StepCompleted,
    StepFailed,
    StepInterrupted,
    StepRetried,
    StepStarted,
    WorkflowCompleted,
)
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._core.value import ErrorInfo, Value
from cerebelum_nb._store.base import Rejection, patience
from cerebelum_nb._store.executions import STARTED
from cerebelum_nb._store.opening import explain
from cerebelum_nb._store.schema import SCHEMA_VERSION
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import StoreError

from ..programs import run

NO = ErrorInfo(type="ValueError", message="no")


@pytest.fixture
def db(sqlite_log):
    """Another program's connection to the log."""
    with closing(sqlite3.connect(sqlite_log.store.path, isolation_level=None)) as connection:
        yield connection


def dicts(connection, sql, *values):
    cursor = connection.execute(sql, values)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


# -- the log is append-only ---------------------------------------------------------------------------------


def test_another_program_appends_the_next_event_by_its_key(sqlite_log, db):
    sqlite_log.start("deploy-1")
    for version, kind in ((2, 0), (3, 1), (4, "'StepStarted'"), (5, "'Its'")):
        db.execute(f"INSERT INTO event (key, kind, at) VALUES ((1 << 32) + {version}, {kind}, 0)")
    appended = db.execute("SELECT execution, version, type FROM event WHERE version > 1").fetchall()
    types = ("StepStarted", "StepCompleted", "StepStarted", "Its")
    assert appended == [(1, version, type_) for version, type_ in enumerate(types, 2)]
    db.execute("INSERT INTO event (key, kind, at) VALUES ((2 << 32) + 1, 'Its', 0)")
    with pytest.raises(sqlite3.IntegrityError, match="not the next version"):
        db.execute("INSERT INTO event (key, kind, at) VALUES ((2 << 32) + 3, 'Its', 0)")


def test_a_process_of_an_older_version_that_has_the_log_open_appends_nothing(sqlite_log, db):
    sqlite_log.start("deploy-1")
    columns = "key, execution, version, type, step, visit, attempt, at, data, hash"
    with pytest.raises(sqlite3.OperationalError, match="generated column"):
        db.execute(f"INSERT INTO event ({columns}) VALUES ((1 << 32) + 2, 1, 2, 'Its', 'a', 1, 1, 0, NULL, NULL)")


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE event SET at = 0",
        "UPDATE OR REPLACE event SET key = key + 1 WHERE version = 1",
        "DELETE FROM event",
        "DELETE FROM event WHERE version = 3",
        "UPDATE event SET kind = 'Forged'",
        "INSERT INTO event (key, kind, at) VALUES ((1 << 32) + 3, 'Forged', 0)",
        "INSERT OR REPLACE INTO event (key, kind, at) VALUES ((1 << 32) + 3, 'Forged', 0)",
        "REPLACE INTO event (key, kind, at) VALUES ((1 << 32) + 1, 'Forged', 0)",
        "INSERT OR IGNORE INTO event (key, kind, at) VALUES ((1 << 32) + 6, 'Forged', 0)",
        "INSERT INTO event (key, kind, at) VALUES ((1 << 32) + 6, 'Forged', 0)",
        "INSERT INTO event (key, kind, at) VALUES (1 << 32, 'Forged', 0)",
        "INSERT INTO event (key, kind, at) VALUES ((2 << 32) - 1, 'Forged', 0)",
        "INSERT INTO event (key, kind, at) VALUES ((2 << 32) + 2, 'Forged', 0)",
        "INSERT INTO event (key, kind, at) VALUES (-1, 'Forged', 0)",
        "INSERT INTO event (kind, at) VALUES ('Forged', 0)",
        "INSERT OR REPLACE INTO event (kind, at) VALUES ('Forged', 0)",
        """INSERT INTO event (key, kind, at) VALUES ((1 << 32) + 3, 'Forged', 0)
           ON CONFLICT (key) DO UPDATE SET kind = 'Forged'""",
        "DELETE FROM payload",
        "UPDATE payload SET data = x'00'",
    ],
)
@pytest.mark.parametrize("recursive", ["ON", "OFF"])
def test_the_database_refuses_to_change_history(sqlite_log, db, sql, recursive):
    value = Value("arrow", digest="d1", size=1, payload=b"1")
    sqlite_log.start("deploy-1")
    sqlite_log.append("deploy-1", 1, *sqlite_log.step(), StepCompleted(at=1, step="load", output=value))
    before = db.execute("SELECT * FROM event").fetchall()
    db.execute(f"PRAGMA recursive_triggers = {recursive}")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(sql)
    assert db.execute("SELECT * FROM event").fetchall() == before
    assert sqlite_log.store.payload("d1") == b"1"


def test_nothing_is_appended_behind_an_event_that_is_not_there(sqlite_log, db):
    sqlite_log.start("deploy-1")
    db.execute("UPDATE execution SET version = 5")
    assert sqlite_log.append("deploy-1", 5, *sqlite_log.step()) == {"deploy-1": Rejection.STALE}
    with pytest.raises(StoreError, match="append-only"):
        sqlite_log.append("deploy-1", 5, *sqlite_log.move(), is_move=True)
    assert sqlite_log.append("deploy-1", 1, *sqlite_log.step()) == {"deploy-1": Rejection.STALE}
    assert len(sqlite_log.store.events("deploy-1")) == 1


def test_bytes_under_a_digest_are_never_replaced(sqlite_log, db):
    sqlite_log.start("deploy-1")
    value = Value("arrow", digest="d1", size=1, payload=b"1")
    sqlite_log.append("deploy-1", 1, StepCompleted(at=1, step="load", output=value))
    db.execute("INSERT OR REPLACE INTO payload (digest, codec, data) VALUES ('d1', 'arrow', x'00')")
    assert sqlite_log.store.payload("d1") == b"1"


def test_maintenance_may_delete_and_leaves_the_guards_standing(sqlite_log, db):
    sqlite_log.start("deploy-1")
    with sqlite_log.store.maintenance("prune") as inside:
        inside.execute("DELETE FROM event")
        inside.execute("DELETE FROM execution")
    assert sqlite_log.store.executions() == ([], 0)
    sqlite_log.start("deploy-2")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute("DELETE FROM event")


def test_maintenance_that_fails_changes_nothing(sqlite_log):
    sqlite_log.start("deploy-1")

    def prune():
        with sqlite_log.store.maintenance("prune") as inside:
            inside.execute("DELETE FROM event")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune()
    assert len(sqlite_log.store.events("deploy-1")) == 1
    assert sqlite_log.append("deploy-1", 1, *sqlite_log.step()) == {}


def test_an_execution_made_again_under_a_pruned_id_is_not_taken_for_the_old_one(sqlite_log, tmp_path):
    sqlite_log.start("deploy-1")
    with SqliteStore(tmp_path / "log.db", durability="normal") as other:
        with other.maintenance("prune") as inside:
            inside.execute("DELETE FROM event")
            inside.execute("DELETE FROM execution")
        other.commit([sqlite_log.commit("deploy-2", 0, *sqlite_log.step()[:1])])
    assert sqlite_log.append("deploy-1", 1, *sqlite_log.step()) == {"deploy-1": "lost"}
    assert len(sqlite_log.store.events("deploy-2")) == 1


# -- the views ----------------------------------------------------------------------------------------------


def test_the_executions_view_reads_well(sqlite_log, db):
    now, second = sqlite_log.now, sqlite_log.second
    sqlite_log.start("deploy-1", parent="deploy-0", total_steps=3, wake_at=now + 60 * second)
    (row,) = dicts(db, "SELECT * FROM executions")
    assert row == {
        "execution_id": "deploy-1",
        "workflow": "deploy",
        "state": "RUNNING",
        "started_at": "2026-11-20T13:00:00.123456Z",
        "updated_at": "2026-11-20T13:00:00.123456Z",
        "completed_at": None,
        "total_steps": 3,
        "done_steps": 0,
        "current_step": None,
        "inputs": '{"size":"s-1"}',
        "output": None,
        "error": None,
        "wake_at": "2026-11-20T13:01:00.123456Z",
        "parent": "deploy-0",
        "parent_version": None,
        "version": 1,
        "holder": f"process {os.getpid()} on {os.uname().nodename}",
        "error_type": None,
        "caller": None,
        "name": None,
        "tags": None,
    }


def test_a_completed_execution_shows_the_output_of_its_last_step(sqlite_log, db):
    sqlite_log.start("deploy-1")
    done = WorkflowCompleted(at=9, last_step="notify")
    steps = (*sqlite_log.step("notify", output="true"), *sqlite_log.step("other"), done)
    sqlite_log.append("deploy-1", 1, *steps, release=True, state=ExecutionState.COMPLETED, completed_at=9)
    (row,) = dicts(db, "SELECT output, completed_at, holder FROM executions")
    assert row == {"output": "true", "completed_at": "1970-01-01T00:00:00.000009Z", "holder": None}


def test_the_events_view_reads_well(sqlite_log, db):
    sqlite_log.start("deploy-1")
    sqlite_log.append("deploy-1", 1, StepStarted(at=sqlite_log.now, step="migrate", visit=2, attempt=3))
    assert dicts(db, "SELECT * FROM events WHERE version = 2") == [
        {
            "execution_id": "deploy-1",
            "version": 2,
            "type": "StepStarted",
            "step": "migrate",
            "visit": 2,
            "attempt": 3,
            "at": "2026-11-20T13:00:00.123456Z",
            "data": "{}",
            "item": None,
        }
    ]


def test_the_steps_view_has_one_row_per_attempt(sqlite_log, db):
    now, second = sqlite_log.now, sqlite_log.second
    history = [
        StepStarted(at=now, step="migrate", code="c0de"),
        StepRetried(at=now + second // 2, step="migrate", error=NO, due_at=now + second),
        StepStarted(at=now + second, step="migrate", attempt=2, code="c0de"),
        StepStarted(at=now + second, step="build"),
        StepCompleted(at=now + 3 * second, step="migrate", attempt=2, output=Value("json", '"done"')),
        StepInterrupted(at=now + 4 * second, step="build", reason="stop"),
        StepStarted(at=now + 5 * second, step="build", attempt=2),
        StepFailed(
            at=now + 6 * second,
            step="build",
            attempt=2,
            error=ErrorInfo(type="dict", message="no", reason="out of space"),
            output=Value("json", '{"error":"out of space"}'),
        ),
        StepCompleted(at=now + 7 * second, step="build", visit=2, output=Value("json", "7"), by_hand=True),
        StepStarted(at=now + 8 * second, step="verify"),
    ]
    sqlite_log.start("deploy-1")
    sqlite_log.append("deploy-1", 1, *history)
    seen = "step, visit, attempt, state, duration, output, error, code_hash"
    assert db.execute(f"SELECT {seen} FROM steps").fetchall() == [
        ("migrate", 1, 1, "RETRIED", 0.5, None, "ValueError: no", "c0de"),
        ("migrate", 1, 2, "COMPLETED", 2.0, '"done"', None, "c0de"),
        ("build", 1, 1, "INTERRUPTED", 3.0, None, None, None),
        ("build", 1, 2, "FAILED", 1.0, '{"error":"out of space"}', "out of space", None),
        ("build", 2, 1, "COMPLETED", 0.0, "7", None, None),
        ("verify", 1, 1, "RUNNING", None, None, None, None),
    ]
    (row,) = dicts(db, "SELECT * FROM steps WHERE step = 'migrate' AND attempt = 2")
    assert row["execution_id"] == "deploy-1"
    assert row["workflow"] == "deploy"
    assert row["started_at"] == "2026-11-20T13:00:01.123456Z"
    assert row["completed_at"] == "2026-11-20T13:00:03.123456Z"


def test_an_attempt_that_began_again_shows_its_last_start(sqlite_log, db):
    now, second = sqlite_log.now, sqlite_log.second
    sqlite_log.start("deploy-1")
    interrupted = StepInterrupted(at=now + second, step="build", reason="its process died")
    sqlite_log.append("deploy-1", 1, StepStarted(at=now, step="build"), interrupted)
    sqlite_log.append("deploy-1", 3, *sqlite_log.step("build", at=now + 5 * second))
    assert db.execute("SELECT state, duration FROM steps").fetchall() == [("COMPLETED", 1.0)]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Value("json", "[NaN, 1]"), "[NaN, 1]"),
        (Value("json", '"a,\\"output\\":b"'), '"a,\\"output\\":b"'),
        (Value("json", '{"output":{"output":"é😀"}}'), '{"output":{"output":"é😀"}}'),
        (Value("json", '"***"', masked=("output",)), '"***"'),
        (Value("arrow", type="DataFrame", digest="d"), '{"codec":"arrow","type":"DataFrame","digest":"d"}'),
    ],
)
@pytest.mark.parametrize("by_hand", [False, True])
def test_outputs_are_shown_as_they_are(sqlite_log, db, value, shown, by_hand):
    sqlite_log.start("deploy-1")
    sqlite_log.append("deploy-1", 1, StepCompleted(at=1, step="load", output=value, by_hand=by_hand))
    assert db.execute("SELECT output FROM steps").fetchone() == (shown,)


def test_a_failure_whose_output_sqlite_cannot_parse_does_not_break_the_view(sqlite_log, db):
    sqlite_log.start("deploy-1")
    failed = StepFailed(at=1, step="load", error=NO, output=Value("json", '{"error": NaN}'))
    sqlite_log.append("deploy-1", 1, failed)
    assert db.execute("SELECT output, error FROM steps").fetchone() == ('{"error": NaN}', None)


@pytest.mark.parametrize("view", ["executions", "events", "steps"])
def test_a_filter_on_execution_id_goes_by_the_keys(sqlite_log, db, view):
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN SELECT * FROM {view} WHERE execution_id = 'x'")]
    assert any("SEARCH x USING" in line and "(execution_id=?)" in line for line in plan)
    assert not [line for line in plan if line in ("SCAN x", "SCAN e", "SCAN last", "SCAN first")]


@pytest.mark.parametrize(
    ("where", "index"),
    [
        ("", "execution_by_start"),
        ("WHERE workflow = 'w'", "execution_by_workflow"),
        ("WHERE state = 'FAILED'", "execution_by_state"),
    ],
)
def test_lists_newest_first_need_no_sorting(sqlite_log, db, where, index):
    sql = f"SELECT * FROM execution {where} ORDER BY {STARTED} DESC, key DESC LIMIT 50"
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")]
    assert index in plan[0]
    assert not [line for line in plan if "TEMP B-TREE" in line]


def test_a_step_costs_little_room(tmp_path, log_of):
    path = tmp_path / "log.db"
    with SqliteStore(path, durability="normal") as store:
        log = log_of(store)
        for run in range(20):
            log.start(f"deploy-{run}")
            for after in range(1, 201, 2):
                log.append(f"deploy-{run}", after, *log.step(f"step_{after}"))
    assert path.stat().st_size / 2000 < 250


# -- the file -----------------------------------------------------------------------------------------------


def test_a_log_is_there_when_it_is_opened_again(tmp_path, log_of):
    path = tmp_path / "a" / "folder" / "log.db"
    with SqliteStore(path) as store:
        log_of(store).start("deploy-1")
    with SqliteStore(str(path), durability="normal", trusted=False) as store:
        assert len(store.events("deploy-1")) == 1
        assert (store.path, store.trusted) == (path, False)
        assert repr(store) == f"SqliteStore({str(path)!r}, durability='normal')"


@pytest.mark.process
def test_opening_a_log_that_is_there_imports_neither_sqlite_utils_nor_pandas(sqlite_log):
    code = (
        "import sys; from cerebelum_nb._store.sqlite import SqliteStore; SqliteStore(sys.argv[1]).close();"
        "print([m for m in ('pandas', 'sqlite_utils') if m in sys.modules])"
    )
    ran = run([sys.executable, "-c", code, sqlite_log.store.path], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


# -- the room that is made in the -wal file ------------------------------------------------------------------


@pytest.fixture
def roomy(tmp_path, log_of):
    """A synced log whose -wal file has been made long, with its files as they were copied between the commits."""
    log = log_of(SqliteStore(tmp_path / "room.db", durability="full"))
    log.start("x")
    lengths = []
    for number in range(1, 40):
        log.append("x", number, StepStarted(at=number, step=f"s{number}"))
        lengths.append((tmp_path / "room.db-wal").stat().st_size)
    yield log, lengths
    log.store.close()


def test_a_synced_log_makes_room_once_and_no_later_commit_lengthens_the_file(roomy):
    _, lengths = roomy
    assert lengths[0] < 100_000
    assert lengths[-1] > 1_800_000
    assert len(set(lengths[-8:])) == 1


def test_what_room_was_made_for_is_in_a_copy_of_the_files(roomy, tmp_path):
    log, _ = roomy
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"room.db{suffix}", tmp_path / f"copy.db{suffix}")
    with SqliteStore(tmp_path / "copy.db") as copy:
        assert copy.events("x") == log.store.events("x")
        assert closing_check(copy) == "ok"


@pytest.mark.parametrize("kept", [0.001, 0.01, 0.05, 0.2, 0.9])
def test_a_torn_wal_file_leaves_the_commits_before_the_tear(roomy, tmp_path, kept):
    log, _ = roomy
    shutil.copy(tmp_path / "room.db", tmp_path / "torn.db")
    whole = (tmp_path / "room.db-wal").read_bytes()
    (tmp_path / "torn.db-wal").write_bytes(whole[: round(len(whole) * kept)])
    with SqliteStore(tmp_path / "torn.db") as torn:
        there, everything = torn.events("x") if torn.executions()[1] else [], log.store.events("x")
        assert there == everything[: len(there)]
        assert len(there) == len(everything) or kept < 0.2
        assert closing_check(torn) == "ok"


def closing_check(store):
    with closing(store.read_connection()) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone()[0]


def test_durability_is_what_was_asked_for(tmp_path):
    for durability, level in (("full", 2), ("normal", 1)):
        with SqliteStore(tmp_path / "log.db", durability=durability) as store, store._reading() as db:
            assert db.execute("PRAGMA synchronous").fetchone() == (level,)
            assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with pytest.raises(ValueError, match="'full' or 'normal'"):
        SqliteStore(tmp_path / "log.db", durability="off")


def test_leases_and_heartbeats_do_not_wait_for_the_disk(tmp_path, log_of):
    log = log_of(SqliteStore(tmp_path / "log.db", durability="full"))
    log.start("x")
    store, db, said = log.store, log.store._db, []
    db.set_trace_callback(lambda sql: said.append(sql) if sql.split()[0] in ("PRAGMA", "BEGIN", "COMMIT") else None)
    unsynced = ["PRAGMA synchronous = NORMAL", "BEGIN IMMEDIATE", "COMMIT", "PRAGMA synchronous = FULL"]
    store.register(0, 9)
    assert said == unsynced
    for write in (
        lambda: store.heartbeat(log.me, 1, 9),
        lambda: store.release("x", log.me),
        lambda: store.claim("x", log.me, 2),
    ):
        said.clear()
        write()
        assert said == unsynced
    said.clear()
    log.append("x", 1, StepStarted(at=1, step="s"))
    assert said == ["BEGIN IMMEDIATE", "COMMIT"]
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        token = patience.set(0.0)
        with pytest.raises(StoreError, match="locked"):
            store.heartbeat(log.me, 3, 9)
        patience.reset(token)
    assert db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_log_in_memory_works_and_can_be_read_beside(log_of):
    with SqliteStore(":memory:") as store:
        log_of(store).start("deploy-1")
        assert store.path is None
        with closing(store.read_connection()) as reader:
            assert reader.execute("SELECT execution_id FROM executions").fetchall() == [("deploy-1",)]
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                reader.execute("DELETE FROM holder")


def test_a_read_connection_sees_commits_and_cannot_write(sqlite_log):
    with closing(sqlite_log.store.read_connection()) as reader:
        sqlite_log.start("deploy-1")
        assert reader.execute("SELECT count(*) FROM events").fetchone() == (1,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("DELETE FROM holder")


def test_the_data_version_changes_when_somebody_else_commits(sqlite_log, tmp_path, log_of):
    before = sqlite_log.store.data_version()
    sqlite_log.start("deploy-1")
    assert sqlite_log.store.data_version() == before
    with SqliteStore(tmp_path / "log.db") as other:
        log_of(other).start("deploy-2")
    assert sqlite_log.store.data_version() != before


def test_text_that_is_not_unicode_is_kept_as_its_escape(sqlite_log, db):
    sqlite_log.start("deploy-1")
    error = ErrorInfo(type="OSError", message="no such file: b\udcff")
    sqlite_log.append("deploy-1", 1, StepFailed(at=1, step="s", error=error), error="b\udcff")
    assert sqlite_log.store.events("deploy-1", after=1)[0].error.message == "no such file: b\\udcff"
    assert sqlite_log.store.execution("deploy-1").summary.error == "b\\udcff"
    assert db.execute("SELECT error FROM steps").fetchall() == [("OSError: no such file: b\\udcff",)]


def test_names_to_redact_are_kept_in_the_log(tmp_path):
    path = tmp_path / "log.db"
    with SqliteStore(path) as store:
        store.redact = ("password",)
    with SqliteStore(path) as store:
        assert store.redact == ("password",)
        store.redact = ("token",)
        assert store.redact == ("password", "token")
    with SqliteStore(path, read_only=True) as store:
        assert store.redact == ("password", "token")


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, " * 1000)
    with pytest.raises(StoreError, match=r"notes\.txt is not a cerebelum log \(not even an SQLite database\)"):
        SqliteStore(path)
    assert path.read_text() == "Dear diary, " * 1000


def test_another_programs_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE song (name)")
        other.commit()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"other\.db is an SQLite database, but not a cerebelum log"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_another_programs_schema_version_is_not_taken_for_a_newer_log(tmp_path):
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="not a cerebelum log"):
        SqliteStore(tmp_path / "other.db")


def test_an_empty_file_becomes_a_log(tmp_path):
    (tmp_path / "log.db").touch()
    with SqliteStore(tmp_path / "log.db") as store:
        assert store.executions() == ([], 0)


def test_an_sqlite_that_is_too_old_is_named_with_a_way_out(monkeypatch, tmp_path):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 30, 1))
    for path in (tmp_path / "log.db", ":memory:"):
        with pytest.raises(StoreError, match=r"a log needs 3\.31 or newer\. Use a Python that brings its own"):
            SqliteStore(path)


def test_a_newer_log_is_refused_and_left_alone(sqlite_log, tmp_path):
    sqlite_log.store.close()
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=f"version {SCHEMA_VERSION + 1}, .* {SCHEMA_VERSION}: .* Upgrade cereb"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_damaged_log_says_so(sqlite_log, tmp_path):
    for n in range(200):
        sqlite_log.start(f"deploy-{n:04}")
    sqlite_log.store.close()
    path = tmp_path / "log.db"
    content = bytearray(path.read_bytes())
    content[2 * 4096 :] = os.urandom(len(content) - 2 * 4096)
    path.write_bytes(content)

    def use():
        with SqliteStore(path) as store:
            store.executions()
            store.events("deploy-0007")

    with pytest.raises(StoreError, match=r"is damaged .*Restore it from a copy"):
        use()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="folder of the log"):
        SqliteStore(tmp_path / "file" / "log.db")
    with pytest.raises(StoreError, match="is a folder"):
        SqliteStore(tmp_path)


def test_a_log_that_stays_locked_says_so(sqlite_log, db):
    db.execute("BEGIN IMMEDIATE")
    path = sqlite_log.store.path
    impatient = sqlite3.connect(path, timeout=0, isolation_level=None)
    with closing(impatient), pytest.raises(sqlite3.OperationalError) as caught:
        impatient.execute("BEGIN IMMEDIATE")
    assert "stayed locked by another process" in str(explain(caught.value, str(path)))


# -- a full disk, a read-only disk --------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path):
    """A file system of half a megabyte, and a way to mount it otherwise."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount")
    command = [mount, "-t", "tmpfs", "-o", "size=512k", "tmpfs", place]
    if (done := subprocess.run(command, capture_output=True, text=True)).returncode:
        pytest.skip(f"this machine does not allow to mount: {done.stderr.strip()}")

    def remount(options):
        subprocess.run([mount, "-o", f"remount,{options}", place], check=True)

    yield place, remount
    subprocess.run(["umount", place], check=True)


def fill(log):
    """Append big steps until the store refuses; return how many events stand."""
    stands = 1

    def append():
        nonlocal stands
        while stands < 1000:
            log.append("deploy-1", stands, *log.step(output='"' + "x" * 20_000 + '"'))
            stands += 2

    with pytest.raises(StoreError, match=r"no room left .* was committed is kept\. Free space, then resume"):
        append()
    return stands


@pytest.mark.process
def test_on_a_full_disk_what_was_committed_is_kept_and_it_continues_when_there_is_room(disk, log_of):
    place, remount = disk
    with SqliteStore(place / "log.db") as store:
        log = log_of(store)
        log.start("deploy-1")
        stands = fill(log)
        assert len(store.events("deploy-1")) == store.execution("deploy-1").version == stands
        remount("size=8m")
        assert log.append("deploy-1", stands, *log.step()) == {}
        assert len(store.events("deploy-1")) == stands + 2


def test_a_log_that_may_not_grow_keeps_what_was_committed(sqlite_log):
    with sqlite_log.store._reading() as db:
        db.execute("PRAGMA max_page_count = 60")
    sqlite_log.start("deploy-1")
    stands = fill(sqlite_log)
    assert len(sqlite_log.store.events("deploy-1")) == sqlite_log.store.execution("deploy-1").version == stands


@pytest.mark.process
def test_a_log_on_a_read_only_disk_can_be_read_but_not_written(disk, log_of):
    place, remount = disk
    with SqliteStore(place / "log.db") as store:
        log_of(store).start("deploy-1")
    remount("ro")
    try:
        with SqliteStore(place / "log.db") as store:
            assert len(store.events("deploy-1")) == 1
            with closing(store.read_connection()) as reader:
                assert reader.execute("SELECT count(*) FROM steps").fetchone() == (0,)
            with pytest.raises(StoreError, match="is read-only here: nothing was written"):
                store.register(1, 1)
    finally:
        remount("rw")


def test_a_file_without_write_permission_can_be_read_but_not_written(sqlite_log, tmp_path):
    sqlite_log.start("deploy-1")
    sqlite_log.store.close()
    if os.geteuid() == 0:
        pytest.skip("root may write to any file")
    (tmp_path / "log.db").chmod(0o444)
    with SqliteStore(tmp_path / "log.db") as store:
        assert len(store.events("deploy-1")) == 1
        with pytest.raises(StoreError, match="is read-only here"):
            store.register(1, 1)
