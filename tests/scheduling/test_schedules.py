"""Schedules: which times they have, that each is started once, and what happens to times that pass meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from cerebelum_nb import (
    CerebelumError,
    ExecutionClient,
    ExecutionState,
    InputsError,
    Schedule,
    ScheduleNotFoundError,
    Secret,
    StoreError,
    WorkflowDefinitionError,
    WorkflowError,
    history,
    scheduler,
    step,
    workflow,
)
from cerebelum_nb._core import schedule as core
from cerebelum_nb._scheduler.schedules import Schedules
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._text.recurrence import Cron, Every
from cerebelum_nb._text.times import to_micros
from cerebelum_nb._workflow.decorator import registered
from cerebelum_nb._workflow.find import WorkflowFinder
from cerebelum_nb._workflow.schedule import begin
from cerebelum_nb.archive import verify
from cerebelum_nb.testing import FakeClock, MemoryStore

MINUTE, HOUR = 60_000_000, 3_600_000_000


@step
def build(inputs):
    return inputs


@workflow
def nightly(wf):
    wf.timeline(build)


@workflow
def other(wf):
    wf.timeline(build)


@pytest.fixture(params=["memory", "sqlite"])
def log(request, tmp_path):
    made = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "log.db", durability="normal")
    yield made
    made.close()


@pytest.fixture
def clock():
    with FakeClock(datetime(2026, 1, 1, tzinfo=UTC)) as made:
        yield made


def at_work(log, tell=lambda line: None):
    """Make what a scheduler uses for the schedules of a log."""
    return Schedules(log, WorkflowFinder(registered), tell, trust_code=False)


def local(zone, *when, fold=0):
    return to_micros(datetime(*when, tzinfo=ZoneInfo(zone), fold=fold))


def times(rule, start, count):
    found = []
    for _ in range(count):
        start = rule.after(start)
        found.append(start)
    return found


def kinds(log, schedule_id="nightly"):
    return [type(event).__name__.removeprefix("Schedule") for event in log.schedule_events(schedule_id)]


# -- the times ----------------------------------------------------------------------------------------------

MADRID, SYDNEY, LORD_HOWE = "Europe/Madrid", "Australia/Sydney", "Australia/Lord_Howe"


def test_a_time_that_the_change_to_summer_time_skips_comes_right_after_it():
    found = times(Cron("30 2 * * *", MADRID), local(MADRID, 2026, 3, 28, 12), 2)
    assert found == [local(MADRID, 2026, 3, 29, 3, 0), local(MADRID, 2026, 3, 30, 2, 30)]


def test_a_time_that_the_change_back_repeats_comes_once():
    found = times(Cron("30 2 * * *", MADRID), local(MADRID, 2026, 10, 24, 12), 2)
    assert found == [local(MADRID, 2026, 10, 25, 2, 30), local(MADRID, 2026, 10, 26, 2, 30)]


def test_within_the_repeated_hour_no_time_is_in_the_past():
    now = local(MADRID, 2026, 10, 25, 2, 10, fold=1)
    assert Cron("30 2 * * *", MADRID).after(now) == local(MADRID, 2026, 10, 26, 2, 30)


@pytest.mark.parametrize("day", [(2026, 3, 29), (2026, 10, 25)])
def test_half_hours_follow_each_other_through_both_changes(day):
    found = times(Cron("*/30 * * * *", MADRID), local(MADRID, *day) - 1, 52)
    assert {later - earlier for earlier, later in pairwise(found)} == {30 * MINUTE}


def test_an_interval_counts_from_its_anchor_whenever_it_is_asked():
    rule = Every("2 hours", anchor=MINUTE)
    assert rule.after(0) == rule.after(MINUTE) == MINUTE + 2 * HOUR
    assert rule.after(MINUTE + 2 * HOUR) == MINUTE + 4 * HOUR


@pytest.mark.parametrize("zone", [MADRID, "America/New_York", LORD_HOWE])
def test_a_year_of_nights_in_a_zone_with_both_changes_starts_each_day_once(clock, zone):
    """One change of each zone skips 02:15 and the other repeats it; the change of Lord Howe is half an hour."""
    log = MemoryStore()
    minute = "45 1" if zone == LORD_HOWE else "30 1" if zone == "America/New_York" else "15 2"
    made = nightly.schedule(cron=f"{minute} * * *", timezone=zone, overlap="queue", store=log)
    both = [at_work(log), at_work(log)]
    count = 0
    while (following := log.next_schedule()) < to_micros(datetime(2027, 1, 1, tzinfo=UTC)):
        clock.set(datetime.fromtimestamp(following / 1e6, UTC))
        for one in (both[count % 2], both[1 - count % 2], at_work(log)):  # the last execution was restarted
            one.start_due(clock.now())
        count += 1
    started = [event for event in log.schedule_events("nightly") if isinstance(event, core.ScheduleStarted)]
    days = Counter(datetime.fromtimestamp(event.due_at / 1e6, ZoneInfo(zone)).date() for event in started)
    assert set(days.values()) == {1} and 365 <= len(days) <= 366
    assert log.executions()[1] == len(started) == count
    assert made.last_execution == started[-1].execution_id


# -- each time once -----------------------------------------------------------------------------------------


def test_a_start_and_its_event_are_one_transaction(clock, log):
    nightly.schedule(every="1h", inputs={"size": 1}, store=log)
    slow, now = log.schedule("nightly"), clock.now() + HOUR
    assert at_work(log).start_due(now) == now + HOUR
    event = core.ScheduleStarted(at=now, due_at=now, execution_id="nightly-again", next_at=None)
    assert not log.append_schedule(core.evolve_schedule(slow, event), event, None), "another was first"
    assert kinds(log) == ["Set", "Started"] and log.executions()[1] == 1
    (row,) = log.executions()[0]
    assert row.execution_id == "nightly-20260101T010000Z" and row.summary.wake_at == now and row.holder is None


def test_the_scheduler_runs_what_a_schedule_starts(log):
    nightly.schedule(every="1s", inputs={"size": 1}, store=log)

    async def live():
        background = scheduler(log)
        async with asyncio.timeout(60):
            while log.executions(states=[ExecutionState.COMPLETED])[1] < 2:
                await asyncio.sleep(0.02)
        await background.stop()

    asyncio.run(live())
    assert kinds(log)[:3] == ["Set", "Started", "Started"]
    assert history.executions(expand="inputs", store=log)["inputs.size"].eq(1).all()


def test_its_steps_have_the_scheduled_time_also_after_a_resume(log):
    seen = []

    @step(checkpoint=None)
    def build(context):
        seen.append(context.scheduled_at)
        if len(seen) == 1:
            raise ValueError("broken")

    flow = workflow(name="of_monday")(lambda wf: wf.timeline(build))
    at_six = local(MADRID, 2026, 3, 30, 6)
    with FakeClock(datetime(2026, 3, 29, 22, tzinfo=UTC)) as clock:
        flow.schedule(cron="0 6 * * 1-5", timezone=MADRID, store=log)
        clock.advance("6h 5m")
        at_work(log).start_due(clock.now())
        (row,), _ = log.executions()
        with pytest.raises(WorkflowError):
            flow.resume_sync(row.execution_id, store=log)
        flow.resume_sync(row.execution_id, store=log)
        flow.fork_sync(row.execution_id, "build", store=log)
        flow.run(store=log)
    assert [None if time is None else time.isoformat() for time in seen] == [*["2026-03-30T06:00:00+02:00"] * 3, None]
    assert to_micros(seen[0]) == at_six


def test_times_that_passed_without_a_scheduler_are_started_within_catch_up(clock, log):
    nightly.schedule(every="30 minutes", catch_up="1h", overlap="queue", store=log)
    told = []
    assert at_work(log, told.append).start_due(clock.now() + 4 * HOUR) == clock.now() + 4 * HOUR + 30 * MINUTE
    assert kinds(log) == ["Set", "Missed", "Started", "Started", "Started"]
    assert "is missed, as no scheduler was running in time" in told[0]
    started = [event.due_at - clock.now() for event in log.schedule_events("nightly")[2:]]
    assert started == [3 * HOUR, 3 * HOUR + 30 * MINUTE, 4 * HOUR]


def test_a_clock_that_is_set_back_starts_nothing_twice(clock, log):
    nightly.schedule(every="1h", store=log)
    work = at_work(log)
    work.start_due(clock.now() + HOUR)
    work.start_due(clock.now())
    work.start_due(clock.now() + HOUR)
    assert kinds(log) == ["Set", "Started"]


def test_a_schedule_made_again_after_it_was_deleted_does_not_start_a_time_again(clock, log):
    nightly.schedule(cron="0 * * * *", store=log)
    at_work(log).start_due(clock.now() + HOUR)
    before = log.events("nightly-20260101T010000Z")
    nightly.schedule(cron="0 * * * *", store=log).delete()
    assert log.schedules() == [] and log.next_schedule() is None
    nightly.schedule(cron="0 * * * *", store=log)
    assert at_work(log).start_due(clock.now() + HOUR) == clock.now() + 2 * HOUR
    assert kinds(log) == ["Set", "Started", "Deleted", "Set"]
    assert log.events("nightly-20260101T010000Z") == before


# -- overlap -------------------------------------------------------------------------------------------------


def states(log):
    return {row.execution_id[-7:-3]: row.summary.state.value for row in log.executions()[0]}


def complete(log, execution_id):
    """Let an execution end, without a clock."""
    asyncio.run(nightly.resume(execution_id, store=log))


def test_a_time_is_skipped_while_the_execution_before_it_has_not_ended(clock, log):
    made = nightly.schedule(every="1h", store=log)
    work = at_work(log)
    for hour in (1, 2):
        work.start_due(clock.now() + hour * HOUR)
    assert kinds(log) == ["Set", "Started", "Skipped"] and states(log) == {"0100": "SLEEPING"}
    assert made.known.note == "nightly-20260101T010000Z was still running"
    complete(log, "nightly-20260101T010000Z")
    work.start_due(clock.now() + 3 * HOUR)
    assert kinds(log) == ["Set", "Started", "Skipped", "Started"] and made.known.note is None


def test_a_time_may_be_queued_behind_the_execution_before_it(clock, log):
    nightly.schedule(every="1h", overlap="queue", store=log)
    at_work(log).start_due(clock.now() + HOUR)
    at_work(log).start_due(clock.now() + 2 * HOUR)
    at_work(log).start_due(clock.now() + 3 * HOUR)
    assert states(log) == {"0100": "SLEEPING", "0200": "QUEUED", "0300": "QUEUED"}
    clock.advance("4h")

    async def live():
        background = scheduler(log)
        async with asyncio.timeout(60):
            while log.executions(states=[ExecutionState.COMPLETED])[1] < 3:
                await asyncio.sleep(0.01)
        await background.stop()

    asyncio.run(live())
    ends = [log.events(f"nightly-20260101T0{hour}0000Z")[-1].at for hour in (1, 2, 3)]
    assert ends == sorted(ends)


def test_with_a_concurrency_key_any_execution_of_that_value_counts(clock, log):
    @workflow(concurrency_key="service")
    def keyed(wf):
        wf.timeline(build)

    for name, service in (("a", "api"), ("b", "api"), ("c", "web")):
        keyed.schedule(every="1h", inputs={"service": service}, schedule_id=name, store=log)
    at_work(log).start_due(clock.now() + HOUR)
    assert [kinds(log, name)[-1] for name in "abc"] == ["Started", "Skipped", "Started"]
    assert log.schedule("b").note == "a-20260101T010000Z was still running"


def test_nothing_is_written_if_another_execution_got_the_slot_in_between(clock, log):
    nightly.schedule(every="1h", store=log)
    state, now = log.schedule("nightly"), clock.now() + HOUR
    event = core.due_event(state, now, lambda moment: moment + HOUR)
    _, commit = begin(nightly, state, event, log)
    _, other = begin(nightly, state, replace(event, execution_id="other"), log)
    assert log.append_schedule(core.evolve_schedule(state, event), event, other)
    after = log.schedule("nightly")
    late = replace(event, execution_id="late")
    assert not log.append_schedule(core.evolve_schedule(after, late), late, commit)
    assert kinds(log) == ["Set", "Started"] and log.executions()[1] == 1


def test_a_resume_keeps_the_slot_of_its_schedule(clock, log):
    nightly.schedule(every="1h", store=log)
    at_work(log).start_due(clock.now() + HOUR)
    complete(log, "nightly-20260101T010000Z")
    assert log.execution("nightly-20260101T010000Z").summary.slot == "schedule:nightly"


# -- missed and changed --------------------------------------------------------------------------------------


def test_times_that_pass_while_it_is_paused_are_skipped(clock, log):
    made = nightly.schedule(every="1h", store=log)
    made.pause(by="ana")
    assert made.state == "PAUSED" and made.next_at is None and len(made.next(2)) == 2
    assert at_work(log).start_due(clock.now() + 5 * HOUR) == 0
    clock.advance("5h 10m")
    made.resume(by="ben")
    assert made.next_at == datetime(2026, 1, 1, 6, tzinfo=UTC)
    assert [event.by for event in log.schedule_events("nightly")[1:]] == ["ana", "ben"]


def test_a_notebook_may_be_run_again_and_a_change_is_recorded(clock, log):
    made = nightly.schedule(every="1h", inputs={"size": 1}, store=log)
    clock.advance("10m")
    nightly.schedule(every="1h", inputs={"size": 1}, store=log)
    assert kinds(log) == ["Set"] and made.next_at == datetime(2026, 1, 1, 1, tzinfo=UTC)
    made.pause()
    nightly.schedule(every="2h", inputs={"size": 2}, store=log)
    assert kinds(log) == ["Set", "Paused", "Set"] and made.state == "PAUSED", "a change does not resume it"
    assert made.inputs == {"size": 2} and made.when == "every 2h"


def test_code_that_cannot_be_loaded_is_reported_tried_again_and_finally_missed(clock, log):
    made = nightly.schedule(every="1h", catch_up="10m", store=log)
    known = made.known
    gone = core.evolve_schedule(known, replace(known.definition, module="no_such_module", workflow="gone"))
    assert log.append_schedule(gone, gone.definition)
    told, now = [], clock.now() + HOUR
    work = at_work(log, told.append)
    assert work.start_due(now) == now + MINUTE
    work.start_due(now + 30_000_000)
    assert len(told) == 1 and "schedule nightly cannot start gone" in told[0] and "no_such_module" in told[0]
    work.start_due(now + 11 * MINUTE)
    assert kinds(log) == ["Set", "Set", "Missed"] and "no_such_module" in made.known.note
    assert log.executions()[1] == 0


def test_it_is_read_as_a_frame_by_the_client_and_as_text(clock, log):
    made = nightly.schedule(cron="0 6 * * 1-5", timezone=MADRID, inputs={"size": 1}, store=log)
    (row,) = history.schedules(tz=MADRID, store=log).itertuples()
    assert (row.schedule_id, row.when, row.inputs) == ("nightly", "0 6 * * 1-5", '{"size":1}')
    assert row.next_at.isoformat() == "2026-01-01T06:00:00+01:00"
    client = ExecutionClient(log)
    (found,) = client.run_sync(client.list_schedules())
    assert repr(found) == repr(client.run_sync(client.get_schedule("night"))) == repr(made)
    assert "ACTIVE, 0 6 * * 1-5 (Europe/Madrid), next Thu 2026-01-01 06:00:00 +01:00" in repr(made)
    assert len(history.schedules(store=MemoryStore())) == 0


# -- the log -------------------------------------------------------------------------------------------------


@pytest.fixture
def file_log(clock, tmp_path):
    with SqliteStore(tmp_path / "log.db", durability="normal") as store:
        nightly.schedule(every="1h", store=store)
        at_work(store).start_due(clock.now() + HOUR)
        yield store


def test_its_events_are_never_changed(file_log):
    with closing(sqlite3.connect(file_log.path)) as db:
        for change in ("UPDATE schedule_event SET at = 1", "DELETE FROM schedule_event"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                db.execute(change)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE schedule_event SET at = at + 1 WHERE version = 2", r"nightly was altered: its event 2"),
        ("DELETE FROM schedule_event WHERE version = 1", r"nightly was altered: its event 2"),
        ("UPDATE schedule SET next_at = 1", r"row of the schedule nightly does not match"),
    ],
)
def test_verify_finds_changed_events(file_log, change, found):
    assert verify(store=file_log).ok
    with closing(sqlite3.connect(file_log.path, isolation_level=None)) as db:
        db.execute("INSERT INTO maintenance VALUES ('test')")
        db.execute(change)
        db.execute("DELETE FROM maintenance")
    assert found.replace("\\", "") in str(verify(store=file_log))


def test_events_of_a_newer_version_are_refused_with_a_message(file_log):
    with closing(sqlite3.connect(file_log.path, isolation_level=None)) as db:
        db.execute("INSERT INTO schedule_event VALUES (1, 3, 'ScheduleBent', 1, NULL, NULL)")
    with pytest.raises(StoreError, match=r"ScheduleBent.*newer version.*pip install -U"):
        file_log.schedule_events("nightly")


# -- wrong uses ----------------------------------------------------------------------------------------------


@workflow
def empty(wf):
    pass


def set_up(**how):
    return lambda: nightly.schedule(**{"store": MemoryStore()} | how)


def taken():
    log = MemoryStore()
    nightly.schedule(every="1h", schedule_id="s", store=log)
    other.schedule(every="1h", schedule_id="s", store=log)


def in_a_step():
    @step
    def wrong():
        nightly.schedule(every="1h")

    @workflow
    def outer(wf):
        wf.timeline(wrong)

    try:
        outer.run(store=MemoryStore())
    except CerebelumError as error:
        raise error.__cause__ from None


WRONG = [
    ("no time", set_up(), ValueError, r"either cron='0 6 \* \* 1-5' or every='2 hours', but neither is given"),
    ("two rules", set_up(cron="* * * * *", every="1h"), ValueError, r"both are given: give one"),
    ("four fields", set_up(cron="0 6 * *"), ValueError, r"has 4 fields: write five fields, minute hour"),
    ("six fields", set_up(cron="0 0 6 * * *"), ValueError, r"has 6 fields: write five"),
    ("a minute 61", set_up(cron="61 6 * * *"), ValueError, r"invalid \(bad minute\): write five fields"),
    ("a weekday in words", set_up(cron="0 6 * * monday"), ValueError, r"bad day-of-week"),
    ("the 30th of February", set_up(cron="0 6 30 2 *"), ValueError, r"bad day-of-month"),
    ("a misspelt name", set_up(cron="@dayly"), ValueError, r"Did you mean '@daily'"),
    ("a number as cron", set_up(cron=5), TypeError, r"cron must be text such as '0 6 \* \* 1-5', not 5"),
    ("a zone without a continent", set_up(cron="@daily", timezone="Madrid"), ValueError, r"mean 'Europe/Madrid'"),
    ("no zone", set_up(cron="@daily", timezone="Mars/Base"), ValueError, r"no time zone 'Mars/Base'"),
    ("a path as a zone", set_up(cron="@daily", timezone="../etc"), ValueError, r"no time zone '../etc'"),
    ("an interval of nothing", set_up(every=0), ValueError, r"every must be at least one second, such as '2 hours'"),
    ("an interval in words", set_up(every="often"), ValueError, r"'often' is invalid: write it as"),
    ("no catch_up", set_up(every="1h", catch_up=0), ValueError, r"catch_up .*must be at least 10 seconds.*'1 minute'"),
    ("a policy of peers", set_up(every="1h", overlap="allow"), ValueError, r"'skip' or 'queue'.*leaves that time out"),
    ("a secret", set_up(every="1h", inputs={"t": Secret("x")}), ValueError, r"secret inputs.t.*from the environment"),
    (
        "an object",
        set_up(every="1h", inputs={"f": slice(3)}),
        ValueError,
        r"f cannot be stored as JSON.*such as a path",
    ),
    ("inputs that are none", set_up(every="1h", inputs=[1]), TypeError, r"inputs must be a dict of names to values"),
    ("an id as an option", set_up(every="1h", schedule_id="-x"), ValueError, r"must not begin with '-'"),
    ("a long id", set_up(every="1h", schedule_id="x" * 190), ValueError, r"at most 180 characters"),
    ("another's id", taken, CerebelumError, r"'s' starts workflow 'nightly', not 'other'.*schedule delete s"),
    ("an empty workflow", lambda: empty.schedule(every="1h"), WorkflowDefinitionError, r"timeline is empty"),
    ("in a step", in_a_step, CerebelumError, r"inside a step"),
]


@pytest.mark.parametrize(("use", "error", "told"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_wrong_uses_say_what_to_do(use, error, told):
    with pytest.raises(error, match=f"(?s){told}"):
        use()


def test_inputs_that_do_not_fit_are_refused_when_it_is_made():
    from dataclasses import make_dataclass

    @workflow(inputs=make_dataclass("Wanted", [("size", int)]))
    def shaped(wf):
        wf.timeline(build)

    with pytest.raises(InputsError, match="size"):
        shaped.schedule(every="1h", inputs={"size": "many"}, store=MemoryStore())


def test_a_schedule_that_does_not_exist_is_not_found(log):
    client = ExecutionClient(log)
    with pytest.raises(ScheduleNotFoundError, match="has no schedules"):
        client.run_sync(client.get_schedule("x"))
    for name in ("deploy-a", "deploy-b"):
        nightly.schedule(every="1h", schedule_id=name, store=log)
    with pytest.raises(ScheduleNotFoundError, match="several schedules begin with 'dep', deploy-a, deploy-b"):
        client.run_sync(client.get_schedule("dep"))
    assert isinstance(client.run_sync(client.get_schedule("deploy-a")), Schedule)


def test_the_length_of_a_day_has_no_influence_on_an_interval():
    start = local(SYDNEY, 2026, 4, 4, 12)
    assert times(Every(timedelta(hours=12), start), start, 2)[1] == start + 24 * HOUR
