"""A step with ``process=True``: the attempt, in its thread as for any plain step, and the child process it manages.

The child is a fresh interpreter, not a fork: a kernel has threads, and a fork of a process with threads may hang. It
runs the step's function (process_child.py) and asks the parent for everything else: an operation is performed here,
under the attempt's scope, and only the functions passed to it (the check of a ``poll``) are called in the child.

A monitor thread starts the child, shows what it prints, reaps it, and kills its process group once the attempt is over.
If the parent dies, the child ends: it reads the end of its connection, and on Linux the kernel kills it in any case.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import linecache
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from .._core.graph import StepSpec
from .._core.value import ErrorInfo, Value
from .._host.caller import as_shown, crash_traceback
from .._host.frontend import Audience, audience
from .._text.json_text import parse
from .._values.preview import type_name
from .._values.walk import find
from ..errors import OperationError, SerializationError, StepProcessError
from .functions import CODE
from .process_wire import Handle, Wire, pack, unpack
from .scope import Scope, Suspension, current_scope
from .user_errors import DESCRIBED

__all__ = ["run_in_process"]

T = TypeVar("T")

_LOOK_SECONDS = 1.0
"""How often to check that the child lives. Its connection does not always end with it: a fork may hold it open."""

_END_SECONDS = 5.0
"""How long the child may take to exit after its step has returned."""

_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from {} import main; main(*map(int, sys.argv[2:]))"

_LONGEST_DUMP = 10_000


def run_in_process(spec: StepSpec, scope: Scope, arguments: dict[str, Any]) -> Any:
    """Call a step's function in a child process, and return its result.

    Args:
        spec: the step.
        scope: the attempt; this is called in its thread.
        arguments: the arguments of the function.

    Raises:
        OperationError: no process can be started here.
        SerializationError: the function, an argument or the result cannot be sent.
        StepProcessError: the child ended by itself.
        Suspension: the attempt is over.
        Otherwise what the function raises.
    """
    if (why := _why_not()) is not None or scope.thread is None:
        raise OperationError(
            f"step '{spec.name}' is declared with process=True, but no process can be started here"
            f"{f' ({why})' if why else ''}: leave out process=True"
        )
    return _Process(spec, scope).run(arguments)


def _why_not() -> str | None:
    """Return why no process can be started here; None if it can."""
    if sys.platform in ("emscripten", "wasi", "android", "ios"):
        return "Python in a browser or on a phone has one process"
    if os.name == "nt":
        return "Windows is not supported"
    return None if sys.executable else "the path of the Python executable is unknown"


class _Process:
    """The child process of one attempt. ``run`` is called by the attempt's thread, ``kill`` by any."""

    def __init__(self, spec: StepSpec, scope: Scope) -> None:
        self.spec, self.scope = spec, scope
        self._inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()  # for the attempt's thread
        self._busy = False  # whether that thread performs an operation
        self._lock = threading.Lock()
        self._popen: subprocess.Popen[bytes] | None = None
        self._done = False
        self.killed = False
        self._calls: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]]] = {}
        self._last_call = 0
        self._operations: dict[asyncio.Task[Any], asyncio.AbstractEventLoop] = {}  # those in progress
        self._ended = False  # the child takes no more answers
        self._wire: Wire

    def run(self, arguments: dict[str, Any]) -> Any:
        """Run the function in the child, and perform its operations."""
        package = self._package(arguments)
        self.scope.process = self
        self.scope.check()
        context = contextvars.copy_context()
        name = f"process of step {self.spec.name}"
        threading.Thread(target=context.run, args=(self._monitor, package), name=name, daemon=True).start()
        while True:
            what, *fields = self._inbox.get()
            if what == "ask":
                try:
                    self._operate(*fields)
                except Suspension:
                    self.kill()
                    raise
                finally:
                    self._busy = False
            elif what == "done":
                return self._restore(fields[0])
            else:
                raise fields[0]

    def kill(self) -> None:
        """Kill the child and its process group, unless the step has returned."""
        with self._lock:
            if self._done:
                return
            self.killed = True
            if self._popen is not None and self._popen.poll() is None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._popen.pid, signal.SIGKILL)

    # -- the package that is sent ---------------------------------------------------------------------------

    def _package(self, arguments: dict[str, Any]) -> dict[str, Any]:
        where = f"step '{self.spec.name}' runs in its own process"
        try:
            work = pack((_by_name(self.spec.fn) or self.spec.fn, arguments))
        except Exception as error:  # pickling runs the user's code
            raise self._unsendable(where, arguments, error) from error
        scope, redactor = self.scope, self.scope.execution.redactor
        return {
            "work": work,
            "step": (scope.step, scope.visit, scope.attempt),
            "execution": (scope.execution.id, scope.execution.plan.workflow),
            "secrets": (tuple(redactor.names), tuple(redactor.known)),
            "cells": [(file, as_shown(file), linecache.getlines(file)) for file in _cells(self.spec.fn)],
            "watched": audience() is not Audience.NOBODY,
        }

    def _unsendable(self, where: str, arguments: dict[str, Any], error: Exception) -> SerializationError:
        redactor = self.scope.execution.redactor
        for name, value in arguments.items():
            if _fails(value):
                path, culprit = find(value, name, lambda _, item: _fails(item), redactor=redactor, deepest=True) or (
                    name,
                    value,
                )
                problem = f"{where}, and {path}, a {type_name(culprit)}, cannot be sent to it"
                break
        else:
            found = find(self.spec.fn, "its function", lambda _, item: _fails(item), redactor=redactor, deepest=True)
            path, culprit = found or ("its function", self.spec.fn)
            problem = f"{where}, and {path}, a {type_name(culprit)}, which it uses, cannot be sent to it"
        reason = redactor.mask(f"{type(error).__name__}: {error}")
        return SerializationError(
            f"{problem} ({reason}). Make it inside the step, give it plain data, or leave out process=True", path=path
        )

    def _restore(self, data: bytes) -> Any:
        try:
            return unpack(data)
        except Exception as error:
            raise SerializationError(
                f"the result of step '{self.spec.name}' came from its process but cannot be restored here: "
                f"{type(error).__name__}: {error}. Return plain data, or a class of a module that can be imported here"
            ) from error

    # -- the monitor thread ---------------------------------------------------------------------------------

    def _monitor(self, package: dict[str, Any]) -> None:
        ours, theirs = socket.socketpair()
        with tempfile.TemporaryFile() as dump, theirs:
            self._wire = Wire(Connection(ours.detach()))
            try:
                with self._lock:
                    if self.killed:
                        self._inbox.put(("failed", self.scope.over()))
                        return
                    self._popen = self._start(theirs.fileno(), dump.fileno())
                theirs.close()
                with suppress(OSError):  # it ended before it read this; `_end` finds out how
                    self._wire.send("run", package)
                self._listen()
                self._end(dump)
            except BaseException as error:  # noqa: BLE001 - the attempt's thread waits for an answer
                self.kill()
                self._inbox.put(("failed", error))
            finally:
                self._wire.close()
                self._give_up()
        self._reap()

    def _start(self, connection: int, dump: int) -> subprocess.Popen[bytes]:
        start = _START.format(__name__.replace(".process", ".process_child"))
        path = json.dumps([entry for entry in sys.path if isinstance(entry, str)])
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
        return subprocess.Popen(
            [sys.executable, *flags, "-c", start, path, str(connection), str(dump), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            pass_fds=(connection, dump),
            start_new_session=True,  # Ctrl-C in a terminal is handled by this process
        )

    def _listen(self) -> None:
        """Handle the messages of the child until it ends."""
        assert self._popen is not None
        while not self._done:
            try:
                if not self._wire.poll(_LOOK_SECONDS):
                    if self._popen.poll() is not None:
                        return
                    continue
                what, *fields = self._wire.receive()
            except (EOFError, OSError):
                return
            self._take(what, *fields)

    def _take(self, what: str, *fields: Any) -> None:
        scope = self.scope
        match what:
            case "print":
                self._print(*fields)
            case "progress":
                scope.progress(*fields)
            case "note":
                name, text = fields
                value: Value = scope.execution.encode(parse(text), path=f"the note {name!r}")
                scope.note(scope.execution.redactor.mask(name), value)
            case "secret":
                scope.execution.redactor.add(fields[0])
            case "ask":
                self._take_operation(*fields)
            case "called":
                self._answer(*fields)
            case "done" | "raised":
                with self._lock:
                    self._done = True
                self._inbox.put((what, fields[0]) if what == "done" else (what, self._restore_error(fields[0])))
            case _:
                raise AssertionError(what)

    def _print(self, stream: str, text: str, by_step: bool) -> None:
        written = getattr(sys, stream, None)
        if written is not None:
            token = current_scope.set(self.scope if by_step else None)
            try:
                written.write(text)
            finally:
                current_scope.reset(token)

    def _restore_error(self, data: bytes) -> BaseException:
        error: BaseException = unpack(data)
        return error

    def _end(self, dump: Any) -> None:
        """Report how the child ended, if it ended before its step returned."""
        if self._done:
            return
        assert self._popen is not None
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(_END_SECONDS)
        was_killed = self.killed
        self.kill()
        code: int = -signal.SIGKILL
        with suppress(subprocess.TimeoutExpired):  # not even SIGKILL ends a process in an uninterruptible call
            code = self._popen.wait(_END_SECONDS)
        with suppress(ProcessLookupError, PermissionError):  # what it had started
            os.killpg(self._popen.pid, signal.SIGKILL)
        if was_killed or self.scope.closed:
            self._inbox.put(("failed", self.scope.over()))
            return
        dump.seek(0)
        self._inbox.put(("failed", self._died(code, dump.read().decode("utf-8", "replace"))))

    def _died(self, code: int, dump: str) -> StepProcessError:
        message = f"the process of step '{self.spec.name}' {_how(code)} before the step returned"
        error = StepProcessError(message, exitcode=code)
        dump = crash_traceback(dump.strip()[:_LONGEST_DUMP])
        mro = tuple(f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__ if cls is not object)
        traceback = "\n".join([*([dump] if dump else []), f"{type(error).__name__}: {message}\n"])
        vars(error)[DESCRIBED] = ErrorInfo(type=type(error).__name__, message=message, traceback=traceback, mro=mro)
        return error

    def _reap(self) -> None:
        """Wait until the child has exited, and kill it after a while; it may still clean up after its step."""
        if self._popen is None:
            return
        until, pause = time.monotonic() + _END_SECONDS, 0.005
        while time.monotonic() < until:
            with self._lock:
                if self._popen.poll() is not None:
                    return
            time.sleep(pause)
            pause = min(0.1, pause * 2)
        self._done = False
        self.kill()
        self._popen.wait()

    # -- operations -----------------------------------------------------------------------------------------

    def _take_operation(self, number: int, by_step: bool, data: bytes) -> None:
        """Perform an operation in the attempt's thread, if the step's thread asks and it is free, or in another."""
        if by_step and not self._busy:
            self._busy = True
            self._inbox.put(("ask", number, data))
            return
        context = contextvars.copy_context()
        work = partial(context.run, self._operate_aside, number, data)
        threading.Thread(target=work, name=f"operation of step {self.spec.name}", daemon=True).start()

    def _operate_aside(self, number: int, data: bytes) -> None:
        with suppress(Suspension):
            self._operate(number, data)

    def _operate(self, number: int, data: bytes) -> None:
        """Perform an operation, and send the answer."""
        try:
            work, arguments = unpack(data)
            given = [_ChildFunction(self, number, item) if type(item) is Handle else item for item in arguments]
            answer = ("answered", number, True, pack(asyncio.run(self._perform(work(self.scope, *given)))))
        except Suspension:
            raise
        except BaseException as error:  # noqa: BLE001 - sent to the step that asked
            answer = ("answered", number, False, pack(error))
        with suppress(OSError):  # it has ended; `_end` finds out how
            self._wire.send(*answer)

    async def _perform(self, operation: Coroutine[Any, Any, T]) -> T:
        """Await an operation, which is cancelled if the child ends first: nothing else would end a long wait."""
        task = asyncio.current_task()
        assert task is not None
        with self._lock:
            self._operations[task] = asyncio.get_running_loop()
            if self._ended:
                task.cancel()
        try:
            return await operation
        finally:
            del self._operations[task]

    async def call(self, number: int, function: int, arguments: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function in the child, for an operation."""
        loop = asyncio.get_running_loop()
        made: asyncio.Future[Any] = loop.create_future()
        with self._lock:
            self._last_call += 1
            call = self._last_call
            self._calls[call] = (loop, made)
        try:
            self._wire.send("call", number, call, function, pack((arguments, kwargs)))
        except OSError:
            made.cancel()
            raise self.scope.over() from None
        return await made

    def _answer(self, call: int, succeeded: bool, data: bytes) -> None:
        loop, made = self._calls.pop(call)
        try:
            value = unpack(data)
        except Exception as error:  # noqa: BLE001 - its classes may do anything
            value, succeeded = error, False
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(_settle, made, succeeded, value)

    def _give_up(self) -> None:
        """End the operations in progress and their calls: the child has ended."""
        with self._lock:
            self._ended = True
            calls, operations = list(self._calls.values()), list(self._operations.items())
        for loop, made in calls:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, made, False, self.scope.over())
        for task, loop in operations:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)


class _ChildFunction:
    """A function that stayed in the child; it is called there, one round trip per call."""

    def __init__(self, process: _Process, number: int, handle: Handle) -> None:
        self._call = partial(process.call, number, handle.index)
        self.__name__ = handle.name
        setattr(self, CODE, handle.code)

    async def __call__(self, *arguments: Any, **kwargs: Any) -> Any:
        return await self._call(arguments, kwargs)


def _settle(made: asyncio.Future[Any], succeeded: bool, value: Any) -> None:
    if made.done():
        return
    if succeeded:
        made.set_result(value)
    else:
        made.set_exception(value)


def _by_name(fn: Callable[..., Any]) -> tuple[str, str] | None:
    """Return the module and name under which the child imports a step's function; None: the function is pickled.

    A module of the user is imported again in the child, because its globals may be impossible to pickle.
    """
    module, name = getattr(fn, "__module__", None) or "__main__", getattr(fn, "__qualname__", "")
    found: Any = sys.modules.get(module)
    if module == "__main__" or getattr(found, "__spec__", None) is None:
        return None
    for part in name.split("."):
        found = getattr(found, part, None)
    return (module, name) if found is fn or getattr(found, "fn", None) is fn else None


def _cells(fn: Callable[..., Any]) -> list[str]:
    """Return the file names of the cells that define a function and the functions it calls."""
    todo, seen, found = [fn], set[int](), dict[str, None]()
    while todo:
        current = inspect.unwrap(todo.pop())
        current = getattr(current, "fn", current)
        if id(current) in seen or not isinstance(current, types.FunctionType):
            continue
        seen.add(id(current))
        code, space = current.__code__, current.__globals__
        file = code.co_filename
        if not Path(file).exists() and linecache.getlines(file):
            found[file] = None
            todo += [space[name] for name in code.co_names if callable(space.get(name))]
    return list(found)


def _fails(value: object) -> bool:
    try:
        pack(value)
    except Exception:  # noqa: BLE001 - only whether it fails matters here
        return True
    return False


def _how(code: int) -> str:
    """Describe how a process ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hints = {
        signal.SIGKILL: ", not by this library: the system often does so when memory runs out,",
        signal.SIGSEGV: " (a segmentation fault, in code that is not Python)",
    }
    return f"was killed by {name}{hints.get(-code, '')}"  # type: ignore[call-overload]  # signals are ints
