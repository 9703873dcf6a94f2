"""The log is readable without this library: the names of its views, and the tools of docs/howto/history.md."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import urllib.parse
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

from cerebelum_nb import history
from cerebelum_nb._store.sqlite import SqliteStore

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "howto" / "history.md").read_text(encoding="utf-8")
COMMANDS = "".join(re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)).splitlines()
VIEWS = dict(re.findall(r"^\| `(executions|steps|events|schedules)` \| (.+) \|$", PAGE, re.MULTILINE))
FAILED = "select workflow, step, count(*) as failures from steps where state = 'FAILED' group by 1, 2 order by 3 desc"


@pytest.mark.parametrize("view", ["executions", "steps", "events", "schedules"])
def test_the_columns_of_a_view_are_those_of_the_docs(runs, view):
    with contextlib.closing(sqlite3.connect(runs.store.path)) as db:
        columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({view})")]
    assert VIEWS[view].split(", ") == columns, "these names are a contract: add columns, never rename or drop one"


def test_values_are_readable_text(runs):
    with contextlib.closing(sqlite3.connect(runs.store.path)) as db:
        query = """SELECT steps.started_at, inputs, duration
            FROM executions JOIN steps USING (execution_id) WHERE step = 'wait'"""
        (row,) = db.execute(query).fetchall()
    assert row == ("2026-01-01T00:01:00.000000Z", '{"size":"s-1","token":"********"}', 7200.0)


@pytest.fixture
def folder(runs, tmp_path):
    """A folder in which the log is ``.cerebelum/history.db``, as in the docs."""
    (tmp_path / "there" / ".cerebelum").mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(tmp_path / "there" / ".cerebelum" / "history.db")) as copy:
        with contextlib.closing(runs.store.read_connection()) as log:
            log.backup(copy)
        copy.execute("PRAGMA journal_mode = WAL")
    return tmp_path / "there"


def command_line(command, folder):
    if command.startswith("sqlite3 ") and shutil.which("sqlite3") is None:
        pytest.skip("the program sqlite3 is not on the PATH")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, shell=True, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.process
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command.split()[:1]))
def test_a_command_of_the_docs_answers(folder, command):
    assert len(command_line(command, folder).splitlines()) >= 1


@pytest.mark.process
def test_the_answer_is_the_same_by_each_tool(folder, runs):
    expected = history.sql(FAILED, store=runs.store).to_dict("records")
    assert expected == [{"workflow": "deploy", "step": "verify", "failures": 1}]
    assert json.loads(command_line(f'sqlite-utils .cerebelum/history.db "{FAILED}"', folder)) == expected
    assert json.loads(command_line(f'sqlite3 -json .cerebelum/history.db "{FAILED}"', folder)) == expected


@pytest.fixture
def datasette(folder):
    """The address at which Datasette serves the log while a run is open in it."""
    if find_spec("datasette") is None:
        pytest.skip("Datasette is not installed")
    log = folder / ".cerebelum" / "history.db"
    # No -W error for it: the warnings of its libraries are not ours.
    server = subprocess.Popen(
        [sys.executable, "-m", "datasette", str(log), "--port", "0"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"},
    )
    try:
        assert server.stderr is not None
        lines = []
        for line in server.stderr:
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield found[0]
                break
        else:
            pytest.fail("".join(lines))
    finally:
        server.terminate()
        server.communicate(timeout=120)


def asked(address, path, **arguments):
    query = urllib.parse.urlencode({"_shape": "array", **arguments})
    with urllib.request.urlopen(f"{address}/{path}?{query}", timeout=30) as answer:
        return json.load(answer)


@pytest.mark.process
def test_datasette_answers_and_leaves_the_log_as_it_is(folder, datasette):
    log = folder / ".cerebelum" / "history.db"
    before = hashlib.sha256(log.read_bytes()).hexdigest()
    assert asked(datasette, "history.json", sql=FAILED) == [{"workflow": "deploy", "step": "verify", "failures": 1}]
    (row,) = asked(datasette, "history/steps.json", state="FAILED")
    assert (row["step"], row["error"]) == ("verify", "RuntimeError: not there")
    events = asked(datasette, "history/events.json", execution_id="check-1")
    assert [event["version"] for event in events] == [1, 2, 3, 4]
    assert json.loads(events[2]["data"]) == {"output": [1, 2, 3]}
    assert hashlib.sha256(log.read_bytes()).hexdigest() == before
    assert not log.with_name("history.db-wal").exists() or log.with_name("history.db-wal").stat().st_size == 0


@pytest.mark.process
def test_datasette_sees_what_is_still_in_the_wal(folder, datasette):
    with SqliteStore(folder / ".cerebelum" / "history.db", durability="normal") as store:
        store.register(0, 1)
        holders = "select count(*) as n from holder where expires_at = 1"
        assert asked(datasette, "history.json", sql=holders) == [{"n": 1}]
