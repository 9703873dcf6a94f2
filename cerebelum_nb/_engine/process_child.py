"""The child process of a step with ``process=True``: it runs the function and sends its operations to the attempt.

The other side is process.py.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import importlib
import inspect
import itertools
import linecache
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, cast

from .._core.graph import Plan
from .._core.step_state import StepState
from .._core.value import Value
from .._host.caller import shown_as
from .._host.frontend import Audience, assume_audience
from .._values import Redactor, encode
from ..errors import OperationError, SerializationError
from .functions import code_of, name_of
from .pending_operation import unawaited
from .ports import Host
from .process_wire import CALL, Handle, Wire, pack, unpack
from .scope import Scope, current_scope

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1

_LONGEST_HELD = 8_000
"""The most characters of an unfinished line that are kept before it is sent."""


def main(connection: int, dump: int, parent: int) -> None:
    """Run the step received over a connection.

    Args:
        connection: the descriptor of its socket.
        dump: the descriptor of the file in which faulthandler describes a crash of the interpreter.
        parent: the id of the process that started this one.
    """
    for descriptor in (connection, dump):
        os.set_inheritable(descriptor, False)
    faulthandler.enable(dump)
    _die_with(parent)
    wire = Wire(Connection(connection))
    package = wire.receive()[1]
    scope = _ChildScope(wire, package)
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Stream(wire, "stdout", out), _Stream(wire, "stderr", err)
    for file, shown, lines in package["cells"]:  # for tracebacks: the lines and display names of cells
        linecache.cache[file] = (sum(map(len, lines)), None, lines, file)
        shown_as[file] = shown
    assume_audience(Audience.HEADLESS if package["watched"] else Audience.NOBODY)
    threading.Thread(target=scope.listen, name="cerebelum-wire", daemon=True).start()
    try:
        answer = ("done", pack(_run(scope, package["work"])))
    except BaseException as error:  # noqa: BLE001 - whatever user code raises is its outcome
        answer = ("raised", pack(error))
    sys.stdout.flush()
    sys.stderr.flush()
    scope.done = True  # from now on the end of the connection is expected
    wire.send(*answer)
    sys.stdout, sys.stderr = out, err


def _run(scope: _ChildScope, work: bytes) -> Any:
    fn, arguments = unpack(work)
    if isinstance(fn, tuple):
        fn = _find(scope.step, *fn)
    if (context := arguments.get("context")) is not None:
        object.__setattr__(context, "_scope", scope)
    current_scope.set(scope)
    result = fn(**arguments)
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise OperationError(
            f"step '{scope.step}' returned an awaitable, but process=True is for a plain def: leave it out"
        )
    if (problem := unawaited(scope)) is not None:
        raise problem
    try:
        pack(result)
    except Exception:
        encode(result)  # its error says which part cannot be stored
        raise
    return result


def _find(step: str, module: str, name: str) -> Callable[..., Any]:
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise OperationError(
            f"step '{step}' runs in its own process, which could not import it: {error}. It must be in a module that "
            f"another process can import: {module}"
        ) from error
    return cast(Callable[..., Any], getattr(found, "fn", found))


def _die_with(parent: int) -> None:
    """Ask the operating system, where it can, to kill this process when the thread that started it ends."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


class _Host(SimpleNamespace):
    """What a scope needs of an execution, as far as the child knows it."""

    def encode(self, value: Any, *, keep: bool = True, path: str = "output") -> Value:
        """Encode a value as the log would."""
        return encode(value, keep=keep, redactor=self.redactor, path=path)


class _Redactor(Redactor):
    """A redactor that sends the secrets that the step reveals to the attempt."""

    def __init__(self, names: Sequence[str], known: Sequence[str], wire: Wire) -> None:
        Redactor.__init__(self, names)
        for text in known:
            super().add(text)
        self._wire = wire

    def add(self, secret: object) -> None:
        """Register a secret here and with the attempt."""
        before = self.known
        super().add(secret)
        for text in self.known - before:
            self._wire.send("secret", text)


class _ChildScope(Scope):
    """The scope of an attempt in the child process; it forwards every request to the attempt in the parent."""

    in_child_process = True

    def __init__(self, wire: Wire, package: dict[str, Any]) -> None:
        (step, visit, attempt), (execution_id, workflow) = package["step"], package["execution"]
        names, known = package["secrets"]
        host = _Host(
            id=execution_id,
            redactor=_Redactor(names, known, wire),
            loop=None,
            plan=Plan(workflow=workflow, timeline=(), steps={}),
            stop_requested=None,
            superseded=False,
        )
        super().__init__(cast(Host, host), step, visit, attempt)
        self.thread = threading.main_thread()
        self.done = False
        self._wire, self._numbers = wire, itertools.count(1)
        self._asked: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Queue[tuple[Any, ...]]]] = {}
        self._known = StepState(step)

    @property
    def known(self) -> StepState:
        """The step's state, which is empty here: operations run in the parent."""
        return self._known

    def listen(self) -> None:
        """Pass messages on to the operations; if the parent is gone, kill this process and those it has started."""
        while True:
            try:
                what, number, *fields = self._wire.receive()
            except (EOFError, OSError):
                if self.done:
                    return
                os.killpg(0, signal.SIGKILL)
                raise
            with suppress(KeyError, RuntimeError):  # no operation waits for this any more
                loop, inbox = self._asked[number]
                loop.call_soon_threadsafe(inbox.put_nowait, (what, *fields))

    def perform(
        self, work: Callable[..., Coroutine[Any, Any, Any]], arguments: Sequence[Any]
    ) -> Coroutine[Any, Any, Any]:
        """Have the parent perform an operation; functions among its arguments are called here."""
        return self._perform(work, arguments)

    async def _perform(self, work: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        functions: list[Callable[..., Any]] = []
        errors: list[BaseException] = []
        number, inbox = next(self._numbers), asyncio.Queue[tuple[Any, ...]]()
        self._asked[number] = asyncio.get_running_loop(), inbox
        try:
            sent = [_handle(argument, functions) if _stays(argument) else argument for argument in arguments]
            self._send_operation(number, work, sent)
            while True:
                what, *fields = await inbox.get()
                if what == "call":
                    call, function, data = fields
                    self._wire.send("called", call, *await _called(functions[function], data, number, errors))
                    continue
                succeeded, data = fields
                value = unpack(data)
                if succeeded:
                    return value
                origin = vars(value).get(CALL)  # an error of a function called here is raised as the same object
                raise errors[origin[1]] if origin is not None and origin[0] == number else value
        finally:
            del self._asked[number]

    def _send_operation(self, number: int, work: Callable[..., Any], arguments: list[Any]) -> None:
        try:
            data = pack((work, arguments))
        except Exception as error:
            raise SerializationError(
                f"step '{self.step}' runs in its own process, and what it passes to an operation cannot be sent from "
                f"there ({type(error).__name__}: {error}). Give plain data, or leave out process=True"
            ) from error
        sys.stdout.flush()
        sys.stderr.flush()
        self._wire.send("ask", number, self.is_callers(), data)

    def is_callers(self) -> bool:
        """Whether this is called in the thread of the step."""
        return threading.current_thread() is threading.main_thread()

    def check(self) -> None:
        """Do nothing: this process is killed when the attempt is over."""

    def progress(self, percent: float, message: str) -> None:
        """Report the progress of the step."""
        self._wire.send("progress", percent, message)

    def note(self, name: str, value: Value) -> None:
        """Publish a note."""
        self.notes = {**(self.notes or {}), name: value}
        self._wire.send("note", name, value.json)

    def print(self, text: str) -> None:
        """Do nothing: the streams send the printed text."""

    def shown(self, text: str, write: Callable[[str], Any]) -> str:
        """Return a text unchanged: the parent masks it where it is shown."""
        return text


def _stays(argument: object) -> bool:
    """Whether an argument of an operation is a function, which is called here and not sent."""
    if not callable(argument) or argument is bool:
        return False
    return not (isinstance(argument, type) and issubclass(argument, BaseException))


def _handle(function: Callable[..., Any], functions: list[Callable[..., Any]]) -> Handle:
    functions.append(function)
    return Handle(len(functions) - 1, name_of(function), code_of(function))


async def _called(
    function: Callable[..., Any], data: bytes, number: int, errors: list[BaseException]
) -> tuple[bool, bytes]:
    """Call a function for an operation; return whether it succeeded, and the pickled result or error."""
    try:
        arguments, kwargs = unpack(data)
        result = function(*arguments, **kwargs)
        return True, pack(await result if inspect.isawaitable(result) else result)
    except BaseException as error:  # noqa: BLE001 - the operation decides what the error means
        errors.append(error)
        with suppress(AttributeError, TypeError):
            vars(error)[CALL] = (number, len(errors) - 1)
        return False, pack(error)


class _Stream:
    """Standard output or error of the step; its lines are sent to the parent, which shows them."""

    encoding = "utf-8"
    errors = "backslashreplace"
    closed = False

    def __init__(self, wire: Wire, name: str, real: Any) -> None:
        self._wire, self.name, self._real = wire, name, real
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._held, self._by_step = "", True

    def write(self, text: str) -> int:
        """Write a text; it is sent at the end of a line."""
        if type(text) is not str:
            raise TypeError(f"write() takes text, not {type(text).__name__}")
        if os.getpid() != self._pid:  # a fork of this process has no connection
            return int(self._real.write(text))
        by_step = current_scope.get() is not None  # otherwise a progress display or a pool's thread
        with self._lock:
            if by_step is not self._by_step:
                self.flush()
                self._by_step = by_step
            self._held += text
            if "\n" in text or "\r" in text or len(self._held) > _LONGEST_HELD:
                self.flush()
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        """Write several texts."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Send the text that was written."""
        if os.getpid() != self._pid:
            self._real.flush()
            return
        with self._lock:
            if self._held:
                self._wire.send("print", self.name, self._held, self._by_step)
                self._held = ""

    def fileno(self) -> int:
        """Return the descriptor to which programs started by the step write."""
        return int(self._real.fileno())

    def isatty(self) -> bool:
        """Return False: it is not a terminal."""
        return False

    def readable(self) -> bool:
        """Return False."""
        return False

    def writable(self) -> bool:
        """Return True."""
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
