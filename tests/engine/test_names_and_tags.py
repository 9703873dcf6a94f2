"""Names and tags of executions: given when one starts, changed at any time, and found by an index."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing

import pytest

from cerebelum_nb import ExecutionClient, ExecutionNotFoundError, WorkflowDefinitionError, history, step, workflow
from cerebelum_nb._core.events import WorkflowStarted, WorkflowTagged
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._core.labels import MOST_TAGS, Labels, name_matches
from cerebelum_nb._core.value import Value
from cerebelum_nb._engine.tagging import tag
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.archive import pack, prune, repair, unpack, verify
from cerebelum_nb.testing import MemoryStore


@step
def build():
    return "image"


@step
def fail():
    raise RuntimeError("no")


@workflow(tags=["shop"])
def release(wf):
    wf.timeline(build)


def ids(store, **wanted):
    return [row.execution_id for row in store.executions(**wanted)[0]]


@pytest.fixture
def three(go, store, clock):
    """Three executions, the newest last."""
    for number, (name, tags) in enumerate([("release 4.1", ["prod"]), ("release 4.2", ["prod", "eu"]), (None, [])]):
        go(release.execute(store=store, execution_id=f"k{number}", name=name, tags=tags))
        clock.advance("1m")
    return store


# -- at the start -----------------------------------------------------------------------------------------------


def test_an_execution_has_the_name_and_the_tags_it_is_given_and_those_of_its_workflow(three):
    shown = three.execution("k1").summary
    assert (shown.name, shown.tags) == ("release 4.2", ("eu", "prod", "shop"))
    assert three.execution("k2").summary.tags == ("shop",)


def test_what_is_in_the_row_is_what_the_events_say(three):
    state = fold(three.events("k1"))
    assert Labels(state.name, state.tags) == Labels("release 4.2", ("eu", "prod", "shop"))


def test_a_resume_keeps_the_name_of_the_start(go, store):
    go(release.execute(store=store, execution_id="k1", name="first"))
    go(release.execute(store=store, execution_id="k1", resume=True, name="second", tags=["late"]))
    shown = store.execution("k1").summary
    assert (shown.name, shown.tags) == ("first", ("shop",))


def test_a_fork_has_the_name_and_the_tags_of_its_parent(go, three):
    fork = go(release.fork("k1", build, fork_id="f1", store=three))
    assert three.execution(fork.execution_id).summary.tags == ("eu", "prod", "shop")


def test_a_secret_in_a_name_is_masked(go, store):
    from cerebelum_nb import Secret

    @step
    def use(inputs):
        return len(inputs["key"].reveal())

    @workflow
    def secretive(wf):
        wf.timeline(use)

    go(secretive.execute({"key": Secret("hunter22")}, store=store, execution_id="k1", name="with hunter22"))
    assert "hunter22" not in repr(store.events("k1")) and store.execution("k1").summary.name.startswith("with ")


# -- finding them -----------------------------------------------------------------------------------------------


def test_executions_are_found_by_all_of_the_tags_that_are_asked_for_newest_first(three):
    assert ids(three, tags=["prod"]) == ["k1", "k0"]
    assert ids(three, tags=["prod", "eu"]) == ["k1"]
    assert ids(three, tags=["nowhere"]) == []
    assert three.executions(tags=["shop"], limit=1, offset=1) == ([three.execution("k1")], 3)


def test_executions_are_found_by_their_name_or_by_a_pattern_of_it(three):
    assert ids(three, name="release 4.2") == ["k1"]
    assert ids(three, name="release *") == ["k1", "k0"]
    assert ids(three, name="release") == []
    assert ids(three, name="*4.1", tags=["prod"], workflow="release") == ["k0"]


@pytest.mark.parametrize(
    ("name", "wanted", "fits"),
    [
        ("a[1]", "a[1]*", True),
        ("a1", "a[1]*", False),
        ("ab", "a?*", False),
        ("a?b", "a?*", True),
        ("a\nb", "a*", False),
    ],
)
def test_only_the_star_stands_for_something_else_in_both_stores(name, wanted, fits, tmp_path):
    assert name_matches(name, wanted) is fits or name == "a\nb"
    with SqliteStore(tmp_path / "log.db", durability="normal") as log:
        release.run(store=log, execution_id="k1", name=name) if name.isprintable() else None
        assert bool(ids(log, name=wanted)) is fits


def test_history_and_client_find_them_too(go, three):
    found = history.executions(tags=["prod"], store=three)
    assert found["name"].tolist() == ["release 4.2", "release 4.1"]
    assert json.loads(found["tags"][0]) == ["eu", "prod", "shop"]
    assert history.executions(name="release 4.*", limit=1, store=three)["execution_id"].tolist() == ["k1"]
    page = go(ExecutionClient(three).list_executions(tags=["eu"], name="*"))
    assert [(one.name, one.tags) for one in page.executions] == [("release 4.2", ("eu", "prod", "shop"))]
    assert page.total == 1 and page.executions[0].to_dict(details=False)["tags"] == ["eu", "prod", "shop"]
    assert "(release 4.2 #eu #prod #shop)" in repr(page.executions[0])


def test_the_newest_with_a_tag_are_found_without_looking_at_the_others(tmp_path):
    with SqliteStore(tmp_path / "log.db", durability="normal") as log, closing(log.read_connection()) as db:
        plans = []
        db.set_trace_callback(plans.append)
        release.run(store=log)
        log._reading = lambda: _Giving(db)
        for wanted in ({"tags": ["prod"]}, {"name": "nightly"}, {"tags": ["prod", "eu"], "workflow": "release"}):
            plans.clear()
            log.executions(limit=50, **wanted)
            assert plans
            for sql in plans[:]:
                told = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}"))
                assert "SCAN" not in told and "TEMP B-TREE" not in told, f"{sql}\n{told}"


class _Giving:
    def __init__(self, db):
        self.db = db

    def __enter__(self):
        return self.db

    def __exit__(self, *_):
        return None


# -- changing tags ----------------------------------------------------------------------------------------------


def test_tags_are_added_and_removed_when_it_has_ended(go, three):
    assert go(ExecutionClient(three).tag("k1", add=["kept"], remove=["eu", "never"], by="Ada")) == (
        "kept",
        "prod",
        "shop",
    )
    assert ids(three, tags=["kept"]) == ["k1"] and ids(three, tags=["eu"]) == []
    last = three.events("k1")[-1]
    assert isinstance(last, WorkflowTagged) and (last.added, last.removed, last.by) == (("kept",), ("eu",), "Ada")
    check(fold(three.events("k1")))


def test_a_change_that_changes_nothing_is_no_event(three):
    version = three.execution("k1").version
    assert tag(three, "k1", add=["prod"], remove=["never"]) == ("eu", "prod", "shop")
    assert three.execution("k1").version == version


def test_an_execution_is_tagged_while_it_runs_and_keeps_running(go, store):
    tagged = asyncio.Event()

    @step
    async def wait():
        await tagged.wait()
        return "done"

    @workflow
    def waits(wf):
        wf.timeline(wait >> build)

    async def live():
        run = waits.start(store=store, execution_id="k1")
        while not store.events("k1"):
            await asyncio.sleep(0)
        await ExecutionClient(store).tag("k1", add=["hot"])
        tagged.set()
        return await run

    assert go(live()).output == "image"
    assert store.execution("k1").summary.tags == ("hot",) and ids(store, tags=["hot"]) == ["k1"]
    check(fold(store.events("k1")))


@pytest.mark.parametrize(
    ("add", "remove", "told"),
    [
        ("prod", (), "tags must be a list of texts: tags=\\['prod'\\]"),
        (["a b"], (), "a tag must be one word"),
        (["-x"], (), "starting with a letter or a digit"),
        ([""], (), "a tag must be one word"),
        ([7], (), "a tag must be text, such as 'prod', not 7"),
        (["x" * 101], (), "at most 100 characters"),
        (["x"], ["x"], "'x' is both added and removed"),
        ([f"t{n}" for n in range(MOST_TAGS + 1)], (), "at most 50 tags"),
    ],
)
def test_what_cannot_be_a_tag_is_refused_before_anything_is_written(three, add, remove, told):
    version = three.execution("k1").version
    with pytest.raises((TypeError, ValueError), match=told):
        tag(three, "k1", add, remove)
    assert three.execution("k1").version == version


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "x" * 201, 7])
def test_what_cannot_be_a_name_is_refused_before_anything_is_written(go, store, name):
    with pytest.raises((TypeError, ValueError), match="the name of an execution must be"):
        go(release.execute(store=store, name=name))
    assert not ids(store)


def test_a_workflow_refuses_what_cannot_be_a_tag_where_it_is_defined():
    with pytest.raises(WorkflowDefinitionError, match=r"@workflow: tags must be a list of texts: tags=\['prod'\]"):
        workflow(tags="prod")(lambda wf: None)


def test_an_execution_that_is_not_there_is_not_tagged(store):
    with pytest.raises(ExecutionNotFoundError):
        tag(store, "nothing", ["x"])


# -- in the log ------------------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path):
    with SqliteStore(tmp_path / "log.db", durability="normal") as made:
        release.run(store=made, execution_id="k1", name="release 4.2", tags=["prod"])
        yield made


def rows(log, sql):
    with closing(log.read_connection()) as db:
        return db.execute(sql).fetchall()


def test_a_pack_carries_them(log, tmp_path):
    pack("k1", tmp_path / "one.cerebelum", store=log)
    unpack(tmp_path / "one.cerebelum", store=tmp_path / "other.db")
    with SqliteStore(tmp_path / "other.db") as other:
        assert ids(other, name="release 4.2", tags=["prod", "shop"]) == ["k1"] and verify(store=other).ok


def test_what_is_masked_in_a_pack_is_masked_in_its_name_too(log, tmp_path):
    @step
    def use(inputs):
        return 1

    @workflow
    def w(wf):
        wf.timeline(use)

    w.run({"token": "hunter22"}, store=log, execution_id="k2", name="for hunter22")
    pack("k2", tmp_path / "two.cerebelum", redact=["token"], store=log)
    assert b"hunter22" not in (tmp_path / "two.cerebelum").read_bytes()
    assert verify(store=tmp_path / "two.cerebelum").ok


def test_pruning_an_execution_takes_its_tags_away(log):
    prune(keep_last=0, older_than="0s", store=log)
    assert rows(log, "SELECT * FROM label") == rows(log, "SELECT * FROM tag") == []
    assert verify(store=log).ok


@pytest.mark.parametrize("damage", ["DELETE FROM tag", "INSERT INTO tag VALUES ('other', 1, 1)", "DELETE FROM label"])
def test_a_list_of_tags_that_was_changed_by_hand_is_found_and_rebuilt(log, damage):
    with closing(sqlite3.connect(log.path)) as db:
        db.execute(damage)
        db.commit()
    found = verify(store=log)
    assert not found.ok and found.repairable == ("k1",)
    repair(store=log)
    assert verify(store=log).ok and ids(log, tags=["prod"]) == ["k1"]


def test_tags_that_are_no_tags_are_told_as_damage(log):
    with closing(sqlite3.connect(log.path)) as db:
        db.execute("DROP TRIGGER label_is_gone")
        db.execute("UPDATE label SET tags = '{'")
        db.commit()
    assert "tags = '{'" in str(verify("k1", store=log))


def test_an_older_log_that_is_only_read_has_no_names_and_can_be_asked_for_them(tmp_path):
    from pathlib import Path

    old = Path(__file__).parents[1] / "fixtures" / "c53f978.db"
    with SqliteStore(old, read_only=True) as log:
        assert ids(log, tags=["prod"]) == ids(log, name="*") == []
        assert history.executions(tags=["prod"], store=log).empty
        assert set(log.execution("done").summary.tags) == set()


def test_an_event_without_a_name_is_as_small_as_before():
    from cerebelum_nb._store.rows import encode

    event = WorkflowStarted(at=1, workflow="w", inputs=Value("json", "{}"), total_steps=1)
    assert encode(event)[-1] == '{"workflow":"w","total_steps":1,"inputs":{}}'


def test_memory_lists_by_tag_as_a_file_does(go):
    log = MemoryStore()
    go(release.execute(store=log, execution_id="k1", tags=["b"]))
    assert ids(log, tags=["b", "shop"]) == ["k1"]
