"""The fork server: a process that has imported this library, and forks a process for each job, which starts at once.

It is started at the first crash, and ends with the process that started it. On systems without fork, each job gets a
new process.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ..errors import CerebelumError

__all__ = ["exit_code", "run_jobs", "serve"]

_MAIN = f"{__package__}.killed_process"
_lock = threading.Lock()
_server: tuple[int, subprocess.Popen[bytes]] | None = None
"""The pid of the process that started it, and the server: a fork of that process needs its own."""


def run_jobs(jobs: Path, timeout: float) -> tuple[int, int, str, str]:
    """Run the jobs in a file in a new process.

    Args:
        jobs: the file; the output of the process goes into files beside it.
        timeout: seconds after which the process is killed.

    Returns:
        Its process id, its exit code, what it printed, and its errors.

    Raises:
        TimeoutError: it was killed because it had neither died nor ended.
    """
    out, err = jobs.with_suffix(".out"), jobs.with_suffix(".err")
    if hasattr(os, "fork"):
        with _lock:
            pid, code = _ask_server({"jobs": str(jobs), "out": str(out), "err": str(err)}, timeout)
    else:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with out.open("w") as stdout, err.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", _MAIN, str(jobs)], stdout=stdout, stderr=stderr, env=environment
            )
            try:
                pid, code = process.pid, process.wait(timeout)
            except subprocess.TimeoutExpired as error:
                raise TimeoutError from error
            finally:
                process.kill()
                process.wait()
    return pid, code, _read(out), _read(err)


def _ask_server(job: dict[str, Any], timeout: float) -> tuple[int, int]:
    """Make the server run a job in a fork with this process's folder, path and environment."""
    server = _get_server()
    assert server.stdin is not None and server.stdout is not None
    job |= {"cwd": str(Path.cwd()), "path": sys.path, "environment": dict(os.environ)}
    server.stdin.write(json.dumps(job).encode() + b"\n")
    pid = _number(server.stdout)
    is_over = False
    try:
        is_over = bool(select.select([server.stdout], [], [], timeout)[0])
        if not is_over:
            raise TimeoutError
    finally:  # also if the user interrupts the cell
        if not is_over:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        code = _number(server.stdout)
    return pid, code


def _number(answers: IO[bytes]) -> int:
    line = answers.readline()
    if not line:
        raise CerebelumError("The process that starts other processes for crashes has ended. Run the cell again.")
    return int(line)


def _get_server() -> subprocess.Popen[bytes]:
    global _server
    if _server is None or _server[0] != os.getpid() or _server[1].poll() is not None:
        command = [sys.executable, "-m", _MAIN]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        # Without buffers: select() would wait for lines that readline() has read ahead.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment, start_new_session=True
        )
        if _server is None or _server[0] != os.getpid():
            atexit.register(_end)
        _server = os.getpid(), process
    return _server[1]


def _end() -> None:
    """Close the server's input, which ends it."""
    if _server is not None and _server[0] == os.getpid():
        _server[1].communicate()


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


# -- the server ---------------------------------------------------------------------------------------------


def serve(requests: IO[str], answers: IO[str], run: Any) -> None:
    """Fork a process for each line of ``requests``; answer with its id, and after its end with its exit code."""
    while line := requests.readline():  # not `for line in`, which reads ahead
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(_run_request(request, run))
        answers.write(f"{child}\n")
        answers.flush()
        _, status = os.waitpid(child, 0)
        answers.write(f"{os.waitstatus_to_exitcode(status)}\n")
        answers.flush()


def _run_request(request: dict[str, Any], run: Any) -> int:
    """Run the jobs of a request in this process, with the folder, path and environment of the client."""
    os.setsid()
    for descriptor, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT),
        (2, request["err"], os.O_WRONLY | os.O_CREAT),
    ):
        os.dup2(os.open(name, flags, 0o600), descriptor)

    def main() -> int:
        os.chdir(request["cwd"])
        sys.path[:] = request["path"]
        os.environ.clear()
        os.environ.update(request["environment"])
        return int(run(Path(request["jobs"])))

    return exit_code(main)


def exit_code(main: Callable[[], int | None]) -> int:
    """Call the main function of a forked process; return the exit code, 1 after an error, which is printed."""
    try:
        return main() or 0
    except BaseException:  # noqa: BLE001 - this is the top of a process
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
