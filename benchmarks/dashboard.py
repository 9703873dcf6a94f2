"""The dashboard in a log of 100,000 executions: pages, a commit's way to a viewer, and what viewers cost.

The server is a process of its own. Times of pages are as a client sees them; what viewers cost is CPU time of the
server, and the writer's commits with viewers are compared with those without in the same run.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median

from cerebelum_nb._core.events import StepProgressed, StepStarted, WorkflowStarted
from cerebelum_nb._core.fold import evolve, fold
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._core.value import Value
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.sqlite import SqliteStore

from .listing import _fill
from .measure import ROOT, Figure, Settings, value_of

__all__ = ["run"]

NAME = "dashboard"
EXECUTIONS, VIEWERS, EVENTS, PER_SECOND = 100_000, 50, 200, 50


def run(settings: Settings) -> list[Figure]:
    path, count = settings.file("dashboard.db"), settings.size(EXECUTIONS)
    _fill(path, count)
    with SqliteStore(path, durability="normal") as store, serving(path) as server:
        writer = Writer(store)
        pages = {
            "list, first byte": ("/dashboard/", 30),
            "list, 50 of a state": ("/dashboard/?state=failed", 30),
            "search": ("/dashboard/?q=x0000001", 300),
            "an execution": (f"/dashboard/e/{writer.id}", None),
        }
        figures = []
        for what, (address, target) in pages.items():
            server.first_byte(address)
            cpu, times = server.cpu(), settings.repeat * 4
            taken = [server.first_byte(address) for _ in range(times)]
            detail = f"{count} executions in the log; {(server.cpu() - cpu) / times * 1e3:.0f} ms of the server's CPU"
            figures.append(value_of(NAME, what, taken, "ms", target=target, detail=detail))
        events = max(20, settings.times(EVENTS))
        alone = writer.write(events)
        for viewers, target in ((1, 100), (VIEWERS, 500)):
            with ExitStack() as stack:
                feeds = [stack.enter_context(Viewer(server.port, server.token, writer.id)) for _ in range(viewers)]
                for feed in feeds:
                    feed.wait()
                cpu = server.cpu()
                began = time.perf_counter()
                commits = writer.write(events)
                share = 100 * (server.cpu() - cpu) / (time.perf_counter() - began)
                time.sleep(1)
                delays = [delay for feed in feeds for delay in feed.delays(writer.at)]
                who = f"{viewers} viewer{'s' * (viewers > 1)}, {PER_SECOND} events a second"
                figures += [
                    value_of(NAME, f"commit to viewer, {viewers}", [median(delays)], "ms", target=target, detail=who),
                    value_of(NAME, f"% of a core, {viewers} viewers", [share], "", target=10, detail=who),
                    value_of(
                        NAME,
                        f"writer's commit, {viewers}",
                        [median(commits) / median(alone)],
                        "x",
                        target=1.02,
                        detail=f"{who}; CPU time, beside nobody's",
                    ),
                ]
        figures.append(value_of(NAME, f"memory, {VIEWERS}", [server.memory()], "MB", target=70, detail="after that"))
        return figures


class Server:
    """A running dashboard."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self._pid = process.pid
        base, _, self.token = address.partition("/?token=")
        self.port = int(base.rpartition(":")[2])

    def first_byte(self, address: str) -> float:
        """Ask for a page and return how long its first byte took, ms."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        client.connect()
        began = time.perf_counter()
        client.request("GET", address, headers={"Authorization": f"Bearer {self.token}"})
        answer = client.getresponse()
        answer.read(1)
        taken = (time.perf_counter() - began) * 1e3
        assert answer.status == 200, (address, answer.status)
        answer.read()
        client.close()
        return taken

    def cpu(self) -> float:
        """Return the CPU time of the server so far, s."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Return the memory of the server, MB."""
        pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def serving(path: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "cerebelum_nb", "dashboard", str(path), "--port", "0", "--read-only"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield Server(process, process.stdout.readline().strip())
        finally:
            process.terminate()


class Writer:
    """An execution that appends events, as the engine does."""

    id = "live-1"

    def __init__(self, store: SqliteStore) -> None:
        self._store, self._holder = store, store.register(time.time_ns() // 1000, 10**10)
        self.at: dict[int, float] = {}
        now = time.time_ns() // 1000
        inputs = Value("json", json="{}")
        events = [
            WorkflowStarted(at=now, workflow="live", inputs=inputs, total_steps=1),
            StepStarted(at=now, step="copy"),
        ]
        self._state = fold(events)
        self._commit(0, events)

    def write(self, count: int) -> list[float]:
        """Append so many events, in their time; return the CPU time of each commit, ms."""
        taken = []
        for number in range(count):
            event = StepProgressed(at=time.time_ns() // 1000, step="copy", percent=number % 100, message=str(number))
            evolve(self._state, event)
            began = time.thread_time()
            self._commit(self._state.version - 1, [event])
            taken.append((time.thread_time() - began) * 1e3)
            self.at[self._state.version] = time.perf_counter()
            time.sleep(1 / PER_SECOND)
        return taken

    def _commit(self, after: int, events: list) -> None:
        summary = summarise(self._state)
        commit = Commit(execution_id=self.id, after=after, events=events, summary=summary, holder=self._holder)
        assert not self._store.commit([commit])


class Viewer:
    """Somebody who looks at the execution; the versions it was shown, and when."""

    def __init__(self, port: int, token: str, execution_id: str) -> None:
        self._client = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        self._client.request("GET", f"/dashboard/e/{execution_id}/feed", headers=headers)
        self._socket = self._client.sock
        self._answer = self._client.getresponse()
        self._seen: dict[int, float] = {}
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Viewer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(20)
        self._answer.close()
        self._client.close()

    def wait(self) -> None:
        """Wait for the first picture."""
        assert self._first.wait(120)

    def delays(self, committed: dict[int, float]) -> list[float]:
        """How long after its commit each version that was shown came here, ms."""
        return [(at - committed[version]) * 1e3 for version, at in self._seen.items() if version in committed]

    def _read(self) -> None:
        with suppress(OSError, http.client.HTTPException):
            while line := self._answer.readline():
                if line.startswith(b"data: {"):
                    newest = json.loads(line[6:]).get("lists", {}).get("events", ["e-0"])[0]
                    self._seen.setdefault(int(newest.removeprefix("e-")), time.perf_counter())
                    self._first.set()
