"""The queue for a slot: among the executions with one value of a concurrency key, one runs and the others wait.

There is no broker. A unique index of the log (_store/schema.py) allows one active execution per slot, so two processes
can never both begin: the commit of the second is rejected (``Rejection.QUEUED``), whatever it had read before. This
module decides which execution tries. An execution is ahead of another if it has the slot, or if it was queued earlier
and a living process will run it: the one in which it waits, or a scheduler that keeps its place. A queued execution
whose process was killed is passed over until a process takes it up again, and then has its old place.

If the process of the execution with the slot dies, it keeps the slot for ``LeaseTimes.grace``, in which a scheduler may
take it up. After that the next execution in the queue pauses it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .._core import events as e
from .._core.events import Event
from .._core.graph import Concurrency
from .._core.state import State
from .._core.state_name import ExecutionState
from .._store.base import ExecutionRow, Store
from ..errors import ExecutionBusyError, StoreError
from . import leases as held
from .clock import Clock
from .orphans import pause_orphan

__all__ = ["QueuePlace", "ahead_of", "busy", "is_orphaned", "slot_after"]

_PAGE = 20


class QueuePlace:
    """The place of one execution in the queue for its slot.

    Attributes:
        beginning: the events that start or resume the execution, until they are committed; another execution may get
            the slot first, and then they are made again.
        when_queued: called once the execution is recorded as queued.
        will_look: whether a check of the slot is scheduled.
    """

    __slots__ = ("_id", "_left", "_on_conflict", "_store", "beginning", "when_queued", "will_look")

    def __init__(self, store: Store, execution_id: str, rule: Concurrency | None) -> None:
        self._store, self._id = store, execution_id
        self._on_conflict = "queue" if rule is None else rule.on_conflict
        self._left: tuple[str, int] | None = None  # an execution ahead without a process, and since when
        self.beginning: Sequence[Event] = ()
        self.when_queued: Callable[[], None] | None = None
        self.will_look = False

    def begin(self, events: Sequence[Event], state: State, now: int) -> Sequence[Event]:
        """Return the events to begin with: ``events`` themselves, and ``WorkflowQueued`` if its slot is taken."""
        if not (state.slot or slot_after(events, state)):
            return events
        self.beginning = events
        return self.enter(events, state, now)

    def begun(self, state: State) -> None:
        """Note that the events it begins with are committed."""
        self.beginning = ()
        if state.lifecycle is ExecutionState.QUEUED and self.when_queued is not None:
            self.when_queued()

    def enter(self, events: Sequence[Event], state: State, now: int) -> list[Event]:
        """Return the events to begin with, either with the slot or queued.

        Args:
            events: the events that start or resume the execution.
            state: its state before them.
            now: the time, µs since the epoch; never before the last event.

        Raises:
            ExecutionBusyError: another execution has the slot, and the workflow says ``on_conflict="refuse"``.
        """
        slot = slot_after(events, state)
        was_queued = state.lifecycle is ExecutionState.QUEUED
        others: list[Event] = [event for event in events if not isinstance(event, e.WorkflowAdmitted)]
        if not slot or (state.lifecycle is ExecutionState.RUNNING and state.slot == slot):
            return others
        ahead = next(ahead_of(self._store, slot, self._id, state.queued_at), None)
        if ahead is None:
            return [*others, e.WorkflowAdmitted(at=now)] if was_queued else others
        if self._on_conflict == "refuse" and not was_queued:
            raise busy(self._id, slot, ahead)
        if was_queued and not others:
            return []
        last = self._store.queue(slot, limit=1, last=True)  # clocks differ: never before the last one
        at = max([now, *((row.summary.queued_at or 0) + 1 for row in last if not was_queued)])
        return [*others, e.WorkflowQueued(at=at, behind=ahead.execution_id)]

    def may_try(self, state: State, clock: Clock) -> bool:
        """Whether a queued execution may try to get its slot; False while the log is locked, until the next check.

        Args:
            state: its state.
            clock: its clock.
        """
        try:
            return self._is_first(state, clock.monotonic(), clock.now())
        except StoreError as error:
            if not error.transient:
                raise
            return False

    def _is_first(self, state: State, monotonic: int, now: int) -> bool:
        """Whether no execution is ahead; one with the slot whose process died is paused after its grace."""
        ahead = ahead_of(self._store, state.slot, self._id, state.queued_at)
        first = next(ahead, None)
        if first is None:
            return True
        if first.summary.state is ExecutionState.QUEUED or not is_orphaned(self._store, first):
            self._left = None
        elif self._left is None or self._left[0] != first.execution_id:
            self._left = first.execution_id, monotonic
        elif monotonic - self._left[1] >= held.times.grace * 1e6 and next(ahead, None) is None:
            reason = f"its process died, and {self._id} was next for {state.slot}"
            return pause_orphan(self._store, first.execution_id, reason, now)
        return False


def ahead_of(store: Store, slot: str, execution_id: str, queued_at: int | None) -> Iterator[ExecutionRow]:
    """Yield the executions ahead of an execution for a slot, beginning with the one that has the slot.

    Args:
        store: the log.
        slot: the slot.
        execution_id: the execution.
        queued_at: when it was queued, µs since the epoch; None if it is not queued yet.
    """
    first = store.in_slot(slot)
    if first is not None and first.execution_id != execution_id:
        yield first
    offset = 0
    while rows := store.queue(slot, limit=_PAGE, offset=offset):
        for row in rows:
            if row.execution_id == execution_id or (queued_at is not None and (row.summary.queued_at or 0) > queued_at):
                return
            if row.holder is not None and store.lease_left(row.holder):
                yield row
        offset += _PAGE


def slot_after(events: Sequence[Event], state: State) -> str:
    """Return the slot of an execution after these events."""
    slot = state.slot
    for event in events:
        if isinstance(event, e.WorkflowStarted | e.TakenUpEvent) and event.slot is not None:
            slot = event.slot
    return slot


def is_orphaned(store: Store, row: ExecutionRow) -> bool:
    """Whether an execution with its slot should be running, but its process has died."""
    if held.leases_of(store).running(row.execution_id) is not None:
        return False
    if row.holder is not None:
        return not store.lease_left(row.holder)
    active = row.summary.state in (ExecutionState.RUNNING, ExecutionState.SLEEPING)
    return active and row.summary.wake_at is None


def busy(execution_id: str, slot: str, by: ExecutionRow) -> ExecutionBusyError:
    """Return the error for an execution that is not started because another one has its slot."""
    return ExecutionBusyError(
        f"execution {by.execution_id} of workflow '{by.summary.workflow}' is {by.summary.state.words} for {slot}, and "
        f"only one can run at a time (on_conflict='refuse'): execution {execution_id} was not started, and nothing was "
        f"recorded. Wait for that one, `cerebelum watch {by.execution_id}`, or end it, `cerebelum cancel "
        f"{by.execution_id}`; then try again",
        execution_id=by.execution_id,
        holder="" if by.holder is None else str(by.holder),
    )
