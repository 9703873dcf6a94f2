"""The plan of a run is in its log: a process without the code draws the whole graph."""

from __future__ import annotations

import subprocess
import sys
import zlib
from dataclasses import replace

import pytest

from cerebelum_nb import StoreError, WorkflowError, history, step, workflow
from cerebelum_nb._core.blueprint import dump, load
from cerebelum_nb._core.events import WorkflowStarted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.graph import Plan
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._engine.plan_payloads import blueprint_of, plan_text
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._values import Redactor
from cerebelum_nb._values.bounds import MOST_CODE_BYTES
from cerebelum_nb.archive import pack, prune, unpack, verify
from cerebelum_nb.testing import MemoryStore

ELSEWHERE = """
import sys
from cerebelum_nb import history
print(history.graph("r1", store=sys.argv[1]))
print(history.slider("r1", store=sys.argv[1]).to_html().count("notify") > 0)
"""


@step
def build(inputs):
    return inputs["image"]


@step
def push(build):
    if build == "bad":
        raise OSError("no network")
    return build


@step
def notify(push):
    return "told"


@step
def repair(build):
    raise RuntimeError("beyond repair")


@step
def tidy(notify):
    return "tidy"


@workflow
def release(wf):
    wf.timeline(build >> push >> notify)
    wf.diverge(from_step=push, patterns={OSError: repair})


@pytest.fixture
def log(tmp_path):
    with SqliteStore(tmp_path / "log.db", durability="normal") as log:
        yield log


def run(log, execution_id="r1", image="bad"):
    try:
        release.run({"image": image}, store=log, execution_id=execution_id)
    except WorkflowError:
        return


def plans(log):
    db = log.read_connection()
    try:
        return db.execute("SELECT digest FROM payload WHERE codec = 'plan'").fetchall()
    finally:
        db.close()


@pytest.mark.process
def test_a_process_without_the_code_draws_the_whole_graph(log, tmp_path):
    run(log)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(log.path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=log.path.parent,
    )
    *drawn, has_all = done.stdout.splitlines()
    assert drawn[:2] == ["release", "  ✓ build"]
    assert "  · notify" in drawn and any("repair" in line for line in drawn), "also what never ran, and the routes"
    assert has_all == "True"


def test_a_plan_is_kept_once_per_content(log):
    for number in range(3):
        run(log, f"r{number}", "good")
    assert len(plans(log)) == 1
    with SqliteStore(log.path) as again:  # as another process would: nothing is known of what the log holds
        run(again, "r9", "good")
    assert len(plans(log)) == 1


def test_a_resume_by_another_plan_records_it(log):
    run(log)
    before = history.graph("r1", store=log).plan

    @workflow(name="release")
    def longer(wf):
        wf.timeline(build >> push >> notify >> tidy)
        wf.diverge(from_step=push, patterns={OSError: repair})

    with pytest.raises(WorkflowError):
        longer.resume_sync("r1", store=log)
    assert history.graph("r1", store=log).plan.timeline == (*before.timeline, ("tidy",))
    assert len(plans(log)) == 2


def test_a_pack_carries_the_plan_and_a_prune_keeps_it(log, tmp_path):
    run(log)
    run(log, "r2")
    pack("r1", tmp_path / "r1.cerebelum", store=log)
    with SqliteStore(tmp_path / "other.db") as other:
        unpack(tmp_path / "r1.cerebelum", store=other)
        assert history.graph("r1", store=other).plan.timeline == (("build",), ("push",), ("notify",))
        assert verify(store=other).ok
    prune(keep_last=1, state="failed", store=log)
    assert [row.execution_id for row in log.executions()[0]] == ["r2"]
    assert str(history.graph("r2", store=log)).startswith("release")
    assert verify(store=log).ok


def stored_plan(log, change):
    """Change the bytes of the plan that the log holds."""
    with log.maintenance("tampers") as db:
        ((data,),) = db.execute("SELECT data FROM payload WHERE codec = 'plan'").fetchall()
        db.execute("UPDATE payload SET data = ? WHERE codec = 'plan'", (change(data),))


def test_a_long_plan_is_compressed_and_one_that_was_stored_as_text_is_the_same(log):
    text = dump(Plan(workflow="w", timeline=tuple((f"step_{n}",) for n in range(1000)), steps={})).encode()
    long = blueprint_of(load(text), Redactor())
    assert plan_text(long.payload) == text and long.size == len(long.payload) < len(text) / 4
    run(log)
    stored_plan(log, zlib.compress)
    assert "notify" in str(history.graph("r1", store=log)) and verify(store=log).ok
    with SqliteStore(log.path) as again:
        run(again, "r2")
    assert len(plans(log)) == 1 and verify(store=log).ok


@pytest.mark.parametrize(
    ("change", "is_readable"),
    [
        (lambda text: zlib.compress(text.replace(b"notify", b"delete")), True),
        (lambda text: text.replace(b"notify", b"delete"), True),
        (lambda text: zlib.compress(text)[:-5], False),
        (lambda text: b"", False),
        (lambda text: zlib.compress(text + b" " * MOST_CODE_BYTES), False),
    ],
    ids=["other", "other text", "cut", "empty", "too large"],
)
def test_a_changed_or_damaged_plan_is_found(log, tmp_path, change, is_readable):
    run(log)
    stored_plan(log, change)
    (found,) = verify(store=log).findings
    assert "bytes of the value" in found.message and "were changed" in found.message
    pack("r1", tmp_path / "r1.cerebelum", store=log, redact=["token"])  # searches it
    if not is_readable:
        with pytest.raises(StoreError, match="does not hold the plan of execution r1"):
            history.graph("r1", store=log)


def test_a_log_in_memory_holds_plans_too():
    log = MemoryStore()
    run(log, image="good")
    assert set(history.graph("r1", store=log).states.values()) >= {"completed", "skipped"}


def test_a_run_without_a_plan_says_so(log):
    run(log)
    old = MemoryStore()
    events = [replace(e, plan="") if isinstance(e, WorkflowStarted) else e for e in log.events("r1")]
    me = old.register(0, 1)
    commit = Commit(execution_id="r1", after=0, events=events, summary=summarise(fold(events)), holder=me, release=True)
    old.commit([commit])
    with pytest.raises(StoreError, match=r"does not hold the plan of execution r1: an older version wrote it"):
        history.graph("r1", store=old)
