"""The fence around user code: whatever it raises becomes an ``ErrorInfo``.

``SystemExit`` and ``KeyboardInterrupt`` that escape a task would end the kernel, so steps run behind this fence;
nothing else in the library catches broadly.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from ..core.model import ErrorInfo

__all__ = ["describe", "is_library_frame"]

_HERE = str(Path(__file__).resolve().parent.parent)
_LONGEST = 20_000


def describe(error: BaseException) -> ErrorInfo:
    """Describe an exception for the log: its classes, message, and the user's own traceback.

    Example:
        >>> describe(ValueError("no room")).message
        'no room'
    """
    return ErrorInfo(
        type=type(error).__name__,
        message=_shorten(_message(error)),
        traceback=_shorten(user_traceback(error)),
        mro=tuple(_qualname(cls) for cls in type(error).__mro__ if cls is not object),
    )


def user_traceback(error: BaseException) -> str:
    """Format a traceback without the frames of this library."""
    try:
        summary = traceback.TracebackException.from_exception(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise; the failure itself must still be told
        return f"{type(error).__name__}\n"
    seen: set[int] = set()
    todo = [summary]
    while todo:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        part.stack = traceback.StackSummary.from_list([f for f in part.stack if not is_library_frame(f.filename)])
        for frame in part.stack:
            frame.filename = _as_shown(frame.filename)
        todo.extend(p for p in (part.__cause__, part.__context__) if p is not None)
        todo.extend(getattr(part, "exceptions", None) or ())
    return "".join(summary.format())


def _as_shown(filename: str) -> str:
    """Name a cell as its prompt does, ``Cell In[3]``: its file's name says nothing and is gone with the kernel."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    name = None if shell is None else getattr(shell.compile, "format_code_name", lambda _: None)(filename)
    return filename if name is None else " ".join(name)


def is_library_frame(filename: str) -> bool:
    """Whether a frame's file belongs to this library."""
    return filename.startswith(_HERE)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a user's __str__ may raise; the failure itself must still be told
        return f"<{type(error).__name__} whose text cannot be made>"


def _qualname(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}\n[...]\n{text[-_LONGEST // 2 :]}"
