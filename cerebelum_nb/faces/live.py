"""The live view of a run in the foreground: a card of widgets in a notebook, rich bars in a terminal.

A view polls the run ten times a second, so that a thousand progress updates cost no more than ten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from typing import Any

from ..core.model import ExecutionState
from ..engine.approvals import open_approvals
from ..engine.execution import Execution
from ..errors import ApprovalError
from .approval import approval_form
from .card import Card
from .where import Audience, audience

__all__ = ["live_view"]

_REFRESH_SECONDS = 0.1


def live_view(execution: Execution) -> AbstractContextManager[None] | None:
    """Return a view for whoever is watching, None when nobody is."""
    match audience():
        case Audience.NOTEBOOK:
            return _in_notebook(execution)
        case Audience.HEADLESS:
            return _once(execution)
        case Audience.TERMINAL:
            return _in_terminal(execution)
        case Audience.NOBODY:
            return None


@contextmanager
def _once(execution: Execution) -> Iterator[None]:
    """Show the outcome once: whoever executes the notebook keeps only that."""
    from IPython.display import display

    try:
        yield
    finally:
        display(_bundle(Card.of(execution)), raw=True)  # type: ignore[no-untyped-call]


@contextmanager
def _in_notebook(execution: Execution) -> Iterator[None]:
    """Show widgets while it runs, and leave a static picture: saved notebooks cannot show widgets."""
    import ipywidgets
    from IPython.display import display

    table = ipywidgets.HTML()
    bars = ipywidgets.VBox()
    by_step: dict[str, Any] = {}
    forms = ipywidgets.VBox()
    box = ipywidgets.VBox([table, bars, forms])
    handle = display(box, display_id=True)  # type: ignore[no-untyped-call]

    asked: dict[str, Any] = {}

    def draw() -> None:
        waiting = open_approvals(execution.state) if execution.state.waiting else []
        for approval in waiting:
            with suppress(ApprovalError):  # decided at this very moment
                if approval.op not in asked:
                    asked[approval.op] = approval_form(execution.id, store=execution.engine.store, step=approval.step)
        forms.children = tuple(asked[approval.op] for approval in waiting if approval.op in asked)
        card = Card.of(execution)
        table.value = _without_bars(card).to_html()
        moving = [row for row in card.rows if row.percent is not None]
        for row in moving:
            bar = by_step.get(row.name)
            if bar is None:
                bar = by_step[row.name] = ipywidgets.FloatProgress(
                    min=0, max=100, description=row.name, style={"description_width": "initial"}
                )
            bar.value = row.percent
        children = tuple(by_step[row.name] for row in moving)
        if bars.children != children:
            bars.children = children

    try:
        with _refreshed(draw):
            yield
    finally:
        handle.update(_bundle(Card.of(execution)), raw=True)
        box.close()
        if execution.state.status is ExecutionState.WAITING_FOR_APPROVAL:
            with suppress(ApprovalError):
                display(approval_form(execution.id, store=execution.engine.store))  # type: ignore[no-untyped-call]


@contextmanager
def _in_terminal(execution: Execution) -> Iterator[None]:
    """Show bars on stderr while it runs, and leave the outcome of every step."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    tasks: dict[str, Any] = {}
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    ) as progress:

        def draw() -> None:
            for row in Card.of(execution).rows:
                if row.state == "waiting":
                    continue
                if row.name not in tasks:
                    tasks[row.name] = progress.add_task(row.name, total=100, note="")
                done = 100 if row.state == "completed" else row.percent
                progress.update(tasks[row.name], completed=done or 0, note=row.note[:40])
                if row.state in ("completed", "failed", "interrupted"):
                    progress.stop_task(tasks[row.name])

        try:
            with _refreshed(draw):
                yield
        finally:
            progress.stop()
            console.print(Card.of(execution).to_text(), markup=False, highlight=False)


@contextmanager
def _refreshed(draw: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    handle: asyncio.TimerHandle | None = None

    def tick() -> None:
        nonlocal handle
        draw()
        handle = loop.call_later(_REFRESH_SECONDS, tick)

    handle = loop.call_later(0, tick)
    try:
        yield
    finally:
        if handle is not None:
            handle.cancel()


def _bundle(card: Card) -> dict[str, str]:
    return {"text/plain": card.to_text(), "text/html": card.to_html()}


def _without_bars(card: Card) -> Card:
    return replace(card, rows=tuple(replace(row, percent=None) for row in card.rows))
