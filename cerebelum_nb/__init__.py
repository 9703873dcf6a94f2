"""cerebelum_nb: durable workflows in a notebook.

This file only lists the public names. Each module is loaded when one of its names is first used, so importing the
package costs almost nothing, and pandas, ipywidgets and sqlite-utils are loaded only when needed.

The examples in docstrings use its names without importing them, and ``release``, a workflow of one step, ``build``,
which returns "image". Where an example names no log, it writes to ``log``, the session's.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._engine import display_hooks
from ._store import hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from . import archive as archive
    from . import flow as flow
    from . import history as history
    from . import observe as observe
    from . import testing as testing
    from ._client.client import ApprovalInfo as ApprovalInfo
    from ._client.client import ExecutionClient as ExecutionClient
    from ._client.client import ExecutionStatus as ExecutionStatus
    from ._client.client import SleepInfo as SleepInfo
    from ._client.client import StepStatus as StepStatus
    from ._core.events import Event
    from ._core.graph import Plan
    from ._core.state_name import ExecutionState as ExecutionState
    from ._dsl.builder import WorkflowBuilder as WorkflowBuilder
    from ._dsl.foreach import foreach as foreach
    from ._dsl.step import Step as Step
    from ._dsl.step import step as step
    from ._engine.ports import ExecutionView
    from ._engine.values import SharedValueWarning as SharedValueWarning
    from ._notebook.here import here as here
    from ._notebook.nesting import enable_nesting as enable_nesting
    from ._operations.api import poll as poll
    from ._operations.api import retry as retry
    from ._operations.api import sleep as sleep
    from ._operations.approval import approval as approval
    from ._operations.approval import wait_for_approval as wait_for_approval
    from ._operations.context import Context as Context
    from ._operations.signal import signal as signal
    from ._operations.signal import wait_for_signal as wait_for_signal
    from ._scheduler.scheduler import scheduler as scheduler
    from ._store.connect import connect as connect
    from ._values import Secret as Secret
    from ._views.approval_form import approval_form as approval_form
    from ._views.progress import ProgressReporter as ProgressReporter
    from ._views.watch import watch as watch
    from ._web.notebook import Dashboard as Dashboard
    from ._web.notebook import dashboard as dashboard
    from ._workflow.decorator import workflow as workflow
    from ._workflow.result import Result as Result
    from ._workflow.resume_plan import ResumePlan as ResumePlan
    from ._workflow.run import Run as Run
    from ._workflow.schedule import Schedule as Schedule
    from ._workflow.stepper import Stepper as Stepper
    from ._workflow.workflow import Workflow as Workflow
    from .errors import ApprovalDecidedError as ApprovalDecidedError
    from .errors import ApprovalError as ApprovalError
    from .errors import ApprovalRefusedError as ApprovalRefusedError
    from .errors import ApprovalRejectedError as ApprovalRejectedError
    from .errors import ApprovalTimeoutError as ApprovalTimeoutError
    from .errors import CerebelumError as CerebelumError
    from .errors import DependencyError as DependencyError
    from .errors import ExecutionBusyError as ExecutionBusyError
    from .errors import ExecutionCancelledError as ExecutionCancelledError
    from .errors import ExecutionNotFoundError as ExecutionNotFoundError
    from .errors import ExecutionStoppedError as ExecutionStoppedError
    from .errors import ExecutionTimeoutError as ExecutionTimeoutError
    from .errors import InputsError as InputsError
    from .errors import ItemError as ItemError
    from .errors import OperationError as OperationError
    from .errors import OutcomeUnknownError as OutcomeUnknownError
    from .errors import PollTimeoutError as PollTimeoutError
    from .errors import ResumeError as ResumeError
    from .errors import ScheduleNotFoundError as ScheduleNotFoundError
    from .errors import SecretMissingError as SecretMissingError
    from .errors import SerializationError as SerializationError
    from .errors import SignalError as SignalError
    from .errors import SignalTimeoutError as SignalTimeoutError
    from .errors import StepDefinitionError as StepDefinitionError
    from .errors import StepProcessError as StepProcessError
    from .errors import StepTimeoutError as StepTimeoutError
    from .errors import StoreError as StoreError
    from .errors import UntrustedValueError as UntrustedValueError
    from .errors import WorkflowDefinitionError as WorkflowDefinitionError
    from .errors import WorkflowError as WorkflowError
    from .errors import WorkflowNotFoundError as WorkflowNotFoundError

__version__ = "0.1.0"

_HOMES = {
    ".": (
        "archive",
        "flow",
        "history",
        "observe",
        "testing",
    ),
    "._client.client": (
        "ApprovalInfo",
        "ExecutionClient",
        "ExecutionStatus",
        "SleepInfo",
        "StepStatus",
    ),
    "._core.state_name": ("ExecutionState",),
    "._dsl.builder": ("WorkflowBuilder",),
    "._dsl.foreach": ("foreach",),
    "._dsl.step": (
        "Step",
        "step",
    ),
    "._operations.approval": (
        "approval",
        "wait_for_approval",
    ),
    "._operations.signal": (
        "signal",
        "wait_for_signal",
    ),
    "._operations.context": ("Context",),
    "._engine.values": ("SharedValueWarning",),
    "._operations.api": (
        "poll",
        "retry",
        "sleep",
    ),
    ".errors": (
        "ApprovalDecidedError",
        "ApprovalError",
        "ApprovalRefusedError",
        "ApprovalRejectedError",
        "ApprovalTimeoutError",
        "CerebelumError",
        "DependencyError",
        "ExecutionBusyError",
        "ExecutionCancelledError",
        "ExecutionNotFoundError",
        "ExecutionStoppedError",
        "ExecutionTimeoutError",
        "InputsError",
        "ItemError",
        "OperationError",
        "OutcomeUnknownError",
        "PollTimeoutError",
        "ResumeError",
        "ScheduleNotFoundError",
        "SecretMissingError",
        "SerializationError",
        "SignalError",
        "SignalTimeoutError",
        "StepDefinitionError",
        "StepProcessError",
        "StepTimeoutError",
        "StoreError",
        "UntrustedValueError",
        "WorkflowDefinitionError",
        "WorkflowError",
        "WorkflowNotFoundError",
    ),
    "._views.approval_form": ("approval_form",),
    "._views.progress": ("ProgressReporter",),
    "._views.watch": ("watch",),
    "._notebook.here": ("here",),
    "._notebook.nesting": ("enable_nesting",),
    "._workflow.decorator": ("workflow",),
    "._workflow.resume_plan": ("ResumePlan",),
    "._workflow.result": ("Result",),
    "._workflow.run": ("Run",),
    "._workflow.schedule": ("Schedule",),
    "._scheduler.scheduler": ("scheduler",),
    "._workflow.stepper": ("Stepper",),
    "._store.connect": ("connect",),
    "._values": ("Secret",),
    "._web.notebook": (
        "Dashboard",
        "dashboard",
    ),
    "._workflow.workflow": ("Workflow",),
}
"""Which module each public name comes from."""

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

_OLD_NAMES = {"Outlook": "ResumePlan"}
"""Names that work for one more release, and the names that replace them."""

__all__ = [
    "ApprovalDecidedError",
    "ApprovalError",
    "ApprovalInfo",
    "ApprovalRefusedError",
    "ApprovalRejectedError",
    "ApprovalTimeoutError",
    "CerebelumError",
    "Context",
    "Dashboard",
    "DependencyError",
    "ExecutionBusyError",
    "ExecutionCancelledError",
    "ExecutionClient",
    "ExecutionNotFoundError",
    "ExecutionState",
    "ExecutionStatus",
    "ExecutionStoppedError",
    "ExecutionTimeoutError",
    "InputsError",
    "ItemError",
    "OperationError",
    "OutcomeUnknownError",
    "PollTimeoutError",
    "ProgressReporter",
    "Result",
    "ResumeError",
    "ResumePlan",
    "Run",
    "Schedule",
    "ScheduleNotFoundError",
    "Secret",
    "SecretMissingError",
    "SerializationError",
    "SharedValueWarning",
    "SignalError",
    "SignalTimeoutError",
    "SleepInfo",
    "Step",
    "StepDefinitionError",
    "StepProcessError",
    "StepStatus",
    "StepTimeoutError",
    "Stepper",
    "StoreError",
    "UntrustedValueError",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowDefinitionError",
    "WorkflowError",
    "WorkflowNotFoundError",
    "approval",
    "approval_form",
    "archive",
    "connect",
    "dashboard",
    "enable_nesting",
    "flow",
    "foreach",
    "here",
    "history",
    "observe",
    "poll",
    "retry",
    "scheduler",
    "signal",
    "sleep",
    "step",
    "testing",
    "wait_for_approval",
    "wait_for_signal",
    "watch",
    "workflow",
]


def __getattr__(name: str) -> Any:
    if name in _OLD_NAMES:
        import warnings

        old, name = name, _OLD_NAMES[name]
        warnings.warn(f"{old} is going away: import {name} from cerebelum_nb instead", DeprecationWarning, stacklevel=2)
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'cerebelum_nb' has no attribute {name!r}")
    if home == ".":
        return import_module(f".{name}", __name__)
    value = getattr(import_module(home, __name__), name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: Any) -> None:
    """Add ``%cerebelum`` and ``%%step``; IPython calls it for ``%load_ext cerebelum_nb``."""
    from ._notebook import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Remove the magics; IPython calls it for ``%unload_ext cerebelum_nb``."""
    from ._notebook import unload

    unload(shell)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


def _live_view(execution: ExecutionView) -> AbstractContextManager[None] | None:
    """Show a run, if a front end can display it."""
    if "IPython" not in sys.modules and not (sys.stderr is not None and sys.stderr.isatty()):
        return None
    from ._views.live import live_view

    return live_view(execution)


def _draw(plan: Plan) -> display_hooks.Drawing:
    """Draw a plan."""
    from ._views.graph import Graph

    return Graph(plan)


def _slide(execution_id: str, events: Sequence[Event], plan: Plan | None) -> Any:
    """Make a slider."""
    from ._views.slider import Slider

    return Slider(execution_id, events, plan)


def _notify(path: str, to: str | Iterable[str]) -> Callable[[], None]:
    """Send notifications of what happens in a log."""
    from ._observe.notify import notify_from_here

    return notify_from_here(path, to)


hooks.notifiers.append(_notify)
display_hooks.factories.append(_live_view)
display_hooks.draw = _draw
display_hooks.slide = _slide
