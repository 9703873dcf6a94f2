"""What the parts of the engine ask of an execution, without knowing what it is.

Scopes, attempts, operations and observers see a `Host`; leases see what they `Held`; an execution sees its `RunLoop`.
An execution of this process is both a host and held; a trial of one step is a host that writes nothing. So no part
has to import the one that imports it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from .._core.events import Event
from .._core.graph import Plan, StepSpec
from .._core.state import State
from .._core.value import ErrorInfo, Value
from .._store.base import Store
from .._values.secret import Vault
from .clock import Clock

__all__ = ["Checkpointing", "Held", "Host", "Outcome", "RunLoop", "Waiter"]

E = TypeVar("E", contravariant=True)

Waiter = asyncio.Future[None] | concurrent.futures.Future[None]
"""Answered when what a step asked for has happened; the second kind when it asked from a thread."""


@dataclass(slots=True)
class Outcome:
    """How an attempt ended: with a value, or with what it raised. ``live`` is the object itself."""

    step: str
    visit: int
    attempt: int
    value: Value | None = None
    live: Any = None
    error: BaseException | None = None


class Host(Protocol):
    """The execution around an attempt. Only `ask_to_stop`, `confirm` and `end_with_loop` may be called off its loop."""

    id: str
    plan: Plan
    state: State
    vault: Vault
    loop: asyncio.AbstractEventLoop
    clock: Clock
    context: Context
    watchers: set[Callable[[], None]]
    """Called whenever others have appended events."""
    stop_requested: str | None
    """Why it was asked to stop; from then on no step, effect or attempt starts."""
    superseded: bool
    """Whether another process runs it now."""

    def now(self) -> int:
        """Return the time of what happens now, µs since the epoch; never before the last event."""
        ...

    # -- values ---------------------------------------------------------------------------------------------

    def arguments(self, spec: StepSpec) -> dict[str, Any]:
        """Gather what a step's function is called with."""
        ...

    def encode(self, value: Any, *, keep: bool = True, path: str = "output") -> Value:
        """Encode a value for the log, without its secrets."""
        ...

    def encode_result(self, spec: StepSpec, result: Any) -> Value:
        """Encode what a step returned."""
        ...

    def decode(self, value: Value, where: str, step: str = "") -> Any:
        """Make a recorded value afresh."""
        ...

    def describe(self, error: BaseException) -> ErrorInfo:
        """Describe a failure for the log, without secrets."""
        ...

    # -- records and waits ----------------------------------------------------------------------------------

    def post_record(self, event: Event, waiter: Waiter) -> None:
        """Record an operation's event; ``waiter`` is answered when it is committed."""
        ...

    def check_signals(self) -> None:
        """Raise CerebelumError where signals cannot be sent to this execution."""
        ...

    def ride(self, make: Callable[[], Event | None]) -> None:
        """Record with the next commit what is not worth one of its own; ``make`` is called then."""
        ...

    def waits_changed(self) -> None:
        """Hear that a step began to wait, or has waited for long."""
        ...

    def wait_ended(self) -> None:
        """Hear that a step waits no more."""
        ...

    def confirm(self) -> None:
        """Make sure, right before an effect, that this process may still act for it.

        Raises:
            ExecutionBusyError: another process has taken it over.
        """
        ...

    # -- attempts -------------------------------------------------------------------------------------------

    def ended(self, outcome: Outcome) -> None:
        """Take the outcome of an attempt."""
        ...

    def note_blocking(self, step: str, seconds: float) -> None:
        """Take how long an async step has run without letting the loop go on."""
        ...

    def note_own(self, seconds: float) -> None:
        """Take how long the loop was kept by work that is not the step's."""
        ...

    def ask_to_stop(self, reason: str) -> None:
        """Stop it: nothing starts any more."""
        ...

    def cancelled_from_outside(self, step: str) -> None:
        """Hear that somebody else cancelled a step's task, as the end of ``asyncio.run`` does."""
        ...

    def end_with_loop(self) -> None:
        """Be over if its event loop was closed under it."""
        ...


class Checkpointing(Protocol):
    """What a scope asks of the checkpoints of its attempt."""

    leaving: bool
    """Whether the attempt ends and the step is to be entered again; not when its time is over."""

    def operation_named(self, name: str, count: int) -> None:
        """Hear that an operation begins; ``count`` says how many of its name there are with it."""
        ...

    def checkpoint(self, event: type[Any]) -> dict[str, Any] | None:
        """Return the fields of the checkpoint that is recorded before an operation's event; None when there is none."""
        ...

    def raised(self, error: BaseException) -> dict[str, Any] | None:
        """Return the fields of the checkpoint that is recorded before a failure; None when there is none."""
        ...

    def end(self) -> None:
        """Hear that the function has returned."""
        ...


class Held(Protocol):
    """What leases ask of a run of this process; off its loop, from the heartbeat's thread."""

    id: str
    holder: int
    clock: Clock
    loop: asyncio.AbstractEventLoop

    def look_soon(self) -> None:
        """Look for events that others appended."""
        ...

    def end_with_loop(self) -> None:
        """Be over if its event loop was closed under it."""
        ...

    def disown(self) -> None:
        """Let go of it in a forked child: the parent process runs it."""
        ...


class RunLoop(Protocol[E]):
    """What executions of type ``E`` ask of the engine that runs them; on its loop only."""

    loop: asyncio.AbstractEventLoop
    store: Store
    clock: Clock
    turn_at: int | None
    """When the messages came that are being worked off, by the monotonic clock."""

    @property
    def hibernate_after(self) -> int | None:
        """How long a wait may be before it ends the run in this process, µs; None: as long as it likes."""
        ...

    def start(self, execution: E, *events: Event) -> None:
        """Append what starts or resumes an execution, and let it run."""
        ...

    def made_ready(self, execution: E) -> AbstractContextManager[None]:
        """Give an execution back that was not started after all, whatever was raised before it was."""
        ...

    def post(self, execution: E, handler: Callable[[Any], None], argument: Any) -> None:
        """Put a message into the inbox."""
        ...

    def post_outcome(self, execution: E, outcome: Outcome) -> None:
        """Put an attempt's outcome into the inbox; work it off at once when nothing can arrive together with it."""
        ...

    def flush(self) -> None:
        """Work off the inbox now."""
        ...

    def flush_later(self, execution: E) -> None:
        """Commit waiting progress by itself if nothing else comes."""
        ...

    def on_behalf_of(self, execution: E, action: Callable[..., object], *arguments: Any) -> None:
        """Do something for an execution; what it raises ends that execution with its error."""
        ...

    def look(self, execution: E) -> None:
        """Take in what other processes appended to an execution."""
        ...

    def stirs(self, execution: E) -> None:
        """Hear that an execution does something, so that a clock that jumps must not."""
        ...

    def check_idle(self) -> None:
        """Tell the clock when everything in flight waits for it."""
        ...

    def note_blocking(self, step: str, seconds: float) -> None:
        """Take how long an async step has run without letting the loop go on."""
        ...

    def note_own(self, seconds: float) -> None:
        """Take how long the loop was kept by the engine's own work."""
        ...

    def forget(self, execution: E, leftovers: list[Callable[[], bool]]) -> None:
        """An execution no longer runs here; ``leftovers`` tell whether a step of it is still at work."""
        ...

    def release(self, execution: E) -> None:
        """Give back the lease of an execution that ended without its last commit; never raises."""
        ...
