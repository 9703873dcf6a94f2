"""While a program is loaded for its definitions, it ends where it starts a run.

What `cerebelum resume` and a scheduler load is the program itself, whose own top level runs as in Python. A program
may start a run there: at that point everything its steps see has been set, and nothing after it had run when the
execution was recorded either. So loading ends there, with exactly the settings of the recorded run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["RunStartedError", "loading", "stop_when_loading"]

_is_loading: ContextVar[bool] = ContextVar("cerebelum_nb.loading", default=False)


class RunStartedError(BaseException):
    """A program that is only loaded has come to where it starts a run; ``except Exception`` does not catch it."""


@contextmanager
def loading() -> Iterator[None]:
    """Load a program in this block: `stop_when_loading` ends it."""
    token = _is_loading.set(True)
    try:
        yield
    finally:
        _is_loading.reset(token)


def stop_when_loading() -> None:
    """Raise RunStartedError when a program is being loaded; every call that starts something begins with this."""
    if _is_loading.get():
        raise RunStartedError
