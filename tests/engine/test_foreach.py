"""foreach: a step for every item of a list that is known only at run time, on both stores."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pandas as pd
import pytest

from cerebelum_nb import (
    ItemError,
    OutcomeUnknownError,
    Secret,
    WorkflowDefinitionError,
    flow,
    foreach,
    sleep,
    step,
    wait_for_approval,
    workflow,
)
from cerebelum_nb._core.events import ItemsListed, StepCompleted, StepStarted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._engine.approvals import decide_approval
from cerebelum_nb._store.base import Commit
from cerebelum_nb.testing import MemoryStore


@step
def regions(inputs):
    return inputs.get("regions", ["ams3", "nyc1", "sfo3"])


class World:
    def __init__(self):
        self.broken = set()
        self.ran = []


@pytest.fixture
def world():
    return World()


@pytest.fixture
def deploying(world):
    @step
    async def deploy(region, inputs):
        world.ran.append(region)
        if region in world.broken:
            raise RuntimeError(f"no {region}")
        return region.upper()

    return deploy


@step
def report(deploy):
    return deploy


def make(deploy, **how):
    @workflow(name="rollout")
    def rollout(wf):
        wf.timeline(regions >> foreach(deploy, region=regions, **how) >> report)

    return rollout


def test_the_next_step_gets_the_results_in_the_order_of_the_items(go, store, deploying):
    assert go(make(deploying).execute(store=store)).output == ["AMS3", "NYC1", "SFO3"]


def test_a_resume_runs_only_the_failed_items(go, fails, store, world, deploying):
    world.broken = {"nyc1"}
    flow_ = make(deploying)
    error = fails(flow_.execute(store=store, execution_id="k1"))
    assert "1 of 3 items of 'deploy' failed: deploy[nyc1]: RuntimeError: no nyc1" in str(error)
    assert str(error.__cause__) == "no nyc1"
    assert world.ran == ["ams3", "nyc1", "sfo3"]
    world.broken = set()
    assert go(flow_.resume("k1", store=store)).output == ["AMS3", "NYC1", "SFO3"]
    assert world.ran == ["ams3", "nyc1", "sfo3"]  # the failed one continued at the statement that raised


def test_items_and_their_attempts_are_events_like_any_other(go, store):
    @step(retries=2, retry_delay="1s")
    async def deploy(region, context):
        if region == "nyc1" and context.attempt < 3:
            raise ConnectionError("busy")
        return [context.item, context.attempt, context.idempotency_key]

    result = go(make(deploy).execute(store=store, execution_id="k1"))
    assert result.output[1] == ["nyc1", 3, "k1:deploy[nyc1]:1"]
    started = [ev.attempt for ev in store.events("k1") if isinstance(ev, StepStarted) and ev.step == "deploy[nyc1]"]
    assert started == [1, 2, 3]


def test_no_more_items_than_asked_are_at_work(go, store):
    at_work, most = 0, 0

    @step
    async def deploy(region):
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await sleep("1s")
        at_work -= 1

    go(make(deploy, max_concurrency=3).execute({"regions": list(range(10))}, store=store))
    assert most == 3


def test_plain_functions_run_for_items_in_threads(go, store):
    @step
    def deploy(region):
        return region * 2

    assert go(make(deploy).execute({"regions": [1, 2]}, store=store)).output == [2, 4]


def test_errors_are_collected(go, store, world, deploying):
    world.broken = {"nyc1"}
    result = go(make(deploying, on_error="collect").execute(store=store, execution_id="k1"))
    assert result.output[::2] == ["AMS3", "SFO3"]
    error = result.output[1]
    assert isinstance(error, ItemError)
    assert (error.item, error.step, error.type) == ("nyc1", "deploy[nyc1]", "RuntimeError")


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ([], []),
        ((1, 2), [1, 2]),
        (range(3), [0, 1, 2]),
        ({"a": 1}, [("a", 1)]),
        ({"b", "a"}, ["a", "b"]),
        (pd.Series([3, 4]), [3, 4]),
        (["same", "same"], ["same", "same"]),
    ],
)
def test_what_can_be_listed(go, store, source, seen):
    got = []

    @step
    def listing():
        return source

    @step
    async def each(item):
        got.append(item)
        return 1

    @workflow
    def all_of_it(wf):
        wf.timeline(listing >> foreach(each, item=listing))

    assert go(all_of_it.execute(store=store)).output == [1] * len(seen)
    assert got == seen


def test_a_frame_gives_its_rows(go, store):
    @step
    def listing():
        return pd.DataFrame({"name": ["a", "b"], "size": [1, 2]})

    @step
    async def each(row):
        return f"{row.name}{row.size}"

    @workflow
    def all_of_it(wf):
        wf.timeline(listing >> foreach(each, row=listing))

    assert go(all_of_it.execute(store=store)).output == ["a1", "b2"]


def test_results_that_are_not_json_reach_the_next_step(go, store):
    @step
    async def deploy(region):
        return pd.DataFrame({"region": [region]})

    @step
    def report(deploy):
        return list(pd.concat(deploy).region)

    @workflow
    def rollout(wf):
        wf.timeline(regions >> foreach(deploy, region=regions) >> report)

    assert go(rollout.execute(store=store)).output == ["ams3", "nyc1", "sfo3"]


def test_results_that_are_not_kept_reach_the_next_step_and_are_made_again_by_a_resume(go, fails, store, world):
    @step(keep=False)
    async def deploy(region):
        world.ran.append(region)
        return lambda: region

    @step
    def report(deploy):
        if world.broken:
            raise RuntimeError("no")
        return [made() for made in deploy]

    @workflow
    def rollout(wf):
        wf.timeline(regions >> foreach(deploy, region=regions) >> report)

    world.broken = {"report"}
    fails(rollout.execute(store=store, execution_id="k1"))
    world.broken = set()
    assert go(rollout.resume("k1", store=store)).output == ["ams3", "nyc1", "sfo3"]
    assert len(world.ran) == 6
    check(fold(store.events("k1")))


def test_a_source_that_is_no_list_fails_it_and_is_asked_again_by_a_resume(go, fails, store, deploying):
    flow_ = make(deploying)
    error = fails(flow_.execute({"regions": "ams3"}, store=store, execution_id="k1"))
    assert "foreach(deploy) runs over the result of 'regions', which is a str" in str(error)
    done = go(flow_.resume("k1", store=store, mark_done={}, rerun=["regions"], inputs={"regions": ["ams3"]}))
    assert done.output == ["AMS3"]


def test_items_may_come_from_the_inputs(go, store, deploying):
    @workflow
    def rollout(wf):
        wf.timeline(foreach(deploying, region="inputs.regions"))

    assert go(rollout.execute({"regions": ["a", "b"]}, store=store)).output == ["A", "B"]


def test_a_chain_runs_for_each_item(go, fails, store, world):
    @step
    async def fetch(url):
        world.ran.append(f"fetch {url}")
        return f"<{url}>"

    @step
    async def parse(fetch, url):
        world.ran.append(f"parse {url}")
        if url in world.broken:
            raise ValueError(url)
        return f"parsed {fetch}"

    @step
    async def store_it(parse, regions):
        return f"{parse} of {len(regions)}"

    @workflow
    def crawl(wf):
        wf.timeline(regions >> foreach(fetch >> parse >> store_it, url=regions, max_concurrency=1))

    world.broken = {"b"}
    fails(crawl.execute({"regions": ["a", "b"]}, store=store, execution_id="k1"))
    assert world.ran == ["fetch a", "parse a", "fetch b", "parse b"]
    world.broken = set()
    result = go(crawl.resume("k1", store=store))
    assert result.output == ["parsed <a> of 2", "parsed <b> of 2"]
    assert world.ran[4:] == []  # parse[b] continued at the statement that raised


def test_going_back_over_a_foreach_runs_all_of_it_again(go, store, world, deploying):
    @step
    def judge(deploy, context):
        return {"status": "again" if context.visit < 3 else "fine", "n": len(deploy)}

    @workflow
    def rollout(wf):
        wf.timeline(regions >> foreach(deploying, region=regions) >> judge)
        wf.diverge(from_step=judge, patterns={"again": flow.back_to(regions)})

    assert go(rollout.execute(store=store, execution_id="k1")).output["n"] == 3
    assert len(world.ran) == 9
    listed = [ev.visit for ev in store.events("k1") if isinstance(ev, ItemsListed)]
    assert listed == [1, 2, 3]
    done = {(ev.step, ev.visit) for ev in store.events("k1") if isinstance(ev, StepCompleted)}
    assert len(done) == len([ev for ev in store.events("k1") if isinstance(ev, StepCompleted)])


def test_one_item_is_run_again(go, store, world, deploying):
    flow_ = make(deploying)
    go(flow_.execute(store=store, execution_id="k1"))
    assert go(flow_.resume("k1", store=store, rerun=["deploy[nyc1]"])).output == ["AMS3", "NYC1", "SFO3"]
    assert world.ran[3:] == ["nyc1"]


def test_an_item_is_done_by_hand(go, fails, store, world, deploying):
    world.broken = {"nyc1"}
    flow_ = make(deploying)
    fails(flow_.execute(store=store, execution_id="k1"))
    result = go(flow_.resume("k1", store=store, mark_done={"deploy[nyc1]": "by hand"}))
    assert result.output == ["AMS3", "by hand", "SFO3"]


def test_waits_of_items_leave_the_process_and_only_they_go_on(go, memory, clock):
    ran = []

    @step
    async def deploy(region):
        ran.append(region)
        if region != "ams3":
            await sleep("48h" if region == "nyc1" else "72h")
        return region

    memory.hibernate_after = timedelta(minutes=1)
    flow_ = make(deploy)
    result = go(flow_.execute(store=memory, execution_id="k1"))
    assert result.status == "SLEEPING"
    clock.set(result.wake_at)
    result = go(flow_.resume("k1", store=memory))
    assert result.status == "SLEEPING"
    clock.set(result.wake_at)
    assert go(flow_.resume("k1", store=memory)).output == ["ams3", "nyc1", "sfo3"]
    assert (ran.count("ams3"), ran.count("nyc1")) == (1, 1)


def test_an_item_asks_for_an_approval(go, store):
    @step
    async def deploy(region):
        return await wait_for_approval(data=region) if region == "nyc1" else region

    store.hibernate_after = timedelta.max

    async def live():
        run = make(deploy).start(store=store, execution_id="k1")
        while store.execution("k1").summary.state is not ExecutionState.WAITING_FOR_APPROVAL:
            await asyncio.sleep(0)
        decide_approval(store, "k1", approve=True, response="yes", step="deploy[nyc1]")
        return await run

    assert go(live()).output == ["ams3", "yes", "sfo3"]


def test_an_external_item_that_was_stopped_is_asked_about(go, store):
    @step(effect="external")
    async def deploy(region):
        return region

    flow_ = make(deploy)
    go(flow_.execute(store=store, execution_id="k1"))
    history = store.events("k1")
    begun = next(i for i, ev in enumerate(history) if isinstance(ev, StepStarted) and ev.step == "deploy[nyc1]")
    died, events = MemoryStore(), history[: begun + 1]
    summary = summarise(fold(events))
    holder = died.register(0, 1)
    died.commit([Commit(execution_id="k1", after=0, events=events, summary=summary, holder=holder, release=True)])
    with pytest.raises(OutcomeUnknownError, match=r"deploy\[ams3\]"):
        go(flow_.resume("k1", store=died))


def test_a_fork_from_after_a_foreach_keeps_its_items(go, store, world, deploying):
    flow_ = make(deploying)
    go(flow_.execute(store=store, execution_id="k1"))
    fork = go(flow_.fork("k1", from_step="report", store=store))
    assert fork.output == ["AMS3", "NYC1", "SFO3"]
    assert len(world.ran) == 3


def test_a_fork_from_a_foreach_lists_again(go, store, world, deploying):
    flow_ = make(deploying)
    go(flow_.execute(store=store, execution_id="k1"))
    go(flow_.fork("k1", from_step="deploy", store=store))
    assert len(world.ran) == 6


def test_a_step_may_not_stand_in_two_foreach():
    @step
    def deploy(region):
        return region

    @workflow
    def twice(wf):
        wf.timeline(regions >> foreach(deploy, region=regions) >> foreach(deploy, region=regions))

    assert not twice.validate().ok


def test_the_inner_steps_of_a_chain_are_not_known_outside():
    @step
    def fetch(url):
        return url

    @step
    def parse(fetch):
        return fetch

    @step
    def look(fetch):
        return fetch

    @workflow
    def crawl(wf):
        wf.timeline(regions >> foreach(fetch >> parse, url=regions) >> look)

    assert any("only 'parse' is available outside" in problem for problem in crawl.validate().errors)


def test_a_source_that_runs_later_is_refused():
    @step
    def deploy(region):
        return region

    @workflow
    def wrong(wf):
        wf.timeline(foreach(deploy, region=regions) >> regions)

    told = "'deploy' needs the result of 'regions', which never runs before it"
    assert any(told in problem for problem in wrong.validate().errors)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "the list is missing"),
        ({"region": regions, "zone": regions}, "is given 2 times"),
        ({"zone": regions}, "no step has a parameter 'zone' for the item; the parameters its step takes: region"),
        ({"context": regions}, "'context' is reserved"),
        ({"deploy": regions}, "'deploy' is a step of the body"),
        ({"region": ["a", "b"]}, "not ['a', 'b']"),
        ({"region": (name for name in "ab")}, "a generator: it cannot be recorded; return a list from a step"),
        ({"region": "regions"}, "such as 'inputs.regions', not 'regions'"),
        ({"region": regions, "max_concurrency": 0}, "a whole number from 1, not 0"),
        ({"region": regions, "max_concurrency": True}, "a whole number from 1, not True"),
        ({"region": regions, "key": "name"}, "key must be a function of an item"),
        ({"region": regions, "on_error": "skip"}, "on_error must be 'fail' or 'collect', not 'skip'"),
    ],
)
def test_a_wrong_argument_is_reported_with_what_to_write(given, told):
    @step
    def deploy(region):
        return region

    @workflow
    def wrong(wf):
        wf.timeline(regions >> foreach(deploy, **given))

    assert any(told in problem for problem in wrong.validate().errors), wrong.validate()


@step
def fetch(url):
    return url


@step
def parse(fetch):
    return fetch


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (fetch >> [parse, report], "a parallel list cannot run for each item"),
        (foreach(fetch, url=regions), "a foreach cannot be inside another"),
        (print, "its body must be a step or a chain of steps"),
        (fetch >> parse >> fetch, "step 'fetch' occurs 2 times in its body"),
    ],
)
def test_a_body_that_cannot_run_for_each_item_is_reported(body, told):
    @workflow
    def wrong(wf):
        wf.timeline(regions >> foreach(body, url=regions))

    assert any(told in problem for problem in wrong.validate().errors), wrong.validate()


def test_a_list_given_by_position_is_reported():
    @workflow
    def wrong(wf):
        wf.timeline(regions >> foreach(report, regions))

    with pytest.raises(WorkflowDefinitionError, match=r"foreach\(deploy, region=regions\)"):
        wrong.plan()


def test_a_step_that_runs_by_itself_and_for_items_is_reported():
    @workflow
    def wrong(wf):
        wf.timeline(regions >> fetch >> foreach(fetch, url=regions))

    assert any("two different steps are named 'fetch'" in problem for problem in wrong.validate().errors)


def test_a_thousand_items(go, memory):
    @step
    async def deploy(region):
        return region

    result = go(make(deploy, max_concurrency=100).execute({"regions": list(range(1_000))}, store=memory))
    assert result.output == list(range(1_000))


def recording(ran):
    @step
    async def deploy(region):
        ran.append(region if isinstance(region, str) else region["name"])
        return region.upper() if isinstance(region, str) else region["size"]

    return deploy


def test_a_fork_with_more_items_runs_only_the_new_ones(go, store):
    ran = []
    flow_ = make(recording(ran))
    go(flow_.execute({"regions": ["ams3", "nyc1"]}, store=store, execution_id="k1"))
    fork = go(flow_.fork("k1", inputs={"regions": ["lon1", "nyc1", "ams3"]}, store=store))
    assert fork.output == ["LON1", "NYC1", "AMS3"]
    assert ran == ["ams3", "nyc1", "lon1"]
    check(fold(store.events(fork.execution_id)))


def test_a_fork_with_more_items_in_its_inputs_runs_only_the_new_ones(go, store, caplog):
    ran = []

    @workflow
    def rollout(wf):
        wf.timeline(foreach(recording(ran), region="inputs.regions") >> report)

    go(rollout.execute({"regions": ["ams3", "nyc1"], "size": 1}, store=store, execution_id="k1"))
    fork = go(rollout.fork("k1", inputs={"regions": ["lon1", "ams3"]}, store=store))
    assert (fork.output, ran) == (["LON1", "AMS3"], ["ams3", "nyc1", "lon1"])
    assert not caplog.records, "nothing that it keeps is stale"


def test_an_input_named_like_the_source_concerns_the_source_only(go, store):
    ran = []

    @step
    async def deploy(region, inputs):
        ran.append(region)
        return f"{region} {inputs['version']}"

    flow_ = make(deploy)
    go(flow_.execute({"regions": ["ams3"], "version": 1}, store=store, execution_id="k1"))
    fork = go(flow_.fork("k1", inputs={"regions": ["ams3", "lon1"]}, store=store))
    assert (fork.output, ran) == (["ams3 1", "lon1 1"], ["ams3", "lon1"])


def test_an_item_of_the_same_key_but_another_value_runs_again(go, store):
    ran = []
    flow_ = make(recording(ran), key=lambda region: region["name"])
    one, two = {"name": "ams3", "size": 1}, {"name": "nyc1", "size": 1}
    go(flow_.execute({"regions": [one, two]}, store=store, execution_id="k1"))
    again = go(flow_.resume("k1", store=store, rerun=["regions"], inputs={"regions": [one, two | {"size": 9}]}))
    assert again.output == [1, 9]
    assert ran == ["ams3", "nyc1", "nyc1"]


def test_a_secret_is_not_the_name_of_an_item(go, store):
    @workflow
    def rollout(wf):
        wf.timeline(foreach(recording([]), region="inputs.regions"))

    inputs = {"regions": ["ams3", "hunter2-token"], "token": Secret("hunter2-token")}
    assert go(rollout.execute(inputs, store=store, execution_id="k1")).output == ["AMS3", "HUNTER2-TOKEN"]
    assert "hunter2" not in repr(store.events("k1"))


def test_the_reason_of_a_stale_foreach_names_the_step_of_the_chain(go, store):
    def crawl(suffix):
        @step
        def clean(fetch):
            return fetch + suffix

        @workflow(name="crawl")
        def made(wf):
            wf.timeline(regions >> foreach(fetch >> clean, url=regions))

        return made

    go(crawl("!").execute(store=store, execution_id="k1"))
    plan = crawl("?").plan_resume("k1", store=store)
    assert plan["clean"].reasons == ("`clean`: closure variable `suffix` was '!', is '?'",)
