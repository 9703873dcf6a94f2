"""What user code raises: described as an ``ErrorInfo``, cleared of secrets, given the line that caused it.

An attempt catches every exception of its step (attempt.py), because a ``SystemExit`` or ``KeyboardInterrupt`` that
escapes a task ends the kernel. The functions here must not raise either, whatever a user's ``__str__`` does.
"""

from __future__ import annotations

import dis
import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import CodeType
from typing import Any

from .._core.value import ErrorInfo
from .._host.caller import user_traceback
from .._values import Redactor
from ..errors import CerebelumError

__all__ = ["DESCRIBED", "at_return", "error_info", "without_secrets"]

_LONGEST = 20_000

DESCRIBED = "__cerebelum_described__"
"""The attribute of an exception from another process with its ``ErrorInfo``: its traceback cannot be sent along."""


def error_info(error: BaseException) -> ErrorInfo:
    """Describe an exception for the log: its classes, message, and the user's own traceback.

    Example:
        >>> error_info(ValueError("no room")).message
        'no room'
    """
    if (known := vars(error).get(DESCRIBED) if hasattr(error, "__dict__") else None) is not None:
        described: ErrorInfo = known
        return described
    return ErrorInfo(
        type=type(error).__name__,
        message=_shorten(_message(error)),
        traceback=_shorten(user_traceback(error)),
        mro=tuple(_qualname(cls) for cls in type(error).__mro__ if cls is not object),
    )


def without_secrets(error: BaseException, redactor: Redactor) -> BaseException:
    """Mask secrets in the texts of an exception and its causes, in place: a notebook stores the traceback it shows.

    Returns:
        The exception; if its text cannot be changed, a CerebelumError with the masked text.
    """
    if not redactor:
        return error
    todo, seen = [error], set[int]()
    while todo:
        current = todo.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        todo += [other for other in (current.__cause__, current.__context__) if other is not None]
        if isinstance(current, BaseExceptionGroup):
            todo += current.exceptions
        _mask_texts(current, redactor)
    shown = "".join(_formatted(error))
    if redactor.mask(shown) == shown:
        return error
    other = CerebelumError(f"{type(error).__name__}: {redactor.mask(_message(error))}")
    other.__suppress_context__ = True
    return other.with_traceback(error.__traceback__)


def _mask_texts(error: BaseException, redactor: Redactor) -> None:
    own = _message(error) + "".join(map(str, getattr(error, "__notes__", ())))
    if redactor.mask(own) == own:
        return
    with suppress(Exception):  # a user's class may raise anything
        error.args = tuple(_masked(part, redactor) for part in error.args)
    held = {"filename", "filename2", "strerror", "msg", "text", "reason", *getattr(error, "__dict__", ())}
    for name in held:
        with suppress(Exception):  # as above
            part = getattr(error, name)
            if name == "__notes__":
                error.__notes__ = [redactor.mask(note) for note in part]
            elif (masked := _masked(part, redactor)) is not part:
                setattr(error, name, masked)


def _masked(part: Any, redactor: Redactor) -> Any:
    text = part if isinstance(part, str) else repr(part)
    masked = redactor.mask(text)
    return part if masked == text else masked


def _formatted(error: BaseException) -> list[str]:
    try:
        return traceback.format_exception(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise
        return []


def at_return(error: BaseException, function: Callable[..., Any]) -> BaseException:
    """Give an error about a returned value a traceback to the function's ``return``, or to its head if it has several.

    The function has ended, so a frame is created from code compiled with its file and line, as template engines do.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return error.with_traceback(None)
    lines = {line for line in _returns(code) if line}
    line = lines.pop() if len(lines) == 1 else code.co_firstlineno
    made = compile("\n" * (line - 1) + "raise error", code.co_filename, "exec")
    try:
        exec(made.replace(co_name=code.co_name, co_qualname=code.co_qualname), {"error": error.with_traceback(None)})
    except BaseException as raised:  # noqa: BLE001 - the error itself, now with a traceback
        trace = raised.__traceback__
        return raised.with_traceback(None if trace is None else trace.tb_next)
    return error


def _returns(code: CodeType) -> Iterator[int | None]:
    line = None
    for instruction in dis.get_instructions(code):
        line = instruction.positions.lineno if instruction.positions else line
        if instruction.opname in ("RETURN_VALUE", "RETURN_CONST"):
            yield line


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - a user's __str__ may raise; the failure itself must still be reported
        return f"<{type(error).__name__} whose text cannot be read>"


def _qualname(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}\n[...]\n{text[-_LONGEST // 2 :]}"
