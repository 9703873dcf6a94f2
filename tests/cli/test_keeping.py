"""`export`, `pack`, `unpack`, `prune`, `verify`: what they write and print, and their exit codes."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from .conftest import LOG


def ids(call, *where):
    return {found["execution_id"] for found in call("list", "--json", *where).json["executions"]}


def alter(statement, trigger="event_no_update"):
    with closing(sqlite3.connect(LOG, isolation_level=None)) as db:
        (sql,) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (trigger,)).fetchone()
        db.execute(f"DROP TRIGGER {trigger}")
        db.execute(statement)
        db.execute(sql)


# -- export -------------------------------------------------------------------------------------------------


def test_export_writes_a_page_and_says_where(call):
    done = call("export", "failed")
    assert (done.code, done.out) == (0, "failed-1.html\n")
    assert "port 443 is closed" in Path("failed-1.html").read_text()


def test_export_to_stdout(spawn):
    done = spawn("export", "done-1", "--format", "jsonl", "-o", "-")
    assert done.code == 0
    assert [json.loads(line)["version"] for line in done.out.splitlines()] == [1, 2, 3, 4]


def test_the_format_of_an_export_follows_from_the_file_name(call):
    assert call("export", "done-1", "-o", "a.csv", "--table", "events").code == 0
    assert Path("a.csv").read_text().startswith("execution_id,version,type,")


@pytest.mark.parametrize("name", ["died-1", "paused-1", "cancelled-1", "asleep-1", "asking-1", "failed-1", "done-1"])
def test_every_kind_of_execution_is_exported_and_packed(call, name):
    for format_ in ("html", "jsonl", "csv", "parquet"):
        assert call("export", name, "--format", format_).code == 0
    assert call("pack", name).code == 0
    assert call("unpack", f"{name}.cerebelum", "--db", "other.db").code == 0
    assert call("verify", "--db", "other.db").code == 0
    if name not in ("died-1", "asleep-1", "asking-1"):
        assert call("verify", name, "--db", "other.db").out == call("verify", name).out


def test_a_place_that_cannot_be_written_to_is_named(call):
    Path("file").touch()
    for command in ("export", "pack"):
        done = call(command, "done-1", "-o", "file/run.html")
        assert done.code == 5
        assert "cannot be written" in done.err


# -- pack and unpack ----------------------------------------------------------------------------------------


def test_a_pack_is_read_by_every_command(call):
    done = call("pack", "failed-1", "--json")
    assert done.json["path"] == "failed-1.cerebelum"
    assert "Fix 'verify'" in call("status", "failed-1", "--db", "failed-1.cerebelum").out


def test_unpack_says_what_is_new_and_what_was_there(call):
    call("pack", "done-1")
    done = call("unpack", "done-1.cerebelum", "--db", "new.db")
    assert (done.code, done.out) == (0, "done-1: unpacked, 4 events\n")
    assert call("unpack", "done-1.cerebelum", "--db", "new.db").out == "done-1: is here already\n"
    assert ids(call, "--db", "new.db") == {"done-1"}


def test_masked_secrets_are_counted(call):
    done = call("pack", "failed-1", "--redact", "size")
    assert "2 secrets masked" in done.err


def test_an_altered_pack_is_refused(call):
    call("pack", "done-1")
    with closing(sqlite3.connect("done-1.cerebelum", isolation_level=None)) as db:
        db.execute("DROP TRIGGER event_no_update")
    done = call("unpack", "done-1.cerebelum", "--db", "new.db")
    assert done.code == 5
    assert "was changed after it was packed" in done.err


# -- prune --------------------------------------------------------------------------------------------------


def test_prune_shows_asks_and_deletes(terminal):
    prune = terminal("prune", "--keep-last", "1", "--workflow", "check")
    shown = prune.wait_for("[y/N]")
    assert "done-1" in shown and "done-2" not in shown
    prune.type("y\n")
    assert prune.end() == 0
    assert "deleted 1 execution, 4 events" in prune.raw


def test_prune_deletes_nothing_if_the_answer_is_no(terminal, call):
    prune = terminal("prune", "--keep-last", "0", columns=40)
    prune.wait_for("[y/N]")
    prune.type("\n")
    assert prune.end() == 0
    assert {"done-1", "done-2", "failed-1", "cancelled-1"} <= ids(call)


def test_prune_does_not_delete_without_consent(spawn, call):
    done = spawn("prune", "--keep-last", "0")
    assert done.code == 2
    assert "--yes" in done.err
    assert len(ids(call)) == 8


def test_prune_archives(call):
    done = call("prune", "--keep-last", "0", "--yes", "--archive", "cold.db", "--json")
    assert done.code == 0
    assert set(done.json["execution_ids"]) == {"done-1", "done-2", "failed-1", "cancelled-1"}
    assert done.json["archive"] == "cold.db"
    assert ids(call) == {"died-1", "paused-1", "asleep-1", "asking-1"}
    assert ids(call, "--db", "cold.db") == {"done-1", "done-2", "failed-1", "cancelled-1"}
    assert call("verify").code == 0


def test_a_dry_run_of_prune_only_says_what_would_be_deleted(call):
    done = call("prune", "--keep-last", "0", "--state", "failed", "--dry-run")
    assert done.code == 0
    assert "failed-1" in done.out and "done-1" not in done.out
    assert done.out.endswith("1 execution (6 events) would be deleted\n")
    assert len(ids(call)) == 8
    assert call("prune", "--older-than", "90d", "--dry-run").out == "there is nothing to delete\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "choose the executions"),
        (("--older-than", "ninety"), "90d, 12h or 2w"),
        (("--keep-last", "1", "--state", "running"), "There is no state to prune 'RUNNING'"),
        (("--keep-last", "1", "--archive", LOG), "the archive is the log itself"),
    ],
)
def test_prune_refuses_impossible_conditions(call, arguments, told):
    done = call("prune", "--yes", *arguments)
    assert done.code == 2
    assert told in done.err
    assert len(ids(call)) == 8


# -- verify -------------------------------------------------------------------------------------------------


def test_verify_says_that_a_log_is_unaltered(call):
    done = call("verify")
    assert (done.code, done.out) == (0, "✓ unaltered: 8 executions, 44 events, 0 values\n")
    found = call("verify", "--json").json
    assert found["ok"] and found["findings"] == []
    assert found["heads"]["done-1"]["version"] == 4


def test_verify_of_one_execution_shows_the_head_of_its_chain(call):
    head = call("verify", "--json").json["heads"]["done-1"]["hash"]
    assert call("verify", "done-1").out == f"✓ unaltered: done-1, 4 events; its chain ends in {head}\n"


def test_verify_says_where_a_log_was_altered(call):
    alter("UPDATE event SET at = at - 1 WHERE version = 3 AND execution = 1")
    done = call("verify", columns=80)
    assert done.code == 1
    assert "✗ done-1: altered" in done.out
    assert "event 3 (StepCompleted of 'ping')" in " ".join(done.out.split())
    (finding,) = call("verify", "--json").json["findings"]
    assert (finding["execution_id"], finding["version"]) == ("done-1", 3)


def test_a_list_that_was_altered_is_named_and_rebuilt(call):
    before = call("list", "--json").json["total"]
    alter("UPDATE execution SET state = 'x'")
    for command in (["list"], ["status", "done-1"], ["resume", "failed-1"], ["pack", "done-1"], ["export", "done-1"]):
        done = call(*command)
        assert done.code == 5
        assert "verify done-1 --repair" in done.err or "verify failed-1 --repair" in done.err or command == ["list"]
    doctor = call("doctor")
    assert doctor.code == 1
    assert "cerebelum verify --repair" in " ".join(doctor.out.split())
    told = call("verify")
    assert told.code == 1
    assert told.out.endswith("To rebuild it from them:\n    cerebelum verify --repair\n")
    assert call("verify", "done-1", "--repair").out.startswith("the row of done-1 was rebuilt from its events\n")
    assert len(call("verify", "--repair", "--json").json["repaired"]) == 7
    assert call("verify").code == 0
    assert call("list", "--json").json["total"] == before


def test_verify_of_a_file_that_cannot_be_read_to_its_end(call):
    with closing(sqlite3.connect(LOG)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # a page that is in the -wal too would be read from there
    whole = LOG.read_bytes()
    pages = {found.start() // 2048 * 2048 for found in re.finditer(b"quiet hours", whole)}  # an event, and old copies
    with LOG.open("r+b") as file:
        for page in pages:
            file.seek(page)
            file.write(b"\0" * 2048)
    done = call("verify")
    assert done.code in (1, 5)  # 5: the page is one that is read when the log is opened
    assert "damaged" in done.out + done.err
