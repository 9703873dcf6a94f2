"""Runs: in the foreground and background, stop, cancel, resume, and one writer per execution."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from datetime import timedelta

import pytest

from cerebelum_nb import (
    CerebelumError,
    ExecutionBusyError,
    ExecutionCancelledError,
    ExecutionNotFoundError,
    ExecutionStoppedError,
    ResumeError,
    WorkflowError,
    sleep,
    step,
    workflow,
)
from cerebelum_nb._core.events import StepStarted, WorkflowPaused
from cerebelum_nb._engine.cancel import cancel_execution
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
    return "rested"


@step
async def last():
    return 2


calm = timeline(first >> nap >> last)


async def until(condition):
    """Let the loop run until a condition is true."""
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0)


def has(store, kind, execution_id="k1"):
    return lambda: any(type(event).__name__ == kind for event in store.events(execution_id))


async def asleep(store, execution_id="k1"):
    """Wait until a step sleeps: its event is recorded and its timer is set."""
    await until(has(store, "SleepStarted", execution_id))
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def still():
    """A clock that stands still, so that a sleeping run keeps sleeping."""
    with FakeClock(autojump=False) as made:
        yield made


# -- execute ------------------------------------------------------------------------------------------------


def test_a_result_tells_how_it_went(store, go):
    result = go(calm.execute(store=store, execution_id="k1"))
    assert (result.execution_id, result.workflow, result.status) == ("k1", "w", "COMPLETED")
    assert result.duration == timedelta(hours=1) and result.started_at.tzinfo is not None
    assert result.completed_at - result.started_at == result.duration


def test_an_execution_has_a_short_id_of_its_own(store, go):
    one, other = go(timeline(first).execute(store=store)), go(timeline(first).execute(store=store))
    assert one.execution_id != other.execution_id and len(one.execution_id) == 10


def test_an_id_that_exists_is_refused_and_nothing_is_run(store, go, kinds_of):
    go(timeline(first).execute(store=store, execution_id="k1"))
    before = kinds_of(store)
    with pytest.raises(CerebelumError, match=r"k1.*exists"):
        go(timeline(first).execute(store=store, execution_id="k1"))
    assert kinds_of(store) == before


def test_an_id_that_is_running_is_refused_and_nothing_is_run(store, go, kinds_of):
    async def both():
        runs = [timeline(first >> nap).execute(store=store, execution_id="k1") for _ in range(2)]
        return await asyncio.gather(*runs, return_exceptions=True)

    outcomes = go(both())
    assert [isinstance(outcome, CerebelumError) for outcome in outcomes] == [False, True]
    assert kinds_of(store, "k1", "WorkflowStarted") == ["WorkflowStarted"]


def test_many_executions_run_side_by_side(store, go):
    async def many():
        return await asyncio.gather(*[calm.execute({"n": n}, store=store) for n in range(20)])

    assert [result.output for result in go(many())] == [2] * 20


def test_the_end_of_a_step_and_the_start_of_the_next_are_one_commit(memory, go):
    commits = []
    write = memory.commit
    memory.commit = lambda batch: commits.append([len(c.events) for c in batch]) or write(batch)
    go(timeline(first >> last).execute(store=memory))
    assert commits == [[2], [2], [2]]


def test_siblings_finish_when_one_fails(store, fails):
    @step
    async def broken():
        raise ConnectionError

    error = fails(timeline(first >> [broken, nap] >> last).execute(store=store, execution_id="k1"))
    assert error.failed_step == "broken" and "2 of 4 steps are finished and kept" in str(error)
    completed = [event.step for event in store.events("k1") if type(event).__name__ == "StepCompleted"]
    assert completed == ["first", "nap"]


def test_what_is_finished_is_not_run_again_by_a_resume(store, go, fails):
    runs, fixed = [], []

    @step
    async def counted():
        runs.append(1)

    @step
    async def broken():
        return fixed[0]

    flow_ = timeline([[counted, broken], last])
    error = fails(flow_.execute(store=store))
    fixed.append(5)
    result = go(flow_.resume(error.execution_id, store=store))
    assert runs == [1] and result.results["broken"] == 5


# -- run: from sync code ------------------------------------------------------------------------------------


def test_run_waits_in_a_script(store, clock):
    assert calm.run(store=store).output == 2


def test_run_waits_in_a_cell(store, clock):
    async def cell():
        return calm.run(store=store)

    assert asyncio.run(cell()).output == 2


def test_run_inside_an_async_step_is_a_clear_error(store, fails):
    @step
    async def outer():
        calm.run(store=store)

    error = fails(timeline(outer).execute(store=store))
    assert isinstance(error.__cause__, CerebelumError) and "inside a step" in str(error.__cause__)


def test_resume_inside_a_plain_step_is_a_clear_error(store, fails):
    outer = step(name="outer")(lambda: calm.resume_sync("k1", store=store))
    error = fails(timeline(outer).execute(store=store))
    assert isinstance(error.__cause__, CerebelumError) and "To run it as a child of this execution write await" in str(
        error.__cause__
    )


def test_run_raises_what_execute_raises(store, clock):
    @step
    async def broken():
        raise ConnectionError

    with pytest.raises(WorkflowError, match="ConnectionError"):
        timeline(broken).run(store=store)


# -- start: in the background -------------------------------------------------------------------------------


def test_start_returns_at_once(store, go):
    async def cell():
        run = calm.start(store=store)
        before = run.done
        result = await run
        return before, result.output, run.done

    assert go(cell()) == (False, 2, True)


def test_a_run_shows_what_is_finished_so_far(memory, go, still):
    async def cell():
        run = calm.start(store=memory, execution_id="k1")
        await asleep(memory)
        seen = run.status, dict(run.results)
        still.advance("1h")
        await run
        return seen

    assert go(cell()) == ("SLEEPING", {"first": 1})


def test_a_run_may_be_awaited_twice(memory, go):
    async def cell():
        run = calm.start(store=memory)
        return (await run).output, (await run).output

    assert go(cell()) == (2, 2)


def test_who_waits_for_a_run_may_be_cancelled_without_it(memory, go, still):
    async def cell():
        run = calm.start(store=memory, execution_id="k1")
        waiter = asyncio.ensure_future(run.wait())
        await asleep(memory)
        waiter.cancel()
        await asyncio.wait([waiter])
        still.advance("1h")
        return (await run).output

    assert go(cell()) == 2


def test_start_without_a_loop_says_what_to_use(store):
    with pytest.raises(CerebelumError, match=r"run\("):
        calm.start(store=store)


# -- stop ---------------------------------------------------------------------------------------------------


def stopped_in_its_sleep(store, go):
    async def cell():
        run = calm.start(store=store, execution_id="k1")
        await asleep(store)
        run.stop("lunch")
        with pytest.raises(ExecutionStoppedError) as caught:
            await run
        return caught.value

    return go(cell())


def test_a_stopped_run_is_paused_and_says_how_to_go_on(store, go, still):
    error = stopped_in_its_sleep(store, go)
    assert store.execution("k1").summary.state == "PAUSED"
    assert "lunch" in str(error) and '.resume("k1")' in error.resume_hint and error.execution_id == "k1"


def test_a_stopped_attempt_is_no_failure(store, go, still, kinds_of):
    stopped_in_its_sleep(store, go)
    assert "StepInterrupted" in kinds_of(store) and "StepFailed" not in kinds_of(store)


def test_a_stopped_run_continues_where_it_was(store, go, still):
    stopped_in_its_sleep(store, go)

    async def cell():
        again = asyncio.create_task(calm.resume("k1", store=store))
        await until(lambda: sum(isinstance(ev, StepStarted) for ev in store.events("k1")) == 3)
        for _ in range(20):
            await asyncio.sleep(0)
        still.advance("1h")
        return await again

    assert go(cell()).output == 2


def test_a_stopped_step_may_clean_up_if_it_starts_at_its_top_again(memory, go, still):
    cleaned = []

    @step(checkpoint=None)
    async def tidy():
        try:
            await sleep("1h")
        finally:
            cleaned.append(True)

    async def cell():
        run = timeline(tidy).start(store=memory, execution_id="k1")
        await asleep(memory)
        run.stop()
        with pytest.raises(ExecutionStoppedError):
            await run
        await until(lambda: cleaned)

    go(cell())


def test_what_a_stopped_thread_still_does_is_not_recorded(memory, go, still, kinds_of):
    seen = []

    @step(checkpoint=None)
    def deaf(context):
        try:
            sleep("1h")
        except BaseException:
            seen.append("stopped")
        return 1

    async def cell():
        run = timeline(deaf).start(store=memory, execution_id="k1")
        await asleep(memory)
        run.stop()
        with pytest.raises(ExecutionStoppedError):
            await run
        await until(lambda: seen)

    go(cell())
    assert kinds_of(memory)[-1] == "WorkflowPaused"


def test_a_resume_waits_for_no_thread_that_is_still_at_work(memory, go, still):
    gate = threading.Event()
    deaf = step(name="deaf")(lambda: gate.wait(5))

    async def cell():
        run = timeline(deaf).start(store=memory, execution_id="k1")
        await until(has(memory, "StepStarted"))
        run.stop()
        with pytest.raises(ExecutionStoppedError):
            await run
        try:
            with pytest.raises(ExecutionBusyError, match="still running in this process"):
                await timeline(deaf).resume("k1", store=memory)
        finally:
            gate.set()
        for thread in threading.enumerate():
            if thread.name == "step deaf":
                thread.join()
        return await timeline(deaf).resume("k1", store=memory)

    assert go(cell()).output is True


def test_cancelling_who_executes_pauses_the_run(store, go, still):
    async def cell():
        task = asyncio.create_task(calm.execute(store=store, execution_id="k1"))
        await asleep(store)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    go(cell())
    assert isinstance(store.events("k1")[-1], WorkflowPaused)
    assert "outside" in store.events("k1")[-1].reason


def test_the_end_of_the_loop_pauses_a_run_in_the_background(store, still):
    async def main():
        calm.start(store=store, execution_id="k1")
        await asleep(store)

    asyncio.run(main())
    assert store.execution("k1").summary.state == "PAUSED"


def test_a_timeout_around_a_run_pauses_it(store, go, still):
    async def cell():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await calm.execute(store=store, execution_id="k1")

    go(cell())
    assert store.execution("k1").summary.state == "PAUSED"


def test_a_step_that_cancels_itself_fails(store, fails):
    @step
    async def gives_up():
        raise asyncio.CancelledError

    assert fails(timeline(gives_up).execute(store=store)).failed_step == "gives_up"


# -- cancel -------------------------------------------------------------------------------------------------


def test_a_run_can_be_cancelled(store, go, still):
    async def cell():
        run = calm.start(store=store, execution_id="k1")
        await asleep(store)
        run.cancel("wrong size")
        with pytest.raises(ExecutionCancelledError, match="wrong size"):
            await run

    go(cell())
    assert store.execution("k1").summary.state == "CANCELLED"


def test_a_run_here_can_be_cancelled_by_its_id(store, go, still):
    async def cell():
        run = calm.start(store=store, execution_id="k1")
        await asleep(store)
        await calm.cancel("k1", "wrong size", store=store)
        with pytest.raises(ExecutionCancelledError):
            await run

    go(cell())


def test_a_cancelled_execution_is_not_resumed(store, go, still):
    stopped_in_its_sleep(store, go)
    go(calm.cancel("k1", "wrong size", store=store))
    with pytest.raises(ResumeError, match=r"was cancelled \(wrong size\)"):
        go(calm.resume("k1", store=store))


def test_an_execution_that_nobody_runs_can_be_cancelled(store, go, still):
    stopped_in_its_sleep(store, go)
    go(calm.cancel("k1", store=store))
    assert store.execution("k1").summary.state == "CANCELLED"


def test_a_finished_execution_cannot_be_cancelled(store, go):
    go(timeline(first).execute(store=store, execution_id="k1"))
    with pytest.raises(ResumeError, match="already COMPLETED"):
        go(calm.cancel("k1", store=store))


def test_a_request_to_cancel_from_another_handle_reaches_the_runner(tmp_path, go, still):
    with SqliteStore(tmp_path / "log.db", durability="normal") as here, SqliteStore(tmp_path / "log.db") as there:

        async def cell():
            run = calm.start(store=here, execution_id="k1")
            await asleep(here)
            assert await cancel_execution(there, "k1", reason="from afar", by="ana") == "requested"
            run._execution.look_soon()  # as the heartbeat does when the file has changed
            with pytest.raises(ExecutionCancelledError, match="from afar"):
                await run

        go(cell())
        assert here.events("k1")[-1].by == "ana"


def test_a_request_to_cancel_is_met_at_the_runners_next_commit(tmp_path, go, clock):
    with SqliteStore(tmp_path / "log.db", durability="normal") as here, SqliteStore(tmp_path / "log.db") as there:
        waited = []

        @step
        async def asks():
            await cancel_execution(there, "k1", reason="from afar", by=None)

        @step
        async def waits():
            try:
                await asyncio.sleep(0.2)  # appends nothing meanwhile
                waited.append("to the end")
            except asyncio.CancelledError:
                waited.append("until cancelled")

        with pytest.raises(ExecutionCancelledError):
            go(timeline(asks >> waits).execute(store=here, execution_id="k1"))
        assert waited in ([], ["until cancelled"])


# -- resume -------------------------------------------------------------------------------------------------


def test_a_resume_without_an_id_takes_the_newest_that_can_be_resumed(store, go, still):
    stopped_in_its_sleep(store, go)
    go(timeline(first).execute(store=store, execution_id="k2"))

    async def cell():
        again = asyncio.create_task(calm.resume(store=store))
        await until(lambda: store.execution("k1").summary.state != "PAUSED")
        for _ in range(20):
            await asyncio.sleep(0)
        still.advance("1h")
        return await again

    assert go(cell()).execution_id == "k1"


def test_a_resume_takes_an_unambiguous_beginning_of_an_id(store, go):
    @step
    async def broken():
        raise ConnectionError

    with pytest.raises(WorkflowError):
        go(timeline(broken).execute(store=store, execution_id="abcdef"))
    with pytest.raises(WorkflowError) as caught:
        go(timeline(broken).resume("abc", store=store))
    assert caught.value.execution_id == "abcdef"


def test_without_anything_to_resume_the_last_one_is_told(store, go):
    go(timeline(first).execute(store=store, execution_id="k1"))
    with pytest.raises(ResumeError, match=r"nothing to resume.*k1, is COMPLETED"):
        go(timeline(first).resume(store=store))


def test_an_unknown_id_gets_a_suggestion(store, go):
    go(timeline(first).execute(store=store, execution_id="abcdef"))
    with pytest.raises(ExecutionNotFoundError, match="abcdef"):
        go(timeline(first).resume("abcdfe", store=store))


def test_an_execution_of_another_workflow_is_refused(store, go, still):
    stopped_in_its_sleep(store, go)
    with pytest.raises(ResumeError, match="belongs to workflow 'w', not to 'other'"):
        go(timeline(first, name="other").resume("k1", store=store))


def test_after_a_refusal_the_execution_is_free_again(store, go, still):
    stopped_in_its_sleep(store, go)
    with pytest.raises(ResumeError):
        go(timeline(first, name="other").resume("k1", store=store))
    assert store.execution("k1").holder is None


def test_everything_may_run_again_under_the_same_id(store, go):
    go(calm.execute(store=store, execution_id="k1"))
    result = go(calm.resume("k1", skip_completed_steps=False, store=store))
    visits = [event.visit for event in store.events("k1") if type(event).__name__ == "StepCompleted"]
    assert result.execution_id == "k1" and visits == [1, 1, 1, 2, 2, 2]


def test_inputs_may_be_replaced(store, go, fails):
    sized = step(name="sized")(lambda inputs: 10 // inputs["size"])
    flow_ = timeline(sized)
    error = fails(flow_.execute({"size": 0, "name": "web"}, store=store, execution_id="k1"))
    result = go(flow_.resume(error.execution_id, inputs={"size": 5}, store=store))
    assert result.output == 2
    (event,) = [event for event in store.events("k1") if type(event).__name__ == "WorkflowResumed"]
    assert event.inputs.json == '{"size":5,"name":"web"}'


def test_steps_that_read_replaced_inputs_are_stale(store, go, fails):
    @step
    async def reads(inputs):
        return inputs["size"]

    @step
    async def reads_not():
        return 0

    @step
    async def broken(reads, inputs):
        return 10 // (inputs["size"] - 1)

    flow_ = timeline(reads >> reads_not >> broken)
    fails(flow_.execute({"size": 1}, store=store, execution_id="k1"))
    result = go(flow_.resume("k1", inputs={"size": 2}, rerun="stale", store=store))
    assert (result.results["reads"], result.output) == (2, 10)
    assert [ev.visit for ev in store.events("k1") if getattr(ev, "step", "") == "reads_not"] == [1, 1]


# -- one writer ---------------------------------------------------------------------------------------------


def test_an_execution_that_runs_here_is_busy(store, go, still):
    async def cell():
        run = calm.start(store=store, execution_id="k1")
        await asleep(store)
        with pytest.raises(ExecutionBusyError, match="already running in this process"):
            await calm.resume("k1", store=store)
        still.advance("1h")
        return await run

    assert go(cell()).output == 2


def test_busy_is_no_failure_of_the_workflow():
    assert not issubclass(ExecutionBusyError, WorkflowError)


def test_two_resumes_at_once_are_one(store, go, still):
    stopped_in_its_sleep(store, go)

    async def cell():
        tasks = [asyncio.create_task(calm.resume("k1", store=store)) for _ in range(2)]
        await until(lambda: any(task.done() for task in tasks))
        for _ in range(20):
            await asyncio.sleep(0)
        still.advance("1h")
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = go(cell())
    assert sorted(isinstance(outcome, ExecutionBusyError) for outcome in outcomes) == [False, True]


def test_an_execution_that_another_handle_runs_is_busy(tmp_path, go, still):
    with SqliteStore(tmp_path / "log.db", durability="normal") as here, SqliteStore(tmp_path / "log.db") as there:

        async def cell():
            run = calm.start(store=here, execution_id="k1")
            await asleep(here)
            with pytest.raises(ExecutionBusyError) as caught:
                await calm.resume("k1", store=there)
            still.advance("1h")
            await run
            return caught.value

        error = go(cell())
        assert error.execution_id == "k1" and "process" in error.holder


def test_a_run_that_lost_its_lease_stops_writing(tmp_path, go, still, kinds_of):
    with SqliteStore(tmp_path / "log.db", durability="normal") as here, SqliteStore(tmp_path / "log.db") as there:

        async def cell():
            run = calm.start(store=here, execution_id="k1")
            await asleep(here)
            with sqlite3.connect(tmp_path / "log.db") as db:
                db.execute("UPDATE holder SET host = 'elsewhere', boot_id = 'elsewhere/1', expires_at = 1")
            db.close()
            there.claim("k1", there.register(0, 10**9), 0)
            still.advance("1h")
            with pytest.raises(ExecutionBusyError, match="took over"):
                await run

        go(cell())
        assert "SleepCompleted" not in kinds_of(here)


def test_a_finished_run_gives_its_lease_back(store, go):
    go(timeline(first).execute(store=store, execution_id="k1"))
    assert store.execution("k1").holder is None


def test_a_failed_run_gives_its_lease_back(store, go, fails):
    broken = step(name="broken")(lambda: 1 / 0)
    fails(timeline(broken).execute(store=store, execution_id="k1"))
    assert store.execution("k1").holder is None


def test_a_log_that_cannot_be_written_ends_the_run_with_its_error(memory, go):
    from cerebelum_nb import StoreError

    write, count = memory.commit, []

    def full(batch):
        count.append(1)
        if len(count) > 2:
            raise StoreError("disk full")
        return write(batch)

    memory.commit = full
    with pytest.raises(StoreError, match="disk full"):
        go(calm.execute(store=memory, execution_id="k1"))
    assert memory.execution("k1").version == 4


# -- progress -----------------------------------------------------------------------------------------------


def reported(store):
    return [event.percent for event in store.events("k1") if type(event).__name__ == "StepProgressed"]


def test_progress_is_recorded_at_most_four_times_a_second(store, go):
    from cerebelum_nb import ProgressReporter

    @step
    async def copies(context):
        progress = ProgressReporter(context)
        for percent in range(100):
            progress.update(percent)
            await sleep(10)

    go(timeline(copies).execute(store=store, execution_id="k1"))
    assert 4 <= len(reported(store)) <= 5


def test_the_end_of_progress_is_always_recorded(store, go):
    from cerebelum_nb import ProgressReporter

    @step
    async def copies(context):
        ProgressReporter(context).update(10)
        ProgressReporter(context).update(100, "done")

    go(timeline(copies).execute(store=store, execution_id="k1"))
    assert reported(store) == [10.0, 100.0]


def test_progress_is_recorded_with_the_commit_of_something_else(memory, go):
    from cerebelum_nb import ProgressReporter

    commits = []
    write = memory.commit
    memory.commit = lambda batch: commits.append([type(ev).__name__ for c in batch for ev in c.events]) or write(batch)

    @step
    async def copies(context):
        ProgressReporter(context).update(50)

    go(timeline(copies).execute(store=memory, execution_id="k1"))
    assert commits[1] == ["StepProgressed", "StepCompleted", "WorkflowCompleted"]


def test_progress_of_a_plain_step_is_recorded(store, go):
    from cerebelum_nb import ProgressReporter

    def copies(context):
        ProgressReporter(context).update(50)
        sleep("1s")

    go(timeline(step(copies)).execute(store=store, execution_id="k1"))
    assert reported(store) == [50.0]


# -- separate logs in memory --------------------------------------------------------------------------------


def test_logs_do_not_know_of_each_other(go):
    one, other = MemoryStore(), MemoryStore()
    go(timeline(first).execute(store=one, execution_id="k1"))
    go(timeline(first).execute(store=other, execution_id="k1"))
    assert one.executions()[1] == other.executions()[1] == 1


def test_a_list_among_other_arguments_of_a_timeline_runs_in_parallel():
    sibling = step(name="sibling")(lambda: 1)

    @workflow
    def w(wf):
        wf.timeline(first, [nap, sibling])

    assert w.plan().timeline == (("first",), ("nap", "sibling"))


def test_the_output_of_a_final_group_is_that_of_the_last_in_its_list(store, go):
    async def slow():
        await sleep("1h")
        return "slow"

    async def quick():
        return "quick"

    slow, quick = step(slow), step(quick)
    result = go(timeline(first >> [slow, quick]).execute(store=store))
    assert (list(result.results)[-1], result.output) == ("slow", "quick")


def test_a_script_of_the_same_name_in_another_folder_is_another_file(store, go, tmp_path, monkeypatch):
    code = compile("def build():\n    return 1\n\ndef flow(wf):\n    wf.timeline(step(build))", "late.py", "exec")
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "late.py").touch()
        monkeypatch.chdir(tmp_path / name)
        exec(code, made := {"step": step, "__name__": "late"})  # as `python late.py` and runpy compile it
        go(workflow(made["flow"]).execute(execution_id=name, store=store))
        assert store.events(name)[0].source == str(tmp_path / name / "late.py")
