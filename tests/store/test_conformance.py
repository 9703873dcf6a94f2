"""What every store does: each test runs over the SQLite store and the one in memory."""

from __future__ import annotations

import math
import os
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cerebelum_nb._core.events import (
    ApprovalReceived,
    CancelRequested,
    StepCompleted,
    StepFailed,
    StepStarted,
    WorkflowCompleted,
)
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._core.value import ErrorInfo, Value
from cerebelum_nb._store import sqlite_appends
from cerebelum_nb._store.base import Rejection
from cerebelum_nb._store.sqlite_appends import _LARGE_BYTES
from cerebelum_nb._text import times
from cerebelum_nb.errors import ExecutionBusyError, ExecutionNotFoundError, StoreError

CANCEL = CancelRequested(at=7, by="ana")


def types(events):
    return [type(event).__name__ for event in events]


# -- events -------------------------------------------------------------------------------------------------


def test_events_come_back_in_order_as_they_were_written(log):
    log.start("deploy-1")
    written = log.step("migrate", output='{"rows":[1,2.5,null,"é"]}')
    failure = StepFailed(at=9, step="verify", error=ErrorInfo(type="ValueError", message="no", mro=("a.B",)))
    log.append("deploy-1", 1, *written, failure)
    assert log.store.events("deploy-1")[1:] == [*written, failure]


def test_a_range_of_events_excludes_its_start_and_includes_its_end(log):
    log.start("deploy-1")
    log.append("deploy-1", 1, *log.step())
    assert types(log.store.events("deploy-1", after=1)) == ["StepStarted", "StepCompleted"]
    assert types(log.store.events("deploy-1", upto=1)) == ["WorkflowStarted"]
    assert types(log.store.events("deploy-1", after=1, upto=2)) == ["StepStarted"]
    assert log.store.events("deploy-1", after=3) == []


def test_the_hash_of_an_event_stays_its_own(log):
    log.start("deploy-1")
    log.append("deploy-1", 1, *log.step())
    heads = [log.store.head("deploy-1", version) for version in range(6)]
    log.append("deploy-1", 3, *log.step("verify"))
    assert [head is None for head in heads] == [True, False, False, False, True, True]
    assert len(set(heads)) == 4 and heads[3] == log.store.head("deploy-1", 3)
    assert log.store.head("nobody", 1) is None


def test_an_unknown_execution_has_no_events(log):
    assert log.store.events("nobody") == []


def test_the_events_that_are_handed_out_are_the_callers_own_list(log):
    log.start("deploy-1")
    log.store.events("deploy-1").clear()
    assert len(log.store.events("deploy-1")) == 1


def test_one_batch_may_append_twice_to_the_execution_it_creates(log):
    log.store.commit(
        [log.commit("deploy-1", 0, *log.step("a")), log.commit("deploy-1", 2, *log.step("b"))],
    )
    assert [event.step for event in log.store.events("deploy-1")] == ["a", "a", "b", "b"]
    assert log.store.execution("deploy-1").version == 4


def test_appending_from_many_threads_loses_nothing(log):
    def append(name):
        log.start(name)
        for after in range(1, 41, 2):
            assert log.append(name, after, *log.step()) == {}

    threads = [threading.Thread(target=append, args=(f"deploy-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows, total = log.store.executions()
    assert total == 4
    assert {row.version for row in rows} == {41}


# -- rejections ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["any commit", "a move", "a large move"])
def kind(request, monkeypatch):
    """What is committed: the execution's row is written, or is not; large data are inserted alone."""
    if request.param == "a large move":
        monkeypatch.setattr(sqlite_appends, "_LARGE_BYTES", 0)
    return {"is_move": request.param != "any commit"}


def test_a_commit_after_a_version_that_has_passed_is_stale_and_leaves_nothing(log, kind):
    log.start("deploy-1")
    log.append("deploy-1", 1, CANCEL, holder=None)
    assert log.append("deploy-1", 1, *log.move(), done_steps=1, **kind) == {"deploy-1": Rejection.STALE}
    assert types(log.store.events("deploy-1")) == ["WorkflowStarted", "CancelRequested"]
    assert log.store.execution("deploy-1").summary.done_steps == 0


def test_a_commit_after_a_version_that_is_not_there_yet_is_stale(log):
    log.start("deploy-1")
    assert log.append("deploy-1", 5, *log.step()) == {"deploy-1": Rejection.STALE}
    assert len(log.store.events("deploy-1")) == 1


def test_a_commit_under_a_lease_that_another_has_taken_is_lost(log, kind):
    silent = log.elsewhere(ttl=0)
    log.start("deploy-1", holder=silent)
    assert log.store.holds("deploy-1", silent)
    log.store.claim("deploy-1", log.me, log.now)
    assert not log.store.holds("deploy-1", silent)
    assert log.append("deploy-1", 1, *log.move(), holder=silent, **kind) == {"deploy-1": Rejection.LOST}
    assert log.append("deploy-1", 1, *log.move(), **kind) == {}


def test_a_commit_under_a_lease_that_was_given_back_is_lost(log, kind):
    log.start("deploy-1", release=True)
    assert log.append("deploy-1", 1, *log.move(), **kind) == {"deploy-1": Rejection.LOST}


def test_a_commit_to_an_execution_that_is_gone_is_lost(log, kind):
    assert log.append("deploy-1", 3, *log.move(), **kind) == {"deploy-1": Rejection.LOST}
    assert log.store.executions() == ([], 0)


def test_an_execution_is_created_once(log):
    other = log.store.register(log.now, log.ttl)
    log.start("deploy-1")
    assert log.start("deploy-1") == {"deploy-1": Rejection.STALE}
    assert log.start("deploy-1", holder=other) == {"deploy-1": Rejection.LOST}
    assert len(log.store.events("deploy-1")) == 1


def test_a_rejected_commit_leaves_the_others_of_its_batch_standing(log):
    log.start("deploy-1")
    log.start("deploy-2")
    commits = [
        log.commit("deploy-1", 9, *log.step()),
        log.commit("deploy-2", 1, *log.step()),
        log.commit("deploy-3", 0, *log.step()),
    ]
    assert log.store.commit(commits) == {"deploy-1": Rejection.STALE}
    assert [len(log.store.events(f"deploy-{n}")) for n in (1, 2, 3)] == [1, 3, 2]


def test_a_signal_needs_no_lease_and_leaves_the_lease_where_it_is(log):
    log.start("deploy-1")
    received = ApprovalReceived(at=8, step="verify", op="approval", response=Value("json", '{"ok":true}'))
    assert log.append("deploy-1", 1, CANCEL, received, holder=None) == {}
    assert log.store.execution("deploy-1").holder.key == log.me
    assert log.append("deploy-1", 3, *log.step()) == {}


def test_a_signal_after_a_version_that_has_passed_is_stale(log):
    log.start("deploy-1")
    log.append("deploy-1", 1, *log.step())
    assert log.append("deploy-1", 1, CANCEL, holder=None) == {"deploy-1": Rejection.STALE}


def test_only_signals_are_written_without_a_lease(log):
    log.start("deploy-1")
    with pytest.raises(ValueError, match="deploy-1: only signals can be appended without a lease"):
        log.append("deploy-1", 1, CANCEL, *log.step(), holder=None)
    assert len(log.store.events("deploy-1")) == 1


# -- leases -------------------------------------------------------------------------------------------------


def test_who_creates_an_execution_holds_it(log):
    log.start("deploy-1")
    assert log.store.execution("deploy-1").holder.key == log.me


def test_a_commit_can_give_the_lease_back(log):
    log.start("deploy-1")
    log.append("deploy-1", 1, WorkflowCompleted(at=9), release=True, state=ExecutionState.COMPLETED)
    row = log.store.execution("deploy-1")
    assert row.holder is None
    assert row.summary.state is ExecutionState.COMPLETED


def test_a_free_execution_can_be_claimed_and_so_can_ones_own(log):
    log.start("deploy-1", release=True)
    log.store.claim("deploy-1", log.me, log.now)
    log.store.claim("deploy-1", log.me, log.now)
    assert log.append("deploy-1", 1, *log.step()) == {}


def test_an_execution_held_by_another_living_holder_is_busy(log):
    log.start("deploy-1")
    other = log.store.register(log.now, log.ttl)
    with pytest.raises(ExecutionBusyError, match="deploy-1 is already being run by this process") as caught:
        log.store.claim("deploy-1", other, log.now)
    assert caught.value.execution_id == "deploy-1"
    assert caught.value.holder == str(log.store.execution("deploy-1").holder)
    assert caught.value.free_at is None
    assert log.store.execution("deploy-1").holder.key == log.me


def test_a_lease_of_a_process_elsewhere_ends_when_its_heartbeat_was_seen_to_stand_still_for_its_length(log):
    log.start("deploy-1", holder=log.elsewhere())
    with pytest.raises(ExecutionBusyError) as caught:
        log.store.claim("deploy-1", log.me, log.now)
    assert caught.value.free_at == times.at(log.now + log.ttl)
    log.seconds += 29
    with pytest.raises(ExecutionBusyError) as caught:
        log.store.claim("deploy-1", log.me, log.now)
    assert caught.value.free_at == times.at(log.now + log.second)
    log.seconds += 1
    log.store.claim("deploy-1", log.me, log.now)
    assert log.store.execution("deploy-1").holder.key == log.me


def test_who_takes_a_lease_over_hears_when_its_last_holder_was_last_heard_of(log):
    gone = log.elsewhere()
    log.start("deploy-1", holder=gone)
    log.store.heartbeat(gone, log.now + log.second, log.ttl)
    assert log.store.lease_left(log.store.execution("deploy-1").holder) == 30
    log.seconds += 30
    assert log.store.claim("deploy-1", log.me, log.now) == log.now + log.second
    assert log.store.claim("deploy-1", log.me, log.now) is None, "it is its own"


def test_a_heartbeat_from_elsewhere_keeps_the_lease_whatever_its_clock_says(log):
    other = log.elsewhere(now=log.now - 10**12)  # 11 days behind
    log.start("deploy-1", holder=other)
    for _ in range(5):
        with pytest.raises(ExecutionBusyError):
            log.store.claim("deploy-1", log.me, log.now)
        log.seconds += 29
        log.store.heartbeat(other, log.now - 10**12, log.ttl)  # and its clock stands still


@pytest.mark.parametrize("skew", [-(10**15), 10**15])
def test_a_process_elsewhere_whose_clock_is_wrong_holds_its_lease_for_its_length_and_no_longer(log, skew):
    log.start("deploy-1", holder=log.elsewhere(now=log.now + skew))
    assert log.store.lease_left(log.store.execution("deploy-1").holder) == 30
    log.seconds += 30
    assert log.store.lease_left(log.store.execution("deploy-1").holder) == 0


def test_a_dead_holder_that_holds_nothing_is_cleared_away_and_comes_back_under_its_key(log):
    other = log.elsewhere()
    log.start("deploy-1", holder=other)
    log.store.heartbeat(log.me, log.now, log.ttl)
    log.seconds += 60
    log.store.heartbeat(log.me, log.now, log.ttl)
    assert log.store.execution("deploy-1").holder.key == other, "it holds something"
    log.store.release("deploy-1", other)
    log.store.heartbeat(log.me, log.now, log.ttl)
    log.seconds += 60
    log.store.heartbeat(log.me, log.now, log.ttl)
    log.start("deploy-2", holder=other)
    assert log.store.execution("deploy-2").holder.key == other
    assert [row.execution_id for row in log.store.abandoned(limit=9)] == ["deploy-1"]


def test_only_the_holder_of_a_lease_releases_it(log):
    log.start("deploy-1")
    other = log.store.register(log.now, log.ttl)
    log.store.release("deploy-1", other)
    assert log.store.execution("deploy-1").holder.key == log.me
    log.store.release("deploy-1", log.me)
    assert log.store.execution("deploy-1").holder is None


def test_a_retired_holder_gives_back_all_it_held_and_nothing_else(log):
    other = log.store.register(log.now, log.ttl)
    log.start("deploy-1")
    log.start("deploy-2")
    log.start("deploy-3", holder=other)
    log.store.retire(log.me)
    held = {row.execution_id: row.holder for row in log.store.executions()[0]}
    assert (held["deploy-1"], held["deploy-2"], held["deploy-3"].key) == (None, None, other)


def test_a_holder_key_is_never_given_twice(log):
    log.store.retire(log.me)
    assert log.store.register(log.now, log.ttl) != log.me


def test_the_lease_of_a_living_process_never_runs_out(log):
    log.start("deploy-1")
    log.seconds += 10**9
    assert log.store.lease_left(log.store.execution("deploy-1").holder) == math.inf


def test_a_holder_that_nobody_registered_has_no_lease(log):
    log.start("deploy-1", holder=99)
    assert [row.execution_id for row in log.store.abandoned(limit=9)] == ["deploy-1"]
    log.store.claim("deploy-1", log.me, log.now)


def test_claiming_an_execution_that_is_not_there_says_so(log):
    with pytest.raises(ExecutionNotFoundError, match="no execution 'deploy-1'"):
        log.store.claim("deploy-1", log.me, log.now)


# -- reading executions -------------------------------------------------------------------------------------


def test_a_summary_comes_back_as_it_was_committed(log):
    log.start("deploy-1", parent="deploy-0")
    shown = {
        "updated_at": log.now + 5,
        "completed_at": log.now + 6,
        "total_steps": 4,
        "done_steps": 2,
        "current_step": "verify",
        "error": "ValueError: überlaufen",
        "wake_at": log.now + 7,
        "parent": "deploy-0",
    }
    commit = log.commit("deploy-1", 1, *log.step(), state=ExecutionState.FAILED, **shown)
    log.store.commit([commit])
    assert log.store.execution("deploy-1").summary == commit.summary
    again = replace(commit.summary, error=None, completed_at=None)
    log.store.commit([replace(commit, after=3, summary=again)])
    assert log.store.execution("deploy-1").summary == again


def test_after_a_move_lists_show_what_the_events_say(log):
    log.start("deploy-1", total_steps=3)
    log.append("deploy-1", 1, StepStarted(at=log.now, step="build"), total_steps=3, current_step="build")
    log.append("deploy-1", 2, *log.move("build", "migrate"), is_move=True)
    log.append("deploy-1", 4, *log.move("migrate", "verify", at=log.now + 9), is_move=True)
    shown = {"updated_at": log.now + 9, "total_steps": 3, "done_steps": 2, "current_step": "verify"}
    (row,), _ = log.store.executions()
    assert row.version == 6 and row.summary == log.commit("deploy-1", 6, **shown).summary
    assert log.append("deploy-1", 4, CANCEL, holder=None) == {"deploy-1": Rejection.STALE}
    assert log.append("deploy-1", 6, replace(CANCEL, at=log.now + 9), holder=None, **shown) == {}
    assert log.store.execution("deploy-1") == replace(row, version=7)


def test_an_execution_is_found_by_an_unambiguous_prefix(log):
    for name in ("deploy-a1", "deploy-a11", "deploy-b2", "rollback-1"):
        log.start(name)
    assert log.store.execution("deploy-b").execution_id == "deploy-b2"
    assert log.store.execution("r").execution_id == "rollback-1"
    assert log.store.execution("deploy-a1").execution_id == "deploy-a1"


def test_an_ambiguous_prefix_names_the_candidates(log):
    for name in ("deploy-a1", "deploy-a2", "deploy-b1"):
        log.start(name)
    with pytest.raises(ExecutionNotFoundError, match="Several executions begin with 'deploy-a'") as caught:
        log.store.execution("deploy-a")
    assert caught.value.suggestions == ("deploy-a1", "deploy-a2")


def test_a_prefix_is_plain_text(log):
    log.start("deploy-1")
    for pattern in ("%", "deploy_", "de*", "", "DEPLOY"):
        with pytest.raises(ExecutionNotFoundError):
            log.store.execution(pattern)


@pytest.mark.parametrize("asked", ["deploy-4711-abx", "depoly-47", "deplyo-4711-abc"])
def test_an_unknown_id_suggests_near_ones(log, asked):
    log.start("deploy-4711-abc")
    log.start("zzz")
    with pytest.raises(ExecutionNotFoundError, match="Did you mean 'deploy-4711-abc'") as caught:
        log.store.execution(asked)
    assert caught.value.suggestions == ("deploy-4711-abc",)


def test_executions_are_listed_newest_first(log):
    for name, at in (("a", 5), ("b", 9), ("c", 5), ("d", 1)):
        log.start(name, started_at=at)
    rows, total = log.store.executions()
    assert [row.execution_id for row in rows] == ["b", "c", "a", "d"]
    assert total == 4


def test_executions_are_filtered_by_workflow_and_by_states(log):
    log.start("a", workflow="deploy", state=ExecutionState.FAILED)
    log.start("b", workflow="deploy", state=ExecutionState.SLEEPING)
    log.start("c", workflow="rollback", state=ExecutionState.FAILED)

    def ids(**filters):
        rows, total = log.store.executions(**filters)
        assert total == len(rows)
        return [row.execution_id for row in rows]

    assert ids(workflow="deploy") == ["b", "a"]
    assert ids(states=[ExecutionState.FAILED]) == ["c", "a"]
    assert ids(states=[ExecutionState.FAILED, ExecutionState.SLEEPING]) == ["c", "b", "a"]
    assert ids(workflow="deploy", states=[ExecutionState.FAILED]) == ["a"]
    assert ids(workflow="nothing") == []


def test_a_state_that_changed_is_found_under_its_new_name_only(log):
    log.start("a")
    log.append("a", 1, *log.step(), state=ExecutionState.PAUSED)
    assert log.store.executions(states=[ExecutionState.RUNNING]) == ([], 0)
    assert log.store.executions(states=[ExecutionState.PAUSED])[1] == 1


def test_a_page_of_executions_knows_the_total(log):
    for n in range(7):
        log.start(f"run-{n}", started_at=n)
    rows, total = log.store.executions(limit=2, offset=3)
    assert ([row.execution_id for row in rows], total) == (["run-3", "run-2"], 7)
    assert log.store.executions(limit=0)[0] == []


def test_a_page_whose_total_need_not_be_exact_still_says_whether_more_follow(log):
    for n in range(7):
        log.start(f"run-{n}", started_at=n)
    for limit, offset in ((2, 3), (3, 4), (7, 0), (0, 0), (2, 7), (None, 2)):
        there = log.store.executions(limit=limit, offset=offset)
        rows, total = log.store.executions(limit=limit, offset=offset, exact=False)
        assert rows == there[0]
        assert (offset + len(rows) < total) == (offset + len(rows) < there[1])


def test_the_last_page_of_executions_has_what_is_left(log):
    for n in range(7):
        log.start(f"run-{n}", started_at=n)
    assert [row.execution_id for row in log.store.executions(offset=5)[0]] == ["run-1", "run-0"]


# -- values that are not JSON -------------------------------------------------------------------------------


def frame(payload=b"ARROW1"):
    return Value("arrow", type="DataFrame", preview="3 rows", digest="d1", size=6, payload=payload, masked=("['key']",))


def test_the_bytes_of_a_value_are_kept_with_its_event(log):
    log.start("deploy-1")
    log.append("deploy-1", 1, StepCompleted(at=1, step="load", output=frame()))
    (event,) = log.store.events("deploy-1", after=1)
    assert event.output == frame()
    assert log.store.payload("d1") == b"ARROW1"


def test_the_same_bytes_may_be_committed_again_or_left_out(log):
    log.start("deploy-1")
    for after, payload in ((1, b"ARROW1"), (2, b"ARROW1"), (3, None)):
        assert log.append("deploy-1", after, StepCompleted(at=1, step="load", output=frame(payload))) == {}
    assert log.store.payload("d1") == b"ARROW1"


@pytest.mark.parametrize("size", [_LARGE_BYTES - 1, _LARGE_BYTES, 3 * _LARGE_BYTES + 1])
def test_large_bytes_are_kept_whole_and_once(log, size):
    payload = os.urandom(size)
    for name in ("deploy-1", "deploy-2"):
        log.start(name)
        assert log.append(name, 1, StepCompleted(at=1, step="load", output=frame(payload))) == {}
    assert log.store.payload("d1") == payload


def test_a_rejected_commit_leaves_no_bytes(log):
    log.start("deploy-1")
    log.append("deploy-1", 9, StepCompleted(at=1, step="load", output=frame()))
    with pytest.raises(StoreError, match="no longer holds the value"):
        log.store.payload("d1")


# -- the end ------------------------------------------------------------------------------------------------


def test_closing_twice_is_harmless_and_a_closed_log_says_so(log):
    log.store.close()
    log.store.close()
    for use in (log.store.executions, lambda: log.start("deploy-1")):
        with pytest.raises(StoreError, match="is closed"):
            use()


def test_a_busy_error_of_another_process_says_when_it_is_free():
    from cerebelum_nb._store import refusals as rules
    from cerebelum_nb._store.holder import Holder

    heard = datetime(2026, 11, 20, 13, 0, tzinfo=UTC)
    micros = int(heard.timestamp()) * 1_000_000
    holder = Holder(
        key=1,
        host="elsewhere",
        pid=4711,
        boot_id="b",
        started="s",
        heartbeat_at=micros,
        expires_at=micros + 30_000_000,
    )
    error = rules.busy("deploy-1", holder, 30, micros + 3600 * 1_000_000)
    assert error.holder == "process 4711 on elsewhere"
    assert error.free_at == heard + timedelta(seconds=3630)
    assert "its clock said 2026-11-20 13:00:00 UTC at its last heartbeat" in str(error)
    assert "free at 2026-11-20 14:00:30 UTC" in str(error)
    alive = rules.busy("deploy-1", holder, math.inf, micros)
    assert alive.free_at is None
    assert "which is alive" in str(alive) and "kill 4711" in str(alive)


def test_a_step_that_only_started_is_read_back_without_its_end(log):
    log.start("deploy-1")
    log.append("deploy-1", 1, StepStarted(at=1, step="migrate", visit=2, attempt=3))
    assert log.store.events("deploy-1", after=1) == [StepStarted(at=1, step="migrate", visit=2, attempt=3)]


# -- wake-ups -----------------------------------------------------------------------------------------------


def test_what_is_due_comes_in_order_and_only_when_nobody_holds_it(log):
    sleeping = {"state": ExecutionState.SLEEPING}
    log.start("later", wake_at=log.now + 20, release=True, **sleeping)
    log.start("first", wake_at=log.now + 10, release=True, **sleeping)
    log.start("held", wake_at=log.now + 5, **sleeping)
    log.start("awake")
    assert log.store.next_wake() == log.now + 10
    assert [row.execution_id for row in log.store.due(log.now + 30, limit=9)] == ["first", "later"]
    assert [row.execution_id for row in log.store.due(log.now + 30, limit=1, offset=1)] == ["later"]
    assert [row.execution_id for row in log.store.due(log.now + 10, limit=9)] == ["first"]


def test_with_nothing_to_wake_there_is_no_next_wake_up(log):
    log.start("awake")
    assert log.store.next_wake() is None
    assert log.store.due(log.now + 10**12, limit=9) == []


def test_a_wake_up_can_be_moved_without_a_change_of_state(log):
    sleeping = {"state": ExecutionState.SLEEPING}
    log.start("k1", wake_at=log.now + 20, release=True, **sleeping)
    log.store.claim("k1", log.me, log.now)
    assert not log.append("k1", 1, *log.step(), wake_at=log.now + 30, **sleeping)
    log.store.release("k1", log.me)
    assert log.store.next_wake() == log.now + 30


def test_what_a_dead_process_left_is_abandoned(log):
    dead = log.elsewhere()
    log.start("running", holder=dead)
    log.start("asking", state=ExecutionState.WAITING_FOR_APPROVAL, holder=dead)
    log.start("done", state=ExecutionState.COMPLETED, holder=dead)
    log.start("alive")
    log.start("given back", release=True)
    log.start("hibernates", state=ExecutionState.SLEEPING, wake_at=log.now, release=True)
    log.start("asks", state=ExecutionState.WAITING_FOR_APPROVAL, release=True)
    assert [row.execution_id for row in log.store.abandoned(limit=9)] == ["given back"]
    log.seconds += 30
    found = {row.execution_id for row in log.store.abandoned(limit=9)}
    assert found == {"running", "asking", "given back"}
    assert len(log.store.abandoned(limit=2)) == 2


# -- slots and schedules ------------------------------------------------------------------------------------


def test_a_slot_has_one_active_execution_however_it_becomes_active(log):
    assert log.start("k1", slot="deploy:api") == {}
    assert log.start("k2", slot="deploy:api") == {"k2": Rejection.QUEUED}
    assert log.store.events("k2") == []
    queued = {"slot": "deploy:api", "state": ExecutionState.QUEUED}
    assert log.start("k2", **queued, queued_at=7) == log.start("k3", **queued, queued_at=6) == {}
    assert [row.execution_id for row in log.store.queue("deploy:api", limit=9)] == ["k3", "k2"]
    assert [row.execution_id for row in log.store.queue(limit=1, offset=1)] == ["k2"]
    assert log.store.in_slot("deploy:api").execution_id == "k1" and log.store.in_slot("deploy:web") is None
    assert log.append("k2", 1, *log.step(), slot="deploy:api") == {"k2": Rejection.QUEUED}
    assert log.append("k1", 1, *log.step(), slot="deploy:api", state=ExecutionState.PAUSED) == {}
    assert log.append("k2", 1, *log.step(), slot="deploy:api") == {}
    assert log.store.in_slot("deploy:api").execution_id == "k2"
    assert [row.execution_id for row in log.store.queue(limit=9)] == ["k3"]


def test_a_batch_holds_what_has_no_slot_to_wait_for(log):
    commits = [log.commit(name, 0, *log.step(), slot="deploy:api") for name in ("k1", "k2")]
    assert log.store.commit([*commits, log.commit("k3", 0, *log.step())]) == {"k2": Rejection.QUEUED}
    assert {row.execution_id for row in log.store.executions()[0]} == {"k1", "k3"}
