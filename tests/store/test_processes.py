"""Several processes on one log: real ones, which race, fork and are killed."""

from __future__ import annotations

import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cerebelum_nb._core.events import StepStarted
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._core.summary import Summary
from cerebelum_nb._store import holder
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.holder import Holder, Life
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import ExecutionBusyError

from ..programs import Popen

pytestmark = pytest.mark.process

PRELUDE = """
import os, sys
from cerebelum_nb._core.events import CancelRequested, StepCompleted, StepStarted
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._core.value import Value
from cerebelum_nb._core.summary import Summary
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.sqlite import SqliteStore
SHOWN = Summary(workflow="deploy", state=ExecutionState.RUNNING, started_at=1, updated_at=1)
path, name = sys.argv[1:3]

def append(store, execution_id, after, events, holder, **how):
    how |= {"execution_id": execution_id, "after": after, "events": events, "holder": holder}
    return store.commit([Commit(summary=SHOWN, **how)])
"""


@pytest.fixture
def run(tmp_path):
    """Start python code on this test's log; whatever still runs at the end is killed."""
    started = []

    def start(code, name="x"):
        command = [sys.executable, "-W", "error", "-c", PRELUDE + code, str(tmp_path / "log.db"), name]
        child = Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def said(child):
    """Wait for a child (and its children) and return what it printed, once it ended well."""
    out, err = child.communicate(timeout=120)
    assert (child.returncode, err) == (0, "")
    return out


def test_three_processes_write_at_once_and_lose_nothing(run, sqlite_log):
    sqlite_log.start("shared", release=True)
    writers = [
        run(
            """
with SqliteStore(path, durability="normal") as store:
    me = store.register(1, 10**9)
    print("ready", flush=True)
    sys.stdin.readline()
    done = (StepStarted(at=1, step="s"), StepCompleted(at=1, step="s", output=Value("json", "1")))
    for turn in range(200):
        assert append(store, name, 2 * turn, done, me) == {}
        signal = [CancelRequested(at=1, by=name)]
        while append(store, "shared", store.execution("shared").version, signal, None):
            pass
""",
            f"run-{n}",
        )
        for n in range(3)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        said(writer)
    by = [event.by for event in sqlite_log.store.events("shared", after=1)]
    assert {name: by.count(name) for name in set(by)} == {f"run-{n}": 200 for n in range(3)}
    with closing(sqlite_log.store.read_connection()) as reader:
        counted = reader.execute(
            "SELECT execution_id, count(*), count(DISTINCT version), max(version) FROM events GROUP BY 1"
        ).fetchall()
    assert counted == [("run-0", 400, 400, 400), ("run-1", 400, 400, 400), ("run-2", 400, 400, 400),
                       ("shared", 601, 601, 601)]  # fmt: skip


def test_processes_that_create_the_same_log_at_once_all_succeed(run, tmp_path):
    code = """
import cerebelum_nb._store.schema  # so that they meet
print("ready", flush=True)
sys.stdin.readline()
with SqliteStore(path) as store:
    me = store.register(1, 10**9)
    assert append(store, name, 0, [StepStarted(at=1, step="s")], me) == {}
"""
    creators = [run(code, f"run-{n}") for n in range(4)]
    for creator in creators:
        assert creator.stdout.readline() == "ready\n"
    for creator in creators:
        creator.stdin.write("go\n")
        creator.stdin.flush()
    for creator in creators:
        said(creator)
    with SqliteStore(tmp_path / "log.db") as store:
        assert store.executions()[1] == 4
        with closing(store.read_connection()) as reader:
            assert reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)


HOLD = """
store = SqliteStore(path, durability="normal")
me = store.register(1, 10**15)
append(store, name, 0, [StepStarted(at=1, step="s")], me)
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_killed_holder_on_this_host_is_known_dead_at_once(run, sqlite_log):
    child = run(HOLD, "deploy-1")
    assert child.stdout.readline() == "held\n"
    holder = sqlite_log.store.execution("deploy-1").holder
    assert (holder.pid, sqlite_log.store.lease_left(holder)) == (child.pid, math.inf)
    with pytest.raises(ExecutionBusyError, match=f"being run by process {child.pid} on ") as caught:
        sqlite_log.store.claim("deploy-1", sqlite_log.me, 2)
    assert caught.value.free_at is None
    child.send_signal(signal.SIGKILL)
    while Path(f"/proc/{child.pid}/stat").read_text().rpartition(") ")[2][0] != "Z":  # dead, and not yet reaped
        time.sleep(0.01)
    assert sqlite_log.store.lease_left(holder) == 0
    child.wait()
    assert sqlite_log.store.lease_left(holder) == 0
    sqlite_log.store.claim("deploy-1", sqlite_log.me, 2)
    assert sqlite_log.append("deploy-1", 1, *sqlite_log.step()) == {}


@pytest.fixture
def me():
    """This process as a holder."""
    who = holder.this_process()
    return Holder(key=1, host=who.host, pid=who.pid, boot_id=who.boot_id, started=who.started,
                  heartbeat_at=0, expires_at=1)  # fmt: skip


BOOT, NAMESPACE, MACHINE = "boot", "4026531836", "machine"
HERE = f"{BOOT}/{NAMESPACE}/{MACHINE}"


@pytest.mark.parametrize(
    ("what", "is_"),
    [
        ({}, Life.ALIVE),
        ({"host": "a laptop in another network"}, Life.ALIVE),  # the boot proves more than the name
        ({"started": "1"}, Life.GONE),  # its pid was given to another process
        ({"pid": 2**22 + 1}, Life.GONE),  # above any pid Linux gives
        ({"started": ""}, Life.UNSEEN),
        ({"boot_id": f"earlier/{NAMESPACE}/{MACHINE}"}, Life.GONE),
        ({"boot_id": f"earlier/{NAMESPACE}/{MACHINE}", "host": "elsewhere"}, Life.UNSEEN),  # a clone has its id
        ({"boot_id": f"earlier/{NAMESPACE}/another"}, Life.UNSEEN),  # another machine of the same name
        ({"boot_id": f"earlier/{NAMESPACE}"}, Life.UNSEEN),  # as an older version recorded it
        ({"boot_id": f"{BOOT}/{NAMESPACE}"}, Life.ALIVE),  # likewise
        ({"boot_id": f"{BOOT}/1/{MACHINE}"}, Life.UNSEEN),  # another container of this machine
        ({"boot_id": ""}, Life.UNSEEN),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc, which only Linux has")
def test_life_is_proved_or_not_known(monkeypatch, what, is_):
    monkeypatch.setattr(holder, "_boot_id", lambda: HERE)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started = holder.start_of(child.pid)
        other = Holder(key=1, host=os.uname().nodename, pid=child.pid, boot_id=HERE, started=started,
                       heartbeat_at=0, expires_at=1)  # fmt: skip
        assert holder.life(replace(other, **what)) is is_
        child.communicate()


def test_where_the_system_has_no_boot_id_the_name_of_the_host_counts(monkeypatch, me):
    monkeypatch.setattr(holder, "_boot_id", lambda: "")
    assert holder.life(replace(me, boot_id="", pid=2**22 + 1)) is Life.GONE
    assert holder.life(replace(me, boot_id="", pid=2**22 + 1, host="elsewhere")) is Life.UNSEEN


def test_of_this_process_it_is_known_which_of_its_stores_are_still_open(tmp_path, log_of):
    with SqliteStore(tmp_path / "log.db") as here:
        with SqliteStore(tmp_path / "log.db") as other:
            log_of(other).start("k1")
            assert here.abandoned(limit=9) == []
        assert [row.execution_id for row in here.abandoned(limit=9)] == ["k1"]


@pytest.mark.parametrize("happens", [shutil.copy, shutil.move])
def test_a_copied_or_moved_log_is_not_held_by_who_held_it_before(tmp_path, log_of, happens):
    with SqliteStore(tmp_path / "log.db") as before:
        log_of(before).start("k1")
        for file in list(tmp_path.glob("log.db*")):
            happens(file, tmp_path / file.name.replace("log", "new"))
        with SqliteStore(tmp_path / "new.db") as here:
            assert [row.execution_id for row in here.abandoned(limit=9)] == ["k1"]
            here.claim("k1", here.register(0, 10**9), 0)


def test_the_rows_of_processes_that_are_gone_do_not_pile_up(run, sqlite_log):
    for _ in range(3):
        said(run("with SqliteStore(path) as store:\n    store.register(1, 10**9)"))
    sqlite_log.store.register(1, 1)
    with closing(sqlite_log.store.read_connection()) as reader:
        assert reader.execute("SELECT DISTINCT pid FROM holder").fetchall() == [(os.getpid(),)]


def test_this_process_knows_itself(me):
    assert holder.is_this_process(me)
    assert not holder.is_this_process(replace(me, pid=me.pid + 1))


def test_a_kill_in_the_middle_of_commits_leaves_whole_commits(run, sqlite_log):
    child = run(
        """
store = SqliteStore(path, durability="normal")
me = store.register(1, 10**15)
after = 0
while True:
    append(store, name, after, (StepStarted(at=1, step="a"), StepStarted(at=1, step="b")), me)
    after += 2
    if after == 200:
        print("going", flush=True)
""",
        "deploy-1",
    )
    assert child.stdout.readline() == "going\n"
    child.kill()
    child.wait()
    events = sqlite_log.store.events("deploy-1")
    assert len(events) >= 200
    assert len(events) % 2 == 0
    assert sqlite_log.store.execution("deploy-1").version == len(events)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_a_store_continues_in_a_forked_child_also_after_the_parent_has_ended(run, sqlite_log):
    child = run(
        """
store = SqliteStore(path, durability="normal")
me = store.register(1, 10**15)
append(store, name, 0, [StepStarted(at=1, step="parent")], me)
reader, writer = os.pipe()
if os.fork():
    append(store, name, 1, [StepStarted(at=1, step="parent")], me)
    store.close()
else:
    os.close(writer)
    os.read(reader, 1)  # returns when the parent is gone
    assert len(store.events(name)) == 2
    assert append(store, name, 2, [StepStarted(at=1, step="child")], me) == {}
    store.close()
""",
        "deploy-1",
    )
    said(child)
    assert [event.step for event in sqlite_log.store.events("deploy-1")] == ["parent", "parent", "child"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
def test_parent_and_forked_child_write_side_by_side(run, sqlite_log):
    child = run(
        """
with SqliteStore(path, durability="normal") as store:
    me = store.register(1, 10**15)
    forked = os.fork()
    name = f"{name}-{'parent' if forked else 'child'}"
    for after in range(300):
        assert append(store, name, after, [StepStarted(at=1, step="s")], me) == {}
    if forked:
        assert os.waitpid(forked, 0)[1] == 0
""",
        "deploy",
    )
    said(child)
    rows, _ = sqlite_log.store.executions()
    assert {row.execution_id: row.version for row in rows} == {"deploy-parent": 300, "deploy-child": 300}
    with closing(sqlite3.connect(sqlite_log.store.path)) as other:
        assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)


STARTED = Commit(
    execution_id="k1",
    after=0,
    events=[StepStarted(at=1, step="a")],
    summary=Summary(workflow="w", state=ExecutionState.RUNNING, started_at=1, updated_at=1),
    holder=None,
)


@pytest.mark.parametrize("way", ["create", "claim"])
def test_a_holder_whose_row_was_cleared_while_it_stood_still_is_known_again_with_its_next_lease(tmp_path, way):
    with SqliteStore(tmp_path / "log.db") as store:
        holder, other = store.register(1, 30_000_000), store.register(1, 30_000_000)
        if way == "claim":
            assert store.commit([replace(STARTED, holder=other, release=True)]) == {}
        with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as db:
            db.execute("DELETE FROM holder WHERE key = ?", (holder,))
        if way == "claim":
            store.claim("k1", holder, 2)
        else:
            assert store.commit([replace(STARTED, holder=holder)]) == {}
        assert store.execution("k1").holder.key == holder
