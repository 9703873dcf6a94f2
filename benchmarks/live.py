"""The live view in a real kernel: 200 steps of 10 ms shown and not shown; a progress update; what a notebook saves."""

from __future__ import annotations

import ast
import asyncio
import sys
import time
from typing import Any

from jupyter_client.manager import KernelManager

from cerebelum_nb import ProgressReporter
from cerebelum_nb._core.fold import fold
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb._views.card import Card
from cerebelum_nb._views.graph import Graph

from .measure import ROOT, Figure, Settings, compare, value_of
from .workloads import chain

__all__ = ["run"]

NAME = "live"
STEPS = 200
UPDATES = 10_000

CELL = """
import asyncio, gc, sys, time
sys.path.insert(0, {root!r})
from cerebelum_nb import ProgressReporter, step, workflow
from cerebelum_nb._engine import display_hooks
from cerebelum_nb._store.sqlite import SqliteStore

async def work(context):
    bar = ProgressReporter(context)
    for percent in range(10):  # 1,000 updates a second
        bar.update(percent * 10)
    await asyncio.sleep(0.01)

steps = [step(work, name=f"step_{{number}}") for number in range({steps})]

@workflow
def shown(wf):
    line = steps[0] >> steps[1]
    for following in steps[2:]:
        line = line >> following
    wf.timeline(line)

taken = {{True: [], False: []}}
factories = list(display_hooks.factories)
with SqliteStore({log!r}, durability="normal") as store:
    for turn in range({repeat} + 1):
        for looked_at in (True, False) if turn % 2 else (False, True):
            display_hooks.factories[:] = factories if looked_at else []
            gc.collect()
            began = time.perf_counter()
            await shown.execute(store=store)
            if turn:
                taken[looked_at].append(time.perf_counter() - began)
"""


def run(settings: Settings) -> list[Figure]:
    return [_overhead(settings), _update(settings), _bundle(settings)]


def _overhead(settings: Settings) -> Figure:
    steps = settings.size(STEPS)
    log = str(settings.file("live.db"))
    cell = CELL.format(root=str(ROOT), steps=steps, log=log, repeat=settings.repeat)
    taken = _in_a_kernel(cell, "(taken[True], taken[False])")
    return compare(
        NAME,
        f"{steps} steps of 10 ms with 10 updates each, watched",
        taken[0],
        taken[1],
        target=1.05,
        detail=lambda a, b: f"{a * 1e3:.0f} ms, unwatched {b * 1e3:.0f} ms",
    )


def _in_a_kernel(cell: str, asked: str) -> Any:
    """Run a cell in a kernel as a front end with a person in front of it does; evaluate what is asked afterwards."""
    manager = KernelManager(kernel_name="python3")
    assert manager.kernel_spec is not None
    manager.kernel_spec.argv[0] = sys.executable
    manager.start_kernel()
    client = manager.blocking_client()
    client.start_channels()
    shown: list[str] = []
    try:
        client.wait_for_ready(timeout=60)
        reply = client.execute_interactive(
            cell,
            allow_stdin=True,
            user_expressions={"asked": asked},
            output_hook=lambda message: shown.append(message["msg_type"]),
            timeout=300,
        )
        content = reply["content"]
        assert content["status"] == "ok", content
        assert "update_display_data" in shown, "nothing was shown"
        return ast.literal_eval(content["user_expressions"]["asked"]["data"]["text/plain"])
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def _update(settings: Settings) -> Figure:
    """What one update of a step's progress costs the step."""
    updates = settings.size(UPDATES)
    found: list[float] = []

    def note(context: Any = None) -> None:
        from cerebelum_nb import Context
        from cerebelum_nb._engine.scope import current_scope

        scope = current_scope.get()
        assert scope is not None
        bar = ProgressReporter(Context(execution_id=scope.execution.id, step_name=scope.step))
        bar.update(0)
        began = time.perf_counter()
        for number in range(updates):
            bar.update(50 * number / updates, "half way")
        found.append((time.perf_counter() - began) / updates)

    work = chain(2, {1: note})
    with SqliteStore(settings.file("updates.db"), durability="normal") as store:
        for _ in range(settings.repeat):
            asyncio.run(work.execute(store=store))
    values = [seconds * 1e6 for seconds in found]
    return value_of(NAME, "a progress update", values, "us", target=20, detail=f"{updates:,} in a row")


def _bundle(settings: Settings) -> Figure:
    steps = settings.size(STEPS)
    work = chain(steps)
    with SqliteStore(settings.file("bundle.db"), durability="normal") as store:
        result = asyncio.run(work.execute(store=store))
        state = fold(store.events(result.execution_id))
    bundle = Card.at(result.execution_id, state, state.updated_at, Graph(work.plan())).bundle()
    size = sum(len(text.encode()) for text in bundle.values())
    return Figure(
        benchmark=NAME,
        name=f"saved card of {steps} steps",
        value=size,
        unit="bytes",
        target=100_000,
        detail="html and text",
    )
