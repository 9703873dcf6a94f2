"""Any prefix of any history with items folds, keeps the invariants, and resumes to the same results."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cerebelum_nb import flow, foreach, sleep, step, workflow
from cerebelum_nb._core.decide import Position, StartStep, decide
from cerebelum_nb._core.events import ItemsListed, StepStarted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.graph import owner_of
from cerebelum_nb._core.invariants import check
from cerebelum_nb._core.items import keys_of
from cerebelum_nb._core.portions import at_once
from cerebelum_nb.testing import MemoryStore

from .lives import ID, die_after, dies_and_resumes, world

WAYS = ("plain", "thread", "flaky", "broken", "sleep", "run", "refused", "set")


@dataclass
class Shape:
    """A workflow with a foreach, and perhaps a second over the results of the first."""

    items: list[Any]
    body: list[str]  # ways
    at_once: int
    place: str
    again: int  # how often the judge goes back over it
    second: bool
    collect: bool
    hibernates: bool


def make_step(name: str, way: str, parameter: str) -> Any:
    async def body(context: Any, **known: Any) -> Any:
        if way == "sleep":
            await sleep("90s")
        if way == "run":
            known["once"] = await context.run("mail", str.upper, str(context.item))
        if way == "flaky" and context.attempt == 1:
            raise ConnectionError(name)
        if way == "broken" and not world.fixed and len(str(context.item)) % 2:
            raise RuntimeError(name)
        if way == "bad" and "b" in str(context.item):
            raise ValueError(name)
        if way == "refused" and not world.fixed and "b" in str(context.item):
            return {"error": "refused"}
        return {str(known)} if way == "set" else [context.item, context.visit, str(known)]

    def threaded(context: Any, **known: Any) -> Any:
        return [context.item, str(known)]

    fn: Any = threaded if way == "thread" else body
    names = ["context", parameter]
    fn.__signature__ = inspect.Signature([inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in names])
    return step(name=name, retries=int(way == "flaky"), retry_delay=3)(fn)


def make_workflow(shape: Shape) -> Any:
    @step
    def listing() -> Any:
        return shape.items

    @step
    async def beside() -> str:
        await sleep("10s")
        return "beside"

    @step
    def judge(context: Any, **known: Any) -> Any:
        return {"status": "again" if context.visit <= shape.again else "fine", "known": str(sorted(known))}

    @step
    def end(judge: Any, **known: Any) -> Any:
        return str(sorted((n, str(v)) for n, v in known.items()))

    steps = [make_step(f"s{i}", way, "item" if i == 0 else f"s{i - 1}") for i, way in enumerate(shape.body)]
    chain: Any = steps[0]
    for following in steps[1:]:
        chain = chain >> following
    how: Any = {"max_concurrency": shape.at_once, "on_error": "collect" if shape.collect else "fail"}
    each = foreach(chain, item=listing, **how)
    second = foreach(make_step("t", "plain", "item"), item=steps[-1], max_concurrency=2)

    @workflow(name="random")
    def made(wf: Any) -> None:
        after = [second] if shape.second else []
        if shape.place == "path":
            wf.timeline(listing, judge, end)
            wf.diverge(from_step=listing, patterns={"ok": each >> second >> judge if after else each >> judge})
        elif shape.place == "group":
            wf.timeline(listing >> [each, beside], *after, judge, end)
        else:
            wf.timeline(listing, each, *after, judge, end)
        wf.diverge(from_step=judge, patterns={"again": flow.back_to(listing)})

    return made


items = st.lists(st.sampled_from(["a", "b", "bb", "ccc", "a]b", 1, 2, ["x"], "#1"]), max_size=6)
failing = st.lists(st.sampled_from(WAYS), min_size=1, max_size=3).map(lambda ways: (ways, False))
collecting = st.lists(st.sampled_from((*WAYS[:3], *WAYS[4:6], "bad", "set")), min_size=1, max_size=3).map(
    lambda ways: (ways, True)  # nothing in it that is fixed later: a resume would give another result
)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    body, collect = draw(st.one_of(failing, collecting))
    return Shape(
        items=draw(items),
        body=body,
        at_once=draw(st.integers(1, 4)),
        place=draw(st.sampled_from(["line", "group", "path"])),
        again=draw(st.integers(0, 2)),
        second=draw(st.booleans()),
        collect=collect,
        hibernates=draw(st.booleans()),
    )


def the_bound_holds(flow_: Any, history: list[Any]) -> None:
    listed = Counter((ev.step, ev.visit) for ev in history if isinstance(ev, ItemsListed))
    assert set(listed.values()) <= {1}, "listed twice in one visit"
    plan, at_work = flow_.plan(), Counter()
    for ev in history:
        if isinstance(ev, StepStarted) and "[" in ev.step:
            at_work[owner_of(ev.step)] += 1
            assert at_work[owner_of(ev.step)] <= plan.each[owner_of(ev.step)].at_once
        elif type(ev).__name__ in ("StepCompleted", "StepFailed", "StepRetried", "StepInterrupted") and "[" in ev.step:
            at_work[owner_of(ev.step)] -= 1


def live_decisions_are_fresh_ones(flow_: Any, history: list[Any]) -> None:
    """A position that was moved on with what changed decides what a new one decides."""
    plan, state = flow_.plan(), fold([])
    for index, event in enumerate(history):
        fold([event], state)
        if state.lifecycle.is_final or index == 0:
            continue
        fresh = decide(plan, fold(history[: index + 1]), Position.at_start(plan))
        assert all(isinstance(c, StartStep) for c in fresh) or len(fresh) == 1


def dies(shape: Shape, deaths: Any, portion: int) -> None:
    made = make_workflow(shape)

    def judge(history: list[Any]) -> None:
        the_bound_holds(made, history)
        live_decisions_are_fresh_ones(made, history)

    dies_and_resumes(made, deaths, shape.hibernates, judge, portion=portion)


portions = st.sampled_from([1, 2, 128])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(shapes(), st.lists(st.integers(1, 120), min_size=1, max_size=3), portions)
def test_any_prefix_of_a_history_with_items_resumes_to_the_same_results(
    shape: Shape, deaths: list[int], portion: int
) -> None:
    dies(shape, lambda length: deaths, portion)


@settings(max_examples=20, deadline=None)
@given(items, items, st.booleans(), st.integers(1, 200))
def test_with_other_items_results_are_those_of_a_new_run_and_only_changed_items_run(
    before: list[Any], after: list[Any], forks: bool, death: int
) -> None:
    ran: list[Any] = []

    @step
    def listing(inputs: Any) -> Any:
        return inputs["items"]

    @step
    async def each(item: Any) -> Any:
        ran.append(repr(item))
        return ["made of", item]

    @step
    def end(each: Any) -> Any:
        return each

    @workflow(name="random")
    def made(wf: Any) -> None:
        wf.timeline(listing >> foreach(each, item=listing, max_concurrency=2) >> end)

    async def runs(store: MemoryStore) -> Any:
        await made.execute({"items": before}, store=store, execution_id=ID)
        ran.clear()
        if forks:
            return await made.fork(ID, inputs={"items": after}, store=store, from_step="listing", fork_id="k2")
        return await made.resume(ID, rerun=["listing"], inputs={"items": after}, store=store)

    store = MemoryStore()
    result = asyncio.run(runs(store))
    assert result.output == [["made of", item] for item in after]
    if not forks:
        known = dict(zip(at_once(keys_of(before)), map(repr, before), strict=True))
        new = [
            repr(item) for key, item in zip(at_once(keys_of(after)), after, strict=True) if known.get(key) != repr(item)
        ]
        assert sorted(ran) == sorted(new)
        history = store.events(ID)
        prefix = history[: min(len(history) - 1, len(history) * death // 200 + 1)]
        state = fold([])
        for event in history:
            check(fold([event], state))
        if prefix and not fold(prefix).lifecycle.is_final and fold(prefix).inputs == state.inputs:
            again = die_after(prefix, False)
            assert asyncio.run(made.resume(ID, store=again)).output == result.output


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(shapes(), portions)
def test_every_prefix_of_many_histories_with_items_resumes_to_the_same_results(shape: Shape, portion: int) -> None:
    dies(shape, lambda length: range(length - 1, 0, -1), portion)
