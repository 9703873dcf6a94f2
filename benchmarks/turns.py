"""How long the event loop is kept from everything else while the engine has much to do at once.

A turn is one iteration of the loop, with all that runs in it, measured in CPU time: other work on the machine does not
count. The garbage collector's part is told apart, because it grows with everything the process holds. A probe asks for
a turn every millisecond besides, and notes how late it came. The steps do nothing, so that all of it is the engine's
doing, and asyncio's: the tasks of 10,000 executions take two turns of some 40 ms before any of them runs.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from statistics import quantiles

from cerebelum_nb import (
    ExecutionCancelledError,
    ExecutionStoppedError,
    Run,
    Workflow,
    WorkflowError,
    foreach,
    sleep,
    step,
    workflow,
)
from cerebelum_nb._dsl.builder import WorkflowBuilder
from cerebelum_nb._store.sqlite import SqliteStore

from .measure import Figure, Settings
from .workloads import chain, fan, no_op

__all__ = ["run"]

NAME = "turns"
MANY = 10_000
LARGE_MB = 10, 100
LONGEST_MS, P99_MS = 10.0, 15.0
MB_MS = 30.0
"""CPU of a megabyte of JSON that one step returns and the next one takes: 3 s for 100 MB."""
_EVERY = 0.001


def run(settings: Settings) -> list[Figure]:
    many, fewer = settings.size(MANY), settings.size(1_000)
    one, wide, asleep, each = chain(1, name="one_of_many"), fan(many), _sleepers(many), _items()

    async def ends(end: Callable[[Run], None], store: SqliteStore) -> None:
        running = asleep.start(store=store)
        at_work = running.execution.at_work
        while sum(bool(scope.waits) for scope in at_work().values()) < many:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.1)
        await measured.forget()
        end(running)
        with suppress(ExecutionCancelledError, ExecutionStoppedError):
            await running

    async def resumes(store: SqliteStore) -> None:
        first, again = _failing(many), _failing(many)
        with suppress(WorkflowError):
            await first.execute(store=store)
        fresh = others.enter_context(SqliteStore(store.location, durability="normal"))  # as another process would
        await measured.forget()
        with suppress(WorkflowError):
            await again.resume(store=fresh)

    async def passed(mb: int, store: SqliteStore) -> None:
        passes = _passes(settings.size(mb * 1_000_000))
        await measured.forget()
        began = time.process_time()
        await passes.execute(store=store)
        measured.cpu, measured.most = time.process_time() - began, mb * MB_MS

    def at_once(count: int) -> Callable[[SqliteStore], Awaitable[object]]:
        return lambda store: asyncio.gather(*(one.execute(store=store) for _ in range(count)))

    works: dict[str, Callable[[SqliteStore], Awaitable[object]]] = {
        f"1 -> {many:,} -> 1": lambda store: wide.execute(store=store),
        f"{fewer:,} executions at once": at_once(fewer),
        f"{many:,} executions at once": at_once(many),
        f"a foreach of {many:,} items": lambda store: each.execute({"items": [*range(many)]}, store=store),
        f"the cancellation of {many:,} sleepers": partial(ends, Run.cancel),
        f"a stop of {many:,} sleepers": partial(ends, Run.stop),
        f"a resume after {many:,} finished steps": resumes,
    }
    works |= {f"{mb} MB of JSON from step to step": partial(passed, mb) for mb in LARGE_MB}
    figures = []
    for name, work in works.items():
        settings.progress(name)
        measured = _Measured()
        gc.collect()  # what the work before this one left
        loop = asyncio.Runner(loop_factory=partial(_TimedLoop, measured))
        log = SqliteStore(settings.file("turns.db"), durability="normal")
        with log as store, ExitStack() as others, loop, measured.collections():
            loop.run(measured.late_during(partial(work, store)))
        p99 = quantiles(measured.late, n=100, method="inclusive")[-1] if len(measured.late) > 1 else measured.late[0]
        detail = f"CPU of {len(measured.turns):,} turns; the longest garbage collection {measured.longest * 1e3:.1f} ms"
        figures += [
            Figure(
                benchmark=NAME,
                name=f"longest turn, {name}",
                value=max(measured.turns) * 1e3,
                unit="ms",
                target=LONGEST_MS,
                detail=detail,
            ),
            Figure(
                benchmark=NAME,
                name=f"loop lag p99, {name}",
                value=p99 * 1e3,
                unit="ms",
                target=P99_MS,
                detail=f"the latest of {len(measured.late):,} by {max(measured.late) * 1e3:.1f} ms",
            ),
        ]
        if measured.cpu:
            figures.append(
                Figure(benchmark=NAME, name=f"CPU of {name}", value=measured.cpu * 1e3, unit="ms", target=measured.most)
            )
    return figures


class _Measured:
    """What was measured: the turns of the loop without collections, how late the probe came, collections."""

    def __init__(self) -> None:
        self.turns: list[float] = []
        self.late: list[float] = []
        self.collected = self.longest = 0.0
        self.kept: object = None  # what the work returned: to drop 10,000 results at once is the caller's turn
        self.cpu = self.most = 0.0  # what a work took in all threads, and its target

    @contextmanager
    def collections(self) -> Iterator[None]:
        began, here = 0.0, threading.get_ident()

        def note(phase: str, _: object) -> None:
            nonlocal began
            if phase == "start":
                began = time.thread_time()
            else:
                took = time.thread_time() - began
                self.collected += took if threading.get_ident() == here else 0.0
                self.longest = max(self.longest, took)

        gc.callbacks.append(note)
        try:
            yield
        finally:
            gc.callbacks.remove(note)

    async def late_during(self, work: Callable[[], Awaitable[object]]) -> None:
        """Do the work, and note by how many seconds each turn that was asked for came late."""
        loop = asyncio.get_running_loop()

        async def ask() -> None:
            while True:
                due = loop.time() + _EVERY
                await asyncio.sleep(_EVERY)
                self.late.append(max(0.0, loop.time() - due))

        probe = asyncio.create_task(ask())
        await asyncio.sleep(0)
        await self.forget()
        self.kept = await work()
        await asyncio.sleep(_EVERY)
        probe.cancel()
        self.late = self.late or [0.0]

    async def forget(self) -> None:
        """Forget what was measured until now, this turn included."""
        await asyncio.sleep(0)
        self.turns.clear()
        self.late.clear()
        self.longest = 0.0


class _TimedLoop(asyncio.SelectorEventLoop):
    """A loop that notes the CPU time of each of its turns."""

    def __init__(self, measured: _Measured) -> None:
        super().__init__()
        self._measured = measured

    def _run_once(self) -> None:
        measured = self._measured
        began = time.thread_time() - measured.collected
        super()._run_once()  # type: ignore[misc]  # asyncio's own, which typeshed does not name
        measured.turns.append(time.thread_time() - measured.collected - began)


def _items() -> Workflow:
    @step
    async def same(item: int) -> int:
        return item

    @workflow
    def items(wf: WorkflowBuilder) -> None:
        wf.timeline(foreach(same, item="inputs.items", max_concurrency=100))

    return items


def _failing(count: int) -> Workflow:
    @step
    async def last() -> None:
        raise RuntimeError("so that it can be resumed")

    steps = [*(no_op(f"step_{number}") for number in range(count)), last]

    @workflow
    def failing(wf: WorkflowBuilder) -> None:
        wf.timeline(steps)

    return failing


def _passes(size: int) -> Workflow:
    """Make a workflow in which one step returns so many bytes of JSON, and the next one takes it."""
    rows = [{"id": i, "name": f"name {i}", "score": i / 7, "tags": ["a", "b"]} for i in range(size // 72)]

    @step
    async def returns() -> list[dict[str, object]]:
        return rows

    @step
    async def takes(returns: list[dict[str, object]]) -> int:
        return len(returns)

    @workflow
    def passes(wf: WorkflowBuilder) -> None:
        wf.timeline(returns >> takes)

    return passes


def _sleepers(count: int) -> Workflow:
    async def naps() -> None:
        await sleep("1h")

    members = [step(name=f"sleeper_{number}")(naps) for number in range(count)]

    @workflow
    def asleep(wf: WorkflowBuilder) -> None:
        wf.timeline(no_op("first") >> members)

    return asleep
