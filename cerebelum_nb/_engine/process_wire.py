"""The messages between the attempt of a step with ``process=True`` and the process in which its function runs.

A message is a tuple: its name, plain fields, and each value of the user pickled separately, so that a value that cannot
be restored does not spoil the rest of the message. Classes and functions of ``__main__`` are pickled by value;
cloudpickle recognises a class that comes back to the process it was defined in. Secrets are sent, unlike to a log: this
is a socket between a process and its child.
"""

from __future__ import annotations

import io
import pickle
import threading
import types
from collections.abc import Callable
from functools import lru_cache
from multiprocessing.connection import Connection
from typing import Any

from .._core.value import ErrorInfo
from .._dsl.step import Step
from .._values import Secret
from ..errors import StepProcessError
from .user_errors import DESCRIBED, error_info

__all__ = ["CALL", "Handle", "Wire", "pack", "unpack"]

CALL = "__cerebelum_call__"
"""The attribute of an exception with the number of the call that raised it: the step gets the same object back."""


class Wire:
    """One end of the connection; several threads may send, and one receives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, *message: Any) -> None:
        """Send a message.

        Raises:
            OSError: the other end is closed.
        """
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        with self._lock:
            self._connection.send_bytes(data)

    def receive(self) -> Any:
        """Wait for the next message.

        Raises:
            EOFError: the other end is closed; also an OSError.
        """
        return pickle.loads(self._connection.recv_bytes())

    def poll(self, seconds: float) -> bool:
        """Whether a message, or the end of the connection, arrives within a time."""
        return self._connection.poll(seconds)

    def close(self) -> None:
        """Close this end."""
        self._connection.close()


class Handle:
    """A reference to a function that stays in the process of the step, such as the check of a ``poll``."""

    def __init__(self, index: int, name: str, code: str) -> None:
        self.index, self.name, self.code = index, name, code


def pack(value: object) -> bytes:
    """Pickle a value for the other side; raises whatever its classes raise."""
    out = io.BytesIO()
    _pickler()(out).dump(value)
    return out.getvalue()


def unpack(data: bytes) -> Any:
    """Restore a value from the other side; raises whatever its classes raise."""
    return pickle.loads(data)


@lru_cache(maxsize=1)
def _pickler() -> Any:
    import cloudpickle  # here: only steps with process=True need it

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, BaseException):
                return _restored, _parts_of(obj)
            if type(obj) is Secret:
                return (Secret.missing, (obj._missing, *obj._source)) if obj.is_missing else (Secret, (obj._value,))
            if isinstance(obj, Step) and obj.__module__ == "__main__":  # its name does not exist over there
                return type(obj), (obj.fn, obj.name, obj.policy)
            if type(obj) is types.CodeType:  # cloudpickle 3.1.3 drops the file, which names the cell in a traceback
                make, fields, *_ = self.dispatch_table[types.CodeType](obj)
                return _code, (obj.co_filename, make, fields)
            return super().reducer_override(obj)

    return Pickler


def _code(filename: str, make: Callable[..., types.CodeType], fields: tuple[Any, ...]) -> types.CodeType:
    return make(*fields).replace(co_filename=filename)


def _parts_of(error: BaseException) -> tuple[bytes, ErrorInfo, Any]:
    """Return the arguments of `_restored`: the pickled exception, or b"" if it cannot be; its description."""
    marks = getattr(error, "__dict__", {})
    for pickled in (_by_its_class, _without_init):
        try:
            data = pickled(error)
            if type(_from_parts(data)) is type(error):
                return data, error_info(error), marks.get(CALL)
        except Exception:  # noqa: BLE001 - its class may do anything; try the next way
            pass
    return b"", error_info(error), marks.get(CALL)


def _by_its_class(error: BaseException) -> bytes:
    made = error.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    return pack(made if isinstance(made, tuple) else None)


def _without_init(error: BaseException) -> bytes:
    """Pickle an exception whose ``__init__`` takes other arguments than it passes to its base class, as many do."""
    return pack((type(error).__new__, (type(error), *error.args), vars(error)))


def _from_parts(data: bytes) -> BaseException:
    function, arguments, *state = unpack(data)
    error: BaseException = function(*arguments)
    if state and state[0]:
        error.__setstate__(state[0])
    return error


def _restored(data: bytes, info: ErrorInfo, call: Any) -> BaseException:
    """Restore an exception; if that is impossible, return a StepProcessError with its type and message."""
    error: BaseException | None = None
    if data:
        try:
            error = _from_parts(data)
        except Exception:  # noqa: BLE001 - its class may do anything
            error = None
    if not isinstance(error, BaseException):
        error = StepProcessError(f"{info.type}: {info.message}")
    marks: dict[str, Any] = {DESCRIBED: info}
    if call is not None:
        marks[CALL] = call
    vars(error).update(marks)
    if info.traceback:
        error.__cause__ = _RemoteTracebackError(info.traceback)
    return error


class _RemoteTracebackError(Exception):
    """The cause of an exception from another process, which shows the traceback from there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0].rstrip()}\n"""'
