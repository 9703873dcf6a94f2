"""The old place of ``MemoryStore``, for one release; import it from ``cerebelum_nb.testing``."""

from __future__ import annotations

import warnings

from .._store.memory import MemoryStore

__all__ = ["MemoryStore"]

warnings.warn(
    f"{__name__} is going away: import MemoryStore from cerebelum_nb.testing instead",
    DeprecationWarning,
    stacklevel=2,
)
