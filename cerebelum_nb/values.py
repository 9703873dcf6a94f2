"""The old place of ``Secret``, for one release; import it from ``cerebelum_nb``."""

from __future__ import annotations

import warnings

from ._values import Secret

__all__ = ["Secret"]

warnings.warn(
    f"{__name__} is going away: import Secret from cerebelum_nb instead",
    DeprecationWarning,
    stacklevel=2,
)
