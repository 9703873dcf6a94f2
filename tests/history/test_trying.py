"""``history.try_step``: the arguments of the step, what it may not do, and the frame that is returned."""

from __future__ import annotations

import asyncio
import threading
from contextlib import nullcontext

import pandas as pd
import pytest

from cerebelum_nb import (
    CerebelumError,
    Secret,
    WorkflowError,
    foreach,
    history,
    poll,
    sleep,
    step,
    wait_for_approval,
    workflow,
)
from cerebelum_nb._engine.approvals import decide_approval
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.testing import MemoryStore

from .conftest import TEXT

COLUMNS = {
    "execution_id": TEXT,
    "old": TEXT,
    "new": TEXT,
    "changed": "boolean",
    "difference": TEXT,
    "error": TEXT,
    "duration_old": "timedelta64[us]",
    "duration_new": "timedelta64[us]",
}


@pytest.fixture(params=["memory", "sqlite"])
def log(request, tmp_path):
    made = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "log.db", durability="normal")
    yield made
    made.close()


@step
def load(inputs):
    return list(range(inputs["rows"]))


def timeline(*steps, name="w"):
    @workflow(name=name)
    def made(wf):
        wf.timeline(list(steps))

    return made


def run(log, made, execution_id, **inputs):
    try:
        asyncio.run(made.execute(inputs, store=log, execution_id=execution_id))
    except WorkflowError:
        pass


@pytest.fixture
def recorded(log):
    """Three runs of `load >> add`; the second failed."""

    @step
    def add(load, inputs):
        if inputs["rows"] == 2:
            raise ValueError("two")
        return {"sum": sum(load)}

    for rows in (1, 2, 3):
        run(log, timeline(load, add), f"k{rows}", rows=rows)
    return log


def test_the_step_as_it_is_now_gets_the_arguments_of_each_run(recorded):
    @step
    def add(load, inputs, context):
        assert context.inputs == inputs and context.step_name == "add"
        return {"sum": sum(load) if len(load) < 3 else 30}

    tried = history.try_step(add, store=recorded)
    assert tried["execution_id"].tolist() == ["k3", "k2", "k1"]
    assert tried["old"].tolist() == ['{"sum":3}', "ValueError: two", '{"sum":0}']
    assert tried["new"].tolist() == ['{"sum":30}', '{"sum":1}', '{"sum":0}']
    assert tried["changed"].tolist() == [True, True, False]
    assert tried["difference"].tolist()[:2] == ["sum: 3 -> 30", "failed -> completed"]
    assert {name: str(dtype) for name, dtype in tried.dtypes.items()} == COLUMNS


def test_an_async_step_is_tried_the_same_way_even_in_a_running_loop(recorded):
    @step
    async def add(load):
        await asyncio.sleep(0)
        return len(load)

    async def cell():
        return history.try_step(add, store=recorded)

    assert asyncio.run(cell())["new"].tolist() == ["3", "2", "1"]


def test_nothing_is_written(recorded):
    before = {name: recorded.events(name) for name in ("k1", "k2", "k3")}
    history.try_step(step(name="add")(lambda load: 1), store=recorded)
    assert {name: recorded.events(name) for name in before} == before
    assert recorded.executions()[1] == 3


def test_a_failure_in_one_run_does_not_stop_the_others(recorded):
    @step
    def add(load):
        if len(load) == 2:
            raise SystemExit("no")
        return {"error": "small"} if len(load) == 1 else "fine"

    tried = history.try_step(add, store=recorded)
    assert tried["error"].tolist()[1:] == ["SystemExit: no", "small"]
    assert tried["new"].tolist() == ['"fine"', "SystemExit: no", '{"error":"small"}']
    assert tried["difference"].tolist()[1] == "ValueError: two -> SystemExit: no"


def test_it_is_tried_on_as_many_runs_of_the_workflow_as_asked(recorded):
    @step
    def add(load):
        return "other"

    run(recorded, timeline(load, add, name="other"), "o1", rows=1)
    assert len(history.try_step(add, 2, store=recorded)) == 2
    assert history.try_step(add, workflow="other", store=recorded)["execution_id"].tolist() == ["o1"]


def test_the_values_themselves_are_given_on_request(recorded):
    tried = history.try_step(step(name="add")(lambda load: (1, 2)), store=recorded, values=True)
    assert tried["old_value"].tolist() == [{"sum": 3}, None, {"sum": 0}]
    assert tried["new_value"].tolist() == [(1, 2)] * 3


def test_frames_are_compared_by_their_cells(log):
    @step
    def table():
        return pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})

    run(log, timeline(table), "k1")

    @step
    def table():
        return pd.DataFrame({"a": [1, 2], "b": [0.5, 1.75]})

    (difference,) = history.try_step(table, store=log)["difference"]
    assert difference == "1 cell differs by up to 0.25"


def test_a_missing_argument_is_the_error_of_its_row(recorded):
    tried = history.try_step(step(name="add")(lambda load, rates: 1), store=recorded)
    assert "needs the result of 'rates'" in tried["error"].iloc[0]


def test_the_timeout_of_the_step_holds(recorded):
    stuck = threading.Event()

    @step(timeout=1)
    def add(load):
        if len(load) == 3:
            stuck.wait(120)
        return 1

    tried = history.try_step(add, store=recorded)
    stuck.set()
    assert tried["error"].iloc[0].startswith("StepTimeoutError: step 'add' took longer than its timeout of 1s. A plain")
    assert tried["new"].tolist()[1:] == ["1", "1"]


def test_no_more_are_tried_at_once_than_asked(recorded):
    at_once, most = 0, 0

    @step
    async def add(load):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1

    history.try_step(add, store=recorded, concurrency=2)
    assert most == 2


# -- operations and effects ---------------------------------------------------------------------------------


def mailing(sent, *, to="ada", after=0):
    @step
    async def mail(context):
        await sleep(after)
        receipt = await context.run("send", sent.append, to)
        return [to, receipt]

    return mail


def test_recorded_operations_are_not_repeated_and_sleeps_are_skipped(log):
    sent = []
    run(log, timeline(mailing(sent)), "k1")
    tried = history.try_step(mailing(sent, after="10h"), store=log)
    assert tried["changed"].tolist() == [False], tried
    assert sent == ["ada"]


def test_an_unrecorded_operation_is_refused_unless_asked_for(log):
    sent = []
    run(log, timeline(mailing(sent)), "k1")
    tried = history.try_step(mailing(sent, to="bob"), store=log)
    (error,) = tried["error"]
    assert error == (
        "CerebelumError: step 'mail' would do context.run('send'), which the recorded run did not do with these "
        "arguments; repeat=True really does it"
    )
    assert sent == ["ada"]
    assert history.try_step(mailing(sent, to="bob"), repeat=True, store=log)["new"].tolist() == ['["bob",null]']
    assert sent == ["ada", "bob"]


def test_the_same_holds_for_a_poll_and_an_operation_in_a_thread(log):
    @step
    def wait():
        return poll(lambda: "ready", interval=1)

    run(log, timeline(wait), "k1")
    assert history.try_step(wait, store=log)["new"].tolist() == ['"ready"']

    @step
    def wait():
        return poll(lambda: "changed", interval=1)

    assert "would do a poll of" in history.try_step(wait, store=log)["error"].iloc[0]
    assert history.try_step(wait, repeat=True, store=log)["new"].tolist() == ['"changed"']


@pytest.mark.parametrize("approve", [True, False])
def test_the_recorded_decision_of_an_approval_counts_and_no_other_is_asked_for(log, approve):
    def asking(question):
        @step
        async def ask():
            return await wait_for_approval(data=question)

        return ask

    async def given():
        running = timeline(asking("go?")).start(store=log, execution_id="k1")
        while not running._execution.state.waiting:
            await asyncio.sleep(0)
        decide_approval(log, "k1", approve=approve, response="yes", reason="no", by="ada")
        with nullcontext() if approve else pytest.raises(WorkflowError, match="rejected by ada"):
            await running

    asyncio.run(given())
    tried = history.try_step(asking("go?"), store=log)
    assert tried["changed"].tolist() == [False] and tried["old"].tolist() == tried["new"].tolist()
    (error,) = history.try_step(asking("really?"), repeat=True, store=log)["error"]
    assert error.endswith("with these arguments: nobody is asked in a trial")


def test_a_step_with_an_external_effect_is_refused_unless_asked_for(log):
    charged = []

    @step(effect="external")
    def charge():
        charged.append(1)
        return "charged"

    run(log, timeline(charge), "k1")
    with pytest.raises(CerebelumError, match=r"try_step\(charge, repeat=True\)"):
        history.try_step(charge, store=log)
    assert len(charged) == 1
    history.try_step(charge, repeat=True, store=log)
    assert len(charged) == 2


def test_a_secret_of_another_process_is_the_error_of_its_row(log):
    from cerebelum_nb._engine.remembered import _kept

    @step
    def use(inputs):
        return len(inputs["token"].reveal())

    @step
    def then(use):
        raise RuntimeError("so that the run may be resumed, and its secrets are remembered")

    run(log, timeline(use, then), "k1", token=Secret("s3cr3t-token"))
    leaking = step(name="use")(lambda inputs: f"it is {inputs['token'].reveal()}")
    assert history.try_step(leaking, store=log)["new"].tolist() == ['"it is ********"']
    failing = step(name="use")(lambda inputs: int(inputs["token"].reveal()))
    assert "s3cr3t" not in str(history.try_step(failing, store=log)["error"].iloc[0])
    assert history.try_step(use, store=log)["changed"].tolist() == [False]
    _kept.pop(log)
    assert "SecretMissingError" in history.try_step(use, store=log)["error"].iloc[0]


# -- what cannot be tried -----------------------------------------------------------------------------------


@pytest.mark.parametrize("runs", [0, -1])
def test_the_number_of_runs_is_at_least_one(runs):
    with pytest.raises(ValueError, match=r"runs .*must be"):
        history.try_step(step(name="ad")(lambda: 1), runs=runs, store=MemoryStore())


def test_a_step_that_no_run_has_reached_is_an_error(recorded):
    with pytest.raises(ValueError, match="has reached step 'ad': there is nothing to try it on"):
        history.try_step(step(name="ad")(lambda: 1), store=recorded)


@pytest.mark.parametrize(("how", "error"), [({"runs": -1}, ValueError), ({"concurrency": 0}, ValueError)])
def test_wrong_arguments_are_refused(recorded, how, error):
    with pytest.raises(error):
        history.try_step(load, **how, store=recorded)


def test_the_name_of_a_step_is_refused(recorded):
    with pytest.raises(TypeError, match="the step itself"):
        history.try_step("load", store=recorded)


def test_a_step_of_a_foreach_is_tried_on_one_item(log):
    @step
    def fetch(region):
        return region

    @step
    async def deploy(region, fetch, inputs, context):
        made = await context.run("make", str.upper, region)
        if region == "nyc1":
            raise RuntimeError("no room")
        return [made, fetch, context.item, inputs["n"]]

    w = timeline(foreach(fetch >> deploy, region="inputs.regions"))
    run(log, w, "k1", regions=["ams3", "nyc1"], n=1)

    @step
    async def deploy(region, fetch, inputs, context):
        made = await context.run("make", str.upper, region)
        return [made, fetch, context.item, inputs["n"] + 1]

    tried = history.try_step(deploy, item="ams3", store=log)
    assert tried[["old", "new"]].values.tolist() == [['["AMS3","ams3","ams3",1]', '["AMS3","ams3","ams3",2]']]
    tried = history.try_step(deploy, item="nyc1", at_line=True, store=log)
    assert tried.difference[0] == "failed -> completed" and tried.line[0] > 0
    assert history.try_step(fetch, item="nyc1", store=log).changed.tolist() == [False]
    with pytest.raises(ValueError, match=r"runs for the items of a foreach: name one, such as try_step\(deploy, item="):
        history.try_step(deploy, store=log)
    with pytest.raises(ValueError, match="has reached step 'deploy' for the item 'sfo3'"):
        history.try_step(deploy, item="sfo3", store=log)
