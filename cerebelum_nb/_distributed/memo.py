"""The memo of an execution in Temporal's history: events, and what lists show; and how long the history is."""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributePair, SearchAttributeUpdate

from .._core.state import State
from .record import Record
from .settings import SEARCH_STATE
from .shown import shown

__all__ = ["MEMO_BYTES", "SHOWN_AFTER", "Memo", "is_long", "is_short"]

MEMO_BYTES = 400_000
"""Bytes of events in one memo; the server takes 2 MB in one message."""
_STATE = SearchAttributeKey.for_keyword(SEARCH_STATE)
_SHOWN_EVERY = 2_000_000
"""µs between two updates for lists while the state stays the same: each writes a row in the visibility store."""
SHOWN_AFTER = 3.0
"""Seconds after which an update for lists that came too early is written; more than `_SHOWN_EVERY`, so that an
execution that makes progress writes it in a turn that it takes anyway."""
_SHORT_HISTORY = 50
"""Temporal events up to which a history is not worth a continue-as-new."""
_LONG_HISTORY, _BIG_HISTORY = 20_000, 20_000_000
"""Temporal events and bytes beyond which nothing starts before a continue-as-new."""


class Memo:
    """Write the memo of an execution.

    Args:
        record: its rows; those that no activity has carried are written.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._shown: tuple[str, int] = ("", 0)  # the state that lists show, and when it was written
        self._version = 0  # the version that they show

    def begin(self, state: State, now: int) -> None:
        """Note what lists show when the run begins."""
        self._shown, self._version = (state.status.value, now), state.version

    def write(self, state: State, now: int, *, last: bool = False) -> bool:
        """Write the events that no activity carried, and what lists show if that is due.

        Args:
            state: the execution.
            now: µs since 1970.
            last: whether this is the last turn, so that what lists show must be written.

        Returns:
            Whether lists show the execution as it is.
        """
        while carried := self._record.carried(MEMO_BYTES):
            workflow.upsert_memo({"events": carried})
        if entry := self._shown_now(state, now, last=last):
            workflow.upsert_memo({"shown": entry})
            self._version = state.version
        return self._version == state.version

    def of_next_run(self, state: State) -> dict[str, Any]:
        """Return the memo and the search attributes of the next run, so that lists show the execution as it is."""
        status = SearchAttributePair(_STATE, state.status.value)
        attributes = workflow.info().typed_search_attributes.updated(status)
        return {"memo": {"shown": shown(state)}, "search_attributes": attributes}

    def _shown_now(self, state: State, now: int, *, last: bool) -> dict[str, Any] | None:
        status = state.status.value
        if not last and status == self._shown[0] and now - self._shown[1] < _SHOWN_EVERY:
            return None
        if status != self._shown[0]:
            changes: list[SearchAttributeUpdate[Any]] = [_STATE.value_set(status)]
            workflow.upsert_search_attributes(changes)
        self._shown = (status, now)
        return shown(state)


def is_long() -> bool:
    """Whether the history must not grow much more: the server ends a run at 51,200 events or 50 MB."""
    info = workflow.info()
    return info.get_current_history_length() > _LONG_HISTORY or info.get_current_history_size() > _BIG_HISTORY


def is_short() -> bool:
    """Whether the history is too short to be worth a continue-as-new."""
    return workflow.info().get_current_history_length() <= _SHORT_HISTORY
