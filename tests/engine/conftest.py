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
    """The clock of everything the test runs."""
    with FakeClock() as made:
        yield made


@pytest.fixture
def go(clock):
    """Run a coroutine to its end; a run that hangs fails the test instead of blocking it."""

    def run(work):
        async def bounded():
            async with asyncio.timeout(120):
                return await work

        return asyncio.run(bounded())

    return run


@pytest.fixture
def kinds_of():
    """List the types of an execution's events, with the names of their steps if asked."""

    def kinds(store, execution_id="k1", *wanted):
        names = [type(event).__name__ for event in store.events(execution_id)]
        return [name for name in names if not wanted or name in wanted]

    return kinds


@pytest.fixture
def fails(go):
    """Run a coroutine that must fail; return its error."""

    def run(work):
        from cerebelum_nb import WorkflowError

        with pytest.raises(WorkflowError) as caught:
            go(work)
        return caught.value

    return run
