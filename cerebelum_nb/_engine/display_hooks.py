"""What shows a run while it runs. Views register here; the engine knows none of them.

What a view raises never reaches the run: it is logged, and the run continues unseen.
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
    "drawers",
    "factories",
    "log_display_errors",
    "outcome_reported",
    "slide",
    "sliders",
    "watch",
]

View = Callable[["ExecutionView"], AbstractContextManager[None] | None]

factories: list[View] = []
"""Each is asked, when a run starts in the foreground, for a view of it; None when it has nothing to show here."""

outcome_reported: ContextVar[bool] = ContextVar("outcome_reported", default=False)
"""Set by a caller that reports the outcome on the same terminal: a view there leaves nothing behind."""


@contextmanager
def log_display_errors(what: str) -> Iterator[None]:
    """Log what a view raises in the block instead of raising it.

    A closed pipe, a terminal that hung up, a widget that cannot be made: none of that is the run's fault. So views are
    fenced as steps are; see
    :mod:`cerebelum_nb._engine.user_errors`.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever a terminal or a front end raises must not end a run
        import logging  # here: `import cerebelum_nb` imports this module

        log = logging.getLogger("cerebelum_nb")
        level = (
            logging.DEBUG if isinstance(error, (OSError, ValueError)) else logging.WARNING
        )  # a closed stream, or not
        with suppress(Exception):  # the log may go to the very stream that is closed
            log.log(level, "%s could not be shown: %s: %s", what, type(error).__name__, error)


def displayed(execution: ExecutionView) -> AbstractContextManager[None]:
    """Show an execution while the block runs."""
    return _displayed(execution) if factories else nullcontext()


@contextmanager
def _displayed(execution: ExecutionView) -> Iterator[None]:
    what = f"execution {execution.id}"
    with ExitStack() as stack:
        for factory in factories:
            with log_display_errors(what):
                view = factory(execution)
                if view is not None:
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
    """Show an execution that runs behind the cell, until it is over; returns at once."""
    stack = ExitStack()
    stack.enter_context(displayed(execution))
    execution.done.add_done_callback(lambda _: stack.close())


class Drawing(Protocol):
    """The picture of a plan."""

    def bundle(self, states: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return it by media type; ``states`` holds the state of each step, such as "completed"."""
        ...

    def to_mermaid(self) -> str:
        """Write it as a Mermaid flowchart."""
        ...


drawers: list[Callable[[Plan], Drawing]] = []
"""Who draws a plan; the first does."""

sliders: list[Callable[[str, Sequence[Event], Plan | None], Any]] = []
"""Who makes a slider of an execution's events, given its id, them, and the plan the log holds; the first does."""


def slide(execution_id: str, events: Sequence[Event], plan: Plan | None = None) -> Any:
    """Make a slider through the events of an execution; ``plan`` is the recorded plan."""
    return sliders[0](execution_id, events, plan)
