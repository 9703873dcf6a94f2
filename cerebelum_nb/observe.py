"""See executions from outside: observers of this process, metrics, traces, notifications, and log records.

Observers are called however an execution is run: in a cell, in the background, by a scheduler. An observer that raises
is logged once and removed, and the run continues.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from ._core.events import Event
from ._engine import observers
from ._observe.logs import StepFilter, add_step
from ._observe.metrics import LogMetrics, ProcessMetrics
from ._observe.notify import Notifier
from ._observe.traces import Traces, trace

if TYPE_CHECKING:
    from ._engine.ports import Host
    from ._engine.scope import Scope

__all__ = [
    "AttemptStarting",
    "LogMetrics",
    "Notifier",
    "Observation",
    "ProcessMetrics",
    "Recorded",
    "StepFilter",
    "Traces",
    "add",
    "add_step",
    "trace",
]


class Recorded(NamedTuple):
    """An event that was recorded in the log.

    Attributes:
        execution_id: the execution it belongs to.
        workflow: the name of its workflow.
        version: its place in the execution's history, from 1.
        event: the event; ``type(event).__name__`` is the type that ``history.events`` shows.

    Example:
        >>> from cerebelum_nb._core.events import WorkflowCompleted
        >>> Recorded(execution_id="k1", workflow="deploy", version=4, event=WorkflowCompleted(at=0, last_step="b")).type
        'WorkflowCompleted'
    """

    execution_id: str
    workflow: str
    version: int
    event: Event

    @property
    def type(self) -> str:
        """The event's type, as ``history.events`` shows it."""
        return type(self.event).__name__


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarting:
    """An attempt of a step that is about to start; its ``StepStarted`` is in the log.

    Attributes:
        execution_id: the execution it belongs to.
        workflow: the name of its workflow.
        step: the step's name.
        visit: which visit of the step, from 1.
        attempt: which attempt of that visit, from 1.

    Example:
        >>> AttemptStarting(execution_id="k1", workflow="deploy", step="build", visit=1, attempt=2).attempt
        2
    """

    execution_id: str
    workflow: str
    step: str
    visit: int
    attempt: int


class Observation:
    """What :func:`add` returns: ``stop()`` ends it, and so does leaving it as a context manager.

    Example:
        >>> with add(print) as watching:
        ...     isinstance(watching, Observation)
        True
    """

    def __init__(self, observer: observers.Observer) -> None:
        self._observer = observer

    def stop(self) -> None:
        """Stop being called; calling it twice is harmless."""
        observers.remove(self._observer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def add(
    on_event: Callable[[Recorded], object] | None = None,
    *,
    before_attempt: Callable[[AttemptStarting], object] | None = None,
) -> Observation:
    """Call a function with every event of the executions of this process, from now on.

    Both are called on the event loop that runs the execution, so they must be quick: put slow work into a queue. Return
    values are ignored. A function that raises is logged once and not called again.

    Args:
        on_event: called with each event after it was recorded, in the order of the log, including those that another
            program appends to an execution that runs here, such as a decision or a signal; not with those recorded
            before this process resumed an execution.
        before_attempt: called before an attempt of a step starts, in the attempt's own context: the step sees a context
            variable that is set here.

    Returns:
        A handle that ends it: call its ``stop()``, or use it in a ``with`` statement.

    Raises:
        TypeError: neither function is given.

    Example:
        >>> seen = []
        >>> with observe.add(lambda recorded: seen.append(recorded.type)):
        ...     result = release.run()
        >>> seen
        ['WorkflowStarted', 'StepStarted', 'StepCompleted', 'WorkflowCompleted']
    """
    for given in (on_event, before_attempt):
        if given is not None and not callable(given):
            raise TypeError(f"an observer is a function to be called, not {given!r}")
    if on_event is None and before_attempt is None:
        raise TypeError("give a function to call: observe.add(on_event), or observe.add(before_attempt=...)")
    observer = observers.Observer(
        None if on_event is None else _event_teller(on_event),
        None if before_attempt is None else _attempt_teller(before_attempt),
    )
    observers.add(observer)
    return Observation(observer)


def _event_teller(on_event: Callable[[Recorded], object]) -> Callable[[Host, int, Event], object]:
    # A tenth of what a call of the class costs.
    new: Callable[[type[Recorded], tuple[str, str, int, Event]], Recorded] = tuple.__new__

    def tell(execution: Host, version: int, event: Event) -> object:
        return on_event(new(Recorded, (execution.id, execution.plan.workflow, version, event)))

    return tell


def _attempt_teller(before_attempt: Callable[[AttemptStarting], object]) -> Callable[[Scope], object]:
    def tell(scope: Scope) -> object:
        return before_attempt(
            AttemptStarting(
                execution_id=scope.execution.id,
                workflow=scope.execution.plan.workflow,
                step=scope.step,
                visit=scope.visit,
                attempt=scope.attempt,
            )
        )

    return tell
