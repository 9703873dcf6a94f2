"""The fence around user code: whatever it raises becomes an ``ErrorInfo``.

``SystemExit`` and ``KeyboardInterrupt`` that escape a task would end the kernel, so steps run behind this fence;
nothing else in the library catches broadly.
"""

from __future__ import annotations

from ..callers import user_traceback
from ..core.model import ErrorInfo

__all__ = ["describe"]

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


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - a user's __str__ may raise; the failure itself must still be told
        return f"<{type(error).__name__} whose text cannot be made>"


def _qualname(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}\n[...]\n{text[-_LONGEST // 2 :]}"
