"""``Context``: information about the execution that a step runs in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ParamSpec, TypeVar, overload

from .._engine.pending_operation import PendingOperation
from .._engine.scope import Scope
from .api import run_under
from .note import note

__all__ = ["Context"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """What a step receives as its parameter ``context``. It is easy to make one in a test.

    Attributes:
        inputs: the inputs of the execution.
        execution_id: the execution's id.
        workflow_name: the workflow's name.
        step_name: the step's name.
        attempt: which attempt of this visit, from 1.
        visit: which visit of the step, from 1; a ``flow.back_to`` opens a new one.
        item: in a ``foreach``, the key of the item that it runs for; None in other steps.
        scheduled_at: the time for which a schedule started the execution, in the schedule's time zone: the same in
            every attempt, after every resume and in forks. None if no schedule started it.

    Example:
        >>> Context(inputs={"size": 2}, execution_id="e1", step_name="build").idempotency_key
        'e1:build:1'
    """

    inputs: Mapping[str, Any] = field(default_factory=dict)
    execution_id: str = ""
    workflow_name: str = ""
    step_name: str = ""
    attempt: int = 1
    visit: int = 1
    item: str | None = None
    scheduled_at: datetime | None = None
    _scope: Scope | None = field(default=None, repr=False, compare=False)
    """The attempt it was made for: the only way for a thread of a pool to know its step."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scope": None}

    @property
    def idempotency_key(self) -> str:
        """A key that is the same in every attempt of this visit, for services that ask for one."""
        return f"{self.execution_id}:{self.step_name}:{self.visit}"

    @overload
    def run(
        self, name: str, fn: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> PendingOperation[T]: ...
    @overload
    def run(self, name: str, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> PendingOperation[T]: ...
    def run(self, name: str, fn: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> PendingOperation[Any]:
        """Do a side effect once, even if the step runs again; see :func:`cerebelum_nb._operations.api.run`."""
        return run_under(self._scope, name, fn, args, kwargs)

    def note(self, name: str, value: Any) -> None:
        """Publish a small value while the step runs: an address, a count, a link to a dashboard.

        It is recorded with the next event, and shown by the card, the status, the history and the dashboard, even after
        the step has ended or failed. A later note with the same name replaces an earlier one.

        Args:
            name: its name: one line of at most 100 characters; a step can have 100 notes.
            value: text, a number, or anything else that JSON can hold in at most 4,000 characters. Secrets are masked.

        Raises:
            TypeError: JSON cannot hold the value, or the name is not text.
            ValueError: the value is too large, the name is invalid, or there are too many.

        Example:
            >>> from cerebelum_nb import history, step, workflow
            >>> @step
            ... def deploy(context):
            ...     context.note("url", "https://staging.example.org")
            >>> @workflow
            ... def staging(wf):
            ...     wf.timeline(deploy)
            >>> result = staging.run(execution_id="n1")
            >>> history.notes("n1")[["step", "name", "value"]]
                 step name                          value
            0  deploy  url  "https://staging.example.org"
        """
        note(self._scope, name, value)
