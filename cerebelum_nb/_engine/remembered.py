"""What this process keeps of a run that has ended here, for its next resume or fork.

- Values that the log does not fully hold (secrets, unkept values), until the execution is completed or cancelled, and
  only for the last few executions of a log. A run in progress has its values itself.
- The state of the last run of a log, or of one that is about to be resumed (`read_ahead`). Folding it again costs 3 us
  per event; a resume continues from the kept state if the log still holds the same events.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import field
from typing import Any, NamedTuple

from .._core.fold import fold
from .._core.portions import Portions
from .._core.record import frozen
from .._core.state import State
from .._core.state_copy import share_steps
from .._core.state_name import ExecutionState
from .._host.collector import uncollected
from .._store.base import Store
from ..errors import StoreError
from .leases import leases_of
from .portions import in_portions
from .values import ExecutionValues

__all__ = ["Remembered", "forget", "note_end", "read_ahead", "recorded", "remembered"]

_MOST = 32
"""The most executions of one log whose values are kept, those that ended last."""

_AT_ONCE = 1000
"""How many events are read and folded at once before an execution is claimed; fewer are not read ahead."""

_ENDED = (ExecutionState.COMPLETED, ExecutionState.CANCELLED)


@frozen
class Remembered:
    """The values of an execution that the log does not fully hold: its inputs, and results by step and visit."""

    inputs: dict[str, Any] | None = None
    results: Mapping[tuple[str, int], Any] = field(default_factory=dict)


_NOTHING = Remembered()
_kept: weakref.WeakKeyDictionary[Store, OrderedDict[str, Remembered]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


class _Left(NamedTuple):
    """The state of a run, which does not change any more; ``head`` is the hash of its last event and covers all."""

    execution_id: str
    state: State
    head: bytes


_left: weakref.WeakKeyDictionary[Store, _Left] = weakref.WeakKeyDictionary()


def remembered(store: Store, execution_id: str) -> Remembered:
    """Return the values of an execution that this process knows in addition to its log, running or ended."""
    running = leases_of(store).running(execution_id)
    if isinstance(running, ExecutionValues):
        return _of(running)
    with _lock:
        kept = _kept.get(store)
        return _NOTHING if kept is None else kept.get(execution_id, _NOTHING)


def recorded(store: Store, execution_id: str) -> State:
    """Fold the events of a claimed execution, starting from the state of the last run here if it is still valid."""
    left = _still_valid(store, execution_id)
    state = State() if left is None else share_steps(left.state)
    with uncollected():
        return fold(store.events(execution_id, after=state.version), state)


async def read_ahead(store: Store, execution_id: str) -> None:
    """Fold the events of a long execution in portions, between which the loop runs, before it is claimed.

    Nothing holds it meanwhile. After the claim, `recorded` checks that the log still has these events, and folds those
    that were appended since.
    """
    if store.execution(execution_id).version > _AT_ONCE and leases_of(store).running(execution_id) is None:
        await in_portions(_reading(store, execution_id))


def _reading(store: Store, execution_id: str) -> Portions[None]:
    if _still_valid(store, execution_id) is not None:
        return
    state = State()
    while events := store.events(execution_id, after=state.version, upto=state.version + _AT_ONCE):
        fold(events, state)
        yield
    if (head := store.head(execution_id, state.version)) is not None:
        with _lock:
            _left[store] = _Left(execution_id, state, head)


def _still_valid(store: Store, execution_id: str) -> _Left | None:
    """Return the kept state of an execution, if the log still holds the events it is the fold of."""
    left = _left.get(store)
    if left is None or left.execution_id != execution_id:
        return None
    return left if store.head(execution_id, left.state.version) == left.head else None


def note_end(execution: ExecutionValues, *, is_recorded: bool) -> None:
    """Keep what a resume may need of a run that has ended; nothing if it is completed or cancelled.

    Args:
        execution: the execution; its state does not change any more.
        is_recorded: whether the log holds all events of its state.
    """
    needed, state, store = _of(execution), execution.state, execution.store
    resumable = is_recorded and state.lifecycle not in _ENDED
    head = None
    with suppress(StoreError):  # without it, a resume folds the events again
        head = store.head(execution.id, state.version) if resumable else None
    with _lock:
        if head is not None:
            _left[store] = _Left(execution.id, state, head)
        else:
            _drop(store, execution.id)
        kept = _kept.get(store)
        if kept is not None:
            kept.pop(execution.id, None)
        if state.lifecycle in _ENDED or needed == _NOTHING:
            return
        if kept is None:
            kept = _kept[store] = OrderedDict()
        kept[execution.id] = needed
        while len(kept) > _MOST:
            kept.popitem(last=False)


def forget(store: Store, execution_id: str) -> None:
    """Forget what was kept of an execution, as the death of its process would."""
    with _lock:
        _kept.get(store, OrderedDict[str, Remembered]()).pop(execution_id, None)
        _drop(store, execution_id)


def _drop(store: Store, execution_id: str) -> None:
    left = _left.get(store)
    if left is not None and left.execution_id == execution_id:
        del _left[store]


def _of(execution: ExecutionValues) -> Remembered:
    recorded = execution.state.inputs
    whole = recorded is None or recorded.restorable
    if whole and not execution.masked_results:
        return _NOTHING
    return Remembered(None if whole else execution.live_inputs, execution.masked_results)
