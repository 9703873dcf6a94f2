"""``ProgressReporter``: the progress of a step, for the viewer and the log."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

from .._engine import display_hooks
from .._engine.scope import current_scope
from .._host.frontend import Audience, audience, close_widgets
from .._text.html import Html

__all__ = ["ProgressReporter"]


class _Reports(Protocol):
    @property
    def execution_id(self) -> str: ...
    @property
    def step_name(self) -> str: ...


class ProgressReporter:
    """Reports the progress of a step.

    In an execution it feeds the live view and, at most four times a second, the log; elsewhere it draws its own bar:
    widgets in a notebook, rich in a terminal, lines on stderr otherwise.

    Args:
        context: the step's context, or any object with ``execution_id`` and ``step_name``.

    Raises:
        TypeError: the context has no such attributes.

    Example:
        >>> from cerebelum_nb import Context
        >>> ProgressReporter(Context(execution_id="e1", step_name="copy")).update(50, "half way")
    """

    def __init__(self, context: _Reports) -> None:
        if not hasattr(context, "execution_id") or not hasattr(context, "step_name"):
            raise TypeError(
                f"ProgressReporter takes the step's context, not {context!r}: give the step a parameter named context "
                f"and write ProgressReporter(context)"
            )
        self._execution_id, self._step = str(context.execution_id), str(context.step_name)
        self._bar: _Bar | None = None
        self._is_drawn = False
        self._lines: _Bar | None = _Lines(self._step) if audience() is Audience.NOBODY else None

    def update(self, percent: float, message: str = "") -> None:
        """Report the progress.

        Args:
            percent: from 0 to 100; other values are clamped.
            message: what it is doing.

        Raises:
            TypeError: ``percent`` is not a number.
        """
        if isinstance(percent, bool) or not isinstance(percent, (int, float)) or percent != percent:
            raise TypeError(f"ProgressReporter.update takes a number from 0 to 100, not {percent!r}")
        percent = min(100.0, max(0.0, float(percent)))
        scope = current_scope.get()
        if scope is not None and scope.step == self._step and scope.execution.id == self._execution_id:
            shown = scope.execution.redactor.mask(str(message))
            scope.progress(percent, shown)
            if self._lines is not None:
                token = current_scope.set(None)  # these lines are not the step's output
                try:
                    self._lines = _show(self._lines, percent, shown)
                finally:
                    current_scope.reset(token)
            return
        if not self._is_drawn:
            self._is_drawn = True
            with display_hooks.log_display_errors("progress"):
                self._bar = _bar(self._step or "progress")
        if self._bar is not None:
            self._bar = _show(self._bar, percent, str(message))


class _Bar(Protocol):
    def show(self, percent: float, message: str) -> None: ...


def _show(bar: _Bar, percent: float, message: str) -> _Bar | None:
    """Show progress and return the bar; return None if that fails, so that it is not tried again."""
    with display_hooks.log_display_errors("progress"):
        bar.show(percent, message)
        return bar
    return None


def _bar(label: str) -> _Bar:
    match audience():
        case Audience.NOTEBOOK:
            return _WidgetBar(label)
        case Audience.TERMINAL:
            return _RichBar(label)
        case _:
            return _Lines(label)


class _WidgetBar:
    def __init__(self, label: str) -> None:
        import ipywidgets
        from IPython.display import display

        self._label = label
        self._widget: Any = ipywidgets.FloatProgress(min=0, max=100, description=label)
        self._handle: Any = display(self._widget, display_id=True)  # type: ignore[no-untyped-call]

    def show(self, percent: float, message: str) -> None:
        self._widget.value = percent
        self._widget.description = f"{self._label} {message}".strip()
        if percent >= 100:
            text = f"{self._label}: done"
            self._handle.update({"text/plain": text, "text/html": Html("<div>{}</div>").format(text)}, raw=True)
            close_widgets(self._widget)


class _RichBar:
    def __init__(self, label: str) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._label = label
        self._progress = Progress(console=Console(stderr=True))
        self._task = self._progress.add_task(label, total=100)
        self._progress.start()

    def show(self, percent: float, message: str) -> None:
        self._progress.update(self._task, completed=percent, description=f"{self._label} {message}".strip())
        if percent >= 100:
            self._progress.stop()


class _Lines:
    def __init__(self, label: str) -> None:
        self._label, self._at = label, 0.0

    def show(self, percent: float, message: str) -> None:
        now = time.monotonic()
        if sys.stderr is not None and (percent >= 100 or now - self._at >= 1):
            self._at = now
            sys.stderr.write(f"{self._label}: {percent:.0f}% {message}".rstrip() + "\n")
            sys.stderr.flush()
