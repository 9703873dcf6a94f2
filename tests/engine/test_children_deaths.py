"""Children and callers whose processes die: simulated after every commit, and real deaths."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from cerebelum_nb import ExecutionState, WorkflowError, foreach, sleep, step, workflow
from cerebelum_nb._core.events import StepCompleted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.invariants import check
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.testing import MemoryStore

from ..programs import Popen
from .smoke import smoke_tests


class Recorder(MemoryStore):
    """A log that records its transactions, to recreate the log of a process that died after any of them."""

    def __init__(self):
        super().__init__()
        self.transactions = []

    def commit(self, commits):
        rejected = super().commit(commits)
        self.transactions.append([commit for commit in commits if commit.execution_id not in rejected])
        return rejected


def left_after(transactions):
    """Recreate the log of a process that died after these transactions."""
    store = Recorder()
    store.hibernate_after = timedelta(minutes=1)
    dead = store.register(0, 1)
    for commits in transactions:
        store.commit([replace(commit, holder=dead, release=True) for commit in commits])
        for commit in commits:
            store._executions[commit.execution_id].holder = dead
    store.retire(dead)
    return store


@step
async def slow_start(inputs):
    await sleep("10s")
    return inputs["item"]


@step
async def long_end(slow_start, context):
    await sleep("2h")
    return await context.run("note", lambda: f"{slow_start} done")


@step
async def pieces(slow_start):
    return [1, 2]


@step
async def place(piece):
    return piece


@workflow
def inner_work(wf):
    wf.timeline(slow_start >> pieces >> foreach(place, piece=pieces) >> long_end)


@step
async def its_items():
    return ["a", "b"]


@step
async def body_too(inner_work):
    found = await smoke_tests.execute({"image": inner_work[0]})
    return [*inner_work, found.output]


@workflow
def whole(wf):
    wf.timeline(its_items >> foreach(inner_work, item=its_items) >> body_too)


def run_to_the_end(store, clock, children_first):
    """Resume unfinished executions and wake those that are due, until the caller is complete."""

    async def live():
        for _ in range(50):
            rows = {row.execution_id: row for row in store.executions()[0]}
            if "k1" in rows and rows["k1"].summary.state is ExecutionState.COMPLETED:
                return
            for row in rows.values() if children_first else ():
                if row.summary.caller and not row.summary.state.is_final:
                    flow_of = {"inner_work": inner_work, "smoke_tests": smoke_tests}[row.summary.workflow]
                    await flow_of.resume(row.execution_id, store=store)
            again = {"execution_id": "k1", "store": store, "resume": True}
            result = await whole.execute(**again)
            if result.wake_at is not None and result.wake_at.timestamp() * 1e6 > clock.now():
                clock.set(result.wake_at)

    asyncio.run(live())
    return store


@pytest.mark.parametrize("children_first", [False, True])
def test_killed_after_any_commit_it_ends_the_same_and_no_finished_step_runs_twice(clock, children_first):
    first = run_to_the_end(left_after([]), clock, False)
    outputs = {row.execution_id: fold(first.events(row.execution_id)).output for row in first.executions()[0]}
    assert len(outputs) == 4 and outputs["k1"].json == '["a done","b done","a done answers"]'
    for death in range(1, len(first.transactions)):
        store = run_to_the_end(left_after(first.transactions[:death]), clock, children_first)
        assert {one: fold(store.events(one)).output for one in outputs} == outputs, f"died after {death}"
        assert store.executions()[1] == len(outputs)
        for one in outputs:
            history = store.events(one)
            state = fold([])
            for event in history:
                check(fold([event], state))
            done = Counter((e.step, e.visit) for e in history if isinstance(e, StepCompleted))
            assert set(done.values()) == {1}, f"died after {death}: {one} finished a step twice"


@step
async def make(inputs):
    return inputs["item"]


@make.on_rollback
async def unmake(make, context):
    await sleep("10s")
    return await context.run("note", lambda: make)


@workflow
def server(wf):
    wf.timeline(make)


@step
async def check_all(server):
    raise RuntimeError("they do not see each other")


@workflow(on_failure="rollback")
def fleet(wf):
    wf.timeline(its_items >> foreach(server, item=its_items) >> check_all)


def rolled_back(store):
    """Start or resume an execution until it is rolled back."""

    async def live():
        for _ in range(5):
            rows = store.executions(caller="")[0]
            if rows and rows[0].summary.state is ExecutionState.ROLLED_BACK:
                return
            with suppress(WorkflowError):
                await fleet.execute(execution_id="k1", store=store, resume=True)

    asyncio.run(live())
    return store


def test_a_rollback_of_children_killed_after_any_commit_undoes_each_once(clock):
    first = rolled_back(left_after([]))
    assert len(first.transactions) > 20
    for death in range(1, len(first.transactions)):
        store = rolled_back(left_after(first.transactions[:death]))
        rows = store.executions()[0]
        assert [row.summary.state for row in rows] == [ExecutionState.ROLLED_BACK] * 3, f"died after {death}"
        for row in rows:
            history = store.events(row.execution_id)
            state = fold([])
            for event in history:
                check(fold([event], state))
            done = Counter((e.step, e.visit) for e in history if isinstance(e, StepCompleted))
            assert set(done.values()) == {1}, f"died after {death}: {row.execution_id} did something twice"
            assert row.execution_id == "k1" or sum(step == "~make" for step, _ in done) == 1


PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from cerebelum_nb import foreach, step, workflow
from cerebelum_nb._store.sqlite import SqliteStore

def note(text):
    with open("told.txt", "a") as told:
        told.write(text + "\\n")

@step
def first(inputs):
    note(f"first {inputs['item']}")
    return inputs["item"]

@step
def second(first):
    note(f"second {first}")
    if first == "b" and not Path("free").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return first

@workflow
def inner(wf): wf.timeline(first >> second)

@step
def items(): return ["a", "b", "c"]

@workflow
def outer(wf): wf.timeline(items >> foreach(inner, item=items, max_concurrency=1))

with SqliteStore("log.db") as log:
    if sys.argv[1] == "child":
        (child,) = [r.execution_id for r in log.executions(workflow="inner")[0] if r.summary.state == "RUNNING"]
        inner.resume_sync(child, store=log)
    else:
        print(outer.run(store=log, execution_id="k1", resume=True).output)
"""


@pytest.mark.process
@pytest.mark.parametrize("who", [["run"], ["child", "run"]])
def test_killed_for_real_in_a_child_it_is_resumed_by_its_caller_or_first_by_itself(tmp_path, who):
    (tmp_path / "program.py").write_text(PROGRAM)
    assert Popen([sys.executable, "program.py", "run"], cwd=tmp_path).wait(60) == -signal.SIGKILL
    (tmp_path / "free").touch()
    for word in who:
        assert Popen([sys.executable, "program.py", word], cwd=tmp_path).wait(60) == 0
    told = (tmp_path / "told.txt").read_text().split()
    assert " ".join(told) == "first a second a first b second b second b first c second c"
    with SqliteStore(tmp_path / "log.db") as log:
        assert fold(log.events("k1")).output.json == '["a","b","c"]'
