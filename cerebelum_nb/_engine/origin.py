"""Which notebook or script is running here; recorded with each execution, so that a notebook finds its own again."""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from .._host.caller import in_cells, shell

__all__ = ["file_of", "notebook_path", "origin", "resolved"]


def resolved(file: str) -> str:
    """Return the path of a file of code without links."""
    return _resolve_absolute(file) if os.path.isabs(file) else _resolve(file)  # noqa: PTH117  # as below


def file_of(source: str) -> str:
    """Return where code is, from its ``co_filename``: an absolute path, or the name of a cell as it is."""
    return _find_absolute(source) if os.path.isabs(source) else _find(source)  # noqa: PTH117  # cells have odd names


def _resolve(file: str) -> str:
    return str(Path(file).resolve())


def _find(source: str) -> str:
    return os.path.abspath(source) if os.path.isfile(source) else source  # noqa: PTH100, PTH113  # as above


# This saves each start some 30 µs. A relative path is not cached: after a change of folder it is another file.
_resolve_absolute, _find_absolute = lru_cache(maxsize=64)(_resolve), lru_cache(maxsize=64)(_find)


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
