"""Concurrency keys: for each value one execution runs and the others are queued, on both stores."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest

from cerebelum_nb import (
    CerebelumError,
    ExecutionBusyError,
    ExecutionCancelledError,
    ExecutionClient,
    ExecutionNotFoundError,
    ExecutionState,
    ExecutionStoppedError,
    InputsError,
    Secret,
    WorkflowDefinitionError,
    WorkflowError,
    history,
    scheduler,
    sleep,
    step,
    workflow,
)
from cerebelum_nb._core.events import CancelRequested, WorkflowAdmitted, WorkflowPaused, WorkflowQueued
from cerebelum_nb._core.fold import evolve, fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._core.state import State
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._engine import leases
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.holder import ProcessIdentity
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._text.times import to_micros
from cerebelum_nb._workflow.once import launch_once
from cerebelum_nb.archive import pack, unpack, verify
from cerebelum_nb.testing import MemoryStore

API = {"service": "api"}
FAILS = [False]


@step
async def build(inputs):
    await sleep("30m")
    if FAILS[0]:
        raise RuntimeError("no")
    return inputs["service"]


@build.on_rollback
async def unbuild():
    await sleep("10m")


@workflow(concurrency_key="service")
def deploy(wf):
    wf.timeline(build)


@workflow(concurrency_key="service", on_conflict="refuse")
def once(wf):
    wf.timeline(build)


@workflow(concurrency_key="service", on_conflict="cancel")
def newest(wf):
    wf.timeline(build)


@pytest.fixture(autouse=True)
def sound():
    FAILS[0] = False


@pytest.fixture(autouse=True)
def stays(store):
    store.hibernate_after = timedelta.max


def states(store):
    return {row.execution_id: row.summary.state.value for row in store.executions()[0]}


def spans(store, *ids):
    """When each execution got its slot, in minutes after the first."""
    rows = [store.events(name) for name in ids]
    first = min(events[0].at for events in rows)
    begun = [next((e for e in events if isinstance(e, WorkflowAdmitted)), events[0]).at for events in rows]
    return [(round((at - first) / 6e7), round((e[-1].at - first) / 6e7)) for at, e in zip(begun, rows, strict=True)]


async def settle(*runs):
    return await asyncio.gather(*runs, return_exceptions=True)


async def recorded(store, *ids):
    while not {*ids} <= states(store).keys():
        await asyncio.sleep(0)


def test_of_one_value_one_runs_at_a_time_in_the_order_they_came(go, store):
    async def live():
        runs = [deploy.start({"service": s}, store=store, execution_id=f"k{n}") for n, s in enumerate("aabab")]
        assert [run.status.value for run in runs] == ["RUNNING", "QUEUED", "RUNNING", "QUEUED", "QUEUED"]
        return [await run for run in runs]

    assert [result.output for result in go(live())] == list("aabab")
    assert spans(store, "k0", "k1", "k3") == [(0, 30), (30, 60), (60, 90)]
    assert spans(store, "k2", "k4") == [(0, 30), (30, 60)]
    for name in states(store):
        state = State()
        for event in store.events(name):
            check(evolve(state, event))


def test_another_workflow_and_other_values_are_no_conflict(go, store):
    @workflow(concurrency_key="service")
    def other(wf):
        wf.timeline(build)

    async def live():
        runs = [made.start(API, store=store) for made in (deploy, other)]
        assert [run.status.value for run in runs] == ["RUNNING", "RUNNING"]
        await settle(*runs)

    go(live())


def test_it_says_behind_whom_it_waits(go, store):
    async def live():
        runs = [deploy.start(API, store=store, execution_id=f"k{n}") for n in range(3)]
        client = ExecutionClient(store)
        status = await client.get_execution_status("k2")
        assert status.queued_behind == "k0" and status.to_dict()["queued_behind"] == "k0"
        assert "queued behind k0" in str(status)
        assert [found.execution_id for found in await client.list_active_workflows()] == ["k2", "k1", "k0"]
        assert history.executions(state="queued", store=store)["execution_id"].tolist() == ["k2", "k1"]
        await client.cancel("k0")
        await settle(runs[0])
        await asyncio.sleep(0)
        assert (await client.get_execution_status("k2")).queued_behind == "k1"
        await settle(*runs)

    go(live())
    assert fold(store.events("k2", upto=2)).behind == "k0"


def test_refuse_names_the_busy_one_and_records_nothing(go, store):
    async def live():
        run = once.start(API, store=store, execution_id="k0")
        with pytest.raises(
            ExecutionBusyError, match=r"execution k0 .* is (running|sleeping) for once:api.*cancel k0"
        ) as caught:
            await once.execute(API, store=store, execution_id="k1")
        assert caught.value.execution_id == "k0"
        with pytest.raises(ExecutionNotFoundError):
            store.execution("k1")
        await once.execute({"service": "web"}, store=store)
        await run
        await once.execute(API, store=store, execution_id="k1")

    go(live())


def test_refuse_holds_where_both_start_at_the_same_moment(go, store):
    async def live():
        return await settle(*(once.execute(API, store=store, execution_id=f"k{n}") for n in range(3)))

    first, *others = go(live())
    assert first.output == "api" and all(isinstance(error, ExecutionBusyError) for error in others)
    assert states(store) == {"k0": "COMPLETED"}


def test_refuse_holds_for_a_resume_and_changes_nothing(go, store):
    async def live():
        run = once.start(API, store=store, execution_id="k0")
        run.stop()
        await settle(run)
        other = once.start(API, store=store, execution_id="k1")
        version = store.execution("k0").version
        with pytest.raises(ExecutionBusyError, match="execution k1 of workflow 'once'"):
            await once.resume("k0", store=store)
        row = store.execution("k0")
        assert (row.version, row.summary.state, row.holder) == (version, ExecutionState.PAUSED, None)
        await other
        assert (await once.resume("k0", store=store)).output == "api"

    go(live())


def test_cancel_takes_the_place_of_those_that_run_and_wait(go, store):
    async def live():
        runs = [newest.start(API, store=store, execution_id="k0"), newest.start({"service": "web"}, store=store)]
        await asyncio.sleep(0)
        runs += [newest.start(API, store=store, execution_id=f"k{n}") for n in (1, 2)]
        return await settle(*runs)

    first, web, second, last = go(live())
    assert isinstance(first, ExecutionCancelledError) and isinstance(second, ExecutionCancelledError)
    assert "k1 took its place" in str(first)
    assert web.output == "web" and last.output == "api"


@pytest.mark.parametrize("how", ["stop", "fail"])
def test_one_that_stops_or_fails_gives_its_slot_back_and_queues_again_when_it_is_resumed(go, store, how):
    async def live():
        FAILS[0] = how == "fail"
        runs = [deploy.start(API, store=store, execution_id=f"k{n}") for n in range(3)]
        if how == "stop":
            runs[0].stop()
        assert isinstance((await settle(runs[0]))[0], ExecutionStoppedError if how == "stop" else WorkflowError)
        FAILS[0] = False
        again = asyncio.ensure_future(deploy.resume("k0", store=store))
        await settle(*runs[1:], again)

    go(live())
    assert set(states(store).values()) == {"COMPLETED"}
    admitted = sorted(
        (e.at, name) for name in states(store) for e in store.events(name) if isinstance(e, WorkflowAdmitted)
    )
    assert [name for _, name in admitted] == ["k1", "k2", "k0"]


def test_one_that_waits_can_be_cancelled_and_stopped(go, store):
    async def live():
        runs = [deploy.start(API, store=store, execution_id=f"k{n}") for n in range(4)]
        await ExecutionClient(store).cancel("k1", "not needed")
        runs[2].stop()
        await settle(*runs)
        assert states(store) == {"k0": "COMPLETED", "k1": "CANCELLED", "k2": "PAUSED", "k3": "COMPLETED"}
        assert (await deploy.resume("k2", store=store)).output == "api"

    go(live())


def test_a_function_of_the_inputs_makes_the_key_and_none_means_no_limit(go, store):
    @dataclass
    class Wanted:
        service: str
        region: str = "ams3"

    @step
    async def run(inputs):
        await sleep("30m")

    @workflow(inputs=Wanted, concurrency_key=lambda wanted: [wanted.service, wanted.region] if wanted.service else None)
    def shaped(wf):
        wf.timeline(run)

    async def live():
        runs = [shaped.start({"service": s}, store=store) for s in ("api", "api", "", "")]
        assert [one.status.value for one in runs] == ["RUNNING", "QUEUED", "RUNNING", "RUNNING"]
        assert store.execution(runs[1].execution_id).summary.slot == 'shaped:["api", "ams3"]'
        await settle(*runs)

    go(live())


def test_a_fork_queues_for_the_slot_of_its_own_inputs(go, store):
    async def live():
        await deploy.execute(API, store=store, execution_id="k0")
        busy = deploy.start(API, store=store, execution_id="k1")
        other = await deploy.fork("k0", inputs={"service": "web"}, store=store, fork_id="web")
        same = asyncio.ensure_future(deploy.fork("k0", from_step="build", store=store, fork_id="same"))
        await recorded(store, "same")
        assert other.output == "web" and fold(store.events("web")).slot == "deploy:web"
        await settle(busy, same)

    go(live())
    assert isinstance(store.events("same")[-1], type(store.events("k1")[-1]))


def test_a_resume_with_other_inputs_leaves_the_old_slot(go, store):
    async def live():
        run = deploy.start(API, store=store, execution_id="k0")
        run.stop()
        await settle(run)
        busy = deploy.start(API, store=store)
        result = await deploy.resume("k0", inputs={"service": "web"}, store=store)
        assert (result.output == "web" and not busy.done) or result.output == "web"
        await settle(busy)

    go(live())
    assert store.execution("k0").summary.slot == "deploy:web"
    assert not [e for e in store.events("k0") if isinstance(e, WorkflowQueued)]


def test_a_rollback_waits_for_its_turn_too(go, store):
    async def live():
        await deploy.execute(API, store=store, execution_id="k0")
        busy = deploy.start(API, store=store, execution_id="k1")
        result = await deploy.rollback("k0", store=store)
        assert result.status is ExecutionState.ROLLED_BACK and busy.done
        await busy

    go(live())
    assert any(isinstance(event, WorkflowQueued) for event in store.events("k0"))


def test_the_time_in_the_queue_does_not_count_for_a_timeout(go, store):
    @workflow(concurrency_key="service", timeout="40m")
    def limited(wf):
        wf.timeline(build)

    async def live():
        return await settle(*(limited.start(API, store=store) for _ in range(3)))

    assert [result.output for result in go(live())] == ["api"] * 3


def test_one_that_hibernates_keeps_its_slot(go, store, clock):
    store.hibernate_after = timedelta(minutes=1)

    async def live():
        assert (await deploy.execute(API, store=store, execution_id="k0")).status is ExecutionState.SLEEPING
        run = deploy.start(API, store=store, execution_id="k1")
        await asyncio.sleep(0)
        assert run.status is ExecutionState.QUEUED
        clock.advance("31m")
        await deploy.resume("k0", store=store)
        assert (await run).status is ExecutionState.SLEEPING

    go(live())


# -- without a process ---------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A log under the real clock."""
    monkeypatch.setattr(leases, "times", leases.LeaseTimes(look=0.02, grace=0.1))
    with SqliteStore(tmp_path / "real.db", durability="normal") as made:
        yield made


@step
async def short(inputs):
    await asyncio.sleep(inputs.get("seconds", 0))
    return inputs["service"]


@workflow(concurrency_key="service")
def brief(wf):
    wf.timeline(short)


def elsewhere(log, execution_id):
    """Give the lease of an execution to a process from before the last restart."""
    gone = ProcessIdentity(host="elsewhere", pid=1, boot_id="another/1/1", started="1")
    log.claim(execution_id, log.register(0, 0, gone), 0)


async def until(log, state, *ids):
    async with asyncio.timeout(60):
        while {log.execution(name).summary.state.value for name in ids} != {state}:
            await asyncio.sleep(0.01)


async def test_what_is_left_to_a_scheduler_runs_in_its_turn(log):
    for n in range(3):
        await launch_once(brief, API, log, f"k{n}", resume=False).leave()
    assert states(log) == {"k0": "SLEEPING", "k1": "QUEUED", "k2": "QUEUED"}
    assert {log.execution(name).holder for name in states(log)} == {None}
    told = []
    background = scheduler(log, tell=told.append)
    await until(log, "COMPLETED", "k0", "k1", "k2")
    await background.stop()
    assert [line for line in told if "turn" in line] == [f"k{n} of brief: its turn has come" for n in (1, 2)]
    assert verify(store=log).ok


async def test_a_scheduler_keeps_the_place_of_one_whose_process_died_and_gives_it_back_when_it_stops(log):
    first = brief.start({**API, "seconds": 0.5}, store=log, execution_id="k0")
    lost = brief.start(API, store=log, execution_id="k1")
    lost.execution.disown()
    leases.leases_of(log)._running.pop("k1")
    log.release("k1", log.execution("k1").holder.key)
    last = brief.start(API, store=log, execution_id="k2")
    assert (await ExecutionClient(log).get_execution_status("k2")).queued_behind == "k0"
    background = scheduler(log)
    async with asyncio.timeout(60):
        while log.execution("k1").holder is None:
            await asyncio.sleep(0.01)
    await first
    await until(log, "COMPLETED", "k1")
    await last
    await background.stop()
    ahead = 100_000  # µs by which the clocks of two executions may differ
    assert log.events("k1")[-1].at <= log.events("k2")[2].at + ahead


async def test_one_that_a_scheduler_keeps_in_the_queue_can_be_cancelled(log):
    first = brief.start({**API, "seconds": 0.4}, store=log, execution_id="k0")
    await launch_once(brief, API, log, "k1", resume=False).leave()
    background = scheduler(log)
    async with asyncio.timeout(60):
        while log.execution("k1").holder is None:
            await asyncio.sleep(0.01)
    events = log.events("k1")
    request = CancelRequested(at=events[-1].at, by="ana")
    log.commit([Commit("k1", len(events), [request], summarise(fold([*events, request])), None)])
    leases.leases_of(log).notify()
    await until(log, "CANCELLED", "k1")
    await first
    await background.stop()


async def test_one_whose_process_died_while_it_had_the_slot_is_paused_after_a_while(log):
    first = brief.start({**API, "seconds": 60}, store=log, execution_id="k0")
    await asyncio.sleep(0)
    first.execution.disown()
    leases.leases_of(log)._running.pop("k0")
    log.release("k0", log.execution("k0").holder.key)
    elsewhere(log, "k0")
    run = brief.start(API, store=log, execution_id="k1")
    assert run.status is ExecutionState.QUEUED
    assert (await run).output == "api"
    (*_, paused) = log.events("k0")
    assert isinstance(paused, WorkflowPaused) and "its process died, and k1 was next for brief:api" in paused.reason
    check(fold(log.events("k0")))


async def test_a_queued_one_that_was_left_is_resumed_at_its_old_place(log):
    first = brief.start({**API, "seconds": 0.3}, store=log, execution_id="k0")
    lost = brief.start(API, store=log, execution_id="k1")
    lost.execution.disown()
    leases.leases_of(log)._running.pop("k1")
    log.release("k1", log.execution("k1").holder.key)
    last = brief.start(API, store=log, execution_id="k2")
    again = asyncio.ensure_future(brief.resume("k1", store=log))
    await settle(first, again, last)
    ended = {name: log.events(name)[-1].at for name in states(log)}
    assert ended["k1"] <= ended["k2"] and set(states(log).values()) == {"COMPLETED"}


async def test_one_that_is_carried_to_another_log_queues_there_when_it_is_resumed(log, tmp_path):
    first = brief.start({**API, "seconds": 0.2}, store=log, execution_id="k0")
    pack("k0", tmp_path / "k0.cerebelum", store=log)
    await first
    with SqliteStore(tmp_path / "other.db") as other:
        busy = brief.start({**API, "seconds": 60}, store=other, execution_id="k1")
        unpack(tmp_path / "k0.cerebelum", store=other)
        again = asyncio.ensure_future(brief.resume("k0", store=other))
        await until(other, "QUEUED", "k0")
        assert verify(store=other).ok
        busy.cancel()
        await settle(busy)
        assert (await again).output == "api"


# -- the log -------------------------------------------------------------------------------------------------


def test_time_travel_shows_it_queued(go, store, clock):
    async def live():
        await settle(*(deploy.execute(API, store=store, execution_id=f"k{n}") for n in range(2)))

    go(live())
    replayed = [fold(store.events("k1", upto=n)).status.value for n in (1, 2, 3)]
    assert replayed == ["RUNNING", "QUEUED", "RUNNING"]
    assert to_micros(history.state_at("k1", version=2, store=store).at) == store.events("k1")[1].at


# -- wrong uses ----------------------------------------------------------------------------------------------


def declared(**how):
    return lambda: workflow(**how)(lambda wf: wf.timeline(build))


def run_of(inputs, **how):
    made = workflow(name="w", **how)(lambda wf: wf.timeline(build))
    return lambda: made.run(inputs, store=MemoryStore())


W = WorkflowDefinitionError

WRONG = [
    ("a number", declared(name="w", concurrency_key=5), W, r"name of an input.*not 5"),
    ("an empty name", declared(name="w", concurrency_key=""), W, r"name of an input, such as"),
    ("a list", declared(name="w", concurrency_key=["a"]), W, r"a function of the inputs, not"),
    ("no key", declared(name="w", on_conflict="queue"), W, r"needs a concurrency_key, such as concurr"),
    ("a policy misspelt", declared(name="w", concurrency_key="a", on_conflict="que"), W, r"Did you mean 'queue'"),
    ("a policy of peers", declared(name="w", concurrency_key="a", on_conflict="skip"), W, r"'cancel' or 'refuse'"),
    ("an input misspelt", run_of({"servise": 1}, concurrency_key="service"), InputsError, r"Did you mean 'servise'"),
    ("no inputs", run_of(None, concurrency_key="service"), InputsError, r"Give it: \{'service'"),
    ("a function that raises", run_of({}, concurrency_key=lambda i: i["x"]), CerebelumError, r"raised KeyError: 'x'"),
    ("a secret", run_of({"a": Secret("x")}, concurrency_key="a"), CerebelumError, r"use another input"),
    ("a long key", run_of({"a": "x" * 300}, concurrency_key="a"), CerebelumError, r"has 300 characters"),
]


@pytest.mark.parametrize(("use", "error", "told"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_wrong_uses_say_what_to_do(use, error, told):
    with pytest.raises(error, match=f"(?s){told}"):
        use()
