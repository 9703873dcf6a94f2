"""Who shows a run while it runs. Faces register here; the engine knows none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..core.events import Event
    from ..core.model import Plan
    from .execution import Execution

__all__ = ["Drawing", "View", "drawers", "factories", "outcome_is_told", "shown", "slide", "sliders", "watch"]

View = Callable[["Execution"], AbstractContextManager[None] | None]

factories: list[View] = []
"""Each is asked, when a run starts in the foreground, for a view of it; None when it has nothing to show here."""

outcome_is_told: ContextVar[bool] = ContextVar("outcome_is_told", default=False)
"""Set by a caller that tells the outcome on the same terminal: a view there leaves none of its own."""


@contextmanager
def shown(execution: Execution) -> Iterator[None]:
    """Show an execution while the block runs."""
    with ExitStack() as stack:
        for factory in factories:
            view = factory(execution)
            if view is not None:
                stack.enter_context(view)
        yield


def watch(execution: Execution) -> None:
    """Show an execution that runs behind the cell, until it is over; returns at once."""
    stack = ExitStack()
    stack.enter_context(shown(execution))
    execution.done.add_done_callback(lambda _: stack.close())


class Drawing(Protocol):
    """The picture of a plan."""

    def bundle(self) -> dict[str, str]:
        """Return it by media type."""
        ...

    def to_mermaid(self) -> str:
        """Write it as a Mermaid flowchart."""
        ...


drawers: list[Callable[[Plan], Drawing]] = []
"""Who draws a plan; the first does."""

sliders: list[Callable[[str, Sequence[Event]], Any]] = []
"""Who makes a slider of an execution's events, given its id and them; the first does."""


def slide(execution_id: str, events: Sequence[Event]) -> Any:
    """Make a slider through the events of an execution."""
    return sliders[0](execution_id, events)
