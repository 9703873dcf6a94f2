"""The scheduler in a kernel, and how it finds the code of the executions that it wakes."""

from __future__ import annotations

import asyncio
import json
import textwrap
from datetime import timedelta

import pytest

from cerebelum_nb import (
    CerebelumError,
    WorkflowNotFoundError,
    scheduler,
    sleep,
    step,
    wait_for_approval,
    workflow,
)
from cerebelum_nb._core.events import StepStarted, WorkflowForked, WorkflowHibernated, WorkflowStarted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._core.value import Value
from cerebelum_nb._engine.approvals import decide_approval
from cerebelum_nb._engine.leases import leases_of
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.holder import ProcessIdentity
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._views.approval_form import approval_form
from cerebelum_nb._workflow.decorator import registered
from cerebelum_nb._workflow.find import WorkflowFinder


@step
async def nap():
    await sleep("300ms")
    return "rested"


@step
async def ask():
    return await wait_for_approval("budget", data={"price": 5}, timeout_ms="1d")


@workflow
def lazy(wf):
    wf.timeline(nap)


@workflow
def asking(wf):
    wf.timeline(ask)


@pytest.fixture
def log(tmp_path):
    with SqliteStore(tmp_path / "log.db", durability="normal") as store:
        store.hibernate_after = timedelta(milliseconds=50)
        yield store


async def until(store, state, execution_id):
    async with asyncio.timeout(120):
        while store.execution(execution_id).summary.state is not state:
            await asyncio.sleep(0.01)


async def test_it_wakes_due_executions(log):
    ids = [f"k{n}" for n in range(5)]
    results = await asyncio.gather(*(lazy.execute(store=log, execution_id=i) for i in ids))
    assert {result.status for result in results} == {ExecutionState.SLEEPING}
    background = scheduler(log)
    for execution_id in ids:
        await until(log, ExecutionState.COMPLETED, execution_id)
    await background.stop()
    assert not background.running and "5 taken up" in repr(background)


async def test_it_continues_when_somebody_has_decided(log):
    assert (await asking.execute(store=log, execution_id="k1")).waits_for == ("budget",)
    background = scheduler(log)
    await asyncio.sleep(0)
    decide_approval(log, "k1", approve=True, response=7)
    await until(log, ExecutionState.COMPLETED, "k1")
    await background.stop()


async def test_an_execution_that_another_process_took_over_makes_room_for_another(log):
    begun, taken = asyncio.Event(), asyncio.Event()

    @step
    async def first():
        await sleep("100ms")
        begun.set()
        await taken.wait()

    @workflow
    def contested(wf):
        wf.timeline(first)

    await contested.execute(store=log, execution_id="k0")
    background = scheduler(log)
    async with asyncio.timeout(120):
        await begun.wait()
    log.release("k0", leases_of(log).running("k0").holder)
    log.claim(
        "k0", log.register(0, 10**9, ProcessIdentity(host="elsewhere", pid=1, boot_id="another/1/1", started="1")), 0
    )
    taken.set()
    await lazy.execute(store=log, execution_id="k1")
    await until(log, ExecutionState.COMPLETED, "k1")
    assert "k0" not in background._loop._runs
    await background.stop()


async def test_an_execution_that_cannot_be_read_does_not_delay_the_others(log, monkeypatch):
    for n in range(2):
        await lazy.execute(store=log, execution_id=f"k{n}")
    wake = type(lazy).wake

    def fails(self, execution_id, **how):
        if execution_id == "k0":
            raise RuntimeError("out of order")
        return wake(self, execution_id, **how)

    monkeypatch.setattr(type(lazy), "wake", fails)
    told = []
    background = scheduler(log, tell=told.append)
    await until(log, ExecutionState.COMPLETED, "k1")
    await background.stop()
    assert [text for text in told if "is not resumed" in text] == [
        "k0 of lazy is not resumed: RuntimeError: out of order"
    ]


async def test_two_share_the_work(log):
    for n in range(8):
        await lazy.execute(store=log, execution_id=f"k{n}")
    both = [scheduler(log), scheduler(log)]
    for n in range(8):
        await until(log, ExecutionState.COMPLETED, f"k{n}")
    for one in both:
        await one.stop()
    assert sum(one._loop.taken for one in both) >= 8


async def test_when_it_stops_it_leaves_its_executions_to_others(log):
    begun = asyncio.Event()

    @step
    async def first():
        await sleep("100ms")
        begun.set()
        await asyncio.sleep(0.2)

    @step
    async def second():
        return "done"

    @workflow
    def two(wf):
        wf.timeline(first >> second)

    await two.execute(store=log, execution_id="k1")
    one = scheduler(log)
    await begun.wait()
    await one.stop()
    row = log.execution("k1")
    assert (row.summary.done_steps, row.summary.state, row.holder) == (1, ExecutionState.SLEEPING, None)
    another = scheduler(log)
    await until(log, ExecutionState.COMPLETED, "k1")
    await another.stop()


async def test_an_external_step_whose_process_died_is_left_to_a_person(log):
    @step(effect="external")
    async def charge():
        raise AssertionError("it must not run")

    @workflow
    def pay(wf):
        wf.timeline(charge)

    inputs = Value("json", "{}")
    events = [
        WorkflowStarted(at=1, workflow="pay", inputs=inputs, total_steps=1, module=__name__),
        StepStarted(at=2, step="charge"),
    ]
    dead = log.register(0, 0, ProcessIdentity(host="elsewhere", pid=1, boot_id="another/1/1", started="1"))
    summary = summarise(fold(events))
    log.commit([Commit(execution_id="k1", after=0, events=events, summary=summary, holder=dead)])
    background = scheduler(log)
    await until(log, ExecutionState.PAUSED, "k1")
    await background.stop()
    state = fold(log.events("k1"))
    check(state)
    assert "mark_done={'charge': result}" in state.reason
    assert (await pay.resume("k1", store=log, mark_done={"charge": 1})).output == 1


async def test_it_wakes_a_fork(log):
    """A fork's history begins like its parent's, but it is another execution."""
    origin = WorkflowStarted(
        at=1, workflow="lazy", inputs=Value("json", "{}"), total_steps=1, module=__name__, qualname="lazy"
    )
    events = [
        origin,
        WorkflowForked(at=2, parent="k1", parent_version=1),
        StepStarted(at=3, step="nap"),
        WorkflowHibernated(at=4, wake_at=5),
    ]
    summary = summarise(fold(events))
    holder = log.register(0, 1)
    log.commit([Commit(execution_id="f1", after=0, events=events, summary=summary, holder=holder, release=True)])
    background = scheduler(log)
    await until(log, ExecutionState.COMPLETED, "f1")
    await background.stop()
    state = fold(log.events("f1"))
    check(state)
    assert (state.parent, state.steps["nap"].output.json) == ("k1", '"rested"')


def test_outside_of_a_loop_it_says_where_to_go(log):
    with pytest.raises(CerebelumError, match="cerebelum scheduler"):
        scheduler(log)


# -- the code -----------------------------------------------------------------------------------------------

SOURCE = """
from cerebelum_nb import step, workflow

@step
async def one():
    return 1

@workflow
def {name}(wf):
    wf.timeline(one)
"""


def origin(module, name, source=""):
    return WorkflowStarted(
        at=1, workflow=name, inputs=Value("json", "{}"), total_steps=1, module=module, qualname=name, source=source
    )


def test_a_module_is_imported_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "found_by_name.py").write_text(SOURCE.format(name="here"))
    monkeypatch.syspath_prepend(tmp_path)
    assert WorkflowFinder(registered).find(origin("found_by_name", "here")).name == "here"


def test_a_script_is_found_when_it_is_named(tmp_path):
    script = tmp_path / "my_script.py"
    script.write_text(SOURCE.format(name="scripted"))
    assert (
        WorkflowFinder(registered, [str(script)]).find(origin("__main__", "scripted", str(script))).name == "scripted"
    )


def test_a_script_at_its_recorded_path_need_not_be_named_and_does_not_run_as_main(tmp_path):
    script, ran = tmp_path / "queue.py", tmp_path / "ran"
    guard = f"if __name__ == '__main__':\n    open({str(ran)!r}, 'w').close()\n"
    script.write_text(
        SOURCE.format(name="scripted") + f"try:\n    import nothing\nexcept ImportError:\n    SIZE = 1\n{guard}"
    )
    found = WorkflowFinder(dict).find(origin("__main__", "scripted", str(script)))
    assert (found.name, found.fn.__globals__["SIZE"], ran.exists()) == ("scripted", 1, False)


@pytest.mark.parametrize(
    ("module", "source", "told"),
    [
        ("no_such_module", "", "is not found from .* Start the scheduler where it can be"),
        ("json", "json/__init__.py", "is no longer in the module 'json'"),
        ("__main__", "deploy.py", "cerebelum scheduler FILE.py"),
        ("__main__", "<ipython-input-3>", "--notebook NOTEBOOK.ipynb"),
    ],
)
def test_code_that_is_not_found_is_reported_with_what_to_do(module, source, told):
    with pytest.raises(WorkflowNotFoundError, match=told):
        WorkflowFinder(registered).find(origin(module, "lost", source))


def test_only_the_definitions_of_a_notebook_are_run(tmp_path):
    ran = tmp_path / "ran"
    cells = [
        SOURCE.format(name="from_notebook"),
        f"open({str(ran)!r}, 'w').close()\nLIMIT = 3\nLIMIT += 1\n@step\ndef limit():\n    return LIMIT",
        "%matplotlib inline\nresult = await from_notebook.execute()",
        "result = from_notebook.run()",
        "%%bash\nrm -rf nothing",
    ]
    notebook = tmp_path / "book.ipynb"
    notebook.write_text(
        json.dumps({"cells": [{"cell_type": "code", "source": textwrap.dedent(cell)} for cell in cells]})
    )
    found = WorkflowFinder(dict, notebook=notebook).find(origin("__main__", "from_notebook"))
    defined = found.fn.__globals__
    assert found.name == "from_notebook" and defined["limit"].fn() == 4
    assert not ran.exists() and "result" not in defined


def test_a_file_that_is_not_a_notebook_is_refused(tmp_path):
    (tmp_path / "no.ipynb").write_text("{}")
    with pytest.raises(WorkflowNotFoundError, match="is not a notebook"):
        WorkflowFinder(registered, notebook=tmp_path / "no.ipynb")


# -- the form -----------------------------------------------------------------------------------------------


async def test_the_form_is_text_where_nobody_can_click(log):
    await asking.execute(store=log, execution_id="k1")
    shown = repr(approval_form("k1", store=log))
    assert "ask asks for approval (budget)" in shown and '"price": 5' in shown and "cerebelum approve k1" in shown


async def test_the_form_approves_with_a_comment(log):
    from cerebelum_nb._engine.approvals import open_approvals
    from cerebelum_nb._views.approval_form import _widget

    await asking.execute(store=log, execution_id="k1")
    (approval,) = open_approvals(fold(log.events("k1")))
    form = _widget(log, "k1", approval)
    _, response, _, buttons, told = form.children
    response.value = "not json"
    buttons.children[0].click()
    await asyncio.sleep(0.05)
    assert "not JSON" in told.value and not buttons.children[0].disabled
    response.value = '{"size": 2}'
    buttons.children[0].click()
    await asyncio.sleep(0.05)
    assert told.value.startswith("Approved by") and buttons.children[0].disabled
    assert (await asking.resume("k1", store=log)).output == {"size": 2}
