"""The page of schedules, what its forms do, and the queue."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest

from cerebelum_nb import WorkflowError
from cerebelum_nb._scheduler.schedules import Schedules
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._workflow.decorator import registered
from cerebelum_nb._workflow.find import WorkflowFinder
from cerebelum_nb.testing import FakeClock

from .conftest import Caller, Page, check, deliver


@pytest.fixture
def scheduled(log):
    """A log with a schedule that has started an execution, which failed, and a schedule that has started nothing."""
    with SqliteStore(log) as store, FakeClock(datetime(2026, 3, 29, 22, tzinfo=UTC)) as clock:
        deliver.schedule(cron="0 6 * * 1-5", timezone="Europe/Madrid", inputs={"size": "<b>"}, store=store)
        check.schedule(every="2 hours", schedule_id="often", catch_up="1 day", store=store)
        clock.advance("6h 5m")
        Schedules(store, WorkflowFinder(registered), lambda line: None, trust_code=False).start_due(clock.now())
        with pytest.raises(WorkflowError):
            deliver.resume_sync("deliver-20260330T040000Z", store=store)
    return log


def words_of(caller, path="/shop/schedules"):
    """Return the words of a page without the signs of states."""
    said = Page(caller.get(path)).words
    return " ".join("".join(letter if letter.isascii() else " " for letter in said).split())


def test_a_schedule_says_when_it_starts_what_and_how_the_last_run_went(dashboard, scheduled):
    said = words_of(dashboard)
    assert "deliver deliver active at 06:00 on Monday through Friday0 6 * * 1-5 Europe/Madrid" in said
    assert "Tue 2026-03-31 06:00:00 +02:00" in said
    assert "Mon 2026-03-30 06:00:00 +02:00 failed" in said
    assert "check often active every 2h" in said
    assert "e/deliver-20260330T040000Z" in dashboard.get("/shop/schedules")


def test_the_list_links_to_the_schedules_if_there_are_any(dashboard, scheduled, made):
    assert 'href="schedules"' in dashboard.get("/shop/")
    other = Caller(made)
    assert 'href="schedules"' not in other.get("/shop/")
    assert "has no schedules" in words_of(other)
    other.close()


def test_it_is_paused_and_resumed_by_a_form_and_the_log_says_by_whom(dashboard, scheduled):
    answer = dashboard.post("/shop/s/deliver/pause", by="ana")
    assert (answer.status_code, answer.headers["location"]) == (303, "../../schedules")
    assert "deliver deliver paused" in words_of(dashboard)
    dashboard.post("/shop/s/deliver/resume", by="bo")
    with SqliteStore(scheduled, read_only=True) as store:
        paused, resumed = store.schedule_events("deliver")[-2:]
    assert (paused.by, resumed.by) == ("ana via dashboard", "bo via dashboard")


def test_a_read_only_dashboard_has_no_forms_for_schedules_and_refuses_changes(scheduled):
    caller = Caller(scheduled, read_only=True)
    assert [form for form in Page(caller.get("/shop/schedules")).of("form") if form.get("method") == "post"] == []
    assert caller.post("/shop/s/deliver/pause").status_code == 403
    caller.close()


@pytest.mark.parametrize("path", ["/shop/s/none/pause", "/shop/s/deliver/delete"])
def test_a_missing_schedule_cannot_be_changed(dashboard, scheduled, path):
    assert dashboard.post(path).status_code == 404


def test_programs_read_and_change_them_as_json(dashboard, scheduled):
    found = dashboard("GET", "/shop/api/schedules").json()["schedules"]
    assert [(one["schedule_id"], one["state"], one["every_seconds"]) for one in found] == [
        ("deliver", "ACTIVE", None),
        ("often", "ACTIVE", 7200.0),
    ]
    answer = dashboard("POST", "/shop/api/schedules/often/pause", "{}", content_type="application/json")
    assert answer.json() == {"schedule_id": "often", "action": "pause"}


def test_an_execution_shows_the_time_for_which_it_was_started(dashboard, scheduled):
    assert "Scheduled for (UTC)2026-03-30 04:00:00" in words_of(dashboard, "/shop/e/deliver-20260330T040000Z")


def test_schedules_are_a_view_in_sql(scheduled):
    with closing(sqlite3.connect(scheduled)) as db:
        rows = db.execute("SELECT schedule_id, cron, every, timezone, last_at, catch_up FROM schedules").fetchall()
    assert rows == [
        ("deliver", "0 6 * * 1-5", None, "Europe/Madrid", "2026-03-30T04:00:00.000000Z", 3600.0),
        ("often", None, 7200.0, "UTC", "2026-03-30T00:00:00.000000Z", 86400.0),
    ]
