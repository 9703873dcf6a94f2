"""The old place of the status client, for one release; import it from ``cerebelum_nb``."""

from __future__ import annotations

import warnings

from ._client.client import ExecutionClient
from ._client.status import ApprovalInfo, ExecutionStatus, SleepInfo, StepStatus

__all__ = ["ApprovalInfo", "ExecutionClient", "ExecutionStatus", "SleepInfo", "StepStatus"]

warnings.warn(
    f"{__name__} is going away: import ExecutionClient and its statuses from cerebelum_nb instead",
    DeprecationWarning,
    stacklevel=2,
)
