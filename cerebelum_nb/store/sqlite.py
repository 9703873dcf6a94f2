"""The old place of ``SqliteStore``, for one release; ``cerebelum_nb.connect`` opens a log."""

from __future__ import annotations

import warnings

from .._store.sqlite import SqliteStore

__all__ = ["SqliteStore"]

warnings.warn(
    f"{__name__} is going away: open a log with cerebelum_nb.connect() instead",
    DeprecationWarning,
    stacklevel=2,
)
