"""Which notebook or script is running here; recorded with each execution, so that a notebook finds its own again."""

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
    """Return the path of a file of code without links; cached, which saves each start some 30 us."""
    return str(Path(file).resolve())


@lru_cache(maxsize=64)
def file_of(source: str) -> str:
    """Return where code is, from its ``co_filename``: an absolute path, or the name of a cell as it is."""
    return os.path.abspath(source) if os.path.isfile(source) else source  # noqa: PTH100, PTH113  # cells have odd names


def notebook_path() -> str:
    """Return the path of the notebook whose cells run here; "" if the front end does not provide it."""
    found = shell()
    namespace: dict[str, Any] = {} if found is None else found.user_ns
    path = str(namespace.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME") or "")
    return resolved(path) if path.endswith(".ipynb") else ""


def origin() -> str:
    """Return the path of the notebook or script that runs here; "" at a prompt, or if it is unknown."""
    if in_cells():
        return notebook_path()
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return resolved(file) if file else ""
