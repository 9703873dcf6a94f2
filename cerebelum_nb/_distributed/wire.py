"""Events as rows, and rows as bytes, for the way to a cluster and back. Pure: the driver imports it."""

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

__all__ = ["Carried", "Row", "Rows", "from_rows", "pack", "to_row", "unpack", "with_value"]

Row = list[Any]
"""An event as the log lays it out (``_store/rows.py``), as a JSON list."""
Rows = list[Row]

Carried = dict[str, Any]
"""Rows on their way into Temporal's history: ``{"after": version before the first, "rows": [...]}``."""


def to_row(event: Event) -> Row:
    """Lay an event out.

    Example:
        >>> from cerebelum_nb._core.events import StepStarted
        >>> to_row(StepStarted(at=5, step="a", code="c0de"))
        ['StepStarted', 'a', 1, 1, 5, '{"code":"c0de"}']
    """
    return list(layout.encode(event))


def from_rows(rows: Iterable[Sequence[Any]]) -> list[Event]:
    """Read the events of rows.

    Raises:
        StoreError: a newer release wrote them.
    """
    return layout.decode([tuple(row) for row in rows])


def pack(rows: Rows) -> bytes:
    """Compress rows.

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
    """Return an event with each of its values replaced by ``make(value)``."""
    value, kept = layout.value_of(event), layout.kept_values(event)
    fields: dict[str, Any] = {}
    if value is not None and (changed := make(value)) is not value:
        fields[layout.value_field(event)] = changed
    if kept:
        fields[layout.kept_field(event)] = tuple(map(make, kept))
    return replace(event, **fields) if fields else event
