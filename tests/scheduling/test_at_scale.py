"""What thousands of hibernated executions cost a scheduler: nothing that grows with their number."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

import pytest

from cerebelum_nb import scheduler
from cerebelum_nb._core.events import SleepStarted, StepStarted, WorkflowHibernated, WorkflowStarted
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._core.value import Value
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.sqlite import SqliteStore

NEVER = 4_000_000_000_000_000
"""µs since the epoch: in the year 2096."""
NONE = Value("json", "{}")


def hibernate(store, count, wake_at):
    """Write executions that sleep until a time; the code of their workflow does not exist."""
    holder = store.register(0, NEVER)
    for start in range(0, count, 500):
        store.commit([asleep(f"h{wake_at}-{number}", holder, wake_at + number) for number in range(start, start + 500)])


def asleep(execution_id, holder, wake_at):
    events = [
        WorkflowStarted(at=1, workflow="lost", inputs=NONE, total_steps=1, module="no_such_module"),
        StepStarted(at=2, step="nap"),
        SleepStarted(at=3, step="nap", op="sleep:1d:0:0", duration_ms=1, due_at=wake_at),
        WorkflowHibernated(at=4, wake_at=wake_at),
    ]
    summary = summarise(fold(events))
    return Commit(execution_id=execution_id, after=0, events=events, summary=summary, holder=holder, release=True)


@pytest.fixture(scope="module")
def few_and_many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scale")
    with SqliteStore(folder / "few.db", durability="normal") as few:
        hibernate(few, 500, NEVER)
        with SqliteStore(folder / "many.db", durability="normal") as many:
            hibernate(many, 5_000, NEVER)
            yield few, many


async def memory_of_a_scheduler(store):
    """Return how many bytes it holds at rest, and the most it held in the meantime."""
    background = scheduler(store)
    await rounds(background, 3)  # so that what is made only once exists
    gc.collect()
    tracemalloc.start()
    await rounds(background, 10)
    gc.collect()
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await background.stop()
    return held, most


async def rounds(background, count):
    for _ in range(count):
        background._loop.nudge()
        await asyncio.sleep(0.02)


@pytest.mark.soak
def test_the_memory_of_a_scheduler_does_not_grow_with_the_number_of_sleeping_executions(few_and_many):
    few, many = (asyncio.run(memory_of_a_scheduler(store)) for store in few_and_many)
    assert many[0] - few[0] < 10_000, "bytes held, of 10 times as many"
    assert many[1] - few[1] < 100_000, "bytes taken in between"


@pytest.mark.soak
def test_due_executions_are_read_page_by_page(tmp_path):
    taken = []
    for count in (500, 1500):
        with SqliteStore(tmp_path / f"{count}.db", durability="normal") as store:
            hibernate(store, count, 1)  # it is due, but cannot be resumed: it has no code
            taken.append(asyncio.run(memory_of_a_scheduler(store)))
    (_, few), (held, many) = taken
    assert held < 1_000_000 and many - few < 200_000, "bytes, of 3 times as many"


def test_due_executions_are_found_with_an_index(few_and_many):
    _, store = few_and_many
    asked = []
    db = store._connected()
    db.set_trace_callback(asked.append)
    store.next_wake()
    store.due(NEVER, limit=100)
    store.abandoned(limit=100)
    db.set_trace_callback(None)
    plans = {sql: [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")] for sql in asked if "SELECT" in sql}
    assert len(plans) >= 4
    for sql, plan in plans.items():
        on_executions = [line for line in plan if " execution" in line]
        assert all("USING" in line and "INDEX execution_" in line for line in on_executions), (sql, plan)
        assert not [line for line in plan if "TEMP B-TREE FOR ORDER" in line], (sql, plan)
