"""What the pages show; they need no script."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path

import pytest

from cerebelum_nb import WorkflowError, foreach, step, workflow
from cerebelum_nb._engine.tagging import tag
from cerebelum_nb._store.sqlite import SqliteStore

from ..browser.lab import ROOT
from .conftest import Caller, Page, check


@step
def regions():
    return ["ams3", "nyc1", "sfo3"]


@step
def place(region):
    print("placing", region)
    if region == "nyc1":
        raise RuntimeError("no room")
    return region


@workflow
def rollout(wf):
    wf.timeline(regions >> foreach(place, region=regions))


def ids(page: str) -> list[str]:
    """Return the executions of a list, in order."""
    rows = [row["id"] or "" for row in Page(page).of("tr") if row.get("id")]
    return [name.removeprefix("x-") for name in rows if name.startswith("x-")]


def test_a_single_log_is_shown_at_once(dashboard):
    assert dashboard("GET", "/").headers["location"] == "./shop/"


def test_the_list_is_newest_first(dashboard):
    assert ids(dashboard.get("/shop/")) == ["paying-1", "asleep-1", "asking-1", "failed-1", "done-2", "done-1"]


@workflow
def smoke_tests(wf):
    wf.timeline(regions)


@workflow
def release(wf):
    wf.timeline(smoke_tests)


def test_children_are_linked_with_their_caller_and_listed_by_a_filter(dashboard, log):
    with SqliteStore(log, durability="normal") as store:
        release.run(store=store, execution_id="release-1")
        (child,) = [row.execution_id for row in store.executions(caller="release-1")[0]]
    assert ids(dashboard.get("/shop/"))[0] == "release-1"
    assert ids(dashboard.get("/shop/?workflow=smoke_tests")) == [child]
    assert {f"./{child}", f"../e/{child}"} & {link["href"] for link in Page(dashboard.get("/shop/e/release-1")).of("a")}
    page = dashboard.get(f"/shop/e/{child}")
    assert "Child of" in page and "e/release-1" in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("state=failed", ["failed-1"]),
        ("workflow=check", ["done-2", "done-1"]),
        ("q=CRANE", ["failed-1"]),
        ("q=done-", ["done-2", "done-1"]),
        ("q=100%25", []),
        ("q=_", []),
        ("show=active", ["paying-1", "asleep-1", "asking-1"]),
        ("show=waiting", ["asking-1"]),
        ("show=retrying", []),
        ("show=interrupted", []),
        ("show=failed-today", ["failed-1"]),
        ("since=1h&workflow=check", ["done-2", "done-1"]),
        ("since=1h&show=active&q=asl", ["asleep-1"]),
    ],
)
def test_a_filter_is_in_the_address(dashboard, query, found):
    assert ids(dashboard.get(f"/shop/?{query}")) == found


def test_names_and_tags_are_shown_and_a_list_is_filtered_by_a_tag(log, dashboard):
    with SqliteStore(log) as store:
        tag(store, "done-1", ["eu", "prod"])
        tag(store, "paying-1", ["eu"])
        check.run(store=store, execution_id="named-1", name="release <4.2>", tags=["prod"])
    assert ids(dashboard.get("/shop/?tag=eu")) == ["paying-1", "done-1"]
    assert ids(dashboard.get("/shop/?tag=eu&state=completed")) == ["done-1"]
    assert ids(dashboard.get("/shop/?tag=eu&show=retrying")) == []
    assert ids(dashboard.get("/shop/?tag=other")) == []
    assert ids(dashboard.get("/shop/?q=release+%3C4")) == ["named-1"]
    page = dashboard.get("/shop/")
    assert "release &lt;4.2&gt;" in page and 'href="./?tag=prod">#prod</a>' in page
    assert "release &lt;4.2&gt;" in dashboard.get("/shop/e/named-1")
    rows = dashboard("GET", "/shop/api/executions?tag=prod").json()["executions"]
    assert [(row["name"], row["tags"]) for row in rows] == [("release <4.2>", ["prod"]), (None, ["eu", "prod"])]


def test_pages_of_a_list_join_without_a_gap(dashboard):
    seen, address = [], "/shop/?limit=2"
    while address:
        page = dashboard.get(address)
        seen += ids(page)
        older = [link["href"] for link in Page(page).of("a") if link.get("rel") == "next"]
        address = f"/shop/{older[0]}" if older else ""
    assert seen == ["paying-1", "asleep-1", "asking-1", "failed-1", "done-2", "done-1"]


@pytest.mark.parametrize("query", ["state=nonsense", "show=all", "since=soon", "before=1", "before=9e9.1", "limit=0"])
def test_an_invalid_filter_is_explained(dashboard, query):
    answer = dashboard("GET", f"/shop/?{query}")
    assert answer.status_code == 400 and "Invalid request" in answer.text


def test_a_failed_execution_says_why_and_what_to_do(dashboard, log):
    words = Page(dashboard.get("/shop/e/failed-1")).words
    assert "RuntimeError: no <crane>" in words
    assert "1 finished step kept." in words
    assert "raise RuntimeError" in words
    assert "cerebelum resume failed-1" in words or "deliver.resume" in words


def test_an_id_may_be_shortened(dashboard):
    assert "failed-1" in dashboard.get("/shop/e/fai")


def test_a_page_shows_graph_steps_values_prints_and_events(dashboard):
    page = dashboard.get("/shop/e/done-1")
    told = Page(page)
    assert told.of("svg")
    assert [link["href"] for link in told.of("a") if "/step/" in (link["href"] or "")] == [
        "../e/done-1/step/build",
        "../e/done-1/step/finish",
    ]
    assert "layer 1: pulled" in told.words
    assert '"size": "small"' in told.words
    assert "WorkflowCompleted" in told.words
    assert "hush" not in page


def test_what_waits_for_a_signal_has_a_form(dashboard):
    page = Page(dashboard.get("/shop/e/paying-1"))
    assert "../e/paying-1/signal" in [form["action"] for form in page.of("form")]
    assert "waits for the signal paid" in page.words


def test_what_waits_for_a_person_has_a_form(dashboard):
    page = Page(dashboard.get("/shop/e/asking-1"))
    forms = [form["action"] for form in page.of("form") if form.get("method") == "post"]
    assert "../e/asking-1/approve" in forms and "../e/asking-1/cancel" in forms
    assert '"cost": 36' in page.words


def test_a_read_only_dashboard_has_no_form_that_changes_anything(log):
    caller = Caller(log, read_only=True)
    for path in ("/shop/", "/shop/e/asking-1", "/shop/e/failed-1"):
        assert [form for form in Page(caller.get(path)).of("form") if form.get("method") == "post"] == []
    caller.close()


@pytest.fixture
def each(tmp_path):
    """A dashboard of a foreach with one failed item."""
    log = tmp_path / "each.db"
    with SqliteStore(log) as store, suppress(WorkflowError):
        rollout.run(store=store, execution_id="each-1")
    caller = Caller(log)
    yield caller
    caller.close()


def test_a_foreach_has_one_line_and_a_page_with_its_items(each):
    assert "2 of 3 items done, 1 failed (nyc1)" in Page(each.get("/each/e/each-1")).words
    page = Page(each.get("/each/e/each-1/step/place"))
    assert "1 failed, 2 completed" in page.words
    items = [link["href"] or "" for link in page.of("a") if "~5b" in (link["href"] or "")]
    assert [href.rpartition("/")[2] for href in items] == ["place~5bnyc1~5d", "place~5bams3~5d", "place~5bsfo3~5d"]


def test_the_page_of_an_item_has_all_it_printed_and_leads_back(each):
    page = Page(each.get("/each/e/each-1/step/place~5bams3~5d"))
    links = [link["href"] or "" for link in page.of("a")]
    assert "../../../e/each-1/step/place" in links
    (printed,) = [href for href in links if "/output/" in href]
    assert each.get(f"/each/e/each-1/step/{printed}") == "placing ams3\n"


def test_the_charts_of_a_workflow_count_the_items_of_a_foreach_together(each):
    rows = Page(each.get("/each/w/rollout")).words.split("\n")
    assert [row for row in rows if row.startswith("place")] and not [row for row in rows if "[" in row]
    assert next(row for row in rows if row.startswith("place, each item")).endswith("21")  # completed and failed


def test_two_executions_are_chosen_for_a_comparison(dashboard):
    page = Page(dashboard.get("/shop/diff?a=done-1"))
    assert page.of("option")[0]["value"] == "done-2"  # the newest of that workflow
    assert not page.of("table")
    assert "small" in Page(dashboard.get("/shop/diff?a=done-1&b=done-2")).words


def test_events_are_filtered_by_type_and_step(dashboard):
    page = Page(dashboard.get("/shop/e/done-1?type=StepCompleted&step=build"))
    rows = [row["id"] for row in page.of("tr") if (row.get("id") or "").startswith("f-")]
    assert len(rows) == 1


def test_an_earlier_state_is_shown_as_it_was(dashboard):
    page = dashboard.get("/shop/e/failed-1/at/3")
    assert "As it was at event" in page and "no &lt;crane&gt;" not in page
    assert [form for form in Page(page).of("form") if form.get("method") == "post"] == []


@pytest.mark.parametrize("version", ["0", "99", "-1", "x", "9" * 30])
def test_a_missing_version_is_explained(dashboard, version):
    assert dashboard("GET", f"/shop/e/failed-1/at/{version}").status_code == 400


@pytest.mark.parametrize("path", ["/none/", "/shop/e/none", "/shop/none/x", "/shop/e/none/feed", "/static/none"])
def test_missing_pages_are_not_found(dashboard, path):
    assert dashboard("GET", path).status_code == 404


def test_every_address_in_a_page_is_relative(dashboard):
    for path in ("/shop/", "/shop/e/asking-1", "/shop/e/failed-1/at/3"):
        page = Page(dashboard.get(path))
        addresses = [
            value or ""
            for _, attributes in page.tags
            for name, value in attributes.items()
            if name in ("href", "src", "action", "formaction", "data-feed")
        ]
        assert addresses and [a for a in addresses if a.startswith("/") or "://" in a] == []


def test_the_files_of_pages_are_in_the_package():
    import cerebelum_nb._web

    folder = Path(cerebelum_nb._web.__file__).parent
    assert {path.name for path in (folder / "static").iterdir()} == {"look.css", "live.js", "mark.svg"}


def test_the_links_of_the_grafana_dashboard_lead_to_pages(dashboard):
    board = json.loads((ROOT / "docs" / "monitoring" / "grafana.json").read_text())
    defaults = [panel["fieldConfig"]["defaults"] for panel in board["panels"]]
    links = {link["url"] for one in defaults for link in one.get("links", [])}
    assert len(links) == 5
    for link in links:
        address = link.replace("${cerebelum:raw}", "/shop")
        assert dashboard("GET", re.sub(r"\$\{[^}]*\}", "check", address)).status_code == 200, link
