"""The live view of a run: a card of widgets in a notebook, rich bars in a terminal.

A view draws the run a few times a second, so a thousand progress updates cost no more than ten. It measures how long
that takes, and uses only a small share of the time.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import IO, Any, cast

from .._core.state_name import ExecutionState
from .._engine import display_hooks
from .._engine.approvals import open_approvals
from .._engine.ports import ExecutionView
from .._engine.scope import current_scope
from .._engine.scope_lookup import capture_print
from .._engine.stdout import capture_output
from .._host.cpu import thread_time
from .._host.frontend import Audience, audience, close_widgets, is_terminal
from .._text.html import Html
from ..errors import ApprovalError
from .approval_form import approval_form
from .card import SMALL, STYLE, Card, Row
from .graph import Graph

__all__ = ["NotebookCard", "TerminalCard", "live_view"]

_REFRESH_SECONDS = 0.1
_SHARE = 0.02
"""The share of the time that drawing may take."""

_TALL = 300
"""A picture higher than this, in px, is below the running steps instead of above them."""

_LIVE = "shown as it was when this cell started; cerebelum_nb.watch() shows it live"

_MOST_LINES = 10
"""How many running steps have a line; the graph shows all of them."""


_MOST_ENDED = 4
"""How many ended runs keep their widgets; ``NotebookCard.finish`` says why."""

_ended: deque[tuple[Any, ...]] = deque()


def live_view(execution: ExecutionView) -> AbstractContextManager[None] | None:
    """Return a view for the front end; None if nobody is watching."""
    graph = Graph(execution.plan)

    def look() -> Card:
        return Card.of(execution, graph)

    match audience():
        case Audience.NOTEBOOK:
            return _in_notebook(execution, look)
        case Audience.HEADLESS:
            return _show_outcome(execution, look)
        case Audience.TERMINAL:
            return _in_terminal(look)
        case Audience.NOBODY:
            return None


@contextmanager
def _show_outcome(execution: ExecutionView, look: Callable[[], Card]) -> Iterator[None]:
    """Show the outcome only: an executed notebook keeps nothing else."""
    from IPython.display import display

    try:
        yield
    finally:
        display(look().bundle(), raw=True)  # type: ignore[no-untyped-call]
        execution.traceback_shown = True


@contextmanager
def _in_notebook(execution: ExecutionView, look: Callable[[], Card]) -> Iterator[None]:
    """Show widgets while it runs, and leave a static picture: saved notebooks cannot show widgets."""
    from IPython.display import display

    card: NotebookCard | None = None
    with display_hooks.log_display_errors("the live view"):
        card = NotebookCard(look())
    if card is None:  # there are no widgets here: show only the outcome
        with _show_outcome(execution, look):
            yield
        return
    forms: dict[str, Any] = {}

    def draw() -> None:
        card.draw(look())
        waiting = open_approvals(execution.state) if execution.state.waiting else []
        for approval in waiting:
            if approval.op not in forms:
                with suppress(ApprovalError):  # it has just been decided
                    forms[approval.op] = approval_form(execution.id, store=execution.store, step=approval.step)
        card.ask([forms[approval.op] for approval in waiting if approval.op in forms])

    try:
        with _refreshed(draw):
            yield
    finally:
        card.finish(look())
        execution.traceback_shown = True
        if execution.state.status is ExecutionState.WAITING_FOR_APPROVAL:
            with suppress(ApprovalError):
                display(approval_form(execution.id, store=execution.store))  # type: ignore[no-untyped-call]


@contextmanager
def _in_terminal(look: Callable[[], Card]) -> Iterator[None]:
    """Show bars on stderr while it runs, and leave the outcome of every step, unless the caller reports it."""
    with TerminalCard() as card:
        try:
            with _refreshed(lambda: card.draw(look())):
                yield
        finally:
            if not display_hooks.outcome_reported.get():
                card.finish(look())


class NotebookCard:
    """One output of a notebook: widgets while it changes, html and text in the end."""

    def __init__(self, first: Card | None = None) -> None:
        import ipywidgets
        from IPython.display import display

        self._widgets = ipywidgets
        self._head, self._graph = ipywidgets.HTML(), ipywidgets.HTML()
        self._lines = ipywidgets.VBox()
        self._forms = ipywidgets.VBox()
        self._pool: list[tuple[Any, Any, Any]] = []
        self._states: dict[str, str] | None = None
        self._box = ipywidgets.VBox([self._head, self._graph, self._lines, self._forms])
        # Shown by a front end without widgets, and by a notebook whose tab was closed before the run was over.
        bundle = _bundle_of(self._box)
        if first is not None:
            bundle = {**bundle, **first.bundle(), "text/plain": f"{first.to_text()}\n{_LIVE}"}
        self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def draw(self, card: Card) -> None:
        """Show what has changed."""
        self._head.value = Html("<div style='{}'>{}</div>").format(STYLE, card.head_html(exact=False))
        if not card.is_large:
            self._draw_graph(card)
        active = [row for row in card.rows if row.active]
        for number, row in enumerate(active[:_MOST_LINES]):
            self._show(number, row, more=len(active) - _MOST_LINES if number == _MOST_LINES - 1 else 0)
        shown = tuple(line for line, _, _ in self._pool[: len(active)])
        if self._lines.children != shown:
            self._lines.children = shown

    def _draw_graph(self, card: Card) -> None:
        if self._states is None and card.graph.height > _TALL:  # keep what changes in sight
            self._box.children = (self._head, self._lines, self._forms, self._graph)
        states = card.states
        if states != self._states:
            self._states = states
            self._graph.value = card.graph.to_svg(states)

    def ask(self, forms: list[Any]) -> None:
        """Show the forms of open approvals."""
        if self._forms.children != tuple(forms):
            self._forms.children = tuple(forms)

    def finish(self, card: Card) -> None:
        """Replace the widgets with a static picture.

        A tab that was closed meanwhile has missed the update: when it is opened again, it asks the kernel for the
        widgets. So the boxes of the last runs stay open, each with only the picture in it.
        """
        bundle = card.bundle()
        self._handle.update(bundle, raw=True)
        self._head.value, self._box.children = bundle["text/html"], (self._head,)
        close_widgets(*(widget for line in self._pool for widget in line), self._graph, self._lines, self._forms)
        _ended.append((self._head, self._box))
        while len(_ended) > _MOST_ENDED:
            close_widgets(*_ended.popleft())

    def _show(self, number: int, row: Row, more: int) -> None:
        if number == len(self._pool):
            bar = self._widgets.FloatProgress(min=0, max=100, layout={"width": "160px", "flex": "0 0 auto"})
            text = self._widgets.HTML()
            self._pool.append((self._widgets.HBox([bar, text]), bar, text))
        _, bar, text = self._pool[number]
        bar.value = 0.0 if row.percent is None else round(row.percent, 1)
        display = "none" if row.percent is None else None
        if bar.layout.display != display:
            bar.layout.display = display
        text.value = _line_html(row) + (Html("<div>and {} more running</div>").format(more) if more > 0 else "")


def _bundle_of(widget: Any) -> dict[str, Any]:
    """Return the output that shows a widget in a front end; ipywidgets 7 has no method for it."""
    if hasattr(widget, "_repr_mimebundle_"):
        bundle: dict[str, Any] = widget._repr_mimebundle_()
        return bundle
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {"text/plain": repr(widget), "application/vnd.jupyter.widget-view+json": view}


def _line_html(row: Row) -> Html:
    percent = "" if row.percent is None else f"{row.percent:.0f}% "
    took = "" if row.seconds is None or row.seconds < 1 else f", {row.seconds:.0f}s"
    note = Html(" &nbsp;{}").format(row.note) if row.note else ""
    lines = "\n".join(line[:160] for line in row.printed.splitlines()[-3:])
    printed = Html("<pre style='{}'>{}</pre>").format(SMALL, lines) if lines else ""
    return Html("<div style='{};line-height:1.5;padding-top:3px'>{}<b>{}</b>{}{}{}</div>").format(
        STYLE, percent, row.name, took, note, printed
    )


class _UnrecordedStream:
    """A stream for what the view draws: if a step's print makes rich draw, that is not the step's output."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        token = current_scope.set(None)
        try:
            self._stream.write(text)
        except (OSError, ValueError):  # the terminal is gone; that must not fail a step whose print goes through rich
            pass
        finally:
            current_scope.reset(token)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class TerminalCard:
    """Bars on stderr, one for each running step; at the end, the outcome of every step."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        # Imported here and not in draw: the time that the first drawing takes decides when the next one comes.
        self._bar, self._table, self._text = ProgressBar, Table, Text
        self._console = Console(file=cast(IO[str], _UnrecordedStream(sys.stderr)))
        self._live = Live(
            console=self._console,
            transient=True,
            auto_refresh=False,
            redirect_stdout=is_terminal(sys.stdout),  # rich would write to stderr what should go into a file
        )

    def __enter__(self) -> TerminalCard:
        self._live.start()
        self._end = capture_output(capture_print)  # not earlier: rich has just replaced the streams
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _stop(self) -> None:
        self._end()
        self._live.stop()

    def draw(self, card: Card) -> None:
        """Show the running steps."""
        ProgressBar, Table, Text = self._bar, self._table, self._text  # noqa: N806  # classes
        table = Table.grid(padding=(0, 1))
        for row in [row for row in card.rows if row.active][:_MOST_LINES]:
            bar = ProgressBar(total=100, completed=row.percent, width=20) if row.percent is not None else Text("")
            took = "" if row.seconds is None else f"{row.seconds:.0f}s"
            last = row.printed.rstrip().rpartition("\n")[2][:60]
            table.add_row(Text(row.name), bar, Text(took), Text(row.note[:60]), Text(last, style="dim"))
        page = Table.grid()
        page.add_row(Text(f"{card.heading}, {card.seconds:.0f}s"))
        page.add_row(table)
        self._live.update(page, refresh=True)

    def finish(self, card: Card) -> None:
        """Replace the bars with the outcome."""
        self._stop()
        self._console.print(card.to_text(), markup=False, highlight=False)


@contextmanager
def _refreshed(draw: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    handle: asyncio.TimerHandle | None = None

    def tick() -> None:
        nonlocal handle
        handle = None
        began = thread_time()
        with display_hooks.log_display_errors("a run"):
            draw()
            handle = loop.call_later(wait_after(began), tick)  # not reached after an error: it is not tried again

    def wait_after(began: float) -> float:
        return max(_REFRESH_SECONDS, (thread_time() - began) / _SHARE)

    handle = loop.call_later(0, tick)
    try:
        yield
    finally:
        if handle is not None:
            handle.cancel()
