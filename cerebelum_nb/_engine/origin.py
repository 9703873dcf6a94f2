"""Which notebook or script runs here; recorded with what it starts, so that it finds its own runs again."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from .._host.caller import in_cells, shell

__all__ = ["file_of", "notebook_path", "origin", "resolved"]


@lru_cache(maxsize=64)
def resolved(file: str) -> str:
    """Return the path of a file of code without links; found once per file, which spares each start some 30 us."""
    return str(Path(file).resolve())


@lru_cache(maxsize=64)
def file_of(source: str) -> str:
    """Return where code is, given its code object's name for that: a file, found from any directory, or a cell."""
    return os.path.abspath(source) if os.path.isfile(source) else source  # noqa: PTH100, PTH113  # cells have odd names


def notebook_path() -> str:
    """Return the path of the notebook whose cells run here, as far as the front end tells it; "" when it does not."""
    found = shell()
    namespace: dict[str, Any] = {} if found is None else found.user_ns
    told = str(namespace.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME") or "")
    return resolved(told) if told.endswith(".ipynb") else ""


def origin() -> str:
    """Return the path of the notebook or script that runs here; "" at a prompt, and where nobody tells it."""
    if in_cells():
        return notebook_path()
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return resolved(file) if file else ""
