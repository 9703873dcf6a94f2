"""Who sees the output: a notebook, a terminal, or nobody."""

from __future__ import annotations

import sys
from enum import Enum
from typing import Any

from .caller import shell

__all__ = ["Audience", "assume_audience", "audience", "close_widgets", "is_terminal"]


class Audience(Enum):
    """Where a run can be shown."""

    NOTEBOOK = "a notebook with somebody in front of it"
    HEADLESS = "a notebook that a program executes"
    TERMINAL = "a terminal"
    NOBODY = "a script whose output goes to a file"


def audience() -> Audience:
    """Find out who sees the output; import nothing.

    In a kernel, ``allow_stdin`` tells whether a person's front end runs the cell: JupyterLab and VS Code set it,
    nbclient, papermill and nbval do not.
    """
    if _known:
        return _known[0]
    kernel = getattr(shell(), "kernel", None)
    if kernel is not None:
        header = kernel.get_parent() if hasattr(kernel, "get_parent") else {}
        has_person = bool((header or {}).get("content", {}).get("allow_stdin", False))
        return Audience.NOTEBOOK if has_person else Audience.HEADLESS
    return Audience.TERMINAL if is_terminal(sys.stderr) else Audience.NOBODY


_known: list[Audience] = []


def assume_audience(found: Audience) -> None:
    """Set who sees the output, in a process whose output another process shows."""
    _known[:] = [found]


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal; a closed stream is not."""
    try:
        return stream is not None and bool(stream.isatty())
    except (OSError, ValueError):
        return False


def close_widgets(*widgets: Any) -> None:
    """Close widgets with their layouts and styles, which are widgets too and would otherwise stay in the kernel."""
    for widget in widgets:
        for part in (widget.layout, getattr(widget, "style", None), widget):
            if part is not None:
                part.close()
