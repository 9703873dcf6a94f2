"""`verify`: whatever another program has altered is found and named."""

from __future__ import annotations

import json
import random
import re
import sqlite3
import zlib
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cerebelum_nb import archive
from cerebelum_nb._engine.plan_payloads import plan_text
from cerebelum_nb._store import chain
from cerebelum_nb._store.schema import SCHEMA_VERSION
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import ExecutionNotFoundError, StoreError
from cerebelum_nb.testing import MemoryStore

KEY = "(SELECT key FROM execution WHERE execution_id = 'done-1')"
DONE = f"execution = {KEY}"


def test_an_unaltered_log_has_no_findings(path):
    found = archive.verify(store=path)
    assert found.ok, str(found)
    assert (found.executions, found.values) == (3, 1)
    assert found.events == sum(version for version, _ in found.heads.values())
    assert "all unaltered" in str(found)


def test_one_execution_can_be_verified(path):
    found = archive.verify("fat", store=path)
    assert found.ok
    assert list(found.heads) == ["fat-1"]


@pytest.mark.parametrize(
    ("statement", "execution_id", "version", "told"),
    [
        (f"UPDATE event SET at = at + 1 WHERE {DONE} AND version = 3", "done-1", 3, "event 3 (StepPrinted of 'build')"),
        (f"UPDATE event SET kind = 'StepFailed' WHERE {DONE} AND version = 4", "done-1", 4, "altered"),
        (f"UPDATE event SET kind = 1 - kind WHERE {DONE} AND version = 4", "done-1", 4, "altered"),
        (f"UPDATE event SET kind = 7 WHERE {DONE} AND version = 4", "done-1", 4, "altered: event 4 (7 of 'build')"),
        (f"UPDATE event SET data = replace(data, 'app:1', 'app:2') WHERE {DONE}", "done-1", 4, "altered"),
        (f"UPDATE event SET visit = 0 WHERE {DONE} AND version = 1", "done-1", 1, "altered"),
        (f"UPDATE event SET hash = x'00' WHERE {DONE} AND version = 5", "done-1", 5, "event 5"),
        (f"UPDATE event SET hash = NULL WHERE {DONE}", "done-1", 1, "and 9 more"),
        (f"DELETE FROM event WHERE {DONE} AND version = 4", "done-1", 4, "event 4 is missing"),
        (f"DELETE FROM event WHERE {DONE} AND version > 10", "done-1", 11, "events 11 to 14 are missing at its end"),
        (f"DELETE FROM event WHERE {DONE}", "done-1", 1, "events 1 to 14 are missing at its end"),
        (
            f"UPDATE event SET key = key + 1000 - 2 * version WHERE {DONE} AND version IN (3, 4)",
            "done-1",
            None,
            "missing",
        ),
        (f"DELETE FROM execution WHERE key = {KEY}", None, None, "an execution was deleted: 14 events of it are left"),
        ("UPDATE execution SET execution_id = 'done-9' WHERE execution_id = 'done-1'", "done-9", 1, "event 1"),
        ("UPDATE execution SET state = 'FAILED' WHERE execution_id = 'done-1'", "done-1", None, "its row says state"),
        ("UPDATE execution SET done_steps = 1 WHERE execution_id = 'done-1'", "done-1", None, "done_steps = 1"),
        ("UPDATE execution SET version = 11 WHERE execution_id = 'done-1'", "done-1", 12, "14 events, its row says 11"),
        ("UPDATE payload SET data = data || x'00' WHERE codec = 'cloudpickle'", "done-1", 6, "bytes of the value"),
        ("UPDATE payload SET codec = 'arrow' WHERE codec = 'cloudpickle'", "done-1", 6, "marked as arrow"),
        ("UPDATE payload SET data = x'00' WHERE codec = 'code'", None, None, "were changed"),
        ("DELETE FROM payload WHERE codec = 'cloudpickle'", "done-1", 6, "are missing"),
        ("INSERT INTO maintenance VALUES ('mine')", None, None, "maintenance"),
        ("DROP VIEW steps", None, None, "the view steps is gone"),
    ],
)
def test_what_was_altered_is_named(path, edit, statement, execution_id, version, told):
    edit(statement)
    found = archive.verify(store=path)
    assert not found.ok
    assert told in str(found)
    first = found.findings[0]
    assert first.execution_id == execution_id
    assert version in (None, first.version)


@pytest.mark.parametrize(
    "change",
    ["state = 'x'", "state = 'FAILED', completed_at = NULL", "done_steps = 1", "version = 11", "started_at = 'then'"],
)
def test_a_row_is_rebuilt_from_intact_events(path, edit, change):
    with SqliteStore(path) as log:
        before = log.executions()
    edit(f"UPDATE execution SET {change} WHERE execution_id = 'done-1'")
    assert archive.verify(store=path).repairable == ("done-1",)
    assert archive.repair(store=path) == ("done-1",)
    assert archive.verify(store=path).ok
    with SqliteStore(path) as log:
        assert log.executions() == before
    assert archive.repair(store=path) == ()


def test_the_last_events_of_a_running_execution_are_missed(empty, finish):
    finish(empty, "live", end="running")
    with closing(sqlite3.connect(empty.path, isolation_level=None)) as db:
        db.execute("INSERT INTO maintenance VALUES ('mine')")
        db.execute("DELETE FROM event WHERE version = 2")
        db.execute("DELETE FROM maintenance")
    found = archive.verify(store=empty)
    assert "event 2 is missing at its end" in str(found)
    assert archive.repair(store=empty) == found.repairable == ()


@pytest.mark.parametrize(
    "change",
    [f"UPDATE event SET at = at + 1 WHERE {DONE} AND version = 3", f"DELETE FROM event WHERE {DONE} AND version > 10"],
)
def test_a_row_is_left_where_the_events_are_not_intact(path, edit, change):
    edit(change, "UPDATE execution SET state = 'x' WHERE execution_id = 'done-1'")
    assert archive.repair(store=path) == archive.verify(store=path).repairable == ()
    with SqliteStore(path) as log, pytest.raises(StoreError, match=r"verify done-1 --repair"):
        log.executions()


def test_swapped_events_are_found(path, edit):
    for old, new in ((3, 99), (4, 3), (99, 4)):
        edit(f"UPDATE event SET key = key + {new - old} WHERE {DONE} AND key = ({KEY} << 32) + {old}")
    found = archive.verify(store=path)
    assert [finding.version for finding in found.findings] == [3]
    assert "event 3 (StepCompleted of 'build'), event 4 (StepPrinted of 'build'), event 5" in str(found)


def test_a_dropped_guard_is_named(path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TRIGGER event_no_update")
    (found,) = archive.verify(store=path).findings
    assert found.message == "the trigger event_no_update is gone"


def test_other_tables_in_the_file_are_ignored(path):
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE notes (text)")
    assert archive.verify(store=path).ok


def test_a_chain_that_was_recomputed_shows_in_its_head(path, edit):
    before = archive.verify(store=path).heads["done-1"]
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute(
            f"SELECT version, type, step, visit, attempt, at, data FROM event WHERE {DONE} ORDER BY version"
        ).fetchall()
    head, statements = chain.start("done-1"), []
    for version, *row in rows:
        row[-2] += version == 2
        head = chain.link(head, version, row)
        statements.append(
            f"UPDATE event SET at = {row[-2]}, hash = x'{head.hex()}' WHERE {DONE} AND version = {version}"
        )
    edit(*statements)
    after = archive.verify(store=path)
    assert after.ok
    assert after.heads["done-1"][0] == before[0]
    assert after.heads["done-1"][1] != before[1]


def test_the_chain_can_be_checked_by_hand(path):
    """The recipe of docs/semantics.md, without this library."""
    from hashlib import blake2b

    head = b"done-1"
    with closing(sqlite3.connect(path)) as db:
        for *header, data, hashed in db.execute(
            f"SELECT version, type, step, visit, attempt, at, data, hash FROM event WHERE {DONE} ORDER BY version"
        ):
            text = json.dumps(header, ensure_ascii=False, separators=(",", ":"))[:-1] + f",{data or 'null'}]"
            head = blake2b(head + text.encode(), digest_size=16).digest()
            assert head == hashed


def test_an_unknown_execution_is_an_error(path):
    with pytest.raises(ExecutionNotFoundError):
        archive.verify("nobody", store=path)


def test_a_log_of_objects_has_no_file_to_verify():
    with pytest.raises(StoreError, match="there is no file"):
        archive.verify(store=MemoryStore())


# -- older logs ---------------------------------------------------------------------------------------------


@pytest.fixture
def older(path, make_older):
    """A log of an older version."""
    return make_older(path)


def test_an_older_log_is_chained_when_it_is_opened(older, made):
    with SqliteStore(older) as store:
        assert archive.verify(store=store).heads == archive.verify(store=made).heads
    with closing(sqlite3.connect(older)) as db, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute("UPDATE event SET at = 0")


def test_verify_changes_nothing_in_an_older_log(older):
    before = older.read_bytes()
    with pytest.raises(StoreError, match=f"older version \\(4; now {SCHEMA_VERSION}\\)"):
        archive.verify(store=older)
    assert older.read_bytes() == before


def test_an_event_that_another_program_appends_without_a_hash_is_named(path, edit):
    insert = f"INSERT INTO event (key, kind, at) VALUES (({KEY} << 32) + 15, 'WorkflowAwakened', 7)"
    edit(insert, "UPDATE execution SET version = 15, updated_at = 7 WHERE execution_id = 'done-1'")
    (found,) = archive.verify(store=path).findings
    assert (found.execution_id, found.version) == ("done-1", 15)


# -- any byte -----------------------------------------------------------------------------------------------


def content(path):
    """Everything that can be read: executions, events with their hashes, values, code, the views."""
    with closing(sqlite3.connect(path)) as db:
        db.text_factory = bytes
        executions = db.execute(
            """SELECT execution_id, version, workflow, state, started_at, updated_at, completed_at, total_steps,
            done_steps, current_step, error, wake_at, parent FROM execution ORDER BY execution_id"""
        ).fetchall()
        events = db.execute(
            """SELECT execution_id, e.version, type, step, visit, attempt, at, data, hash
            FROM event e JOIN execution x ON x.key = e.execution ORDER BY execution_id, e.version"""
        ).fetchall()
        payloads = db.execute("SELECT digest, codec, data FROM payload ORDER BY digest").fetchall()
        views = [db.execute(f"SELECT * FROM {view}").fetchall() for view in ("executions", "steps", "events")]
    plain = {b"plan": plan_text, b"code": zlib.decompress}
    texts = [(digest, codec, plain.get(codec, bytes)(data)) for digest, codec, data in payloads]
    return executions, events, texts, views


def flip(path, target, offset, bits):
    changed = bytearray(path.read_bytes())
    changed[offset % len(changed)] ^= bits
    target.write_bytes(changed)
    return target


def has_no_findings(path):
    try:
        return archive.verify(store=path).ok
    except StoreError:
        return False


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(offset=st.integers(0, 2**32), bits=st.integers(1, 255))
def test_whichever_byte_is_flipped_a_log_without_findings_reads_as_it_was_written(made, tmp_path, offset, bits):
    """Bytes in which nothing is recorded may change: free space, SQLite's counters, former holders of leases."""
    flipped = flip(made, tmp_path / "flipped.db", offset, bits)
    if has_no_findings(flipped):
        assert content(flipped) == content(made)


def test_an_id_that_is_no_longer_text_is_found(made, tmp_path):
    raw = made.read_bytes()
    for at in (hit.start() for hit in re.finditer(b"done-1", raw)):
        verified = has_no_findings(flip(made, tmp_path / "flipped.db", at, 0x80))
        assert not verified or content(tmp_path / "flipped.db") == content(made)


def test_most_flipped_bytes_of_a_full_page_are_found(made, tmp_path):
    """Without this, the test above could pass because nothing is ever found."""
    raw = made.read_bytes()
    start = raw.index(b"x" * 1500)
    chosen = random.Random(1).sample(range(start, start + 1500), 20)
    assert not any(has_no_findings(flip(made, tmp_path / "flipped.db", offset, 1)) for offset in chosen)
