"""The protocols between the parts of the engine, which avoid import cycles.

Scopes, attempts, operations and observers see a `Host`; leases see a `LeasedRun`; views, results and hints see an
`ExecutionView`; an execution sees its `RunLoop`. An execution of this process implements the first three. A worker's
and a trial's host run the same attempts without an engine; an execution followed on a cluster is only a view.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import Context
from typing import Any, Protocol, TypeVar

from .._core.events import CancelRequested, Event
from .._core.graph import Plan, StepSpec
from .._core.record import mutable
from .._core.state import State
from .._core.value import ErrorInfo, Value
from .._store.base import Store
from .._values.redactor import Redactor
from .clock import Clock

__all__ = [
    "AttemptCheckpoints",
    "ExecutionView",
    "Host",
    "LeasedRun",
    "Outcome",
    "PrintedText",
    "RunLoop",
    "RunningStep",
    "StepProcess",
    "Waiter",
]

E = TypeVar("E", contravariant=True)

Waiter = asyncio.Future[None] | concurrent.futures.Future[None]
"""Done when a step's request has been handled; the second kind is for requests from a thread."""


@mutable
class Outcome:
    """How an attempt ended: with an encoded ``value`` (``live`` is the object itself), or with an ``error``."""

    step: str
    visit: int
    attempt: int
    value: Value | None = None
    live: Any = None
    error: BaseException | None = None


class Host(Protocol):
    """The execution of an attempt. Off its loop, only `ask_to_stop`, `confirm` and `end_with_loop` may be called."""

    id: str
    plan: Plan
    state: State
    redactor: Redactor
    loop: asyncio.AbstractEventLoop
    clock: Clock
    context: Context
    watchers: dict[Callable[[], None], None]
    """Called when other processes have appended events."""
    stop_requested: str | None
    """Why it was asked to stop, if it was; then no step, effect or attempt starts any more."""
    superseded: bool
    """Whether another process is running it now."""

    def now(self) -> int:
        """Return the time for new events, µs since the epoch; never before the last event."""
        ...

    # -- values ---------------------------------------------------------------------------------------------

    def arguments(self, spec: StepSpec, at_once: bool = False) -> dict[str, Any]:
        """Return the arguments for a step's function."""
        ...

    def encode(self, value: Any, *, keep: bool = True, path: str = "output") -> Value:
        """Encode a value for the log, without its secrets."""
        ...

    def encode_result(self, spec: StepSpec, result: Any, at_once: bool = False) -> tuple[Value, Any]:
        """Encode what a step returned; return it with the object that is kept."""
        ...

    def decode(self, value: Value, where: str, step: str = "") -> Any:
        """Decode a recorded value into a new object."""
        ...

    def describe(self, error: BaseException) -> ErrorInfo:
        """Describe a failure for the log, without secrets."""
        ...

    # -- records and waits ----------------------------------------------------------------------------------

    def post_record(self, event: Event, waiter: Waiter) -> None:
        """Record an operation's event; ``waiter`` is done when it is committed."""
        ...

    def defer_event(self, make: Callable[[], Event | None]) -> None:
        """Record an event that needs no separate commit with the next one; ``make`` is called then."""
        ...

    def waits_changed(self) -> None:
        """Called when a step began to wait, or has waited for long."""
        ...

    def wait_ended(self, step: str) -> None:
        """Called when a step no longer waits."""
        ...

    def confirm(self) -> None:
        """Check, right before an effect, that this process still runs the execution.

        Raises:
            ExecutionBusyError: another process has taken it over.
        """
        ...

    # -- attempts -------------------------------------------------------------------------------------------

    def ended(self, outcome: Outcome) -> None:
        """Called with the outcome of an attempt."""
        ...

    def note_blocking(self, step: str, seconds: float) -> None:
        """Note how long an async step has blocked the loop."""
        ...

    def ask_to_stop(self, reason: str) -> None:
        """Stop the execution: nothing more starts."""
        ...

    def cancelled_from_outside(self, step: str) -> None:
        """Called when something else cancelled a step's task, such as the end of ``asyncio.run``."""
        ...

    def end_with_loop(self) -> None:
        """End it if its event loop was closed."""
        ...


class RunningStep(Protocol):
    """The progress of a step at work, for a view."""

    percent: float | None
    message: str

    @property
    def printed(self) -> PrintedText | None:
        """The text that it prints."""
        ...


class PrintedText(Protocol):
    """A text that a step is still writing."""

    def peek(self, mask: Callable[[str], str]) -> str:
        """Return the end of the text, as it looks now and without secrets."""
        ...


class ExecutionView(Protocol):
    """What views, results and hints need of an execution, in this process or followed on a cluster."""

    id: str
    plan: Plan
    state: State
    store: Store
    redactor: Redactor
    variable: str
    """The name of its workflow in the caller's code."""
    handle: Callable[[str | None], str] | None
    """Given a step to run again, returns the call that continues it; None: a ``resume()`` of the variable."""
    traceback_shown: bool
    """Whether its view has shown the traceback of its failure, so that the exception must not show it again."""
    on_cluster: bool
    """Whether a cluster runs it."""
    over: bool
    cause: BaseException | None
    """The exception of a step in this process that failed it, if any."""
    done: asyncio.Future[None]

    @property
    def stops_before(self) -> bool:
        """Whether it has paused where the variants of a sweep begin."""
        ...

    @property
    def unrecorded(self) -> list[str]:
        """The finished steps whose results are not in the log."""
        ...

    def now(self) -> int:
        """Return the time, µs since the epoch; never before the last event."""
        ...

    def at_work(self) -> Mapping[str, RunningStep]:
        """Return the progress of the steps at work, by step."""
        ...

    def result_of(self, step: str) -> Any:
        """Return a new copy of a completed step's value."""
        ...


class AttemptCheckpoints(Protocol):
    """What a scope needs of the checkpoints of its attempt."""

    leaving: bool
    """Whether the attempt ends so that the step can be entered again; not after a timeout."""
    line: int | None
    """The line at which the step was entered; None at its top."""

    def operation_named(self, name: str, count: int) -> None:
        """Note that an operation begins; ``count`` is how many of its name there are, including it."""
        ...

    def checkpoint(self, event: type[Any]) -> dict[str, Any] | None:
        """Return the fields of the checkpoint to record before an operation's event; None if there is none."""
        ...

    def raised(self, error: BaseException) -> list[dict[str, Any]]:
        """Return the fields of the checkpoints to record before a failure."""
        ...

    def end(self) -> None:
        """Called when the function has returned."""
        ...


class StepProcess(Protocol):
    """What a scope needs of the child process of its attempt."""

    killed: bool
    """Whether `kill` ended it, or it will not start."""

    def kill(self) -> None:
        """Kill the process if it is still at work; from any thread."""
        ...


class LeasedRun(Protocol):
    """What leases need of a run in this process; called from the heartbeat's thread."""

    id: str
    holder: int
    clock: Clock
    loop: asyncio.AbstractEventLoop

    @property
    def queued(self) -> bool:
        """Whether it waits for its slot."""
        ...

    def look_soon(self) -> None:
        """Check soon for events that other processes have appended."""
        ...

    def look_at_queue_soon(self) -> None:
        """Check soon whether its slot is free."""
        ...

    def end_with_loop(self) -> None:
        """End it if its event loop was closed."""
        ...

    def cancel_soon(self, request: CancelRequested) -> None:
        """Cancel it, from any thread."""
        ...

    def disown(self) -> None:
        """Drop it in a forked child, as the parent process is running it."""
        ...


class RunLoop(Protocol[E]):
    """What executions of type ``E`` need of the engine that runs them; called on its loop only."""

    loop: asyncio.AbstractEventLoop
    store: Store
    clock: Clock
    turn_at: int | None
    """The monotonic time at which the messages being handled arrived."""

    @property
    def hibernate_after(self) -> int | None:
        """The longest wait without hibernating, µs; None: unlimited."""
        ...

    def start(self, execution: E, *events: Event) -> None:
        """Append the events that start or resume an execution, and run it."""
        ...

    def made_ready(self, execution: E) -> AbstractContextManager[None]:
        """Release an execution if the block raises before it was started."""
        ...

    def post(self, execution: E, handler: Callable[[Any], None], argument: Any) -> None:
        """Put a message for an execution into the inbox."""
        ...

    def post_outcome(self, execution: E, outcome: Outcome) -> None:
        """Put an attempt's outcome into the inbox, or handle it at once if no other message can arrive with it."""
        ...

    def flush(self) -> None:
        """Handle the inbox now."""
        ...

    def launch_soon(self, execution: E) -> None:
        """Launch the ready attempts of an execution, once the commits of this turn are done."""
        ...

    def flush_later(self, execution: E) -> None:
        """Commit the deferred events of an execution if no other commit comes first."""
        ...

    def on_behalf_of(self, execution: E, action: Callable[..., object], *arguments: Any) -> None:
        """Call an action for an execution; an exception in it ends that execution."""
        ...

    def look(self, execution: E) -> None:
        """Read the events that other processes have appended to an execution."""
        ...

    def stirs(self, execution: E) -> None:
        """Called when an execution is doing something, so that a fake clock must not jump."""
        ...

    def check_idle(self) -> None:
        """Tell the clock when everything in flight waits for it."""
        ...

    def note_blocking(self, step: str, seconds: float) -> None:
        """Note how long an async step has blocked the loop."""
        ...

    def forget(self, execution: E, leftovers: list[Callable[[], bool]]) -> None:
        """Remove an execution that no longer runs here; ``leftovers`` tell whether its steps are still at work."""
        ...

    def release(self, execution: E) -> None:
        """Release the lease of an execution that ended without its last commit; never raises."""
        ...
