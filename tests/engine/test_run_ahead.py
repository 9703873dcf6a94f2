"""Pure steps start before the commit of what came before them; everything else is in the log before it counts."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerebelum_nb import ExecutionStoppedError, StepDefinitionError, foreach, step, workflow
from cerebelum_nb._core.events import StepCompleted, StepStarted
from cerebelum_nb._engine import run_ahead
from cerebelum_nb.testing import Crashed, FakeClock, MemoryStore, crash_before


class Watched(MemoryStore):
    """Notes in ``seen`` every committed event, as (its type, its step), and in ``sizes`` how many each commit has."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.sizes = []

    def commit(self, commits):
        rejected = super().commit(commits)
        self.sizes.append(sum(len(commit.events) for commit in commits))
        self.seen += [(type(e).__name__, getattr(e, "step", "")) for c in commits for e in c.events]
        return rejected


@pytest.fixture
def long_wait(monkeypatch):
    """No timer commits: only what must be committed is."""
    monkeypatch.setattr(run_ahead, "_WAIT_SECONDS", 3600)


def a_step(name, *, pure, seen, plain=False):
    async def body():
        seen.append(("ran", name))

    def plain_body():
        seen.append(("ran", name))

    return step(name=name, pure=pure)(plain_body if plain else body)


def timeline(stages):
    return workflow(name="w")(lambda wf: wf.timeline(*stages))


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.usefixtures("long_wait")
def test_a_chain_of_pure_steps_is_recorded_whole_in_few_commits(go, plain):
    log = Watched()
    work = timeline([a_step(f"s{i}", pure=True, seen=log.seen, plain=plain) for i in range(300)])
    go(work.execute(store=log, execution_id="k1"))
    recorded = [one for one in log.seen if one[0] != "ran"]
    assert recorded[1:-1] == [(kind, f"s{i}") for i in range(300) for kind in ("StepStarted", "StepCompleted")]
    assert len(log.sizes) <= 4  # the start, 256 events and some twice, the end


@pytest.mark.usefixtures("long_wait")
def test_every_event_before_a_step_that_is_not_pure_is_in_the_log_when_it_runs(go):
    pure = st.booleans()

    @given(st.lists(st.lists(st.tuples(pure, st.booleans()), min_size=1, max_size=4), min_size=1, max_size=6))
    def check(drawn):
        log, is_pure, stages = Watched(), {}, []
        for n, members in enumerate(drawn):
            made = []
            for m, (pure, plain) in enumerate(members):
                is_pure[f"s{n}_{m}"] = pure
                made.append(a_step(f"s{n}_{m}", pure=pure, seen=log.seen, plain=plain))
            stages.append(made if len(made) > 1 else made[0])
        with FakeClock():
            result = asyncio.run(timeline(stages).execute(store=log, execution_id="k1"))
        assert result.status == "COMPLETED"
        for place, (what, name) in enumerate(log.seen):
            if what == "ran" and not is_pure[name]:
                before = set(log.seen[:place])
                stage = int(name[1:].partition("_")[0])
                assert ("StepStarted", name) in before
                assert all(("StepCompleted", f"s{n}_{m}") in before for n in range(stage) for m in range(len(drawn[n])))
            if what == "StepStarted" and not is_pure[name]:
                assert ("ran", name) not in log.seen[:place]
        assert sorted(one for one in log.seen if one[0].startswith("Step")) == sorted(
            (kind, name) for name in is_pure for kind in ("StepStarted", "StepCompleted")
        )

    check()


def test_the_end_of_a_pure_step_does_not_wait_for_a_longer_one():
    log, ended = MemoryStore(), asyncio.Event()

    @step(pure=True)
    async def short():
        return 1

    @step(pure=True)
    async def long(short):
        await ended.wait()

    async def watched():
        run = timeline([short, long]).start(store=log, execution_id="k1")
        async with asyncio.timeout(60):
            while len(log.events("k1")) < 4:  # both starts, and the end of the first
                await asyncio.sleep(0.001)
        ended.set()
        return await run

    assert asyncio.run(watched()).status == "COMPLETED"


@pytest.mark.usefixtures("long_wait")
def test_after_a_crash_the_steps_that_were_not_recorded_run_again(go):
    log, ran = MemoryStore(), []

    @step(pure=True)
    async def one():
        ran.append("one")
        return 1

    @step(pure=True)
    async def two(one):
        ran.append("two")
        return one + 1

    @step
    async def send(two):
        ran.append("send")
        return two

    work = timeline([one, two, send])
    with crash_before("StepStarted", step="send"), pytest.raises(Crashed):
        go(work.execute(store=log, execution_id="k1"))
    assert [type(event).__name__ for event in log.events("k1")] == ["WorkflowStarted", "StepStarted"]
    assert go(work.resume("k1", store=log)).output == 2
    assert ran == ["one", "two", "one", "two", "send"]


KILLED = """
import os, pathlib
from cerebelum_nb import connect, step, workflow

@step(pure=True)
def one():
    return 20

@step(pure=True)
def two(one):
    if not pathlib.Path("died").exists():
        pathlib.Path("died").touch()
        os._exit(9)
    return one + 1

@step
def double(two):
    return 2 * two

@workflow
def work(wf):
    wf.timeline(one >> two >> double)

log = connect("log.db")
print(work.run(store=log, execution_id="k1", resume=True).output)
"""


@pytest.mark.process
def test_a_process_that_dies_in_a_pure_step_can_be_resumed(tmp_path):
    (tmp_path / "work.py").write_text(KILLED)
    run = [sys.executable, "work.py"]
    assert subprocess.run(run, cwd=tmp_path, check=False).returncode == 9
    assert subprocess.run(run, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.endswith("42\n")


@pytest.mark.usefixtures("long_wait")
def test_an_operation_of_a_pure_step_is_recorded_before_the_step_goes_on(go):
    log, known = MemoryStore(), []

    @step(pure=True)
    async def one():
        return 1

    @step(pure=True)
    async def asks(one, context):
        await context.run("look", lambda: 7)
        known.extend(type(event).__name__ for event in log.events("k1"))

    go(timeline([one, asks]).execute(store=log, execution_id="k1"))
    assert known[:4] == ["WorkflowStarted", "StepStarted", "StepCompleted", "StepStarted"]
    assert known[-1] == "OperationCompleted"


@pytest.mark.usefixtures("long_wait")
def test_results_with_bytes_of_their_own_are_recorded_at_once(go):
    @step
    async def names():
        return ["a", "b"]

    @step(pure=True)
    async def squared(name):
        return {name, 2}  # a set: no plain JSON

    @step(pure=True)
    async def blob(squared):
        return bytes(100_000)

    @step(pure=True)
    async def size(blob, squared):
        return len(blob) + len(squared)

    @workflow
    def work(wf):
        wf.timeline(names >> foreach(squared, name=names) >> blob >> size)

    assert go(work.execute(store=MemoryStore())).output == 100_002


@pytest.mark.usefixtures("long_wait")
def test_a_large_group_of_pure_steps_is_recorded_in_portions(go):
    log = Watched()
    group = [a_step(f"m{i}", pure=True, seen=log.seen) for i in range(1000)]
    go(timeline([a_step("head", pure=True, seen=log.seen), group]).execute(store=log))
    assert max(log.sizes) <= 512
    assert sum(what == "StepCompleted" for what, _ in log.seen) == 1001


def test_a_stop_records_what_has_ended():
    log, begun = MemoryStore(), asyncio.Event()

    @step(pure=True)
    async def one():
        return 1

    @step(pure=True)
    async def stays(one):
        begun.set()
        await asyncio.Event().wait()

    async def stopped():
        run = timeline([one, stays]).start(store=log, execution_id="k1")
        await begun.wait()
        run.stop()
        with pytest.raises(ExecutionStoppedError):
            await run

    asyncio.run(stopped())
    kinds = [type(event) for event in log.events("k1")]
    assert kinds.count(StepStarted) == 2
    assert kinds.count(StepCompleted) == 1
    assert log.execution("k1").summary.state == "PAUSED"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"pure": 1}, "pure must be True or False, not 1"),
        ({"pure": True, "effect": "external"}, "a step with an external effect is not pure"),
    ],
)
def test_wrong_options_are_refused(options, problem):
    with pytest.raises(StepDefinitionError, match=problem):
        step(name="s", **options)(lambda: None)
