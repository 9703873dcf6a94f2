"""Loading a program for its definitions stops at the first call that would start a run.

`cerebelum resume` and a scheduler load the program itself, so its top level runs. When it reaches the call that starts
a run, all that the steps depend on is set, and nothing after that call had been executed when the recorded run
started. Loading stops there, with exactly the settings of the recorded run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["RunStartedError", "loading", "stop_when_loading"]

_is_loading: ContextVar[bool] = ContextVar("cerebelum_nb.loading", default=False)


class RunStartedError(BaseException):
    """Raised where a program that is only being loaded would start a run; ``except Exception`` does not catch it."""


@contextmanager
def loading() -> Iterator[None]:
    """Mark that the block loads a program: `stop_when_loading` ends it."""
    token = _is_loading.set(True)
    try:
        yield
    finally:
        _is_loading.reset(token)


def stop_when_loading() -> None:
    """Raise RunStartedError while a program is being loaded; every function that starts a run calls this first."""
    if _is_loading.get():
        raise RunStartedError
