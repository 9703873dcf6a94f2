"""What crosses the wire: events as rows, packed, and with other values. Pure: the driver imports it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from .._core.events import Event
from .._core.value import Value
from .._store import rows as layout
from .._values.bounds import MOST_VALUE_BYTES, inflate

__all__ = ["Carried", "Rows", "from_rows", "pack", "to_row", "unpack", "with_value"]

Rows = list[list[Any]]
"""Events as the log lays them out (``_store/rows.py``), as JSON lists."""

Carried = dict[str, Any]
"""Rows on their way into Temporal's history: ``{"after": version before the first, "rows": [...]}``."""


def to_row(event: Event) -> list[Any]:
    """Lay an event out.

    Example:
        >>> from cerebelum_nb._core.events import StepStarted
        >>> to_row(StepStarted(at=5, step="a", code="c0de"))
        ['StepStarted', 'a', 1, 1, 5, '{"code":"c0de"}']
    """
    return list(layout.encode(event))


def from_rows(rows: Iterable[Sequence[Any]]) -> list[Event]:
    """Read events.

    Raises:
        StoreError: a newer version wrote them.
    """
    return layout.decode([tuple(row) for row in rows])


def pack(rows: Rows) -> bytes:
    """Compress many rows.

    Example:
        >>> unpack(pack([["WorkflowResumed", None, None, None, 1, None]]))
        [['WorkflowResumed', None, None, None, 1, None]]
    """
    return zlib.compress(json.dumps(rows, separators=(",", ":")).encode(), 6)


def unpack(data: bytes) -> Rows:
    """Read what :func:`pack` wrote."""
    rows: Rows = json.loads(inflate(data, MOST_VALUE_BYTES))
    return rows


def with_value(event: Event, make: Callable[[Value], Value]) -> Event:
    """Return an event whose values, if it has any, were made others."""
    value, kept = layout.value_of(event), layout.kept_values(event)
    fields: dict[str, Any] = {}
    if value is not None and (changed := make(value)) is not value:
        fields[layout.value_field(event)] = changed
    if kept:
        fields[layout.kept_field(event)] = tuple(map(make, kept))
    return replace(event, **fields) if fields else event
