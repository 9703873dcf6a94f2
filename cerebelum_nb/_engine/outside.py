"""Append an event to an execution from outside the process that runs it: a decision, signal, tag or cancel request.

The event needs no lease. It is made from the state right before it, and made again if another process has appended an
event meanwhile. The process that runs the execution then reads it: this process at once, another within half a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .._core.events import Event
from .._core.fold import evolve, fold
from .._core.state import State
from .._core.summary import summarise
from .._store import refusals
from .._store.base import Commit, Store
from .._store.holder import CLUSTER
from ..errors import CerebelumError, StoreError
from .leases import leases_of

__all__ = ["append_from_outside", "latest_states"]

_MOST_TRIES = 20
"""How often an event is sent to a cluster that refuses it. A log takes it unless another event came first."""


def latest_states(store: Store, execution_id: str, read: Callable[[], State] | None = None) -> Iterator[State]:
    """Yield the recorded state, and the newer state each time the caller's commit was rejected.

    A rejection means that another event was appended, so each state is newer than the previous one. In a damaged log it
    may not be; without this check the caller would try forever.

    Args:
        store: the log.
        execution_id: its complete id.
        read: returns the current state; by default the fold of all events.

    Raises:
        StoreError: a commit was rejected, although nothing was appended.
    """
    before = -1
    while True:
        state = fold(store.events(execution_id)) if read is None else read()
        if state.version <= before and not store.location.startswith(CLUSTER):  # a cluster: the caller counts
            raise StoreError(refusals.no_append(store.location, execution_id, state.version))
        before = state.version
        yield state


def append_from_outside(
    store: Store,
    execution_id: str,
    make: Callable[[State], Event | None],
    *,
    read: Callable[[], State] | None = None,
    refusal: CerebelumError | None = None,
) -> State | None:
    """Append an event to an execution, whichever process runs it.

    Args:
        store: the execution's log, or the cluster that runs it.
        execution_id: its id.
        make: returns the event, given the current state; None to append nothing. It may be called several times.
        read: returns the current state; by default the fold of all events.
        refusal: the error to raise if a cluster accepts no event, because the execution is not running there.

    Returns:
        The state after the event; None if nothing was appended.

    Raises:
        StoreError: the log rejects the event although no other was appended first: it is damaged.
        CerebelumError: ``refusal``, or an error that says that the execution is not running on its cluster.
        Otherwise what ``make`` raises.
    """
    tries, states = 0, latest_states(store, execution_id, read)
    while True:
        state = next(states)
        event = make(state)
        if event is None:
            return None
        after = state.version
        evolve(state, event)
        commit = Commit(execution_id=execution_id, after=after, events=[event], summary=summarise(state), holder=None)
        if not store.commit([commit]):
            break
        tries += 1
        if tries == _MOST_TRIES and store.location.startswith(CLUSTER):
            raise refusal or CerebelumError(
                f"execution {execution_id} on {store.location} is not running and takes no events there: "
                f"resume it first"
            )
    leases = leases_of(store)
    here = leases.running(execution_id)
    if here is not None:
        here.look_soon()
    leases.notify()
    return state
