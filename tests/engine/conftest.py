"""Real runs on both stores, under a clock that jumps."""

from __future__ import annotations

import asyncio

import pytest

from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.testing import FakeClock, MemoryStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    made = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "log.db", durability="normal")
    yield made
    made.close()


@pytest.fixture
def memory():
    with_memory = MemoryStore()
    yield with_memory
    with_memory.close()


@pytest.fixture
def clock():
    """Be the clock of everything the test runs."""
    with FakeClock() as made:
        yield made


@pytest.fixture
def go(clock):
    """Run a coroutine to its end; a run that hangs is a failure, not a stuck test."""

    def run(work):
        async def bounded():
            async with asyncio.timeout(120):
                return await work

        return asyncio.run(bounded())

    return run


@pytest.fixture
def kinds_of():
    """Name the events of an execution, without the steps' names where they are not asked for."""

    def kinds(store, execution_id="k1", *wanted):
        names = [type(event).__name__ for event in store.events(execution_id)]
        return [name for name in names if not wanted or name in wanted]

    return kinds


@pytest.fixture
def fails(go):
    """Run what must fail; return the error."""

    def run(work):
        from cerebelum_nb import WorkflowError

        with pytest.raises(WorkflowError) as caught:
            go(work)
        return caught.value

    return run
