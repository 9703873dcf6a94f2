"""``execution_id=..., resume=True``: an execution of that id runs once, however often it is requested."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cerebelum_nb import (
    CerebelumError,
    ExecutionBusyError,
    ExecutionCancelledError,
    ExecutionStoppedError,
    ResumeError,
    Secret,
    WorkflowError,
    sleep,
    step,
    workflow,
)
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._store.sqlite import SqliteStore

pytestmark = pytest.mark.usefixtures("clock")

ran: list[str] = []
broken: list[bool] = []


@pytest.fixture(autouse=True)
def _fresh():
    ran.clear()
    broken.clear()


@step
def build(inputs):
    ran.append("build")
    return inputs.get("name", "web")


@step
async def ship(build):
    ran.append("ship")
    if broken:
        raise ValueError("no room")
    await sleep("10s")
    return f"shipped {build}"


@workflow
def release(wf):
    wf.timeline(build >> ship)


def execute(store, inputs=None, **more):
    return release.execute(inputs, store=store, execution_id="v42", resume=True, **more)


def test_one_that_never_began_is_started(go, store):
    assert go(execute(store, {"name": "api"})).output == "shipped api"
    assert ran == ["build", "ship"]


def test_a_completed_one_returns_its_recorded_result_and_runs_nothing(go, store):
    first = go(execute(store, {"name": "api"}))
    events = store.events("v42")
    again = go(execute(store, {"name": "api"}))
    assert again.output == first.output
    assert again.status is ExecutionState.COMPLETED
    assert dict(again.results) == {"build": "api", "ship": "shipped api"}
    assert ran == ["build", "ship"]
    assert store.events("v42") == events


def test_a_failed_one_continues(go, store):
    broken.append(True)
    with pytest.raises(WorkflowError):
        go(execute(store))
    broken.clear()
    assert go(execute(store)).output == "shipped web"
    assert ran == ["build", "ship"]  # it continued at the statement that raised


def test_a_stopped_one_continues(go, store):
    async def stopped():
        run = release.start(store=store, execution_id="v42", resume=True)
        run.stop()
        await run

    with pytest.raises(ExecutionStoppedError):
        go(stopped())
    assert go(execute(store)).output == "shipped web"


def test_a_cancelled_one_says_so_and_is_not_started_again(go, store):
    async def cancelled():
        run = release.start(store=store, execution_id="v42")
        run.cancel("not now")
        await run

    with pytest.raises(ExecutionCancelledError):
        go(cancelled())
    with pytest.raises(ExecutionCancelledError, match="not now"):
        go(execute(store))


def test_one_that_runs_here_is_busy(go, store):
    async def twice():
        run = release.start(store=store, execution_id="v42", resume=True)
        try:
            with pytest.raises(ExecutionBusyError) as raised:
                await execute(store)
            assert raised.value.holder == "this process"
        finally:
            await run

    go(twice())


def test_its_id_is_taken_whole(go, store):
    go(release.execute(store=store, execution_id="v420"))
    assert go(execute(store)).execution_id == "v42"


def test_without_inputs_it_has_those_that_are_recorded(go, store):
    go(execute(store, {"name": "api"}))
    assert go(execute(store)).output == "shipped api"


def test_other_inputs_are_refused_and_named(go, store):
    broken.append(True)
    with pytest.raises(WorkflowError):
        go(execute(store, {"name": "api", "size": 1}))
    broken.clear()
    with pytest.raises(ResumeError) as raised:
        go(execute(store, {"name": "web", "zone": "ams"}))
    told = str(raised.value)
    assert 'name was "api" and is "web"' in told
    assert "size was 1 and is not given" in told
    assert 'zone is "ams" and was not given' in told
    assert 'resume="replace_inputs"' in told


def test_other_inputs_of_a_completed_one_are_refused_and_the_advice_works(go, store):
    go(execute(store, {"name": "api"}))
    with pytest.raises(ResumeError, match="was started with other inputs") as raised:
        go(execute(store, {"name": "web"}))
    call = str(raised.value).rpartition(": ")[2]
    assert call == 'await release.execute(execution_id="v42", resume=True)'
    asked = call.removeprefix("await ").replace("execute(", "execute(store=log, ")
    assert go(eval(asked, {"release": release, "log": store})).output == "shipped api"


def test_inputs_are_replaced_by_an_explicit_word(go, store):
    @step
    def tell(inputs):
        if inputs["name"] == "api":
            raise ValueError("no such name")
        return inputs["name"]

    @workflow
    def telling(wf):
        wf.timeline(tell)

    with pytest.raises(WorkflowError):
        go(telling.execute({"name": "api"}, store=store, execution_id="v42", resume=True))
    given = telling.execute({"name": "web"}, store=store, execution_id="v42", resume="replace_inputs")
    assert go(given).output == "web"


def test_a_secret_is_given_again_and_never_compared(go, store):
    seen = []

    @step
    def login(inputs):
        seen.append(inputs["token"].reveal())
        raise ValueError("down")

    @workflow
    def site(wf):
        wf.timeline(login)

    for token in ("hush-hush-1", "hush-hush-2"):
        with pytest.raises(WorkflowError):
            go(site.execute({"token": Secret(token)}, store=store, execution_id="v42", resume=True))
    assert seen == ["hush-hush-1", "hush-hush-2"]


@pytest.mark.parametrize("value", [{1, 2}, {"a": [1.5, None]}, b"bytes", float("nan"), (1, 2)], ids=repr)
def test_the_same_inputs_are_the_same_whatever_they_hold(go, store, value):
    for _ in range(2):
        assert go(execute(store, {"name": "api", "value": value})).output == "shipped api"
    assert ran == ["build", "ship"]


def test_another_workflows_id_is_refused(go, store):
    @workflow
    def other(wf):
        wf.timeline(build)

    go(other.execute(store=store, execution_id="v42"))
    with pytest.raises(ResumeError, match="belongs to workflow 'other'"):
        go(execute(store))


def test_an_id_has_to_be_given(go, store):
    with pytest.raises(CerebelumError, match=r"give it, as in execution_id="):
        go(release.execute(store=store, resume=True))


def test_without_resume_the_error_says_how_to_go_on(go, store):
    go(execute(store))
    with pytest.raises(ResumeError, match="add resume=True"):
        go(release.execute(store=store, execution_id="v42"))


def test_run_start_and_begin_know_it_too(go, store):
    assert release.run(store=store, execution_id="v42", resume=True).output == "shipped web"
    assert release.run(store=store, execution_id="v42", resume=True).output == "shipped web"

    async def started():
        run = release.start(store=store, execution_id="v42", resume=True)
        assert run.done
        return await run

    async def begun():
        run = release.begin(store=store, execution_id="v42", resume=True)
        assert run["ship"] == "shipped web"
        return await run.finish()

    assert go(started()).output == "shipped web"
    assert go(begun()).output == "shipped web"
    assert ran == ["build", "ship"]


def test_begin_takes_up_one_that_stands_half_way(go, store):
    async def half():
        run = release.begin(store=store, execution_id="v42", resume=True)
        await run.next()

    async def rest():
        run = release.begin(store=store, execution_id="v42", resume=True)
        return await run.finish()

    go(half())
    assert go(rest()).output == "shipped web"
    assert ran == ["build", "ship"]


def test_of_two_that_start_at_once_one_runs(go, store):
    async def both():
        return await asyncio.gather(execute(store), execute(store), return_exceptions=True)

    outcomes = go(both())
    assert [type(outcome).__name__ for outcome in outcomes].count("ExecutionBusyError") == 1
    assert ran == ["build", "ship"]


@pytest.mark.parametrize("how", ["started", "resumed"])
def test_of_two_threads_at_once_one_runs(tmp_path, monkeypatch, how):
    """The threads of a process share its leases, so the log cannot tell them apart."""

    @step(checkpoint=None)
    def ship():
        ran.append("ship")
        if broken:
            raise ValueError("no room")
        both_have_asked.wait(10)
        return "shipped"

    @workflow
    def release(wf):
        wf.timeline(ship)

    def run():
        return release.run(store=store, execution_id="v42", resume=True)

    def outcome(_):
        try:
            return run().output
        except ExecutionBusyError as busy:
            both_have_asked.set()
            return busy.holder

    both_have_asked, meeting = threading.Event(), threading.Barrier(2, timeout=10)
    with SqliteStore(tmp_path / "log.db", durability="normal") as store:
        if how == "resumed":
            broken.append(True)
            with pytest.raises(WorkflowError):
                run()
            broken.clear()
            ran.clear()
        last = "claim" if how == "resumed" else "events"  # what each thread asks the log before it runs
        ask, meet = getattr(store, last), iter([meeting.wait] * 2)
        monkeypatch.setattr(store, last, lambda *a, **k: (ask(*a, **k), next(meet, int)())[0])
        with ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(outcome, range(2))) == ["shipped", "this process"]
    assert ran == ["ship"]
