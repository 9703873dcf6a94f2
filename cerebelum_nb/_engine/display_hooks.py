"""Hooks for displays: a live view of a run, the drawing of a plan, a slider. ``cerebelum_nb/__init__.py`` sets them.

The engine does not import any display. An exception in one is logged and never reaches the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .._core.events import Event
    from .._core.graph import Plan
    from .ports import ExecutionView

__all__ = [
    "Drawing",
    "View",
    "displayed",
    "draw",
    "factories",
    "log_display_errors",
    "outcome_reported",
    "slide",
    "watch",
]

View = Callable[["ExecutionView"], AbstractContextManager[None] | None]

factories: list[View] = []
"""Called when a run starts in the foreground; each returns a view of it, or None if it has nothing to show here."""

outcome_reported: ContextVar[bool] = ContextVar("outcome_reported", default=False)
"""Set by a caller that prints the outcome on the same terminal: the view then erases itself at the end."""


@contextmanager
def log_display_errors(what: str) -> Iterator[None]:
    """Log an exception of a view in this block instead of raising it.

    A closed pipe, a terminal that hung up or a widget that cannot be created must not fail the run.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever a terminal or a front end raises must not end a run
        import logging  # here: `import cerebelum_nb` imports this module

        log = logging.getLogger("cerebelum_nb")
        is_closed_stream = isinstance(error, (OSError, ValueError))
        level = logging.DEBUG if is_closed_stream else logging.WARNING
        with suppress(Exception):  # logging may write to the same closed stream
            log.log(level, "%s could not be shown: %s: %s", what, type(error).__name__, error)


def displayed(execution: ExecutionView) -> AbstractContextManager[None]:
    """Show an execution while the block runs."""
    what = f"execution {execution.id}"
    views = [view for factory in factories if (view := _made(factory, execution, what)) is not None]
    return _displayed(views, what) if views else nullcontext()


def _made(factory: View, execution: ExecutionView, what: str) -> AbstractContextManager[None] | None:
    with log_display_errors(what):
        return factory(execution)
    return None


@contextmanager
def _displayed(views: Sequence[AbstractContextManager[None]], what: str) -> Iterator[None]:
    with ExitStack() as stack:
        for view in views:
            with log_display_errors(what):
                stack.enter_context(_exit_logged(view, what))
        yield


@contextmanager
def _exit_logged(view: AbstractContextManager[None], what: str) -> Iterator[None]:
    view.__enter__()
    try:
        yield
    finally:
        with log_display_errors(what):
            view.__exit__(None, None, None)


def watch(execution: ExecutionView) -> None:
    """Show an execution that runs in the background until it is over; returns at once."""
    stack = ExitStack()
    stack.enter_context(displayed(execution))
    execution.done.add_done_callback(lambda _: stack.close())


class Drawing(Protocol):
    """A drawing of a plan."""

    def bundle(self, states: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the drawing by media type; ``states`` holds the state of each step, such as "completed"."""
        ...

    def to_mermaid(self) -> str:
        """Return the drawing as a Mermaid flowchart."""
        ...


draw: Callable[[Plan], Drawing]
"""Draws a plan."""

slide: Callable[[str, Sequence[Event], Plan | None], Any]
"""Makes a slider through the events of an execution, given its id, the events and its recorded plan, if any."""
