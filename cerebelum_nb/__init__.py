"""cerebelum_nb: durable workflows in a notebook.

This file only names what is public; pandas, ipywidgets and sqlite-utils are loaded when they are first used.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .core.model import ExecutionState
from .dsl import flow
from .dsl.step import Step, step
from .engine import views
from .engine.context import Context
from .engine.execution import SharedValueWarning
from .engine.operations import poll, retry, sleep
from .errors import (
    ApprovalRejectedError,
    ApprovalTimeoutError,
    CerebelumError,
    DependencyError,
    ExecutionBusyError,
    ExecutionCancelledError,
    ExecutionNotFoundError,
    ExecutionStoppedError,
    PollTimeoutError,
    ResumeError,
    SecretMissingError,
    SerializationError,
    StepDefinitionError,
    StepTimeoutError,
    StoreError,
    UntrustedValueError,
    WorkflowDefinitionError,
    WorkflowError,
)
from .result import Result
from .run import Run
from .store.default import connect
from .values import Secret
from .workflow import Workflow, workflow

__version__ = "0.1.0"

__all__ = [
    "ApprovalInfo",
    "ApprovalRejectedError",
    "ApprovalTimeoutError",
    "CerebelumError",
    "Context",
    "DependencyError",
    "ExecutionBusyError",
    "ExecutionCancelledError",
    "ExecutionClient",
    "ExecutionNotFoundError",
    "ExecutionState",
    "ExecutionStatus",
    "ExecutionStoppedError",
    "PollTimeoutError",
    "ProgressReporter",
    "Result",
    "ResumeError",
    "Run",
    "Secret",
    "SecretMissingError",
    "SerializationError",
    "SharedValueWarning",
    "SleepInfo",
    "Step",
    "StepDefinitionError",
    "StepStatus",
    "StepTimeoutError",
    "StoreError",
    "UntrustedValueError",
    "Workflow",
    "WorkflowDefinitionError",
    "WorkflowError",
    "connect",
    "flow",
    "history",
    "poll",
    "retry",
    "sleep",
    "step",
    "testing",
    "workflow",
]

_LAZY = {
    "ApprovalInfo": ".client",
    "ExecutionClient": ".client",
    "ExecutionStatus": ".client",
    "ProgressReporter": ".faces.progress",
    "SleepInfo": ".client",
    "StepStatus": ".client",
    "history": ".history",
    "testing": ".testing",
}
"""Public names whose modules are loaded when they are first used."""

if TYPE_CHECKING:
    from . import history as history
    from . import testing as testing
    from .client import ApprovalInfo, ExecutionClient, ExecutionStatus, SleepInfo, StepStatus
    from .engine.execution import Execution
    from .faces.progress import ProgressReporter


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'cerebelum_nb' has no attribute {name!r}")
    loaded = import_module(module, __name__)
    value = loaded if module == f".{name}" else getattr(loaded, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _live_view(execution: Execution) -> AbstractContextManager[None] | None:
    if "IPython" not in sys.modules and not (sys.stderr is not None and sys.stderr.isatty()):
        return None
    from .faces.live import live_view

    return live_view(execution)


views.factories.append(_live_view)
