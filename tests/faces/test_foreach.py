"""A foreach in cards, graphs and pages: one row with counts, which names the failed items."""

from __future__ import annotations

import asyncio
import re

import pytest

from cerebelum_nb import WorkflowError, foreach, history, step, workflow
from cerebelum_nb._archive.runbook import _MOST_ITEMS
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.graph import Plan
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._views.card import Card
from cerebelum_nb._views.graph import Graph
from cerebelum_nb.archive import export


@step
def regions():
    return [f"r{number}" for number in range(100)]


@step
async def deploy(region):
    if region in ("r3", "r7"):
        raise RuntimeError(f"no capacity in {region}")
    print("deployed", region)
    return region


@step
def report(deploy):
    return len(deploy)


@workflow
def rollout(wf):
    wf.timeline(regions >> foreach(deploy, region=regions, max_concurrency=5) >> report)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    with SqliteStore(tmp_path_factory.mktemp("log") / "log.db", durability="normal") as store:
        with pytest.raises(WorkflowError):
            asyncio.run(rollout.execute(store=store, execution_id="k1"))
        yield store


def card_at(log, version):
    events = log.events("k1", upto=version)
    plan = rollout.plan()
    return Card.at("k1", fold(events), events[-1].at, Graph(plan))


def row_of(card, name):
    (row,) = [row for row in card.rows if row.name == name]
    return row


def test_a_card_has_one_row_that_names_what_failed(log):
    card = card_at(log, log.execution("k1").version)
    assert [row.name for row in card.rows] == ["regions", "deploy", "report"]
    row = row_of(card, "deploy")
    assert (row.state, row.note) == ("failed", "98 of 100 items done, 2 failed (r3, r7)")


def test_while_it_runs_the_row_has_counts_and_a_share(log):
    rows = (row_of(card_at(log, version), "deploy") for version in range(4, log.execution("k1").version))
    row = next(row for row in rows if "failed" in row.note)  # which items were done by then depends on the machine
    assert row.state == "running"
    done, running = re.fullmatch(r"(\d+) of 100 items done, 1 failed \(r3\), (\d) running", row.note).groups()
    assert row.percent == int(done) + 1
    assert int(running) <= 5


def test_the_graph_of_the_log_shows_the_state_of_the_foreach(log):
    assert "✗ deploy" in repr(history.graph("k1", store=log))


def test_the_log_says_which_step_and_which_item(log):
    attempts = history.steps("k1", step="deploy", state="failed", store=log)
    assert list(attempts.item.fillna("-")) == ["-", "r3", "r7"]
    assert history.events("k1", step="deploy[r3]", store=log).item.unique().tolist() == ["r3"]
    asked = "SELECT step, item, state, duration > 0 AS took FROM steps WHERE step = 'deploy' AND item IS NULL"
    (whole,) = history.sql(asked, store=log).to_dict("records")
    assert (whole["state"], whole["took"]) == ("FAILED", 1)


def test_a_moment_has_a_row_for_each_item_and_shows_one(log):
    moment = history.state_at("k1", 24, store=log)
    assert moment.steps.item.dropna().str.startswith("r").all()
    assert str(moment).count("deploy") == 2  # the event's, and one row


def test_a_plan_says_that_only_what_failed_runs_again(log):
    assert rollout.plan_resume("k1", store=log)["deploy"].reasons == (
        "2 of 100 items failed: only the failed ones run again",
    )


def test_an_exported_page_lists_the_failed_items_first_and_not_all(log, tmp_path):
    page = export("k1", tmp_path / "k1.html", store=log).read_text(encoding="utf-8")
    table = page.partition("All ")[0]
    assert table.count("<code>deploy[r") <= 2 * _MOST_ITEMS + 4
    assert "deploy[r3]" in table and "attempts of items not listed" in table


def test_a_plan_read_from_a_log_runs_the_same_items(log):
    from cerebelum_nb._core.blueprint import dump, load

    plan = load(dump(rollout.plan()))
    assert isinstance(plan, Plan)
    assert (plan.each["deploy"].source, plan.each["deploy"].at_once, list(plan.each["deploy"].body)) == (
        "regions",
        5,
        ["deploy"],
    )
