"""Loading a program for its definitions stops where the program would start a run.

`cerebelum resume` and a scheduler load the program itself, whose top level runs as usual. If it starts a run there,
everything its steps see has been set by then, and nothing after that call had run when the execution was recorded. So
loading stops there, with exactly the settings of the recorded run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["RunStartedError", "loading", "stop_when_loading"]

_is_loading: ContextVar[bool] = ContextVar("cerebelum_nb.loading", default=False)


class RunStartedError(BaseException):
    """A program that is only being loaded would start a run here; ``except Exception`` does not catch it."""


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
