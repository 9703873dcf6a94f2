"""Who shows a run while it runs. Faces register here; the engine knows none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .execution import Execution

__all__ = ["View", "factories", "shown"]

View = Callable[["Execution"], AbstractContextManager[None] | None]

factories: list[View] = []
"""Each is asked, when a run starts in the foreground, for a view of it; None when it has nothing to show here."""


@contextmanager
def shown(execution: Execution) -> Iterator[None]:
    """Show an execution while the block runs."""
    with ExitStack() as stack:
        for factory in factories:
            view = factory(execution)
            if view is not None:
                stack.enter_context(view)
        yield
