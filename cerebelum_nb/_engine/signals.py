"""Send a signal, from any process: the client, a run, the dashboard and the command line all call `deliver`.

``deliver`` appends ``SignalReceived`` to the log (outside.py); the state after which it is appended decides whether the
execution still takes signals.

- If this process runs the execution, it reads the event at once; another one when its heartbeat thread sees that the
  log has changed (leases.py). The waiting step then records ``SignalTaken`` (_operations/signal.py).
- If the execution hibernates, folding the event makes it due (_core/fold.py sets ``State.wake_at``). A scheduler or a
  resume then wakes it, and the step, called again, finds the signal in the state.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from functools import partial
from typing import Any

from .._core.arguments import ExecutionLike
from .._core.events import SignalReceived
from .._core.fold import fold
from .._core.state import State
from .._core.state_name import ExecutionState
from .._store.base import Store
from .._store.holder import CLUSTER
from .._values import Redactor, encode
from ..errors import SignalError
from .clock import current_clock
from .cluster_access import authoritative_store
from .outside import append_from_outside
from .patience import patiently, short_try

__all__ = ["MOST_UNTAKEN", "check_name", "deliver", "send"]

MOST_UNTAKEN = 1_000
"""The most signals that an execution keeps while no step takes them; more are refused."""

_MOST_FOLDED = 8
_folded: weakref.WeakKeyDictionary[Store, OrderedDict[str, tuple[State, int]]] = weakref.WeakKeyDictionary()
"""The executions that signals were last sent to, so that sending many folds each event once: the state, and the version
up to which it is recorded."""

_lock = threading.Lock()


def check_name(name: object) -> None:
    """Raise ValueError unless this can be the name of a signal."""
    if not isinstance(name, str) or not name or ":" in name or name[0] == "@" or not name.isprintable():
        raise ValueError(f"the name of a signal must be text such as 'payment', without ':' or '@' first, not {name!r}")


def deliver(
    store: Store,
    execution_id: ExecutionLike,
    name: str,
    data: Any = None,
    signal_id: str | None = None,
    by: str | None = None,
) -> bool:
    """Append a signal to an execution; the step that waits for it continues, or it is kept until one waits.

    Args:
        store: its log.
        execution_id: its id or an unambiguous prefix.
        name: the name of the signal.
        data: what the step receives; must be storable.
        signal_id: identifies the signal: a second one with the same id is ignored.
        by: who sends it, for the log.

    Returns:
        False when a signal with this ``signal_id`` was sent before.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        SignalError: the execution has ended, or keeps too many signals already.
        SerializationError: the data cannot be stored.
    """
    check_name(name)
    if signal_id is not None and (not isinstance(signal_id, str) or not signal_id):
        raise TypeError(f"signal_id must be text that no other signal of this execution has, not {signal_id!r}")
    row = store.execution(execution_id)
    found = row.execution_id
    store = authoritative_store(store, row)
    value = encode(data, redactor=Redactor(store.redact), path="data")
    refusal = SignalError(
        f"execution {found} on {store.location} is not running and takes no signals there: resume it first, or send "
        f"the signal to a log that has a copy of it"
    )

    def make(state: State) -> SignalReceived | None:
        if signal_id and signal_id in state.signal_ids:  # the sender tries again, not knowing that it arrived
            return None
        if state.lifecycle.is_final:
            raise SignalError(f"execution {found} is {state.lifecycle}: it no longer takes signals")
        if store.location.startswith(CLUSTER) and state.lifecycle is ExecutionState.PAUSED:
            raise refusal
        if len(state.signals) >= MOST_UNTAKEN:
            raise SignalError(
                f"execution {found} has {MOST_UNTAKEN:,} signals that no step has taken, and accepts no more until "
                f"a step waits for them: see `cerebelum events {found} --type SignalReceived`"
            )
        now = max(current_clock.get().now(), state.updated_at)
        return SignalReceived(at=now, name=name, data=value, signal_id=signal_id or "", by=by)

    with _lock:
        state = append_from_outside(store, found, make, read=partial(_state, store, found), refusal=refusal)
        if state is not None:
            _folded[store][found] = state, state.version
    return state is not None


async def send(store: Store, execution_id: ExecutionLike, name: str, **signal: Any) -> bool:
    """Send a signal from async code, as :func:`deliver` does; the loop runs while the log is locked."""

    def write() -> bool:
        with short_try():
            return deliver(store, execution_id, name, **signal)

    return await patiently(write)


def _state(store: Store, execution_id: str) -> State:
    """Fold what is recorded, starting from the last known state if all of that is recorded."""
    known = _folded.setdefault(store, OrderedDict())
    state, recorded = known.pop(execution_id, (State(), 0))
    if state.version != recorded:
        state = State()
    fold(store.events(execution_id, after=state.version), state)
    known[execution_id] = state, state.version
    while len(known) > _MOST_FOLDED:
        known.popitem(last=False)
    return state
