"""Which notebook or script runs here; recorded with what it starts, so that it finds its own runs again."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from .._host.caller import in_cells, shell

__all__ = ["notebook_path", "origin"]


def notebook_path() -> str:
    """Return the path of the notebook whose cells run here, as far as the front end tells it; "" when it does not."""
    found = shell()
    namespace: dict[str, Any] = {} if found is None else found.user_ns
    told = str(namespace.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME") or "")
    return str(Path(told).resolve()) if told.endswith(".ipynb") else ""


def origin() -> str:
    """Return the path of the notebook or script that runs here; "" at a prompt, and where nobody tells it."""
    if in_cells():
        return notebook_path()
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return str(Path(file).resolve()) if file else ""
