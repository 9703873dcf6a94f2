"""Modules that are installed only with an extra, and the error if they are missing."""

from __future__ import annotations

from importlib.util import find_spec

from ..errors import CerebelumError

__all__ = ["need"]


def need(module: str, extra: str) -> None:
    """Make sure that a module of an extra can be imported.

    Raises:
        CerebelumError: it is not installed; the message says how to install it.

    Example:
        >>> need("json", "metrics")
    """
    try:
        found = find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is not installed
        found = False
    if not found:
        raise CerebelumError(
            f"this needs {module.partition('.')[0]}, which is not installed: pip install 'cerebelum_nb[{extra}]'"
        )
