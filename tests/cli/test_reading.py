"""`list`, `active`, `status`, `events`, `doctor`: what they print, for every kind of execution."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from contextlib import closing
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from cerebelum_nb import connect, step, wait_for_signal, workflow
from cerebelum_nb._client.client import ApprovalInfo, ExecutionClient, ExecutionStatus, SleepInfo, StepStatus
from cerebelum_nb._store.schema import SCHEMA_VERSION

from .conftest import LOG

ALL = ["died-1", "paused-1", "cancelled-1", "asleep-1", "asking-1", "failed-1", "done-2", "done-1"]
WHOLE = [field.name for field in fields(ExecutionStatus)]
DETAILS = {"completed_steps", "inputs", "step_outputs", "sleep_info", "approval_info", "queued_behind", "notes"}


def first_column(text):
    return [line.split()[0] for line in text.splitlines()[1:]]


def ids(done):
    return [found["execution_id"] for found in done.json["executions"]]


# -- list ---------------------------------------------------------------------------------------------------


def test_a_list_is_newest_first(call):
    assert first_column(call("list").out) == ALL


def test_a_list_shows_the_state_as_a_word(call):
    states = {line.split()[0]: line.split()[2] for line in call("list").out.splitlines()[1:]}
    assert states == {
        "died-1": "interrupted",
        "paused-1": "paused",
        "cancelled-1": "cancelled",
        "asleep-1": "sleeping",
        "asking-1": "waiting",
        "failed-1": "failed",
        "done-2": "completed",
        "done-1": "completed",
    }


def test_a_list_says_why_a_run_failed_where_there_is_room(call):
    why = call("list", "--json", "--status", "failed").json["executions"][0]["error"].partition("\n")[0]
    assert why
    head, line = call("list", "--status", "failed").out.splitlines()
    assert head.split()[-1] == "WHY"
    assert line.endswith(why)
    assert "WHY" not in call("list", "--status", "failed", columns=40).out


@pytest.mark.parametrize("state", ["FAILED", "failed", "Fail"])
def test_a_list_of_one_state(call, state):
    assert first_column(call("list", "--status", state).out) == ["failed-1"]


@pytest.mark.parametrize("state", ["waiting_for_approval", "waiting for approval", "WAITING-FOR-APPROVAL", "waiting"])
def test_a_state_of_several_words_may_be_written_in_several_ways(call, state):
    assert first_column(call("list", "--status", state).out) == ["asking-1"]


def test_a_list_of_one_workflow(call):
    assert first_column(call("list", "--workflow", "check").out) == ["done-2", "done-1"]


def test_a_page_says_how_to_see_the_next(call):
    page = call("list", "--limit", 2, "--offset", 1)
    assert first_column(page.out) == ALL[1:3]
    assert page.err == "2 to 3; next: --offset 3\n"


def test_an_empty_list_says_so_on_stderr(call):
    done = call("list", "--workflow", "none")
    assert (done.code, done.out, done.err) == (0, "", "no execution matches\n")


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("buidl", "no step 'buidl' has begun in failed-1. Did you mean 'build'?\n"),
        ("x", "no step 'x' has begun in failed-1. These have: build, verify.\n"),
    ],
)
def test_for_an_unknown_step_the_steps_are_named(call, step, told):
    done = call("events", "failed-1", "--step", step)
    assert (done.code, done.out, done.err) == (0, "", told)


def test_a_list_as_json_is_one_object(call):
    found = call("list", "--limit", 3, "--json").json
    assert list(found) == ["executions", "total", "has_more"]
    assert (len(found["executions"]), found["total"], found["has_more"]) == (3, 8, True)


def test_an_entry_of_a_list_has_the_names_of_the_client(call):
    entry = call("list", "--json").json["executions"][0]
    assert list(entry) == [name for name in WHOLE if name not in DETAILS]


# -- active -------------------------------------------------------------------------------------------------


def test_active_is_what_runs_sleeps_or_waits(call):
    assert first_column(call("active").out) == ["died-1", "asleep-1", "asking-1"]


def test_active_says_what_each_waits_for(call):
    shown = {line.split()[0]: line for line in call("active").out.splitlines()}
    assert "resume it" in shown["died-1"]
    assert re.search(r"wakes in (2h|1h \d+m)", shown["asleep-1"])  # by how fast the log was made
    assert "left for budget approval" in shown["asking-1"]


async def test_a_wait_for_a_signal_is_named_and_counted(call, tmp_path):
    @step
    async def paid():
        await wait_for_signal("payment")

    @workflow
    def shop(wf):
        wf.timeline(paid)

    log = connect(tmp_path / "shop.db", hibernate_after=timedelta(0))
    await shop.execute(store=log, wait=False)
    assert call("active", "--db", log.path).out.splitlines()[1].endswith("signal: payment")
    assert "0 waiting for approval, 1 waiting for signal" in call("doctor", "--db", log.path).out


def test_active_as_json_is_whole(call):
    found = call("active", "--json").json
    assert list(found) == ["executions", "total", "has_more"]
    assert [list(entry) for entry in found["executions"]] == [WHOLE] * 3


# -- status -------------------------------------------------------------------------------------------------


def test_a_status_as_json_has_the_names_of_the_client(call):
    assert list(call("status", "done-1", "--json").json) == [*WHOLE, "children"]


def test_its_parts_have_the_names_of_the_client(call):
    step = call("status", "done-1", "--json").json["completed_steps"][0]
    assert list(step) == [field.name for field in fields(StepStatus)]
    sleep = call("status", "asleep-1", "--json").json["sleep_info"]
    assert list(sleep) == [field.name for field in fields(SleepInfo)]
    approval = call("status", "asking-1", "--json").json["approval_info"]
    assert list(approval) == [field.name for field in fields(ApprovalInfo)]


def test_a_status_as_json_holds_the_values(call):
    found = call("status", "failed-1", "--json").json
    assert (found["status"], found["inputs"], found["current_step_name"]) == ("FAILED", {"size": "s-1"}, "verify")
    assert found["step_outputs"] == {"build": {"image": "app:1", "size": "s-1"}}


def test_a_failed_execution_shows_why_and_what_to_do(call):
    shown = call("status", "failed").out
    assert "verify: RuntimeError: port 443 is closed\n" in shown
    assert "Fix 'verify', then:\n    cerebelum resume failed-1\n" in shown


def test_what_waits_for_approval_shows_what_is_asked_and_how_to_answer(call):
    shown = call("status", "asking").out
    assert re.search(r"review asks for budget approval, \S+( \S+)? ago;\s+its time ends in (2h|1h \d+m):", shown)
    assert "    cost: 36 $\n" in shown
    assert "    cerebelum approve asking-1\n" in shown


def test_an_interrupted_execution_says_so(call):
    shown = call("status", "died").out
    assert "died-1  interrupted" in shown
    assert "cerebelum resume died-1" in shown


def test_a_paused_execution_says_why(call):
    assert "paused: stopped by the test\n" in call("status", "paused").out


def test_control_characters_of_the_log_do_not_reach_the_terminal(terminal):
    shown = terminal("status", "failed-1")
    assert shown.end() == 0
    assert "\\x1b[31mport 80" in shown.raw
    assert "\x1b[31mport 80" not in shown.raw


# -- events -------------------------------------------------------------------------------------------------


def test_events_are_in_order(call):
    assert [line.split()[2] for line in call("events", "done-1").out.splitlines()[1:]] == [
        "WorkflowStarted",
        "StepStarted",
        "StepCompleted",
        "WorkflowCompleted",
    ]


def test_events_as_json(call):
    found = call("events", "failed-1", "--type", "stepfailed", "--json").json
    assert (found["execution_id"], found["total"], found["has_more"]) == ("failed-1", 1, False)
    assert list(found["events"][0]) == ["version", "type", "step", "visit", "attempt", "at", "data"]
    assert found["events"][0]["data"]["error"]["type"] == "RuntimeError"


def test_events_of_one_step_by_pages(call):
    page = call("events", "failed-1", "--step", "build", "--limit", 1)
    assert len(page.out.splitlines()) == 2
    assert page.err == "1 to 1 of 2; next: --offset 1\n"


def test_interrupted_executions_can_be_listed(call):
    found = call("list", "--status", "INTERR", "--json").json
    assert ([one["execution_id"] for one in found["executions"]], found["total"]) == (["died-1"], 1)
    assert call("list", "--status", "interrupted", "--workflow", "nap").out == ""
    client = ExecutionClient(str(LOG))
    assert [one.execution_id for one in client.run_sync(client.list_executions(status="Interrupted"))[0]] == ["died-1"]
    client.close()
    done = call("prune", "--state", "interrupted", "--keep-last", "0")
    assert done.code == 2


@pytest.mark.parametrize(
    ("name", "mark"), [("asleep-1", "☾  night"), ("asking-1", "?  review"), ("died-1", "‖  charge")]
)
def test_a_step_that_waits_is_marked_so(call, name, mark):
    assert f"\n{mark} " in call("status", name).out


def test_times_are_utc_and_say_so(spawn):
    done = spawn("status", "done-1", TZ="Asia/Tokyo")
    (started,) = re.findall(r"started (\S+ \S+) UTC, ended \S+ \S+ UTC", done.out)
    assert spawn("status", "done-1", TZ="America/Lima").out == done.out
    lines = spawn("events", "done-1", TZ="Asia/Tokyo").out.splitlines()
    assert "AT (UTC)" in lines[0] and started.split()[1] in lines[1]


# -- doctor -------------------------------------------------------------------------------------------------


def checks(done):
    return {check["name"]: check for check in done.json["checks"]}


def test_the_doctor_names_what_a_dead_process_left(call):
    done = call("doctor", "--json")
    assert (done.code, done.json["ok"]) == (1, False)
    leases = checks(done)["leases"]
    assert (leases["ok"], leases["executions"]) == (False, ["died-1"])
    assert "cerebelum scheduler" in leases["advice"]


def test_the_doctor_says_that_a_log_is_in_order(call):
    call("cancel", "died-1")
    done = call("doctor")
    assert (done.code, done.out.splitlines()[-1]) == (0, "all is well")


def test_the_doctor_finds_missing_events(call):
    with closing(sqlite3.connect(".cerebelum/history.db")) as db:
        db.execute("INSERT INTO maintenance (reason) VALUES ('test')")
        db.execute("DELETE FROM event WHERE execution = 1 AND version = 3")
        db.commit()
    assert checks(call("doctor", "--json"))["events"]["executions"] == ["done-1"]


@pytest.mark.parametrize("forged", [10**18, -(10**18)])
@pytest.mark.parametrize("command", ["list", "list --json", "active", "status done-1", "events done-1"])
def test_a_time_that_cannot_be_stops_no_command(call, command, forged):
    with closing(sqlite3.connect(".cerebelum/history.db")) as db:
        db.execute("INSERT INTO maintenance (reason) VALUES ('test')")
        db.execute("UPDATE execution SET started_at = ?", (forged,))
        db.execute("UPDATE event SET at = ? WHERE execution = 1", (forged,))
        db.commit()
    assert call(*command.split()).code == 0


def test_a_step_whose_hash_is_no_text_is_packed_without_its_code(call):
    with closing(sqlite3.connect(".cerebelum/history.db")) as db:
        db.execute("INSERT INTO maintenance (reason) VALUES ('test')")
        forged = r"""UPDATE event SET data = '{"code":"\ud800"}' WHERE execution = 1 AND type = 'StepStarted'"""
        assert db.execute(forged).rowcount == 1
        db.execute("DELETE FROM maintenance")
        db.commit()
    assert call("pack", "done-1").code == 0


def test_the_doctor_finds_a_damaged_file(call):
    log = Path(".cerebelum/history.db")
    with closing(sqlite3.connect(log)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = bytearray(log.read_bytes())
    whole[20480:40960] = os.urandom(20480)
    log.write_bytes(whole)
    done = call("doctor")
    assert done.code == 1
    assert "damaged" in done.out


def test_the_doctor_does_not_migrate_an_older_log(call):
    log = Path(".cerebelum/history.db")
    with closing(sqlite3.connect(log)) as db:
        db.executescript("DROP INDEX execution_by_wake; DROP INDEX execution_left; PRAGMA user_version = 3")
        db.execute("PRAGMA journal_mode = DELETE")
    before = log.read_bytes()
    found = checks(call("doctor", "--json"))
    assert f"schema version 3 of {SCHEMA_VERSION} (whatever opens it next" in found["log"]["message"]
    assert found["leases"]["executions"] == ["died-1"]
    assert log.read_bytes() == before


def test_the_doctor_does_not_turn_an_empty_file_into_a_log(call):
    Path("empty.db").touch()
    done = call("doctor", "--db", "empty.db")
    assert (done.code, Path("empty.db").stat().st_size) == (1, 0)
    assert "is empty: no workflow has run in it yet" in " ".join(done.out.split())


def test_the_doctor_finds_an_overdue_wake_up(call):
    with closing(sqlite3.connect(".cerebelum/history.db")) as db:
        db.execute("UPDATE execution SET wake_at = 1 WHERE execution_id = 'asleep-1'")
        db.commit()
    assert checks(call("doctor", "--json"))["wake-ups"]["executions"] == ["asleep-1"]


# -- terminals ----------------------------------------------------------------------------------------------

READING = [
    ("list",),
    ("active",),
    *(("status", name) for name in ALL),
    *(("events", name) for name in ("failed-1", "asking-1")),
    ("doctor",),
    ("verify",),
]


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_every_line_fits(call, command, columns):
    shown = call(*command, columns=columns).out
    assert [line for line in shown.splitlines() if len(line) > columns] == []


def test_a_terminal_gets_colour_unless_no_color_is_set(terminal):
    coloured, plain = terminal("list"), terminal("list", NO_COLOR="1")
    assert (coloured.end(), plain.end()) == (0, 0)
    assert "\x1b[32mcompleted" in coloured.raw
    assert "\x1b" not in plain.raw


def test_a_pipe_gets_no_colour_and_nothing_is_cut(spawn):
    done = spawn("events", "failed-1")
    assert "\x1b" not in done.out
    assert "…" not in done.out


def test_a_pipe_that_is_closed_early_is_not_an_error(folder):
    import subprocess
    import sys

    command = f"{sys.executable} -m cerebelum_nb events failed-1 --json | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_json_is_ascii(call):
    found = call("status", "asking-1", "--json")
    assert found.out.isascii()
    assert json.loads(found.out)["approval_info"]["data"] == {"cost": "36 $", "for": ["ams3"]}
