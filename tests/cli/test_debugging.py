"""`debug`: a run event by event, at a prompt and through a pipe, in 80 columns and in 40."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing

import pytest
from click.testing import CliRunner

from cerebelum_nb._cli import main

from ..programs import run
from .conftest import LOG, environment


@pytest.fixture
def debug(folder, monkeypatch):
    """Go through a run with commands from a pipe; return the exit code, stdout and stderr."""
    monkeypatch.delenv("CEREBELUM_DB", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(typed, *arguments):
        done = CliRunner().invoke(main, ["debug", *(arguments or ("failed-1",))], input=typed, prog_name="cerebelum")
        assert isinstance(done.exception, (SystemExit, type(None))), done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


def places(out):
    """The events that were shown, in order."""
    return [line for line in out.splitlines() if line.startswith("event ")]


def test_it_reads_commands_from_a_pipe(folder):
    done = run(
        [sys.executable, "-W", "error", "-m", "cerebelum_nb", "debug", "failed-1"],
        input="n\nn\nq\n",
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert places(done.stdout)[-1] == "event 3: StepCompleted build"


def test_it_begins_at_the_first_event_and_ends_with_its_input(debug):
    code, out, err = debug("")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "deploy failed-1: failed, 1 of 2 steps, 6 events"
    assert places(out) == ["event 1: WorkflowStarted"]


@pytest.mark.parametrize(
    ("typed", "last"),
    [
        ("next\n", "event 2: StepStarted build"),
        ("n\n\n\n", "event 4: StepStarted verify"),
        ("n 3\np\n", "event 3: StepCompleted build"),
        ("jump 5\nq\nn\n", "event 5: StepFailed verify"),
        ("j verify\n", "event 4: StepStarted verify"),
        ("j end\n", "event 6: WorkflowFailed"),
        ("j end\nj start\n", "event 1: WorkflowStarted"),
        ("continue\n", "event 6: WorkflowFailed"),
        ("break verify\nc\n", "event 4: StepStarted verify"),
        ("b StepFailed\nc\n", "event 5: StepFailed verify"),
        ("b verify\nb StepFailed\nd verify\nc\n", "event 5: StepFailed verify"),
        ("b verify\ndelete\nc\n", "event 6: WorkflowFailed"),
        ("N\n", "event 2: StepStarted build"),
    ],
)
def test_commands_may_be_their_first_letters(debug, typed, last):
    code, out, err = debug(typed)
    assert (code, err) == (0, "")
    assert places(out)[-1] == last


def test_an_event_is_shown_with_what_it_changed(debug):
    _, out, _ = debug("j 3\n")
    told = out[out.index("event 3") :].splitlines()
    assert told[2] == '    after 1ms, {"image":"app:1","size":"s-1"}' or told[2].endswith('"size":"s-1"}')
    assert "  steps['build'].phase: RUNNING → COMPLETED" in told
    assert "  finished: - → build" in told


def test_at_the_ends_it_says_so(debug):
    _, out, _ = debug("p\nj end\nn\n")
    assert "this is the first event" in out
    assert out.splitlines()[-1] == "this is the last event"


def test_show_is_as_of_the_event(debug):
    _, out, _ = debug("j 4\nshow\n")
    shown = out[out.index("deploy  failed-1") :]
    assert shown.splitlines()[0] == "deploy  failed-1  running"
    assert "✓  build" in shown
    assert "▶  verify" in shown
    assert "resume" not in shown


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("s build", ["build: completed, attempt 1", '    "image": "app:1",']),
        ("s verify", ["verify: failed, attempt 1", "RuntimeError: port 443 is closed", "in verify"]),
        ("s inputs", ['  "size": "s-1"']),
        ("s state", ["lifecycle = FAILED", "steps['verify'].phase = FAILED"]),
        ("values", ['build = {"image":"app:1","size":"s-1"}']),
        ("list", ["   4  StepStarted verify", ">  6  WorkflowFailed"]),
        ("l all", ["   1  WorkflowStarted"]),
        ("help", ["break [STEP|EVENT]", "    go to the next event, or N events ahead"]),
        ("?", ["break [STEP|EVENT]"]),
    ],
)
def test_what_is_shown(debug, command, expected):
    code, out, err = debug(f"j end\n{command}\n")
    assert (code, err) == (0, "")
    for text in expected:
        assert text in out[out.index("event 6") :]


def test_nothing_is_known_of_later_events(debug):
    _, out, _ = debug("show verify\nvalues\n")
    assert "verify has not started yet; its first event is 4" in out
    assert "no step is completed yet" in out


def test_control_characters_of_a_log_do_not_reach_the_terminal(debug):
    _, out, _ = debug("j 5\ns verify\ns state\nl\n")
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("frobnicate\n", "there is no command 'frobnicate'"),
        ("nxt\n", "did you mean next?"),
        ("jump 99\n", "'99' is not an event: the events are 1 to 6"),
        ("jump\n", "'' is not an event"),
        ("n two\n", "'two' is not an event"),
        ("n 0\n", "'0' is not an event"),
        ("break verfy\n", "there is no step or type of event 'verfy': did you mean verify?"),
        ("show verfy\n", "did you mean verify?"),
        ('show "verify\n', "there is no step '\"verify'"),
    ],
)
def test_an_unknown_command_says_so_and_the_position_stays(debug, typed, told):
    code, out, err = debug(typed)
    assert code == 0
    assert told in " ".join(err.split())
    assert places(out) == ["event 1: WorkflowStarted"]


def test_an_unknown_run_and_a_missing_log_are_errors_as_everywhere(debug):
    code, _, err = debug("", "failde-1")
    assert code == 3
    assert "failed-1" in err
    code, _, err = debug("", "failed-1", "--db", "none.db")
    assert code == 5
    assert "There is no log at none.db" in err


def test_nothing_is_written(debug):
    def held():
        with closing(sqlite3.connect(LOG)) as db:
            return list(db.iterdump())

    before = held()
    debug("n\nj end\ns\nq\n")
    assert held() == before


@pytest.mark.parametrize("state", ["done-1", "asking-1", "asleep-1", "cancelled-1", "paused-1", "died-1"])
def test_a_run_in_any_state_can_be_gone_through(debug, state):
    code, out, err = debug("c\ns\ns state\nv\nl all\n", state)
    assert (code, err) == (0, "")
    assert f" {state}: " in out


@pytest.mark.parametrize("columns", [80, 40])
def test_at_a_prompt(terminal, columns):
    screen = terminal("debug", "failed-1", columns=columns)
    assert "event 1: WorkflowStarted" in screen.wait_for("1/6> ")
    screen.type("n\n")
    assert "event 2: StepStarted build" in screen.wait_for("2/6> ")
    screen.type("\n")
    assert "event 3: StepCompleted build" in screen.wait_for("3/6> ")
    for command in ("s", "s verify", "s build", "s state", "l", "v", "h", "b verify"):
        screen.type(f"{command}\n")
        shown = screen.wait_for("3/6> ")
        assert max(map(len, shown.splitlines())) <= columns, command
    screen.type("half a li")
    screen.wait_for("half a li")
    screen.interrupt(until="3/6> ")  # drops the line, and nothing else
    screen.type("\x04")
    assert screen.end() == 0


def test_tab_completes_commands_and_steps_and_the_history_comes_back(terminal):
    screen = terminal("debug", "failed-1")
    screen.wait_for("1/6> ")
    screen.type("ju\tver\t\n")
    assert "event 4: StepStarted verify" in screen.wait_for("4/6> ")
    screen.type("p\n")
    screen.wait_for("3/6> ")
    screen.type("\x1b[A\n")
    assert "event 2: StepStarted build" in screen.wait_for("2/6> ")
    screen.type("quit\n")
    assert screen.end() == 0
