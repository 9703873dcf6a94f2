"""Append an event to an execution from outside the process that runs it: a decision, signal, tag or cancel request.

The event needs no lease. It is made from the state right before it, and made again if another process has appended an
event meanwhile. The process that runs the execution then reads it: this process at once, another within half a second.
"""

from __future__ import annotations

from collections.abc import Callable

from .._core.events import Event
from .._core.fold import evolve, fold
from .._core.state import State
from .._core.summary import summarise
from .._store import refusals
from .._store.base import Commit, Store
from .._store.holder import CLUSTER
from ..errors import CerebelumError, StoreError
from .leases import leases_of

__all__ = ["append_from_outside", "commit_to_latest"]

_MOST_TRIES = 20
"""How often an event is sent to a cluster that refuses it. A log takes it unless another event came first."""


def commit_to_latest(
    store: Store,
    execution_id: str,
    make: Callable[[State], Commit | None],
    *,
    read: Callable[[], State] | None = None,
    refusal: CerebelumError | None = None,
) -> State | None:
    """Write a commit that is made from the recorded state, again if another event was appended meanwhile.

    Args:
        store: the execution's log, or the cluster that runs it.
        execution_id: its complete id.
        make: returns the commit, given the current state, and folds its events into it; None to write nothing. It may
            be called several times.
        read: returns the current state; by default the fold of all events.
        refusal: the error to raise if a cluster accepts no event, because the execution is not running there.

    Returns:
        The state after the commit; None if nothing was written.

    Raises:
        StoreError: the log rejects the commit although no other event was appended: it is damaged.
        CerebelumError: ``refusal``, or an error that says that the execution is not running on its cluster.
        Otherwise what ``make`` raises.
    """
    tries, before, on_cluster = 0, -1, store.location.startswith(CLUSTER)
    while True:
        state = fold(store.events(execution_id)) if read is None else read()
        if state.version <= before and not on_cluster:
            raise StoreError(refusals.no_append(store.location, execution_id, state.version))
        before = state.version
        commit = make(state)
        if commit is None:
            return None
        if not store.commit([commit]):
            return state
        tries += 1
        if tries == _MOST_TRIES and on_cluster:
            raise refusal or CerebelumError(
                f"execution {execution_id} on {store.location} is not running and takes no events there: "
                f"resume it first"
            )


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
        store: as for :func:`commit_to_latest`, like the other arguments and the errors.
        execution_id: its complete id.
        make: returns the event, given the current state; None to append nothing. It may be called several times.
        read: returns the current state.
        refusal: the error to raise if a cluster accepts no event.

    Returns:
        The state after the event; None if nothing was appended.
    """

    def commit(state: State) -> Commit | None:
        event, after = make(state), state.version
        if event is None:
            return None
        evolve(state, event)
        return Commit(execution_id=execution_id, after=after, events=[event], summary=summarise(state), holder=None)

    state = commit_to_latest(store, execution_id, commit, read=read, refusal=refusal)
    if state is not None:
        leases = leases_of(store)
        here = leases.running(execution_id)
        if here is not None:
            here.look_soon()
        leases.notify()
    return state
