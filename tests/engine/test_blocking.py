"""A step that blocks the event loop is named, and no other."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections import Counter
from contextlib import closing

import pytest

from cerebelum_nb import Step, step, workflow
from cerebelum_nb._core.events import StepCompleted
from cerebelum_nb._engine import values
from cerebelum_nb._engine import watchdog as blocking
from cerebelum_nb.testing import MemoryStore


@pytest.fixture
def named(caplog, monkeypatch):
    """Run steps one after the other; return the warnings about them. 0.3 s is too long here."""
    monkeypatch.setattr(blocking, "_TOO_LONG_SECONDS", 0.3)
    monkeypatch.setattr(blocking, "_LOOK_SECONDS", 0.02)

    def made(body):
        return body if isinstance(body, Step) else step(body)

    def run(*bodies):
        steps = [[made(one) for one in body] if isinstance(body, list) else made(body) for body in bodies]
        with closing(MemoryStore()) as log, caplog.at_level(logging.WARNING, logger="cerebelum_nb"):
            workflow(name="w")(lambda wf: wf.timeline(*steps)).run(store=log)
        return [record.getMessage() for record in caplog.records]

    return run


async def only_blocks():
    time.sleep(0.6)


async def awaits_afterwards():
    time.sleep(0.6)
    await asyncio.sleep(0.05)


async def awaited_before():
    await asyncio.sleep(0.05)
    time.sleep(0.6)


async def fails_afterwards():
    try:
        await asyncio.sleep(0.01)
    finally:
        time.sleep(0.6)


async def in_a_task():
    await asyncio.gather(only_blocks(), asyncio.sleep(0))


@pytest.mark.parametrize("body", [only_blocks, awaits_afterwards, awaited_before, fails_afterwards, in_a_task])
def test_an_async_step_that_blocks_the_loop_is_named(named, body):
    (told,) = named(body)
    assert f"'{body.__name__}' blocked the event loop" in told
    assert "plain def" in told and "await sleep(...)" in told


def test_the_step_is_named_that_blocks_and_not_the_one_next_to_it(named):
    async def waits():
        await asyncio.sleep(0.9)

    def gate():
        return 1

    (told,) = named(gate, [waits, awaited_before])
    assert "'awaited_before'" in told and "waits" not in told


def test_a_plain_step_that_sleeps_is_not_named(named):
    def sleeps_in_a_thread():
        time.sleep(0.6)

    assert named(sleeps_in_a_thread) == []


def test_what_a_step_awaits_sees_its_cancellation_and_its_value():
    async def main():
        seen = []

        async def work():
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                seen.append("cancelled")
                return 42

        async def around():
            return await blocking.measured(work(), lambda *noted: seen.append(noted), "one")

        task = asyncio.create_task(around())
        await asyncio.sleep(0)
        task.cancel()
        return await task, seen

    assert asyncio.run(main()) == (42, ["cancelled"])


def test_of_many_steps_whose_turns_together_are_long_none_is_blamed(named):
    async def brief():
        await asyncio.sleep(0.05)
        time.sleep(0.02)
        await asyncio.sleep(0.05)

    crowd = [step(brief, name=f"brief_{number}") for number in range(40)]
    assert named(step(lambda: 1, name="gate"), crowd) == []


def test_no_step_is_blamed_for_the_time_that_the_engine_takes_itself(named, monkeypatch):
    def slow(self, commits):
        time.sleep(0.6)
        return commit(self, commits)

    commit = MemoryStore.commit
    monkeypatch.setattr(MemoryStore, "commit", slow)

    async def waits():
        await asyncio.sleep(0.05)

    async def waits_longer():
        await asyncio.sleep(0.1)

    assert named([waits, waits_longer]) == []


def test_no_step_is_blamed_for_the_time_in_which_its_values_are_encoded_or_garbage_is_collected(named, monkeypatch):
    def slow(*arguments, **options):
        time.sleep(0.6)
        return encode(*arguments, **options)

    encode = values.encode
    monkeypatch.setattr(values, "encode", slow)

    class Ring:
        def __init__(self):
            self.itself = self

        def __del__(self):
            time.sleep(0.6)

    async def runs(context):
        Ring()
        gc.collect()
        return await context.run("once", str, 1)

    assert named(runs) == []

    def makes_garbage(*arguments, **options):
        Ring()
        gc.collect()
        return encode(*arguments, **options)

    async def blocks_too(context):
        time.sleep(0.5)
        return await context.run("once", str, 1)

    monkeypatch.setattr(values, "encode", makes_garbage)
    (warning,) = named(blocks_too)
    assert "'blocks_too'" in warning, "the collection within the encoding counts once"


def test_many_steps_that_begin_and_end_together_leave_the_loop_its_turns(monkeypatch):
    monkeypatch.setattr("cerebelum_nb._engine.loop._PUMP_SECONDS", 0)  # a fast machine begins two portions in its time
    turns, begun, committed = [0], Counter(), []

    class Watched(MemoryStore):
        def commit(self, commits):
            committed.append(sum(isinstance(event, StepCompleted) for one in commits for event in one.events))
            return super().commit(commits)

    async def main():
        gate, loop = asyncio.Event(), asyncio.get_running_loop()

        def tick():
            turns[0] += 1
            if sum(begun.values()) == 300:
                gate.set()
            ticking.append(loop.call_soon(tick))

        async def waits():
            begun[turns[0]] += 1
            await gate.wait()

        async def first():
            pass

        steps = [step(name=f"s{number}")(waits) for number in range(300)]
        ticking = []
        tick()
        with closing(Watched()) as log:
            await workflow(name="w")(lambda wf: wf.timeline(step(first) >> steps)).execute(store=log)
        ticking[-1].cancel()

    asyncio.run(main())
    assert sum(committed) == 301
    assert max(committed) <= 128
    assert max(begun.values()) <= 128
