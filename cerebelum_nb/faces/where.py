"""Who is watching: a notebook, a terminal, or nobody."""

from __future__ import annotations

import sys
from enum import Enum

from ..callers import shell

__all__ = ["Audience", "audience"]


class Audience(Enum):
    """What a run can be shown on."""

    NOTEBOOK = "a notebook with somebody in front of it"
    HEADLESS = "a notebook that a program executes"
    TERMINAL = "a terminal"
    NOBODY = "a script whose output goes to a file"


def audience() -> Audience:
    """Find out who is watching; loads nothing.

    A kernel says by ``allow_stdin`` whether a person's front end asked for the cell: JupyterLab and VS Code do,
    nbclient, papermill and nbval do not.
    """
    kernel = getattr(shell(), "kernel", None)
    if kernel is not None:
        header = kernel.get_parent() if hasattr(kernel, "get_parent") else {}
        asked = bool(header.get("content", {}).get("allow_stdin", False))
        return Audience.NOTEBOOK if asked else Audience.HEADLESS
    return Audience.TERMINAL if sys.stderr is not None and sys.stderr.isatty() else Audience.NOBODY
