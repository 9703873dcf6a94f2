"""`resume`, `fork`, `approve`, `reject`, `cancel`, `watch`, `scheduler`: what they do, and their exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._values import MASK

from ..programs import Popen, run
from ..waiting import wait_for
from .conftest import CEREBELUM, LOG, environment, rows


def state(call, name):
    return call("status", name, "--json").json["status"]


# -- resume -------------------------------------------------------------------------------------------------


def test_a_fixed_execution_continues_in_the_foreground(spawn, folder):
    (folder / "fixed").touch()
    done = spawn("resume", "failed")
    assert done.code == 0
    assert done.out.startswith("deploy  failed-1  completed\n")


def test_an_execution_that_fails_again_shows_why(spawn):
    done = spawn("resume", "failed-1")
    assert done.code == 1
    assert "verify: RuntimeError: port 443 is closed\n" in done.out
    assert "Traceback" not in done.err


def test_the_end_as_json(spawn, folder):
    (folder / "fixed").touch()
    found = spawn("resume", "failed-1", "--json").json
    assert (found["status"], found["step_outputs"]["verify"]) == ("COMPLETED", "fine")


def test_inputs_can_be_replaced_and_every_process_masks_what_the_log_redacts(spawn, folder):
    (folder / "fixed").touch()
    with SqliteStore(LOG) as log:
        log.redact = ("image",)
    done = spawn("resume", "failed-1", "--inputs", '{"size": "s-2"}', "--rerun", "build", "--json")
    assert done.json["step_outputs"]["build"] == {"image": MASK, "size": "s-2"}


def test_a_completed_execution_runs_again_with_all(spawn):
    assert spawn("resume", "done-1", "--all").code == 0


def test_another_module_can_be_named(spawn, folder):
    (folder / "fixed").touch()
    (folder / "shop.py").rename(folder / "store.py")
    assert spawn("resume", "failed-1").code == 6
    assert spawn("resume", "failed-1", "--module", "store").code == 0


def test_the_file_that_holds_it_can_be_named(spawn, folder):
    (folder / "fixed").touch()
    (folder / "moved").mkdir()
    (folder / "shop.py").rename(folder / "moved" / "queue.py")
    assert spawn("resume", "failed-1", "--module", "moved/queue.py").code == 0


@pytest.fixture
def script(folder):
    """A failed execution, started by a script that starts a run whenever it is run."""
    path = folder / "release.py"
    path.write_text(f"{(folder / 'shop.py').read_text()}\ndeploy.run(execution_id='script-1')\n")
    run([sys.executable, path], env=environment(), capture_output=True)
    assert rows("executions", "execution_id = 'script-1' AND state = 'FAILED'")
    return path


def test_an_execution_of_a_script_is_resumed_without_running_the_script(spawn, folder, script):
    (folder / "fixed").touch()
    before = rows("executions", "true")
    assert spawn("resume", "script-1").code == 0
    assert rows("executions", "true") == before


def test_for_a_script_that_no_longer_exists_the_whole_command_is_shown(spawn, folder, script):
    (folder / "fixed").touch()
    script.rename(folder / "renamed.py")
    done = spawn("resume", "script-1")
    assert done.code == 6
    assert "    cerebelum resume script-1 --module PATH.py" in done.err
    (folder / "renamed.py").write_text((folder / "shop.py").read_text())
    assert spawn("resume", "script-1", "--module", "renamed.py").code == 0


def test_only_the_definitions_of_a_notebook_are_run(spawn, folder):
    (folder / "fixed").touch()
    cells = [
        "%load_ext cerebelum_nb\nfrom pathlib import Path\nfrom cerebelum_nb import step, workflow",
        "@step\ndef build(inputs):\n    return 1",
        "WORD = 'fine'\n@step\ndef verify(build):\n    return WORD\nPath('ran').touch()",
        "@workflow\ndef deploy(wf):\n    wf.timeline(build >> verify)\nresult = await deploy.execute()",
        "for _ in range(3): raise RuntimeError",
    ]
    notebook = {"cells": [{"cell_type": "code", "source": source, "metadata": {}} for source in cells]}
    (folder / "deploy.ipynb").write_text(json.dumps({**notebook, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}))
    done = spawn("resume", "failed-1", "--notebook", "deploy.ipynb")
    assert (done.code, done.err.count("Error")) == (0, 0)
    assert not (folder / "ran").exists()


def test_an_external_effect_is_not_repeated_unless_asked(spawn):
    done = spawn("resume", "died-1")
    assert done.code == 7
    assert "cerebelum resume died-1 --repeat charge" in done.err
    assert "cerebelum resume died-1 --mark-done charge=null" in done.err


def test_an_external_effect_is_repeated_when_asked(spawn):
    assert spawn("resume", "died-1", "--repeat", "charge").code == 0


def test_an_external_effect_can_be_marked_done(spawn):
    done = spawn("resume", "died-1", "--mark-done", 'charge={"receipt": 7}', "--json")
    assert done.json["step_outputs"]["charge"] == {"receipt": 7}


def test_a_failed_execution_is_rolled_back(spawn, folder):
    shown = spawn("rollback", "failed-1", "--dry-run")
    assert (shown.code, (folder / "removed").exists()) == (0, False)
    assert shown.out == "deploy, rollback of failed-1: 1 undo\n↶ build  undo   remove_image undoes it\n"
    done = spawn("rollback", "failed-1")
    assert done.code == 0 and "deploy  failed-1  rolled back" in done.out and "✓  undo build" in done.out
    assert (folder / "removed").read_text().startswith("app:1: RuntimeError: port 443")
    assert "is already rolled back" in spawn("rollback", "failed-1").err


def test_an_undo_that_fails_says_how_to_continue(spawn, folder):
    (folder / "registry-down").touch()
    done = spawn("rollback", "failed-1")
    assert done.code == 1 and "undo build: OSError: the registry is down" in done.out
    assert (
        "Fix the handler that undoes 'build', then continue the rollback:\n    cerebelum rollback failed-1" in done.out
    )
    (folder / "registry-down").unlink()
    assert spawn("rollback", "failed-1", "--json").json["status"] == "ROLLED_BACK"


def test_a_rollback_asks_about_an_external_effect(spawn):
    done = spawn("rollback", "died-1")
    assert done.code == 7 and "cerebelum rollback died-1 --repeat charge" in done.err
    assert spawn("rollback", "died-1", "--repeat", "charge").code == 0


def test_ctrl_c_pauses_a_run_in_the_foreground(terminal, call):
    shown = terminal("resume", "paused-1")
    wait_for(lambda: "paused-1" in rows("executions", "state = 'RUNNING'"), "it runs again")
    shown.wait_for("copy")
    shown.type("\x03")
    assert shown.end() == 130
    assert state(call, "paused-1") == "PAUSED"


def test_on_a_terminal_the_outcome_is_shown_once(terminal):
    shown = terminal("resume", "failed-1")
    assert shown.end() == 1
    assert (shown.raw.count("✗"), shown.raw.count("verify: RuntimeError: port 443 is closed")) == (1, 1)
    assert re.search(r'shop.py", line \d+, in verify', shown.raw)


def test_with_json_on_stdout_the_terminal_still_shows_the_outcome(terminal, folder):
    (folder / "fixed").touch()
    shown = terminal("resume", "failed-1", "--json")
    assert shown.end() == 0
    assert "✓ verify" in shown.raw


# -- secrets ------------------------------------------------------------------------------------------------


@pytest.fixture
def visit(folder):
    """A failed execution that reads a secret input."""
    code = "import shop, cerebelum_nb as c; shop.visit.run({'token': c.Secret('hunter2-x')}, execution_id='visit-1')"
    run([sys.executable, "-c", code], env=environment(), capture_output=True)
    (folder / "fixed").touch()


def test_for_a_missing_secret_the_whole_command_is_shown(spawn, visit):
    done = spawn("resume", "visit-1", "--db", LOG)
    assert done.code == 1
    assert "To give it again:\n    cerebelum resume visit-1 --secret token --db .cerebelum/history.db\n" in done.out
    assert "Fix" not in done.out


def test_for_a_secret_missing_in_a_fork_the_command_is_fork(spawn, visit):
    done = spawn("fork", "visit-1")
    assert done.code == 1
    assert re.search(r"\n    cerebelum resume (?!visit-1)\S+ --secret token\n", done.out)


def test_a_secret_is_asked_for_without_echo(terminal, visit):
    shown = terminal("resume", "visit-1", "--secret", "token")
    shown.wait_for("token:")
    shown.type("hunter2-y\n")
    assert shown.end() == 0
    assert "hunter2" not in shown.raw


@pytest.mark.parametrize(
    "options", [("--secret", "token=env:TOKEN"), ("--inputs", '{"token": "hunter2-z"}')], ids=lambda options: options[0]
)
def test_a_secret_given_again_stays_out_of_the_log(spawn, visit, options):
    done = spawn("resume", "visit-1", *options, "--json", TOKEN="hunter2-z")
    assert done.json["step_outputs"]["log_in"]["length"] == 9
    assert b"hunter2" not in b"".join(path.read_bytes() for path in LOG.parent.iterdir())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("token=hunter2-x", "NAME=env:VARIABLE"),
        ("token=env:NO_SUCH", "there is no environment variable NO_SUCH"),
        ("token", "here is no terminal"),
    ],
)
def test_a_secret_that_cannot_be_read_is_refused(spawn, visit, given, told):
    done = spawn("resume", "visit-1", "--secret", given)
    assert (done.code, told in done.err.replace("\n", " "), "hunter2" in done.err) == (2, True, False)


# -- decisions ----------------------------------------------------------------------------------------------


def test_an_approval_reaches_the_step(spawn, call):
    done = call("approve", "asking", "--response", '{"ok": true}', "--by", "ana")
    assert done.out.startswith("approved by ana: budget of step 'review' of asking-1\n")
    assert done.out.endswith("No process is running it. A scheduler resumes it, or:\n    cerebelum resume asking-1\n")
    found = spawn("resume", "asking-1", "--json").json
    assert (found["status"], found["step_outputs"]["review"]) == ("COMPLETED", {"ok": True})


def test_why_it_was_approved_is_in_the_log(call):
    assert call("approve", "asking-1", "--reason", "fits the plan").code == 0
    (event,) = call("events", "asking-1", "--type", "ApprovalReceived", "--json").json["events"]
    assert event["data"]["reason"] == "fits the plan"


def test_a_rejection_fails_the_step(spawn, call):
    assert call("reject", "asking-1", "--reason", "too dear").code == 0
    done = spawn("resume", "asking-1")
    assert done.code == 1
    assert "too dear" in done.out


def test_a_rejected_approval_is_asked_for_again_and_says_how_to_decide(spawn, call, piped):
    call("reject", "asking-1", "--reason", "too dear")
    done = spawn("resume", "asking-1")
    assert "To let 'review' ask again:\n    cerebelum resume asking-1\n" in done.out
    assert "fix" not in done.out
    again = piped("resume", "asking-1", stderr=subprocess.PIPE)
    assert re.fullmatch(r"'review' waits for budget approval, (2h|1h 5\dm.*) left.*\n", again.stderr.readline())
    assert again.stderr.readline() == "    cerebelum approve asking-1\n"
    assert call("approve", "asking-1", "--response", "1").code == 0
    again.communicate(timeout=120)
    assert again.returncode == 0
    assert not call("events", "asking-1", "--type", "StepPrinted", "--json").json["events"]


def test_a_resume_that_sleeps_says_for_how_long(piped):
    waiting = piped("resume", "asleep-1", stderr=subprocess.PIPE)
    assert re.match(r"'night' sleeps, (2h|1h 5\dm.*) left, until ", waiting.communicate(timeout=120)[1])


def test_stale_results_are_named_with_the_command(spawn, folder):
    shop = folder / "shop.py"
    shop.write_text(shop.read_text().replace('"app:1"', '"app:2"'))
    assert "cerebelum resume failed-1 --rerun stale\n" in spawn("resume", "failed-1").err
    assert "run those steps again: --rerun stale\n" in spawn("fork", "failed-1", "--plan").out


def test_a_decision_as_json(call):
    assert call("approve", "asking-1", "--by", "ana", "--json").json == {
        "execution_id": "asking-1",
        "step_name": "review",
        "approval_type": "budget",
        "approved": True,
        "by": "ana",
        "pending": False,
    }


def test_cancelled_is_cancelled(call):
    assert call("cancel", "asleep-1", "--reason", "no need", "--json").json == {
        "execution_id": "asleep-1",
        "outcome": "cancelled",
    }
    assert state(call, "asleep-1") == "CANCELLED"


def test_an_execution_of_another_process_is_asked_to_stop(call, moving):
    assert call("cancel", "moving-1", "--json").json["outcome"] == "requested"
    assert moving.wait(120) != 0
    assert state(call, "moving-1") == "CANCELLED"


# -- what is refused ----------------------------------------------------------------------------------------

BAD = [
    (("status", "nope-9"), 3, "no execution 'nope-9'"),
    (("status", "done-9"), 3, "Did you mean 'done-"),
    (("status", "done"), 3, "'done-2'"),
    (("watch", "nope-9"), 3, "no execution"),
    (("events", "nope-9"), 3, "no execution"),
    (("resume", "nope-9"), 3, "no execution"),
    (("approve", "nope-9"), 3, "no execution"),
    (("reject", "nope-9", "--reason", "x"), 3, "no execution"),
    (("cancel", "nope-9"), 3, "no execution"),
    (("resume", "done-1"), 7, "is completed: there is nothing to resume"),
    (("resume", "cancelled-1"), 7, "was cancelled"),
    (("cancel", "done-1"), 7, "already"),
    (("signal", "done-1", "paid"), 7, "no longer takes signals"),
    (("approve", "done-1"), 7, "is not waiting for an approval"),
    (("approve", "asleep-1"), 7, "is not waiting for an approval"),
    (("approve", "asking-1", "--response", "{yes}"), 2, "--response '\"yes\"'"),
    (("reject", "asking-1"), 2, "--reason"),
    (("resume", "failed-1", "--inputs", "[1]"), 2, "names with values"),
    (("resume", "failed-1", "--inputs", "{"), 2, "--inputs must be JSON"),
    (("resume", "died-1", "--mark-done", "charge"), 2, "is not STEP=VALUE"),
    (("resume", "failed-1", "--module", "a", "--notebook", "b"), 2, "give only one of them"),
    (("resume", "failed-1", "--module", "no_such_module"), 6, "'no_such_module' is not found from"),
    (("resume", "failed-1", "--module", "json"), 6, "holds no workflow of that name"),
    (("resume", "failed-1", "--notebook", "none.ipynb"), 6, "cannot be read"),
    (("resume", "failed-1", "--notebook", "shop.py"), 6, "is not a notebook"),
    (("list", "--status", "nonsense"), 2, "Available: QUEUED, RUNNING, SLEEPING"),
    (("list", "--status", "faild"), 2, "Did you mean 'FAILED'"),
    (("list", "--limit", "-1"), 2, "--limit"),
    (("events", "done-1", "--type", "StepFail"), 2, "Did you mean 'StepFailed'"),
    (("watch", "done-1", "--interval", "0"), 2, "--interval"),
    (("lsit",), 2, "Did you mean 'list'"),
    (("list", "--db", "none.db"), 5, "There is no log at none.db"),
    (("--db", "none.db", "list"), 5, "There is no log at none.db"),
    (("doctor", "--db", "none.db"), 5, "There is no log at none.db"),
    (("--db", "none.db", "scheduler"), 5, "There is no log at none.db"),
    (("list", "--db", "."), 5, "is a folder"),
    (("list", "--db", "shop.py"), 5, "is not a cerebelum log"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "message"), BAD, ids=lambda given: " ".join(given) if isinstance(given, tuple) else None
)
def test_bad_input_is_refused_on_one_screen(call, arguments, code, message):
    done = call(*arguments)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert len(done.err.splitlines()) <= 20
    assert "Traceback" not in done.err


def test_an_approval_is_decided_once(call):
    assert call("approve", "asking-1", "--by", "ana").code == 0
    again = call("reject", "asking-1", "--reason", "no", "--by", "ben")
    assert again.code == 7
    assert "was approved by ana" in again.err


def test_an_execution_of_another_process_is_busy(call, moving):
    done = call("resume", "moving-1")
    assert done.code == 4
    assert f"process {moving.pid}" in done.err


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("def (", "SyntaxError"),
        ("import no_such", "no_such"),
        ("exit(3)", "SystemExit"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_its_line(spawn, folder, source, told):
    (folder / "shop.py").write_text(f"\n{source}\n")
    done = spawn("resume", "failed-1")
    assert done.code == 6
    assert told in done.err
    assert "line 2" in done.err
    assert "Traceback" not in done.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any file")
def test_a_log_that_cannot_be_written(spawn, folder):
    Path(".cerebelum").chmod(0o500)
    Path(".cerebelum/history.db").chmod(0o400)
    done = spawn("cancel", "asleep-1")
    assert done.code == 5
    assert "read-only" in done.err


def test_a_log_of_a_newer_version_is_refused(call):
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(".cerebelum/history.db")) as db:
        db.execute("PRAGMA user_version = 99")
    done = call("list")
    assert (done.code, "Upgrade" in done.err) == (5, True)


def test_debug_shows_the_traceback(spawn):
    done = spawn("status", "nope-9", "--debug")
    assert done.code == 1
    assert "Traceback" in done.err


def test_the_environment_can_name_the_log(spawn, folder):
    Path(".cerebelum").rename("elsewhere")
    assert spawn("list").code == 5
    assert spawn("list", CEREBELUM_DB="elsewhere/history.db").code == 0


def test_commands_that_only_read_create_no_log(spawn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert spawn("list").code == 5
    assert not Path(".cerebelum").exists()


# -- watch --------------------------------------------------------------------------------------------------


def test_a_finished_execution_is_shown_at_once(terminal):
    shown = terminal("watch", "done-1")
    assert shown.end() == 0
    assert "\x1b[?1049h" not in shown.raw
    assert "check  done-1  completed" in shown.left_behind


def test_the_exit_status_can_be_that_of_the_execution(call):
    assert call("watch", "failed-1").code == 0
    assert call("watch", "failed-1", "--exit-status").code == 1
    assert call("watch", "done-1", "--exit-status").code == 0


def test_watching_shows_bars_and_ends_with_the_execution(terminal, moving, folder):
    shown = terminal("watch", "moving-1", "--interval", "0.1")
    shown.wait_for("% copying")
    (folder / "arrived").touch()
    assert shown.end() == 0
    assert shown.raw.count("\x1b[?1049h") == shown.raw.count("\x1b[?1049l") == 1
    assert "moving-1  completed" in shown.left_behind


@pytest.mark.parametrize("name", ["paused-1", "died-1"])
def test_if_no_process_runs_it_watch_says_so_at_once_and_how_to_resume(call, name):
    done = call("watch", name)
    assert done.code == 8
    assert "No process is running it" in done.out and f"    cerebelum resume {name}\n" in done.out
    assert "--wait waits" in done.err


def test_the_command_to_resume_names_the_same_log(call):
    assert "    cerebelum resume paused-1 --db .cerebelum/history.db\n" in call("watch", "paused-1", "--db", LOG).out


def test_watching_ends_soon_after_its_process_died(terminal, moving):
    shown = terminal("watch", "moving-1", "--interval", "0.1")
    shown.wait_for("% copying")
    moving.kill()
    moving.wait()
    assert shown.end() == 8
    assert "cerebelum resume moving-1" in shown.left_behind


def test_with_wait_it_watches_once_a_process_resumes_it(folder, call, piped):
    watching = piped("watch", "died-1", "--wait", "--interval", "0.1")
    assert watching.stdout.readline() == "buy died-1: interrupted at charge, 1 of 2 steps\n"
    assert call("resume", "died-1", "--repeat", "charge").code == 0
    rest, _ = watching.communicate(timeout=120)
    assert watching.returncode == 0
    assert "buy died-1: completed, 2 of 2 steps\n" in rest


def test_a_resized_terminal_is_redrawn(terminal, moving):
    shown = terminal("watch", "moving-1", "--interval", "0.1", columns=80, lines=24)
    shown.wait_for("Ctrl-C to stop watching")
    shown.resize(40, 12)
    shown.wait_for("started")
    shown.wait_for("Ctrl-C to stop watching")
    shown.wait_for("Ctrl-C to stop watching")
    assert max(len(line) for line in shown.frames()[0]) > 40
    small = shown.frames()[-2]
    assert (len(small), [line for line in small if len(line) > 40]) == (12, [])


def test_ctrl_c_stops_watching_and_nothing_else(terminal, moving, call):
    shown = terminal("watch", "moving-1", "--interval", "0.1")
    shown.wait_for("Ctrl-C to stop watching")
    shown.type("\x03")
    assert shown.end() == 130
    assert "stopped watching; the execution continues" in shown.left_behind
    assert state(call, "moving-1") == "RUNNING"


def test_the_terminal_is_restored_when_watching_is_killed(terminal, moving):
    shown = terminal("watch", "moving-1", "--interval", "0.1")
    shown.wait_for("Ctrl-C to stop watching")
    shown.process.send_signal(signal.SIGTERM)
    assert shown.end() == 128 + signal.SIGTERM
    assert shown.raw.endswith("\x1b[?1049l")


def test_in_a_pipe_each_change_is_a_line(folder, moving, piped):
    watching = piped("watch", "moving-1", "--interval", "0.1")
    assert watching.stdout.readline() == "move moving-1: running at copy, 1 of 2 steps\n"
    (folder / "arrived").touch()
    rest, _ = watching.communicate(timeout=120)
    assert watching.returncode == 0
    assert rest.startswith("move moving-1: completed, 2 of 2 steps\n")
    assert "\x1b" not in rest


# -- scheduler ----------------------------------------------------------------------------------------------


def test_a_scheduler_without_its_code_says_so(call):
    done = call("scheduler", "no_such_module")
    assert (done.code, "no_such_module" in done.err) == (6, True)


def test_a_scheduler_resumes_what_was_decided_and_stops_on_sigterm(folder, call):
    scheduler = Popen([*CEREBELUM, "scheduler"], stdout=subprocess.PIPE, env=environment(), text=True)
    try:
        assert "running on" in scheduler.stdout.readline()
        assert call("approve", "asking-1").code == 0
        wait_for(lambda: "asking-1" in rows("executions", "state = 'COMPLETED'"), "it is completed")
        scheduler.send_signal(signal.SIGTERM)
        assert scheduler.wait(120) == 0
    finally:
        scheduler.kill()
        scheduler.communicate()


# -- fork ---------------------------------------------------------------------------------------------------


def test_a_fork_runs_in_the_foreground_and_says_where_it_comes_from(spawn, call, folder):
    (folder / "fixed").touch()
    done = spawn("fork", "failed-1", "--from", "verify", "--json")
    assert done.code == 0
    assert done.json["step_outputs"]["verify"] == "fine"
    assert state(call, "failed-1") == "FAILED"
    shown = call("status", done.json["execution_id"]).out
    assert re.search(r"forked from failed-1 at event \d+ \(before step 'verify'\)", shown)


def test_a_fork_takes_inputs_and_results(spawn, folder):
    (folder / "fixed").touch()
    given = spawn("fork", "failed-1", "--override", 'build={"image": "app:2"}', "--json").json
    assert given["step_outputs"] == {"build": {"image": "app:2"}, "verify": "fine"}
    changed = spawn("fork", "failed-1", "--inputs", '{"size": "s-2"}', "--json").json
    assert changed["step_outputs"]["build"]["size"] == "s-2"


def test_the_plan_of_a_fork_runs_nothing(spawn, call):
    before = call("list", "--json").json["total"]
    done = spawn("fork", "failed-1", "--override", "build=1", "--plan")
    assert done.code == 0
    assert "build   keep   its result is given" in done.out
    assert call("list", "--json").json["total"] == before


def test_a_fork_that_fails_exits_with_1(spawn):
    assert spawn("fork", "failed-1", "--from", "verify").code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("fork", "failed-1", "--plan"),
        ("list", "--status", "nonsense"),
        ("list", "--limt"),
        ("resume", "done-9"),
        ("-h",),
    ],
    ids=" ".join,
)
def test_output_fits_40_columns(spawn, folder, arguments):
    (folder / "shop.py").write_text((folder / "shop.py").read_text().replace('"app:1"', '"app:2"'))
    done = spawn(*arguments, COLUMNS="40")
    assert [line for line in (done.out + done.err).splitlines() if len(line) > 40] == []


@pytest.mark.parametrize("name", ["resume", "list", "prune", "verify", "fork"])
def test_a_help_fits_40_columns(call, name):
    assert [line for line in call(name, "-h", columns=40).out.splitlines() if len(line) > 40] == []


@pytest.mark.parametrize("columns", [1, 2, 20])
def test_a_help_is_written_in_the_narrowest_terminal(call, columns):
    shown = call("-h", columns=columns)
    assert shown.code == 0
    assert "resume" in shown.out


def test_an_id_is_quoted_in_commands_to_copy(spawn, call, folder):
    code = "import shop; from cerebelum_nb import WorkflowError\ntry: shop.deploy.run(execution_id='a b/c')\n"
    code += "except WorkflowError: pass\nshop.deploy.run(execution_id='-x')"
    done = run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert "ValueError: an execution id must not begin with '-'" in done.stderr
    assert "    cerebelum resume 'a b/c'\n" in call("status", "a b/c").out


@pytest.mark.parametrize("how", [(), ("--from", "nothing"), ("--override", "nothing=1")])
def test_an_impossible_fork_is_refused(spawn, how):
    done = spawn("fork", "done-1", *how)
    assert done.code == 7, done
    assert "Traceback" not in done.err
