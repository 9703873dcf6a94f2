"""What passes between the attempt of a step with ``process=True`` and the process in which its function runs.

Messages are tuples: a word, plain fields, and values of the user as bytes of their own, so that one that cannot be
restored spoils no more than itself. Values are pickled with the classes and functions of ``__main__`` taken along, and
cloudpickle gives back the class itself when one returns to where it came from. Unlike in a log, secrets travel: this is
a socket between a process and its child.
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
from .user_errors import DESCRIBED, describe

__all__ = ["CALL", "Handle", "Wire", "pack", "unpack"]

CALL = "__cerebelum_call__"
"""Where an exception of a function of the step says which call raised it: the step gets that very object back."""


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

    def comes(self, seconds: float) -> bool:
        """Whether a message, or the end, comes within a time."""
        return self._connection.poll(seconds)

    def close(self) -> None:
        """Close this end."""
        self._connection.close()


class Handle:
    """Stands for a function that stays in the process of the step, such as the check of a ``poll``."""

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
    import cloudpickle  # it is loaded when a step first needs it

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, BaseException):
                return _restored, _taken_apart(obj)
            if type(obj) is Secret:
                return (Secret.missing, (obj._missing, *obj._source)) if obj.is_missing else (Secret, (obj._value,))
            if isinstance(obj, Step) and obj.__module__ == "__main__":  # by name it would be looked for over there
                return type(obj), (obj.fn, obj.name, obj.policy)
            if type(obj) is types.CodeType:  # cloudpickle 3.1.3 drops the file, by which a traceback names the cell
                make, fields, *_ = self.dispatch_table[types.CodeType](obj)
                return _code, (obj.co_filename, make, fields)
            return super().reducer_override(obj)

    return Pickler


def _code(filename: str, make: Callable[..., types.CodeType], fields: tuple[Any, ...]) -> types.CodeType:
    return make(*fields).replace(co_filename=filename)


def _taken_apart(error: BaseException) -> tuple[bytes, ErrorInfo, Any]:
    """Return what an exception is restored from: itself if it survives that, and what is said of it in any case."""
    marks = getattr(error, "__dict__", {})
    for take in (_by_its_class, _without_init):
        try:
            data = take(error)
            if type(_from_parts(data)) is type(error):
                return data, describe(error), marks.get(CALL)
        except Exception:  # noqa: BLE001 - its class may do anything; the next way is tried
            pass
    return b"", describe(error), marks.get(CALL)


def _by_its_class(error: BaseException) -> bytes:
    made = error.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    return pack(made if isinstance(made, tuple) else None)


def _without_init(error: BaseException) -> bytes:
    """Take apart one whose class takes other arguments than it hands on, as many do."""
    return pack((type(error).__new__, (type(error), *error.args), vars(error)))


def _from_parts(data: bytes) -> BaseException:
    function, arguments, *state = unpack(data)
    error: BaseException = function(*arguments)
    if state and state[0]:
        error.__setstate__(state[0])
    return error


def _restored(data: bytes, info: ErrorInfo, call: Any) -> BaseException:
    """Make an exception again; where that is impossible, one that says what it was."""
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
        error.__cause__ = _ThereError(info.traceback)
    return error


class _ThereError(Exception):
    """Shows, as the cause of an exception from another process, where it was raised there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0].rstrip()}\n"""'
