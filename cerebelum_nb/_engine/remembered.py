"""What a later resume or fork in this process needs and the log does not fully hold: secrets, and unkept values.

It is kept from the end of a run until the execution is completed or cancelled, and only for the last few executions of
a log. A run in progress has its values itself.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._core.state_name import ExecutionState
from .._store.base import Store
from .leases import leases_of
from .values import ExecutionValues

__all__ = ["Remembered", "forget", "note_end", "remembered"]

_MOST = 32
"""Executions of one log whose values are kept; of more, those that ended last."""

_ENDED = (ExecutionState.COMPLETED, ExecutionState.CANCELLED)


@dataclass(frozen=True, slots=True)
class Remembered:
    """The inputs of an execution that the log does not fully hold, and such results, by step and visit."""

    inputs: dict[str, Any] | None = None
    results: Mapping[tuple[str, int], Any] = field(default_factory=dict)


_NOTHING = Remembered()
_kept: weakref.WeakKeyDictionary[Store, OrderedDict[str, Remembered]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def remembered(store: Store, execution_id: str) -> Remembered:
    """Return what this process knows of an execution in addition to its log, whether it runs or has ended."""
    running = leases_of(store).running(execution_id)
    if isinstance(running, ExecutionValues):
        return _of(running)
    with _lock:
        kept = _kept.get(store)
        return _NOTHING if kept is None else kept.get(execution_id, _NOTHING)


def note_end(execution: ExecutionValues) -> None:
    """Keep what a resume may need from a run that has ended; nothing if it is completed or cancelled."""
    needed = _of(execution)
    with _lock:
        kept = _kept.setdefault(execution.store, OrderedDict())
        kept.pop(execution.id, None)
        if execution.state.lifecycle in _ENDED or needed == _NOTHING:
            return
        kept[execution.id] = needed
        while len(kept) > _MOST:
            kept.popitem(last=False)


def forget(store: Store, execution_id: str) -> None:
    """Forget what was kept of an execution, as the death of its process would."""
    with _lock:
        _kept.get(store, OrderedDict[str, Remembered]()).pop(execution_id, None)


def _of(execution: ExecutionValues) -> Remembered:
    recorded = execution.state.inputs
    whole = recorded is None or recorded.restorable
    return Remembered(None if whole else execution.live_inputs, execution.masked_results)
