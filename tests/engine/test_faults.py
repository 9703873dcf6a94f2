"""A fault at any point: the run ends with its error or completes; its neighbour and a resume complete."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cerebelum_nb import StoreError, WorkflowError, flow, observe, sleep, step, workflow
from cerebelum_nb._engine import values
from cerebelum_nb._engine.scope import current_scope
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.testing import FakeClock, MemoryStore

VICTIM, NEIGHBOUR = "victim", "neighbour"
CAUSE = "the injected fault"


class Fault:
    """Raises at its nth use."""

    def __init__(self, place, nth, error):
        self.place, self.left, self.error = place, nth, error

    def at(self, place):
        if place == self.place:
            self.left -= 1
            if self.left == 0:
                raise self.error


class FaultyClock(FakeClock):
    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def now(self):
        self.fault.at("clock.now")
        return super().now()

    def call_at(self, at, callback):
        self.fault.at("clock.call_at")
        return super().call_at(at, callback)


@step
async def first():
    return 1


@step
def plain(first):
    return first + 1


@step
async def beside(first):
    await sleep("1h")
    return 3


@step
async def nap():
    await sleep("2h")
    return 4


@step(retries=1, retry_delay="1m")
async def flaky(context):
    if context.attempt == 1:
        raise ConnectionError
    return context.attempt


@step
async def count(context):
    return context.visit


@step
async def last():
    return "done"


def flows(fault):
    """A chain, a group, a loop and waits; the predicates of its routes may fail."""

    def again(visits):
        fault.at("predicate")
        return visits < 3

    def loop(wf):
        wf.timeline(first >> count >> last)
        wf.diverge(from_step=count, patterns={again: flow.back_to(count)})

    return {
        "chain": workflow(name="w")(lambda wf: wf.timeline(first >> plain >> last)),
        "group": workflow(name="w")(lambda wf: wf.timeline(first >> [plain, beside] >> last)),
        "loop": workflow(name="w")(loop),
        "waits": workflow(name="w")(lambda wf: wf.timeline(nap >> flaky >> last)),
    }


def make_faulty(stack, store, fault):
    """Let a store, the codec, thread starts and an observer fail for the victim."""
    commit, events, encode, start = store.commit, store.events, values.encode, threading.Thread.start

    def faulty_commit(commits):
        if any(each.execution_id == VICTIM for each in commits):
            fault.at("store.commit")
        return commit(commits)

    def faulty_events(execution_id, *args, **kwargs):
        if execution_id == VICTIM:
            fault.at("store.events")
        return events(execution_id, *args, **kwargs)

    def faulty_encode(value, **kwargs):
        scope = current_scope.get()
        if scope is not None and scope.execution.id == VICTIM:
            fault.at("codec")
        return encode(value, **kwargs)

    def faulty_start(thread):
        if thread.name.startswith("step "):
            fault.at("thread")
        start(thread)

    stack.enter_context(patch.object(store, "commit", faulty_commit))
    stack.enter_context(patch.object(store, "events", faulty_events))
    stack.enter_context(patch.object(values, "encode", faulty_encode))
    stack.enter_context(patch.object(threading.Thread, "start", faulty_start))
    stack.enter_context(observe.add(lambda recorded: fault.at("observer")))


async def bounded(*work):
    async with asyncio.timeout(120):
        return await asyncio.gather(*work, return_exceptions=True)


def told(error):
    """The messages of an error and its causes."""
    words = []
    while error is not None:
        words.append(str(error))
        error = error.__cause__ or error.__context__
    return " | ".join(words)


PLACES = ["store.commit", "store.events", "codec", "observer", "predicate", "clock.now", "clock.call_at", "thread"]
ERRORS = [
    lambda: RuntimeError(CAUSE),
    lambda: OSError(CAUSE),
    lambda: StoreError(CAUSE),
    lambda: StoreError(CAUSE, transient=True),
]


@settings(max_examples=2 * settings().max_examples, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(["chain", "group", "loop", "waits"]),
    place=st.sampled_from(PLACES),
    nth=st.integers(1, 14),
    error=st.sampled_from(ERRORS),
    on_disk=st.booleans(),
)
@example(kind="chain", place="store.commit", nth=1, error=ERRORS[0], on_disk=True)
@example(kind="group", place="store.commit", nth=3, error=ERRORS[3], on_disk=True)
@example(kind="group", place="thread", nth=1, error=ERRORS[0], on_disk=False)
@example(kind="waits", place="clock.call_at", nth=2, error=ERRORS[1], on_disk=False)
@example(kind="loop", place="predicate", nth=2, error=ERRORS[2], on_disk=False)
def test_one_fault_anywhere_ends_at_most_its_own_run_and_a_resume_completes_it(kind, place, nth, error, on_disk):
    fault = Fault(place, nth, error())
    run_of = flows(fault)[kind]
    with ExitStack() as stack:
        if on_disk:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            store = stack.enter_context(SqliteStore(Path(folder) / "log.db", durability="normal"))
        else:
            store = MemoryStore()
        store.hibernate_after = timedelta.max  # no hibernation

        async def behind(execution_id):
            return await run_of.start(store=store, execution_id=execution_id)

        with ExitStack() as faulty, FaultyClock(fault):
            make_faulty(faulty, store, fault)
            ended = asyncio.run(bounded(behind(VICTIM), behind(NEIGHBOUR)))

        failed = [outcome for outcome in ended if isinstance(outcome, BaseException)]
        assert len(failed) <= 1
        assert all(isinstance(outcome, (WorkflowError, type(fault.error))) for outcome in failed)
        assert all(CAUSE in told(outcome) for outcome in failed)
        if place == "observer" or (place == "store.commit" and getattr(fault.error, "transient", False)):
            assert failed == []
        if place in ("store.commit", "store.events", "codec"):
            assert ended[1].output == "done"

        with FakeClock():
            for execution_id, outcome in zip((VICTIM, NEIGHBOUR), ended, strict=True):
                if not store.events(execution_id):
                    (outcome,) = asyncio.run(bounded(run_of.execute(store=store, execution_id=execution_id)))
                elif isinstance(outcome, BaseException):
                    assert store.execution(execution_id).holder is None
                    (outcome,) = asyncio.run(bounded(run_of.resume(execution_id, store=store)))
                assert outcome.output == "done"
                assert store.execution(execution_id).holder is None
