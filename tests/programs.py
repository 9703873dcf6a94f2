"""Python programs in processes that start at once: forked from one that has done the imports.

``run`` and ``Popen`` take what those of `subprocess` take, for ``[sys.executable, ...]`` with ``-W error``, ``-c``,
``-m`` or a file. The process is a real one, with its own standard streams, working directory, environment, signals
and exit code. Use `subprocess` where what a process imports is the point.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import types
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = (
    *("asyncio", "concurrent.futures.thread", "sqlite3", "click", "cloudpickle", "pdb", "rich.console", "rich.live"),
    *("cerebelum_nb._cli.commands.fork", "cerebelum_nb._cli.commands.scheduler", "cerebelum_nb._scheduler.scheduler"),
    *(
        "cerebelum_nb._client.acting",
        "cerebelum_nb._views.live",
        "cerebelum_nb._workflow.sweep",
        "cerebelum_nb.testing",
    ),
)
"""What most programs import."""

FRAMES = ("pandas", "IPython", "cerebelum_nb._history.tables", "cerebelum_nb._history.frames")
"""What programs import that look at the history."""


class Parent:
    """The process that programs are forked from."""

    _all: ClassVar[dict[tuple[str, ...], Parent]] = {}
    _making: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, imports: tuple[str, ...]) -> None:
        self._lock = threading.Lock()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [sys.executable, __file__, str(theirs.fileno()), *imports]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)
        theirs.close()
        atexit.register(self.end)

    @classmethod
    def of(cls, imports: tuple[str, ...]) -> Parent:
        """Return the one of this process that has imported all of them."""
        with cls._making:
            if imports not in cls._all:
                cls._all[imports] = cls(imports)
            return cls._all[imports]

    def ask(self, what: dict[str, Any], files: list[int]) -> int:
        """Send a request, and return the answer."""
        with self._lock:
            socket.send_fds(self._ours, [json.dumps(what).encode()], files)
            return int(self._ours.recv(100))

    def end(self) -> None:
        """Let it end; programs that are still running are not its business."""
        self._ours.close()
        self._process.wait()


class Popen(subprocess.Popen):  # type: ignore[type-arg]  # text or bytes, as asked for
    """A program that is forked instead of started."""

    def __init__(self, args: Any, *, imports: tuple[str, ...] = (), **how: Any) -> None:
        self._parent = Parent.of((*IMPORTS, *imports))
        super().__init__(args, **how)

    def _execute_child(  # type: ignore[override, no-untyped-def]  # as in subprocess, which calls it
        self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell,
        p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite, restore_signals, gid, gids, uid, umask,
        start_new_session, *more,
    ) -> None:  # fmt: skip
        assert args[0] == sys.executable and not (preexec_fn or pass_fds or shell)
        sys.audit("subprocess.Popen", args[0], args, cwd, env)
        given = [(0, p2cread), (1, c2pwrite), (2, errwrite)]
        request = {
            "argv": [str(arg) for arg in args[1:]],
            "cwd": str(cwd or Path.cwd()),
            "env": {name: str(value) for name, value in (os.environ if env is None else env).items()},
            "session": start_new_session,
            "streams": [number for number, file in given if file != -1],
        }
        self.pid = self._parent.ask(request, [file for _, file in given if file != -1])
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)  # type: ignore[attr-defined]

    def _try_wait(self, flags: int) -> tuple[int, int]:  # type: ignore[override]
        while True:
            status = self._parent.ask({"wait": self.pid}, [])
            if status >= 0:
                return self.pid, status
            if flags & os.WNOHANG:
                return 0, 0
            time.sleep(0.005)

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:  # type: ignore[override]
        if self.returncode is None:
            with suppress(OSError):  # the parent has ended, as this process is ending
                pid, status = self._try_wait(os.WNOHANG)
                if pid == self.pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
        return self.returncode


def run(
    args: Any, *, capture_output: bool = False, check: bool = False, timeout: float = 120, **how: Any
) -> subprocess.CompletedProcess[Any]:
    """Run a program to its end, as `subprocess.run` does."""
    given = how.pop("input", None)
    if given is not None:
        how["stdin"] = subprocess.PIPE
    if capture_output:
        how |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(args, **how) as process:
        try:
            out, err = process.communicate(given, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    if check and process.returncode:
        raise subprocess.CalledProcessError(process.returncode, args, out, err)
    return subprocess.CompletedProcess(args, process.returncode, out, err)


# -- in the parent ------------------------------------------------------------------------------------------


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork when asked to; return the request in the child, and None at the end."""
    while True:
        message, files, _, _ = socket.recv_fds(requests, 1_000_000, 3)
        if not message:
            return None
        request = json.loads(message)
        if "wait" in request:
            pid, status = os.waitpid(request["wait"], os.WNOHANG)
            requests.send(str(status if pid else -1).encode())
            continue
        pid = os.fork()
        if pid == 0:
            requests.close()
            for number, file in zip(request["streams"], files, strict=True):
                os.dup2(file, number)
        for file in files:
            os.close(file)
        if pid == 0:
            return request
        requests.send(str(pid).encode())


def become(request: dict[str, Any], path: list[str]) -> None:
    """Be the program, in the child."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    if request["session"]:
        os.login_tty(0) if os.isatty(0) else os.setsid()
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _writer(1, "strict")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _writer(2, "backslashreplace")  # type: ignore[misc]
    argv = request["argv"]
    while argv[0] in ("-W", "-u"):
        if argv.pop(0) == "-W":
            sys.warnoptions.append(argv[0])
            warnings.simplefilter(argv.pop(0))  # type: ignore[arg-type]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    here, name = "", "<string>"
    match argv[0]:
        case "-c":
            source, sys.argv = argv[1], ["-c", *argv[2:]]
        case "-m":
            source, here, sys.argv = "", request["cwd"], ["-m", *argv[2:]]
        case file:
            name, source, sys.argv = str(Path(file).absolute()), Path(file).read_text(encoding="utf-8"), argv
            here, main.__file__ = str(Path(file).resolve().parent), name
    more = request["env"].get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = [here, *(entry for entry in more if entry), *path]
    try:
        if argv[0] == "-m":
            runpy._run_module_as_main(argv[1])  # type: ignore[attr-defined]
        else:
            exec(compile(source, name, "exec", dont_inherit=True), main.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        _die_of(error)


def _die_of(error: BaseException) -> None:
    """Show an error and end, as Python does; the frames of this file are left out."""
    trace = error.__traceback__.tb_next if error.__traceback__ else None
    sys.excepthook(type(error), error.with_traceback(trace), trace)
    if not isinstance(error, KeyboardInterrupt):
        sys.exit(1)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def _writer(file: int, errors: str) -> Any:
    return open(file, "w", encoding="utf-8", errors=errors, closefd=False, buffering=1 if os.isatty(file) else -1)


if __name__ == "__main__":
    found = sys.path[1:]
    sys.path[0] = str(ROOT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for imported in sys.argv[2:]:
            importlib.import_module(imported)
    gc.freeze()  # what was imported is not looked through again by each program
    asked = serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        become(asked, found)
