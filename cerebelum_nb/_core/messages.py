"""Messages from the shell to the driver, and commands from the driver to the shell. See drive.py.

They are not frozen: each lives for one turn, and freezing doubles the time to create one.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import events as e
from .events import Event
from .record import mutable
from .value import ErrorInfo

__all__ = [
    "Admitted",
    "AskItems",
    "AskRoute",
    "Begin",
    "Cancel",
    "CancelAttempts",
    "Command",
    "Drain",
    "Due",
    "End",
    "Expire",
    "Items",
    "JoinItems",
    "Leave",
    "Lost",
    "Message",
    "Recorded",
    "Released",
    "Restored",
    "Routed",
    "SetTimer",
    "Settled",
    "Start",
    "Stop",
    "Woken",
]


# -- messages -----------------------------------------------------------------------------------------------


@mutable
class Begin:
    """Start or resume the execution. ``events`` say how: started, resumed, awakened, forked, results given by hand.

    ``lost`` says why attempts ended that the history shows as in flight although no process runs them. They ended no
    later than their process, whose last heartbeat (µs) is ``last_heartbeat``, if known.
    """

    events: Sequence[Event]
    lost: str = "its process ended"
    last_heartbeat: int | None = None


@mutable
class Settled:
    """An attempt ended. ``events`` are its last prints and its outcome, which :mod:`.settle` makes.

    ``alive`` says that its thread still runs although it timed out: no new attempt starts until the thread ends.
    """

    step: str
    visit: int
    attempt: int
    events: Sequence[Event]
    alive: bool = False


@mutable
class Recorded:
    """A running attempt records an operation, or a statement that begins."""

    event: Event


@mutable
class Due:
    """The timer of a step fired."""

    step: str


@mutable
class Released:
    """The thread of an attempt that was already over has ended."""

    step: str


@mutable
class Routed:
    """The answer to :class:`AskRoute`: the choice, or ``WorkflowFailed`` if choosing raised."""

    event: e.DivergeTaken | e.BranchTaken | e.WorkflowFailed


@mutable
class Items:
    """The answer to :class:`AskItems` or :class:`JoinItems`: the items, or the outcome of the foreach."""

    event: e.ItemsListed | e.StepCompleted | e.StepFailed


@mutable
class Lost:
    """An attempt will never settle because its worker is gone. Only a shell with remote workers sends this."""

    step: str
    visit: int
    attempt: int
    reason: str
    worker: str = ""


@mutable
class Woken:
    """An attempt ended without an outcome: its step starts again, and keeps its finished operations.

    Only a shell with remote workers sends this: the attempt's wait is over, or its worker must end.
    """

    step: str
    visit: int
    attempt: int
    reason: str = "it hibernated"
    worker: str = ""


@mutable
class Admitted:
    """The execution was queued, and its slot is now free."""


@mutable
class Restored:
    """Results that are not in the log were lost with a worker: their steps run again, only to restore them.

    Only a shell with remote workers sends this.
    """

    steps: tuple[str, ...]


@mutable
class Stop:
    """Pause the execution: running steps are interrupted, finished steps are kept."""

    reason: str


@mutable
class Expire:
    """The execution timed out: running steps are interrupted, and it fails with this error."""

    error: ErrorInfo


@mutable
class Cancel:
    """Cancel the execution, at the request of this process; another process appends ``CancelRequested`` instead."""

    reason: str | None = None
    by: str | None = None


@mutable
class Drain:
    """Start nothing more: another process will resume it."""


@mutable
class Leave:
    """Hibernate: everything in flight is in a long wait. ``wake_at`` is when the first wait ends; None: never.

    ``stays`` says that this shell wakes the steps itself: the hibernation is recorded, but the driver goes on.
    """

    wake_at: int | None
    stays: bool = False


Message = (
    Begin
    | Settled
    | Recorded
    | Due
    | Released
    | Routed
    | Items
    | Lost
    | Woken
    | Admitted
    | Restored
    | Stop
    | Expire
    | Cancel
    | Drain
    | Leave
)


# -- commands -----------------------------------------------------------------------------------------------


@mutable
class Start:
    """Run an attempt of a step, once the batch is committed; answer with :class:`Settled`."""

    step: str
    visit: int
    attempt: int


@mutable
class SetTimer:
    """Answer with :class:`Due` at ``due_at``, µs since the epoch; at once if the shell's clock is past that."""

    step: str
    due_at: int


@mutable
class AskRoute:
    """Match the outcome of a step against its patterns or its predicate; answer with :class:`Routed`."""

    step: str


@mutable
class AskItems:
    """List the items of a foreach; answer with :class:`Items`."""

    step: str


@mutable
class JoinItems:
    """Make the outcome of a foreach from the outcomes of its items; answer with :class:`Items`."""

    step: str


@mutable
class CancelAttempts:
    """Abandon every timer, and every attempt that is not in flight any more: the history shows it as interrupted."""


@mutable
class End:
    """End the run in this process once the batch is committed; the same commit gives the lease back."""


Command = Start | SetTimer | AskRoute | AskItems | JoinItems | CancelAttempts | End
