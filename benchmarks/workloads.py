"""The workflows that are measured: no-op async steps in a chain, or fanned out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cerebelum_nb import Step, Workflow, step, workflow
from cerebelum_nb._dsl.builder import WorkflowBuilder
from cerebelum_nb._store.base import Store
from cerebelum_nb._store.sqlite import SqliteStore

__all__ = ["carrying", "chain", "commits_of", "fan", "no_op", "timed", "timed_cpu"]


def no_op(name: str, *, pure: bool = False) -> Step[[], Any]:
    """Make an async step that does nothing."""

    @step(name=name, pure=pure)
    async def nothing() -> None:
        return None

    return nothing


def noting(name: str, note: Callable[[], None]) -> Step[[], Any]:
    """Make an async step that only calls ``note``."""

    @step(name=name)
    async def noted() -> None:
        note()

    return noted


def chain(
    count: int, notes: Mapping[int, Callable[[], None]] | None = None, *, name: str = "chain", pure: bool = False
) -> Workflow:
    """Make a workflow of ``count`` steps one after another; ``notes`` are called by steps of those numbers."""
    at = notes or {}
    steps = [noting(f"step_{i}", at[i]) if i in at else no_op(f"step_{i}", pure=pure) for i in range(1, count + 1)]

    @workflow(name=name)
    def sequential(wf: WorkflowBuilder) -> None:
        wf.timeline(steps)

    return sequential


def carrying(count: int) -> Workflow:
    """Make a workflow of ``count`` steps, each of which takes the small dict of the one before it and returns one."""

    @step(name="step_1")
    async def first() -> dict[str, Any]:
        return {"number": 1, "name": "first", "done": False}

    steps: list[Step[..., Any]] = [first]
    for number in range(2, count + 1):
        before = f"step_{number - 1}"
        names: dict[str, Any] = {}
        exec(f"async def carried({before}): return {{**{before}, 'number': {number}}}", names)  # by name
        steps.append(step(name=f"step_{number}")(names["carried"]))

    @workflow(name="carrying")
    def carried(wf: WorkflowBuilder) -> None:
        wf.timeline(steps)

    return carried


def fan(count: int) -> Workflow:
    """Make a workflow 1 -> ``count`` -> 1."""
    first, last = no_op("first"), no_op("last")
    siblings = [no_op(f"sibling_{i}") for i in range(1, count + 1)]

    @workflow(name="fan")
    def fanned(wf: WorkflowBuilder) -> None:
        wf.timeline(first >> siblings >> last)

    return fanned


async def timed(work: Workflow, store: Store, times: int = 1) -> float:
    """Execute a workflow and return the seconds one execution took: all of ``execute``, planning included."""
    began = time.perf_counter()
    for _ in range(times):
        await work.execute(store=store)
    return (time.perf_counter() - began) / times


async def timed_cpu(work: Workflow, store: Store) -> float:
    """Execute a workflow and return the CPU seconds this process used."""
    began = time.process_time()
    await work.execute(store=store)
    return time.process_time() - began


@contextmanager
def commits_of(store: SqliteStore) -> Iterator[list[str]]:
    """Collect the commits of a log's connection while the block runs."""
    commits: list[str] = []
    connection = store._connected()
    connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    try:
        yield commits
    finally:
        connection.set_trace_callback(None)
