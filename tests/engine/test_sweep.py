"""Sweeps: variants from one prefix, on both stores."""

from __future__ import annotations

import asyncio

import pytest

from cerebelum_nb import ExecutionState, ResumeError, WorkflowError, flow, history, sleep, step, workflow
from cerebelum_nb._core.fold import fold

pytestmark = pytest.mark.usefixtures("clock")


class World:
    """What the steps below read and record."""

    def __init__(self):
        self.loads = 0
        self.at_once = self.most_at_once = 0
        self.trained = []
        self.broken = {}
        self.hold = None
        self.pause = None


@pytest.fixture
def world():
    return World()


@pytest.fixture
def fit(world):
    @step
    def load(inputs):
        world.loads += 1
        if world.broken.get("load"):
            raise ValueError("no data")
        return inputs.get("rows", 10)

    @step
    def rate():
        return 0.1

    @step
    async def train(load, rate, inputs):
        world.trained.append(rate)
        world.at_once += 1
        world.most_at_once = max(world.at_once, world.most_at_once)
        try:
            if world.hold is not None and rate in world.hold:
                await asyncio.Event().wait()
            if world.pause is not None:
                await sleep(world.pause)
            if rate in world.broken:
                raise ValueError(f"{rate} diverged")
            return {"loss": rate * load, "epochs": inputs.get("epochs", 1)}
        finally:
            world.at_once -= 1

    @workflow
    def fit(wf):
        wf.timeline(load >> rate >> train)

    return fit


RATES = [{"rate": 0.1}, {"rate": 0.2}, {"rate": 0.3}]


def prefix_of(store, table):
    (parent,) = {store.execution(name).summary.parent for name in table["execution_id"]}
    return parent


def test_the_prefix_runs_once_and_every_variant_is_a_row(store, go, fit, world):
    table = go(fit.sweep("rate", RATES, {"rows": 100}, store=store))
    assert world.loads == 1
    assert table.columns.tolist() == [
        "rate", "execution_id", "state", "duration", "output.loss", "output.epochs", "error",
    ]  # fmt: skip
    assert table["rate"].tolist() == [0.1, 0.2, 0.3]
    assert table["output.loss"].tolist() == [10.0, 20.0, 30.0]
    assert set(table["state"]) == {"COMPLETED"}
    assert str(table.dtypes["duration"]) == "timedelta64[us]"


def test_the_step_may_be_the_first(store, go, fit):
    assert go(fit.sweep("load", [{"load": 1}, {"load": 2}], store=store))["output.loss"].tolist() == [0.1, 0.2]


def test_variants_may_differ_in_their_inputs(store, go, fit, world):
    table = go(fit.sweep("train", inputs=[{"epochs": 1}, {"epochs": 5}], store=store))
    assert world.loads == 1
    assert table["inputs.epochs"].tolist() == table["output.epochs"].tolist() == [1, 5]


def test_an_input_that_the_prefix_reads_runs_that_part_of_it_again(store, go, fit, world):
    table = go(fit.sweep("train", inputs=[{"rows": 1}, {"rows": 2}, {"rows": 3}], store=store))
    assert table["output.loss"].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert world.loads == 3


def test_both_together_are_one_variant_each(store, go, fit):
    table = go(fit.sweep("rate", RATES[:2], [{"epochs": 1}, {"epochs": 2}], store=store))
    assert table[["rate", "inputs.epochs", "output.loss"]].to_numpy().tolist() == [[0.1, 1, 1.0], [0.2, 2, 2.0]]


def test_an_execution_that_ran_may_be_the_prefix(store, go, fit, world):
    go(fit.execute({"rows": 10}, store=store, execution_id="k1"))
    table = go(fit.sweep("rate", RATES, execution_id="k1", store=store))
    assert world.loads == 1
    assert prefix_of(store, table) == "k1"
    lineage = history.executions(store=store).set_index("execution_id")
    assert lineage.loc[table["execution_id"], "parent_version"].tolist() == [3, 3, 3]


def test_a_variant_that_is_given_twice_runs_twice(store, go, fit, world):
    table = go(fit.sweep("rate", [{"rate": 0.1}, {"rate": 0.1}], store=store))
    assert table["execution_id"].nunique() == 2
    assert world.trained == [0.1, 0.1]


def test_inputs_for_all_count_over_a_prefix_that_had_others(store, go, fit, world):
    first = go(fit.sweep("rate", RATES, {"rows": 10}, store=store))
    prefix = prefix_of(store, first)
    again = go(fit.sweep("rate", RATES, {"rows": 10}, execution_id=prefix, store=store))
    assert again["execution_id"].tolist() == first["execution_id"].tolist()
    other = go(fit.sweep("rate", RATES, {"rows": 100}, execution_id=prefix, store=store))
    assert other["output.loss"].tolist() == [10.0, 20.0, 30.0]
    assert not set(other["execution_id"]) & set(first["execution_id"])


def test_over_a_prefix_each_variant_has_its_own_inputs_only(store, go, fit):
    go(fit.execute({"rows": 10}, store=store, execution_id="k1"))
    table = go(fit.sweep("train", inputs=[{"rows": 100}, {"epochs": 5}], execution_id="k1", store=store))
    assert table[["output.loss", "output.epochs"]].to_numpy().tolist() == [[10.0, 1], [1.0, 5]]


def test_no_more_run_at_once_than_told(store, go, fit, world):
    world.pause = "1m"  # the clock jumps when all started steps wait
    go(fit.sweep("rate", [{"rate": r} for r in range(6)], concurrency=2, store=store))
    assert world.most_at_once == 2


def test_a_variant_that_fails_does_not_stop_the_others(store, go, fit, world):
    world.broken[0.2] = True
    table = go(fit.sweep("rate", RATES, store=store))
    assert table["state"].tolist() == ["COMPLETED", "FAILED", "COMPLETED"]
    assert table.loc[1, "error"] == "ValueError: 0.2 diverged"
    assert table["output.loss"].isna().tolist() == [False, True, False]


def test_over_the_same_prefix_only_what_is_not_finished_continues(store, go, fit, world):
    world.broken[0.2] = True
    first = go(fit.sweep("rate", RATES, store=store))
    world.broken.clear()
    world.trained.clear()
    again = go(fit.sweep("rate", [*RATES, {"rate": 0.4}], execution_id=prefix_of(store, first), store=store))
    assert world.trained == [0.2, 0.4]
    assert again["execution_id"].tolist()[:3] == first["execution_id"].tolist()
    assert set(again["state"]) == {"COMPLETED"}
    assert world.loads == 1


def test_finished_variants_run_again_when_asked(store, go, fit, world):
    first = go(fit.sweep("rate", RATES, store=store))
    world.trained.clear()
    go(fit.sweep("rate", RATES, execution_id=prefix_of(store, first), rerun="train", store=store))
    assert sorted(world.trained) == [0.1, 0.2, 0.3]


def test_a_prefix_that_failed_continues(store, go, fails, fit, world):
    world.broken["load"] = True
    error = fails(fit.sweep("rate", RATES, store=store))
    assert error.failed_step == "load"
    assert f'await fit.sweep("rate", ..., execution_id="{error.execution_id}")' in str(error)
    world.broken.clear()
    table = go(fit.sweep("rate", RATES, execution_id=error.execution_id, store=store))
    assert set(table["state"]) == {"COMPLETED"}
    assert prefix_of(store, table) == error.execution_id


def test_the_prefix_is_left_paused_before_the_step(store, go, fit):
    prefix = prefix_of(store, go(fit.sweep("rate", RATES, store=store)))
    state = fold(store.events(prefix))
    assert (state.status, state.reason) == ("PAUSED", "shared prefix; next: rate")


def test_a_sweep_that_is_stopped_pauses_its_variants_and_says_how_to_go_on(store, go, fit, world):
    world.hold = {0.2, 0.3}

    async def work():
        sweep = asyncio.ensure_future(fit.sweep("rate", RATES, store=store))
        while world.at_once < 2 or not store.executions(states=[ExecutionState.COMPLETED])[1]:
            await asyncio.sleep(0)
        sweep.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sweep

    go(work())
    states = history.executions(store=store).set_index("execution_id")["state"]
    assert sorted(states) == ["COMPLETED", "PAUSED", "PAUSED", "PAUSED"]
    world.hold = None
    world.trained.clear()
    prefix = history.executions(store=store)["parent"].dropna().iloc[0]
    table = go(fit.sweep("rate", RATES, execution_id=prefix, store=store))
    assert sorted(world.trained) == [0.2, 0.3]
    assert set(table["state"]) == {"COMPLETED"}


def test_a_result_that_cannot_be_stored_is_the_error_of_its_row(store, go, fit):
    import threading

    table = go(fit.sweep("rate", [{"rate": threading.Lock()}, {"rate": 0.5}], store=store))
    assert "cannot be stored" in table.loc[0, "error"]
    assert table["state"].tolist()[1] == "COMPLETED"


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({}, ValueError, "a sweep needs variants"),
        ({"overrides": []}, ValueError, "a sweep needs variants"),
        ({"overrides": {"rate": 1}}, TypeError, "overrides must be a list with one entry per variant"),
        ({"overrides": [0.1]}, TypeError, "each entry of overrides must be a dict of steps"),
        ({"overrides": [{"rte": 1}]}, ResumeError, "Did you mean 'rate'"),
        ({"overrides": RATES, "inputs": [{}]}, ValueError, "overrides has 3 entries and inputs 1"),
        ({"overrides": RATES, "concurrency": 0}, ValueError, "a whole number from 1, not 0"),
    ],
)
def test_what_is_no_sweep_is_refused_and_runs_nothing(store, go, fit, how, error, message):
    with pytest.raises(error, match=message):
        go(fit.sweep("rate", **how, store=store))
    assert store.executions()[1] == 0


def test_the_newest_that_can_go_on_is_no_prefix(store, go, fit, world):
    world.broken["load"] = True
    with pytest.raises(WorkflowError):
        go(fit.execute(store=store, execution_id="failed"))
    world.broken.clear()
    parents = {prefix_of(store, go(fit.sweep("rate", RATES[:1], {"rows": n}, store=store))) for n in range(25)}
    assert fit.plan_resume(store=store).execution_id == "failed"
    assert go(fit.resume(store=store)).execution_id == "failed"
    with pytest.raises(ResumeError, match="nothing to resume"):
        go(fit.resume(store=store))
    assert go(fit.resume(parents.pop(), store=store)).status is ExecutionState.COMPLETED, "by its id it can go on"


def test_a_prefix_that_takes_another_route_is_refused(store, go):
    @step
    def check():
        return "stop"

    @step
    def train():
        return 1

    @workflow
    def routed(wf):
        wf.timeline(check >> train)
        wf.diverge(from_step=check, patterns={"stop": flow.end()})

    with pytest.raises(ResumeError, match="did not reach step 'train': it took another route"):
        go(routed.sweep(train, inputs=[{}, {"a": 1}], store=store))


def test_a_prefix_of_another_workflow_is_refused(store, go, fit):
    @workflow
    def other(wf):
        wf.timeline(step(name="one")(lambda: 1))

    go(other.execute(store=store, execution_id="k1"))
    with pytest.raises(ResumeError, match="belongs to workflow 'other'"):
        go(fit.sweep("rate", RATES, execution_id="k1", store=store))
