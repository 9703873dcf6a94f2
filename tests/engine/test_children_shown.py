"""How children are shown: lists, status, history, packs, the card."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from click.testing import CliRunner

from cerebelum_nb import ExecutionClient, WorkflowError, archive, foreach, history, step, workflow
from cerebelum_nb._cli import main
from cerebelum_nb._cli.picture import Picture
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._store.base import ExecutionRow
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._views.card import Card
from cerebelum_nb._views.graph import Graph

broken = {"b"}


@step
async def names():
    return ["a", "b", "c"]


@step
async def probe(inputs):
    if inputs["name"] in broken:
        raise RuntimeError("it does not answer")
    return inputs["name"].upper()


@workflow
def smoke_tests(wf):
    wf.timeline(probe)


@workflow
def release(wf):
    wf.timeline(names >> foreach(smoke_tests, name=names))


@pytest.fixture
def log(tmp_path, go):
    broken.add("b")
    with SqliteStore(tmp_path / "log.db", durability="normal") as store:
        with pytest.raises(WorkflowError):
            go(release.execute(store=store, execution_id="k1"))
        yield store


@pytest.fixture
def call(log):
    def run(*words):
        done = CliRunner().invoke(main, [*words, "--db", str(log.path)])
        assert done.exit_code == 0, done.output
        return done.output

    return run


def children(log):
    return [row.execution_id for row in log.executions(caller="k1")[0]]


def test_lists_show_roots_unless_asked(go, log, call):
    client = ExecutionClient(log)
    assert [one.execution_id for one in go(client.list_executions())[0]] == ["k1"]
    found = go(client.list_executions(children=True))[0]
    assert {one.caller for one in found} == {None, "k1"} and len(found) == 4
    assert len(json.loads(call("list", "--json"))["executions"]) == 1
    assert json.loads(call("list", "--children", "--json"))["total"] == 4
    assert go(client.list_executions("smoke_tests"))[1] == 0
    assert "child of k1" in str(next(one for one in found if one.caller))


def test_a_list_that_finds_only_children_says_how_to_see_them(call):
    assert "--children" in call("list", "--workflow", "smoke_tests")


def test_status_shows_the_tree_with_what_is_unfinished_first(log, call):
    shown = call("status", "k1")
    tree = shown[shown.index("children") :].splitlines()
    assert [line.split()[0] for line in tree[1:4]] == ["smoke_tests[b]", "smoke_tests[a]", "smoke_tests[c]"]
    assert "failed" in tree[1] and "Fix what failed in its child" in shown
    (failed,) = [row for row in log.executions(caller="k1")[0] if row.summary.state == "FAILED"]
    assert "child of k1, for its step smoke_tests[b]" in call("status", failed.execution_id)
    assert sorted(json.loads(call("status", "k1", "--json"))["children"]) == sorted(children(log))


def test_the_tree_of_many_children_is_short(go, log, call):
    @step
    async def numbers():
        return list(range(20))

    @workflow
    def all_of_them(wf):
        wf.timeline(numbers >> foreach(smoke_tests.given(lambda number: {"name": str(number)}), number=numbers))

    go(all_of_them.execute(store=log, execution_id="many"))
    assert "... 8 more" in call("status", "many")


def test_history_has_the_caller(log):
    found = history.executions(store=log).set_index("execution_id")["caller"]
    assert found.isna()["k1"] and {*found.dropna()} == {"k1"}
    assert len(history.sql("select * from executions where caller = 'k1'", store=log)) == 3


def test_events_say_which_execution_a_step_ran(log, call):
    (first, *_) = json.loads(call("events", "k1", "--type", "ChildStarted", "--json"))["events"]
    assert first["data"]["child"] in children(log) and first["data"]["workflow"] == "smoke_tests"


def test_the_card_and_the_status_name_the_child_that_a_step_waits_for(go, log):
    @workflow
    def single(wf):
        wf.timeline(smoke_tests.given({"name": "a"}))

    go(single.execute(store=log, execution_id="k2"))
    begun = fold(log.events("k2", upto=3))
    (child,) = begun.steps["smoke_tests"].children
    card = Card.at("k2", begun, begun.updated_at, Graph(single.plan()))
    assert card.rows[0].note == f"runs smoke_tests as {child}"
    row = ExecutionRow(execution_id="k2", version=3, summary=summarise(begun))
    shown = Picture(row=row, state=begun, now=begun.updated_at, interrupted=False)
    assert any(f"runs smoke_tests as {child}" in line for line in shown.lines(None))


def test_a_pack_of_an_execution_takes_its_children(log, tmp_path):
    made = archive.pack("k1", tmp_path / "k1.cerebelum", store=log)
    assert sorted(made.children) == sorted(children(log))
    archive.pack("k1", tmp_path / "k1.cerebelum", store=log)
    with SqliteStore(tmp_path / "there.db") as there:
        archive.unpack(made.path, store=there)
        assert sorted(children(there)) == sorted(children(log))
        assert archive.verify(store=there).ok


def test_what_was_unpacked_with_its_children_is_resumed_there(go, log, tmp_path):
    made = archive.pack("k1", tmp_path / "k1.cerebelum", store=log)
    broken.clear()
    with SqliteStore(tmp_path / "there.db") as there:
        archive.unpack(made.path, store=there)
        assert go(release.resume("k1", store=there)).output == ["A", "B", "C"]
        assert there.executions(caller="k1")[1] == 3


def test_a_child_is_not_pruned_while_its_caller_may_be_resumed(go, log):
    assert archive.prune(keep_last=0, store=log, dry_run=True).execution_ids == ("k1",)
    broken.clear()
    go(release.resume("k1", store=log))
    assert len(archive.prune(keep_last=0, store=log, dry_run=True).execution_ids) == 4


def test_a_row_that_lost_its_caller_is_found_and_repaired(log):
    with closing(sqlite3.connect(log.path)) as db, db:
        db.execute("UPDATE execution SET caller = NULL")
    assert not archive.verify(store=log).ok
    archive.repair(store=log)
    assert archive.verify(store=log).ok and len(children(log)) == 3
