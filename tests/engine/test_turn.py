"""Errors in the engine's turn: of a store, a clock, an observer or the system. One run ends, and nothing hangs."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise

import pytest

from cerebelum_nb import (
    ExecutionCancelledError,
    ExecutionStoppedError,
    ResumeError,
    StoreError,
    WorkflowError,
    foreach,
    observe,
    sleep,
    step,
    wait_for_signal,
    workflow,
)
from cerebelum_nb._core.events import StepCompleted, StepInterrupted, StepStarted, WorkflowCompleted
from cerebelum_nb._engine import loop as engine
from cerebelum_nb._engine.signals import deliver
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.testing import FakeClock, MemoryStore


def timeline(*items, name="w"):
    return workflow(name=name)(lambda wf: wf.timeline(*items))


@step
async def first():
    return 1


@step
async def nap():
    await sleep("1h")


@step
async def last(first):
    return first + 1


chain = timeline(first >> last)


@pytest.fixture(autouse=True)
def nothing_reaches_the_loops_own_handler(caplog):
    """Errors that the event loop logs because nothing caught them."""
    yield
    assert [record for record in caplog.get_records("call") if record.name == "asyncio"] == []


class Broken(MemoryStore):
    """A log that raises when it writes an event for which ``breaks`` is true."""

    def __init__(self, error, breaks=lambda execution_id, event: False, *, times=1_000_000, after=False):
        super().__init__()
        self.error, self.breaks, self.times, self.after = error, breaks, times, after

    def commit(self, commits):
        broken = any(self.breaks(commit.execution_id, event) for commit in commits for event in commit.events)
        if not broken or not self.times:
            return super().commit(commits)
        self.times -= 1
        if self.after:
            super().commit(commits)
        raise self.error


def completes(name=None, execution_id=None):
    """Select the completion of a step."""

    def picks(of, event):
        return isinstance(event, StepCompleted) and name in (None, event.step) and execution_id in (None, of)

    return picks


def may_be_taken(store, execution_id="k1"):
    """Whether another holder can claim the execution at once."""
    now = 10**15
    store.claim(execution_id, store.register(now, 10**9), now)
    return True


# -- the store ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("a defect"), StoreError("no room"), StopIteration(), MemoryError("!")])
def test_a_store_that_raises_ends_the_run_with_its_error(fails, go, error):
    log = Broken(error, completes("first"))
    with pytest.raises((WorkflowError, StoreError)) as caught:
        go(chain.execute(store=log, execution_id="k1"))
    assert str(error) in str(caught.value) and caught.value.__cause__ is not None
    assert "'first' finished too, but could not be recorded" in str(caught.value)
    assert 'resume("k1")' in str(caught.value)


def test_its_lease_is_given_back_and_a_resume_completes_it(go):
    log = Broken(RuntimeError("a defect"), completes("first"), times=1)
    with pytest.raises(WorkflowError, match="a defect"):
        go(chain.execute(store=log, execution_id="k1"))
    assert log.execution("k1").holder is None
    assert go(chain.resume("k1", store=log)).output == 2
    assert may_be_taken(log)


def test_of_runs_that_are_committed_together_only_the_broken_one_ends(go):
    log = Broken(RuntimeError("a defect"), completes(execution_id="bad"))

    async def together():
        gate = asyncio.Event()

        @step
        async def work():
            await gate.wait()
            return 1

        names = ("a", "bad", "b")
        runs = [timeline(work).start(store=log, execution_id=name) for name in names]
        await asyncio.sleep(0)
        gate.set()
        return await asyncio.gather(*runs, return_exceptions=True)

    a, bad, b = go(together())
    assert a.output == b.output == 1
    assert isinstance(bad, WorkflowError) and "a defect" in str(bad)
    assert may_be_taken(log, "bad")


def test_what_a_store_wrote_before_it_raised_is_not_written_again(go, kinds_of):
    log = Broken(RuntimeError("after the write"), completes("first"), times=1, after=True)

    async def two():
        runs = [chain.start(store=log, execution_id=name) for name in ("k1", "k2")]
        return await asyncio.gather(*runs)

    assert [result.output for result in go(two())] == [2, 2]
    assert kinds_of(log, "k1").count("StepCompleted") == 2
    assert kinds_of(log, "k2").count("StepStarted") == 2


def test_a_store_that_refuses_every_append_ends_the_run(go):
    class Stubborn(MemoryStore):
        def commit(self, commits):
            if any(commit.after for commit in commits):
                return {commit.execution_id: "stale" for commit in commits}
            return super().commit(commits)

    with pytest.raises(StoreError, match=r"refuses to append to execution k1"):
        go(chain.execute(store=Stubborn(), execution_id="k1"))


def test_a_lease_that_cannot_be_given_back_hides_no_error(go):
    class Stuck(Broken):
        def release(self, execution_id, holder):
            raise OSError("gone")

    with pytest.raises(WorkflowError, match="a defect"):
        go(chain.execute(store=Stuck(RuntimeError("a defect"), completes()), execution_id="k1"))


# -- another program holds the write lock -------------------------------------------------------------------


def locked(path):
    """Hold the write lock of a log, as a database browser does; close it to release the lock."""
    import sqlite3

    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    return db


@pytest.fixture
def log(tmp_path):
    with SqliteStore(tmp_path / "log.db", durability="normal") as made:
        yield made


def held_by_gate():
    """A workflow whose first step waits for a gate, and the gate."""
    gate = asyncio.Event()

    @step
    async def first():
        await gate.wait()
        return 1

    return timeline(first >> last), gate


async def turns(seconds):
    """Let the loop run; return for how long it was blocked at most."""
    loop, longest = asyncio.get_running_loop(), 0.0
    end = loop.time() + seconds
    while loop.time() < end:
        began = loop.time()
        for _ in range(20):  # turns in which they clean up
            await asyncio.sleep(0)
        longest = max(longest, loop.time() - began)
    return longest


def test_a_run_waits_for_the_lock_and_continues_when_it_is_free(log, go, kinds_of):
    async def meanwhile():
        flow_, gate = held_by_gate()
        run = flow_.start(store=log, execution_id="k1")
        other = locked(log.path)
        gate.set()
        await turns(0.6)
        before = kinds_of(log)
        other.close()
        return before, await run

    before, result = go(meanwhile())
    assert before == ["WorkflowStarted", "StepStarted"] and result.output == 2
    assert kinds_of(log).count("StepStarted") == 2


def test_the_loop_turns_while_the_log_is_locked(log, go):
    tried = []
    write = log.commit
    log.commit = lambda commits: tried.append(1) or write(commits)

    async def meanwhile():
        flow_, gate = held_by_gate()
        run = flow_.start(store=log, execution_id="k1")
        other = locked(log.path)
        gate.set()
        turned = 0
        while len(tried) < 4:
            turned += 1
            await asyncio.sleep(0)
        other.close()
        await run
        return turned

    assert go(meanwhile()) > 10


async def acts(act, log):
    """Make the first call of this process to a log, or a call that resumes something."""
    flow_ = timeline(last_alone)
    match act:
        case "execute":
            return (await flow_.execute(store=log, execution_id="new")).status
        case "start":
            return (await flow_.start(store=log, execution_id="new")).status
        case "begin":
            return (await flow_.begin(store=log, execution_id="new").finish()).status
        case "resume":
            return (await flow_.resume("k1", store=log)).status
        case "next":
            return (await flow_.attach("k1", store=log).finish()).status
        case "fork":
            return (await flow_.fork("k1", store=log)).status
        case "cancel":
            return await flow_.cancel("k1", store=log) or "COMPLETED"


@step
def last_alone():
    return 1


@pytest.mark.parametrize("act", ["execute", "start", "begin", "resume", "next", "fork", "cancel"])
def test_a_call_waits_for_the_lock_while_the_loop_turns(tmp_path, go, act):
    async def begun(log):
        timeline(last_alone).begin(store=log, execution_id="k1")

    with SqliteStore(tmp_path / "log.db", durability="normal") as before:
        go(begun(before))

    async def meanwhile(log):
        other = locked(log.path)
        call = asyncio.ensure_future(acts(act, log))
        stood_still = await turns(0.3)
        assert not call.done() and stood_still < 10, "30 s, if it waited on the loop"
        other.close()
        return await call

    with SqliteStore(tmp_path / "log.db", durability="normal") as log:  # it has not registered a holder yet
        assert go(meanwhile(log)) == "COMPLETED"


def test_a_run_that_is_stopped_while_the_log_is_locked_is_paused_when_it_is_free(log, go):
    async def meanwhile():
        flow_, gate = held_by_gate()
        run = flow_.start(store=log, execution_id="k1")
        other = locked(log.path)
        gate.set()
        await turns(0.3)
        run.stop()
        await turns(0.1)
        other.close()
        with pytest.raises(Exception, match="is paused: stopped by hand"):
            await run
        return await flow_.resume("k1", store=log)

    assert go(meanwhile()).output == 2


def test_a_stop_does_not_wait_long_for_the_lock_and_tells_what_is_lost(log, go, monkeypatch):
    monkeypatch.setattr("cerebelum_nb._engine.commits._STOP_SECONDS", 0.2)

    async def meanwhile():
        flow_, gate = held_by_gate()
        run = flow_.start(store=log, execution_id="k1")
        other = locked(log.path)
        gate.set()
        await turns(0.2)
        run.stop()
        with pytest.raises(StoreError) as caught:
            await run
        other.close()
        await turns(0.3)  # the lease is released as soon as the log can be written
        return caught.value, await flow_.resume("k1", store=log)

    error, result = go(meanwhile())
    assert "stayed locked" in str(error) and "'first' finished too" in str(error)
    assert result.output == 2


def test_a_log_that_stays_locked_ends_the_run_in_the_end(log, go, monkeypatch):
    monkeypatch.setattr("cerebelum_nb._engine.commits.LOCKED_SECONDS", 0.2)

    async def meanwhile():
        flow_, gate = held_by_gate()
        run = flow_.start(store=log, execution_id="k1")
        other = locked(log.path)
        gate.set()
        try:
            await run
        finally:
            other.close()

    with pytest.raises(StoreError, match="stayed locked by another program") as caught:
        go(meanwhile())
    assert caught.value.transient


# -- observers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), asyncio.CancelledError(), StopIteration()])
def test_an_observer_that_raises_is_dropped_and_the_run_completes(store, go, caplog, error):
    asked = []

    def broken(recorded):
        asked.append(recorded.type)
        raise error

    with observe.add(broken):
        assert go(chain.execute(store=store)).output == 2
    assert asked == ["WorkflowStarted"]
    assert [record.message for record in caplog.records] == [
        f"an observer raised {type(error).__name__} and is not called again"
    ]


def test_an_observer_that_raises_at_the_last_event_hangs_nothing(store, go):
    def broken(recorded):
        if isinstance(recorded.event, WorkflowCompleted):
            raise ValueError

    with observe.add(broken):
        assert go(chain.execute(store=store)).output == 2


def test_observers_hear_of_runs_in_the_foreground_behind_the_cell_and_of_resumes(store, go):
    heard = []

    async def three():
        await chain.execute(store=store, execution_id="k1")
        await chain.start(store=store, execution_id="k2")
        with pytest.raises(WorkflowError):
            await failing.execute(store=store, execution_id="k3")
        await failing.resume("k3", store=store)

    fixed = []

    @step
    async def once():
        if not fixed:
            fixed.append(1)
            raise ValueError

    failing = timeline(once)
    with observe.add(lambda recorded: heard.append((recorded.execution_id, recorded.version, recorded.type))):
        go(three())
    for execution_id in ("k1", "k2", "k3"):
        events = [(version, type_) for of, version, type_ in heard if of == execution_id]
        recorded = [type(event).__name__ for event in store.events(execution_id)]
        assert events == list(enumerate(recorded, 1))


@pytest.mark.parametrize("times", [1, 3])
def test_an_observer_hears_what_another_program_appends_in_its_place(tmp_path, go, times):
    @step
    async def wait_for_payments():
        return [await wait_for_signal("paid") for _ in range(times)]

    def listen(recorded):
        heard.append((recorded.version, recorded.type))
        if recorded.type == "SignalAwaited":  # nothing can be sent to an execution within its own commit
            sender = threading.Thread(target=deliver, args=(elsewhere, recorded.execution_id, "paid"))
            sender.start()
            sender.join()

    heard = []
    with SqliteStore(tmp_path / "log.db") as here, SqliteStore(tmp_path / "log.db") as elsewhere, observe.add(listen):
        go(timeline(wait_for_payments).execute(store=here, execution_id="k1"))
        assert heard == [*enumerate((type(event).__name__ for event in here.events("k1")), 1)]
    assert [type_ for _, type_ in heard].count("SignalReceived") == times


def test_an_event_is_in_the_log_when_an_observer_hears_of_it(store, go):
    def look(recorded):
        assert store.events(recorded.execution_id)[recorded.version - 1] == recorded.event
        looked.append(recorded)

    looked = []
    with observe.add(look):
        go(chain.execute(store=store))
    assert len(looked) == 6


def test_what_is_set_before_an_attempt_the_step_sees(store, go):
    from contextvars import ContextVar

    span = ContextVar("span", default="none")

    @step
    def in_a_thread():
        return span.get()

    @step
    async def on_the_loop():
        return span.get()

    def before(attempt):
        span.set(f"{attempt.step} {attempt.visit} {attempt.attempt}")

    with observe.add(before_attempt=before):
        result = go(timeline(in_a_thread >> on_the_loop).execute(store=store))
    assert dict(result.results) == {"in_a_thread": "in_a_thread 1 1", "on_the_loop": "on_the_loop 1 1"}
    assert span.get() == "none"


def test_before_an_attempt_an_observer_may_raise(store, go, caplog):
    def broken(attempt):
        raise ValueError(attempt.step)

    with observe.add(before_attempt=broken):
        assert go(chain.execute(store=store)).output == 2
    assert len([record for record in caplog.records if "observer" in record.msg]) == 1


def test_an_observer_that_was_stopped_is_told_nothing_more(store, go):
    heard = []
    watching = observe.add(heard.append)
    watching.stop()
    watching.stop()
    go(chain.execute(store=store))
    assert heard == []


@pytest.mark.parametrize("wrong", [{}, {"on_event": 3}, {"before_attempt": "later"}])
def test_what_cannot_be_called_is_no_observer(wrong):
    with pytest.raises(TypeError):
        observe.add(**wrong)


# -- the system, the clock ----------------------------------------------------------------------------------


def test_a_step_that_gets_no_thread_fails_and_can_be_resumed(store, go, fails, monkeypatch):
    @step
    def plain():
        return 1

    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        start = threading.Thread.start
        patched.setattr(threading.Thread, "start", lambda t: refuse(t) if t.name == "step plain" else start(t))
        error = fails(timeline(plain).execute(store=store, execution_id="k1"))
    assert error.failed_step == "plain" and "can't start new thread" in str(error)
    assert go(timeline(plain).resume("k1", store=store)).output == 1


def test_a_step_that_gets_no_thread_is_tried_again_by_its_policy(store, go, monkeypatch):
    @step(retries=1, retry_delay="1s")
    def plain():
        return 1

    refused = []
    start = threading.Thread.start

    def once(thread):
        if thread.name == "step plain" and not refused:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", once)
    assert go(timeline(plain).execute(store=store)).output == 1


class BrokenClock(FakeClock):
    """A clock that raises once, at its nth call."""

    def __init__(self, what, nth):
        super().__init__()
        self.what, self.left = what, nth

    def _may_raise(self, what):
        if what == self.what:
            self.left -= 1
            if self.left == 0:
                raise OSError("the clock stopped")

    def now(self):
        self._may_raise("now")
        return super().now()

    def call_at(self, at, callback):
        self._may_raise("call_at")
        return super().call_at(at, callback)

    def idle(self):
        self._may_raise("idle")
        super().idle()


@pytest.mark.parametrize("what", ["now", "call_at", "idle"])
@pytest.mark.parametrize("nth", range(1, 12))
def test_a_clock_that_raises_hangs_nothing(memory, what, nth):
    flow_ = timeline(first >> nap >> last)

    async def bounded():
        async with asyncio.timeout(120):
            return await flow_.execute(store=memory, execution_id="k1")

    told = ""
    with BrokenClock(what, nth):
        try:
            told = f"gave {asyncio.run(bounded()).output}"
        except (OSError, WorkflowError) as error:
            told = str(error)
    assert told == "gave 2" or "the clock stopped" in told
    if told != "gave 2":
        with FakeClock():
            again = flow_.resume if memory.events("k1") else flow_.execute
            assert asyncio.run(again(execution_id="k1", store=memory)).output == 2


# -- errors while a run is prepared -------------------------------------------------------------------------


def test_a_view_or_a_handler_that_raises_gives_the_execution_back(store, go, monkeypatch):
    def broken(*args, **kwargs):
        raise OSError("no handler")

    with monkeypatch.context() as patched:
        patched.setattr("cerebelum_nb._workflow.run.on_sigint", broken)
        with pytest.raises(OSError, match="no handler"):
            go(chain.execute(store=store, execution_id="k1"))
    assert go(chain.execute(store=store, execution_id="k1")).output == 2


def test_a_warning_that_raises_gives_the_execution_back(store, go, fails):
    import logging

    def version(value, ok):
        @step
        async def one():
            return value

        @step
        async def two(one):
            assert ok
            return one

        return timeline(one >> two)

    def broken(record):
        raise RuntimeError("the filter broke")

    fails(version(1, ok=False).execute(store=store, execution_id="k1"))
    logger = logging.getLogger("cerebelum_nb")
    logger.addFilter(broken)
    try:
        with pytest.raises(RuntimeError, match="the filter broke"):
            go(version(2, ok=True).resume("k1", store=store))
    finally:
        logger.removeFilter(broken)
    assert store.execution("k1").holder is None
    assert go(version(2, ok=True).resume("k1", store=store)).status == "COMPLETED"


def test_the_first_event_that_is_not_written_leaves_nothing_behind(go):
    log = Broken(StoreError("no room"), lambda _, event: isinstance(event, StepStarted), times=1)
    with pytest.raises(StoreError, match="no room"):
        go(chain.execute(store=log, execution_id="k1"))
    assert go(chain.execute(store=log, execution_id="k1")).output == 2


# -- the length of a turn -----------------------------------------------------------------------------------


def turns_seen_by(count, monkeypatch, seconds, *, run):
    """Run a chain of steps that never wait; return in which iteration of the loop each of them began."""
    monkeypatch.setattr(engine, "_PUMP_SECONDS", seconds)
    turn, seen = [0], []

    def tick():
        turn[0] += 1
        asyncio.get_running_loop().call_soon(tick)

    def noting(name):
        @step(name=name)
        async def notes():
            assert asyncio.current_task() is not None, "it is a task from its first line on"
            seen.append(turn[0])

        return notes

    async def main():
        tick()
        await run(timeline(*[[noting(f"s{n}")] for n in range(count)]))

    asyncio.run(main())
    return seen


def in_the_foreground(work):
    return work.execute(store=MemoryStore())


def test_async_steps_that_never_wait_share_a_turn_of_the_loop(monkeypatch):
    assert len(set(turns_seen_by(20, monkeypatch, 60, run=in_the_foreground))) == 1


def test_the_loop_gets_its_turn_when_the_engines_is_over(monkeypatch):
    seen = turns_seen_by(20, monkeypatch, 0, run=in_the_foreground)
    assert len(set(seen)) == 20 and seen == sorted(seen)


def test_start_returns_before_a_step_begins(monkeypatch):
    monkeypatch.setattr(engine, "_PUMP_SECONDS", 60)
    began = []

    @step
    async def begins():
        began.append(True)

    async def main():
        run = timeline(begins).start(store=MemoryStore())
        assert began == []
        await run

    asyncio.run(main())
    assert began == [True]


def test_in_a_group_threads_start_before_an_async_step_that_blocks(monkeypatch):
    begun = threading.Event()

    @step
    async def blocks():
        assert begun.wait(30), "the thread beside it was held back"

    @step
    def beside():
        begun.set()

    asyncio.run(timeline(first >> [blocks, beside]).execute(store=MemoryStore()))


def commits_of(store, monkeypatch):
    """Note how many steps each commit starts."""
    started, commit = [], store.commit

    def noting(commits):
        starts = [event.step for each in commits for event in each.events if isinstance(event, StepStarted)]
        rejected = commit(commits)
        started.append(starts)
        return rejected

    monkeypatch.setattr(store, "commit", noting)
    return started


def group_of(count, began, make=lambda name: None):
    """Make a group of steps that note when they began."""

    def member(name):
        @step(name=name)
        async def notes():
            began.append(name)
            return make(name)

        return notes

    return timeline(first >> [member(f"m{n}") for n in range(count)] >> last)


@pytest.fixture
def in_portions(monkeypatch):
    """Start two members of a group at a time, and let the loop have its turn after each."""
    monkeypatch.setattr("cerebelum_nb._engine.execution.AT_ONCE", 2)
    monkeypatch.setattr(engine, "_PUMP_SECONDS", 0)


def test_a_large_group_is_started_in_portions_between_which_the_loop_has_its_turn(store, monkeypatch, in_portions):
    started, turns, began, seen = commits_of(store, monkeypatch), [0], [], []

    def tick():
        turns[0] += 1
        seen.append(len(began))
        asyncio.get_running_loop().call_soon(tick)

    async def main():
        tick()
        return await group_of(7, began).execute(store=store, execution_id="k1")

    assert asyncio.run(main()).output == 2
    portions = [starts for starts in started if any(name.startswith("m") for name in starts)]
    assert [name for starts in portions for name in starts] == [f"m{n}" for n in range(7)] == began
    assert [len(starts) for starts in portions] == [2, 2, 2, 1]
    assert all(now - before <= 2 for before, now in pairwise(seen)), "a turn in which more began"


def test_the_plan_of_many_steps_is_read_in_portions_between_which_the_loop_has_its_turn(store, monkeypatch):
    for module in "_core.portions", "_workflow.start":
        monkeypatch.setattr(f"cerebelum_nb.{module}.MOST", 2)
    monkeypatch.setattr("cerebelum_nb._engine.portions.SECONDS", 0)
    flow, turns = group_of(7, []), []

    async def main():
        waits = asyncio.ensure_future(flow.execute(store=store, execution_id="k1"))
        while not store.executions()[1]:
            turns.append(None)
            await asyncio.sleep(0)
        return await waits

    assert asyncio.run(main()).output == 2
    assert len(turns) > 9 // 2 + 9 // 2, "nine steps are described and then written, two at a time"


def test_what_dies_between_two_portions_starts_the_rest_when_it_is_resumed(tmp_path, in_portions, go, kinds_of):
    class Dies(SqliteStore):
        dies = True

        def commit(self, commits):
            if self.dies and any(getattr(event, "step", "") == "m4" for each in commits for event in each.events):
                self.dies = False
                raise StoreError("the disk is gone")
            return super().commit(commits)

    began = []
    flow = group_of(7, began)
    with Dies(tmp_path / "log.db", durability="normal") as log:
        with pytest.raises(StoreError, match="the disk is gone"):
            go(flow.execute(store=log, execution_id="k1"))
        assert began == ["m0", "m1", "m2", "m3"]
        assert go(flow.resume("k1", store=log)).output == 2
        again = began[4:]
        assert {"m4", "m5", "m6"} <= set(again) and len(again) == len(set(again)), "each runs once more at most"
        assert kinds_of(log, "k1", "StepCompleted") == ["StepCompleted"] * 9


def test_a_member_that_fails_keeps_no_later_portion_from_starting(store, in_portions, fails):
    def make(name):
        if name == "m0":
            raise ValueError("m0 is broken")

    began = []
    error = fails(group_of(7, began, make).execute(store=store, execution_id="k1"))
    assert error.failed_step == "m0" and len(began) == 7


def test_after_a_stop_no_later_portion_starts(store, in_portions, go):
    began = []

    async def main():
        run = group_of(7, began, lambda name: name == "m1" and run.stop()).start(store=store, execution_id="k1")
        with pytest.raises(ExecutionStoppedError):
            await run
        return await group_of(7, began).resume("k1", store=store)

    assert go(main()).output == 2
    assert began[:2] == ["m0", "m1"] and began[2:] == [f"m{n}" for n in range(2, 7)]


@pytest.mark.parametrize("ends", ["stop", "cancel"])
def test_a_large_group_is_interrupted_in_portions_and_does_nothing_meanwhile(store, monkeypatch, go, kinds_of, ends):
    monkeypatch.setattr("cerebelum_nb._engine.execution.AT_ONCE", 2)
    interrupted, left, commit, effects, cleaned = [], [], store.commit, [], []

    def noting(commits):
        interrupted.append(sum(isinstance(event, StepInterrupted) for each in commits for event in each.events))
        if interrupted[-1]:
            left.append(len(run.execution.attempts.alive()))
        return commit(commits)

    monkeypatch.setattr(store, "commit", noting)

    def member(name):
        @step(name=name)
        async def waits(context):
            try:
                while True:
                    await asyncio.sleep(0)
                    if any(interrupted):
                        await context.run("effect", effects.append, name)
            finally:
                await asyncio.sleep(0)
                cleaned.append(name)

        return waits

    members, run = [member(f"m{n}") for n in range(7)], None

    async def main():
        nonlocal run
        run = timeline(first >> members).start(store=store, execution_id="k1")
        while len(run.execution.attempts.running) < 7:
            await asyncio.sleep(0)
        getattr(run, ends)()
        with pytest.raises((ExecutionStoppedError, ExecutionCancelledError)):
            await run
        for _ in range(20):  # turns in which they clean up
            await asyncio.sleep(0)

    go(main())
    assert [count for count in interrupted if count] == [2, 2, 2, 1]
    assert left[0] == 7 and left[-1] < 7, "tasks end between two portions"
    assert effects == [] and sorted(cleaned) == [f"m{n}" for n in range(7)]
    assert kinds_of(store)[-1] == ("WorkflowPaused" if ends == "stop" else "WorkflowCancelled")


def test_what_dies_while_it_is_stopped_is_resumed_whole(tmp_path, monkeypatch, go, kinds_of):
    monkeypatch.setattr("cerebelum_nb._engine.execution.AT_ONCE", 2)

    class Dies(SqliteStore):
        dies = True

        def commit(self, commits):
            ends = [event.step for each in commits for event in each.events if isinstance(event, StepInterrupted)]
            if self.dies and "m2" in ends:
                self.dies = False
                raise StoreError("the disk is gone")
            return super().commit(commits)

    gate = asyncio.Event()

    def member(name):
        @step(name=name)
        async def waits():
            await gate.wait()
            return name

        return waits

    flow = timeline(first >> [member(f"m{n}") for n in range(5)] >> last)

    async def main(log):
        run = flow.start(store=log, execution_id="k1")
        while len(run.execution.attempts.running) < 5:
            await asyncio.sleep(0)
        run.stop()
        with pytest.raises(StoreError, match="the disk is gone"):
            await run
        gate.set()
        return await flow.resume("k1", store=log)

    with Dies(tmp_path / "log.db", durability="normal") as log:
        assert go(main(log)).output == 2
        interrupted = [event.step for event in log.events("k1") if isinstance(event, StepInterrupted)]
        assert sorted(interrupted) == [f"m{n}" for n in range(5)], "two by the stop, the others by the resume"
        assert "WorkflowPaused" not in kinds_of(log)


def test_a_group_that_sleeps_hibernates_when_all_of_it_has_started(store, in_portions, go, clock):
    store.hibernate_after = timedelta(minutes=1)

    def naps(name):
        @step(name=name)
        async def body():
            await sleep("2h")

        return body

    result = go(timeline(first >> [naps(f"m{n}") for n in range(7)]).execute(store=store, execution_id="k1"))
    assert result.status == "SLEEPING"
    started = [event.step for event in store.events("k1") if isinstance(event, StepStarted)]
    assert started == ["first", *(f"m{n}" for n in range(7))]


def test_the_items_of_a_foreach_start_in_portions(store, monkeypatch, in_portions, go):
    started, began = commits_of(store, monkeypatch), []

    @step
    async def each(item):
        began.append(item)
        return item

    @step
    async def total(each):
        return sum(each)

    flow = timeline(foreach(each, item="inputs.numbers", max_concurrency=5) >> total)
    assert go(flow.execute({"numbers": [*range(9)]}, store=store, execution_id="k1")).output == 36
    assert began == [*range(9)]
    assert max(len(starts) for starts in started) <= 3, "the next of an item that ended, and a portion of new ones"


def named(note):
    """Make a foreach whose nine items are noted when they are named."""

    @step
    async def each(item):
        return item

    return timeline(first >> foreach(each, item="inputs.numbers", key=note)), {"numbers": [*range(9)]}


@pytest.fixture
def named_in_portions(monkeypatch, in_portions):
    """Name two items of a foreach at a time, and let the loop have its turn after each."""
    monkeypatch.setattr("cerebelum_nb._core.portions.MOST", 2)


def test_the_items_of_a_foreach_are_named_and_its_results_joined_in_portions(store, monkeypatch, named_in_portions, go):
    turns, seen, commit, ends = [0], [], store.commit, {}

    def noting(commits):
        events = [event for each in commits for event in each.events]
        ends.update((event.step, turns[0]) for event in events if isinstance(event, StepCompleted))
        return commit(commits)

    monkeypatch.setattr(store, "commit", noting)

    def tick():
        turns[0] += 1
        asyncio.get_running_loop().call_soon(tick)

    async def main():
        tick()
        flow, inputs = named(lambda item: seen.append(turns[0]) or item)
        return await flow.execute(inputs, store=store, execution_id="k1")

    assert go(main()).output == [*range(9)]
    assert len(seen) == 9 and all(seen.count(turn) <= 2 for turn in seen)
    assert ends.pop("each") - max(ends.values()) >= 4


@pytest.mark.parametrize("ends", ["stop", "cancel", "drain"])
def test_a_foreach_that_ends_while_it_names_its_items_starts_none(store, named_in_portions, go, kinds_of, ends):
    seen, run = [], None

    def note(item):
        seen.append(item)
        if item == 2 and run is not None:
            getattr(run, ends)()
        return item

    flow, inputs = named(note)

    async def main():
        nonlocal run
        run = flow.start(inputs, store=store, execution_id="k1")
        with suppress(ExecutionStoppedError, ExecutionCancelledError):
            await run
        run = None
        return store.execution("k1").summary, len(seen)

    summary, count = go(main())
    assert kinds_of(store).count("StepStarted") == 1
    if ends == "drain":
        assert summary.wake_at is not None, "another process takes it up at once"
    else:
        assert count <= 6 and summary.state.is_final == (ends == "cancel")
    if ends != "cancel":
        assert go(flow.resume("k1", store=store)).output == [*range(9)]


@pytest.fixture
def one_per_iteration(monkeypatch):
    """Let one execution start in each iteration of the loop."""
    monkeypatch.setattr("cerebelum_nb._engine.pacing._SECONDS", 0)


def test_those_that_start_at_once_start_in_order_over_several_iterations_of_the_loop(store, go, one_per_iteration):
    turns, began = [0], []

    def tick():
        turns[0] += 1
        asyncio.get_running_loop().call_soon(tick)

    @step
    async def begins(inputs):
        began.append((inputs["n"], turns[0]))

    async def main():
        tick()
        flow = timeline(begins)
        return await asyncio.gather(*(flow.execute({"n": n}, store=store) for n in range(50)))

    assert {result.status for result in go(main())} == {"COMPLETED"}
    assert [n for n, _ in began] == [*range(50)]
    assert len({turn for _, turn in began}) == 50


def test_a_fake_clock_does_not_jump_before_all_have_started(store, go, clock, one_per_iteration):
    @step
    async def naps():
        await sleep("20m")

    async def main():
        flow = timeline(naps)
        return await asyncio.gather(*(flow.execute(store=store) for n in range(5)))

    began = clock.now()
    go(main())
    assert clock.now() - began == 20 * 60 * 1_000_000


def test_a_fake_clock_jumps_though_those_that_waited_start_nothing(store, go, one_per_iteration):
    @step
    async def naps():
        await sleep("20m")

    async def main():
        runs = [timeline(naps).execute(store=store, execution_id="k1") for n in range(9)]
        async with asyncio.timeout(20):
            return await asyncio.gather(*runs, return_exceptions=True)

    first_one, *others = go(main())
    assert first_one.status == "COMPLETED" and {type(other) for other in others} == {ResumeError}


def test_the_stop_button_stops_those_too_that_wait_for_their_turn(store, go, one_per_iteration):
    began = []

    @step
    async def presses():
        began.append(True)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(3600)

    async def main():
        flow, handler = timeline(presses), signal.getsignal(signal.SIGINT)
        runs = [flow.execute(store=store) for n in range(5)]
        outcomes = await asyncio.gather(*runs, return_exceptions=True)
        assert signal.getsignal(signal.SIGINT) is handler
        return outcomes, await chain.execute(store=store)

    outcomes, later = go(main())
    assert {type(outcome) for outcome in outcomes} == {ExecutionStoppedError}
    assert "stopped by hand before it began: nothing of it is recorded" in {str(outcome) for outcome in outcomes}
    assert began == [True] and later.output == 2, "what is started after the stop runs"


def test_one_that_is_cancelled_while_it_waits_for_its_turn_holds_nobody_up(store, go, one_per_iteration):
    async def main():
        tasks = [asyncio.ensure_future(chain.execute(store=store)) for n in range(5)]
        await asyncio.sleep(0)
        for task in tasks[1:4]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first_one, *cancelled, last_one = go(main())
    assert first_one.output == last_one.output == 2
    assert {type(outcome) for outcome in cancelled} == {asyncio.CancelledError}
    assert store.executions()[1] == 2
