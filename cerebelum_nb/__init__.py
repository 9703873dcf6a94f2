"""cerebelum_nb: durable workflows in a notebook.

This file only names what is public; pandas, ipywidgets and sqlite-utils are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .core.model import ExecutionState
from .dsl import flow
from .dsl.step import Step, step
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
    "ApprovalRejectedError",
    "ApprovalTimeoutError",
    "CerebelumError",
    "Context",
    "DependencyError",
    "ExecutionBusyError",
    "ExecutionCancelledError",
    "ExecutionNotFoundError",
    "ExecutionState",
    "ExecutionStoppedError",
    "PollTimeoutError",
    "ResumeError",
    "Result",
    "Run",
    "Secret",
    "SecretMissingError",
    "SerializationError",
    "SharedValueWarning",
    "Step",
    "StepDefinitionError",
    "StepTimeoutError",
    "StoreError",
    "UntrustedValueError",
    "Workflow",
    "WorkflowDefinitionError",
    "WorkflowError",
    "connect",
    "flow",
    "poll",
    "retry",
    "sleep",
    "step",
    "workflow",
]
