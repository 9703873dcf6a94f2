"""Mask secrets that were not known when an execution was recorded, before it is shared.

Values stored under a redacted name are masked, and so is their text everywhere else. That changes the events, so they
are chained again. Values that are bytes cannot be masked: they are left out, and their previews stay.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import fields, replace
from importlib.util import find_spec
from typing import Any

from .._core.events import Event, WorkflowStarted
from .._core.fold import fold
from .._core.labels import Labels
from .._core.summary import summarise
from .._core.value import ErrorInfo, Value
from .._engine.plan_payloads import plan_text
from .._store import chain, executions, rows
from .._text.json_text import parse
from .._values import MASK, Redactor, encode
from .._values.bounds import inflate
from .._values.gather_secrets import gather
from .record import Record

__all__ = ["masked_in", "scrub"]

_FREE_TEXT = frozenset({"message", "text", "reason", "result"})
"""Fields of events that hold free text; the fold depends on the other fields, which are names."""


def masked_in(record: Record) -> int:
    """Count the places where a secret was masked."""
    return sum(len(value.masked) for value in _values(rows.decode(row for row, _ in record.events)))


def scrub(record: Record, names: Collection[str]) -> tuple[Record, int]:
    """Mask the values stored under these names; return the record, and how many values were left out."""
    events = rows.decode(row for row, _ in record.events)
    redactor = Redactor(names)
    for value in _values(events):
        if value.is_json:
            with suppress(ValueError):  # nested too deeply to be read: `_value` leaves it out
                gather(parse(value.json), redactor, set(), 0)
    revealing = {
        d for d, (codec, data) in record.payloads.items() if codec != "code" and _may_reveal(codec, data, redactor)
    }
    scrubbed = [_event(event, redactor, revealing) for event in events]
    head, chained = chain.start(record.id), []
    for version, row in enumerate(map(rows.encode, scrubbed), start=1):
        head = chain.link(head, version, row)
        chained.append((row, head))
    shown = summarise(fold(scrubbed))
    error = executions.shown_text(shown.error)
    payloads = {
        digest: (codec, _code(data, redactor) if codec == "code" else data)
        for digest, (codec, data) in record.payloads.items()
        if digest not in revealing
    }
    record = replace(
        record,
        execution={**record.execution, "error": error},
        labels=Labels(shown.name, shown.tags),
        events=chained,
        payloads=payloads,
    )
    return record, len(revealing)


def _values(events: Iterable[Event]) -> Iterable[Value]:
    return (value for event in events for value in rows.values_of(event))


def _may_reveal(codec: str, data: bytes, redactor: Redactor) -> bool:
    """Whether bytes contain a secret or a redacted name, or cannot be searched for them."""
    try:
        searched = _uncompressed(data) if codec == "arrow" else plan_text(data) if codec == "plan" else data
    except ValueError:
        return True
    if searched is None:
        return True
    lower = searched.lower()
    return redactor.reveals(searched) or (codec != "plan" and any(name.encode() in lower for name in redactor.names))


def _uncompressed(data: bytes) -> bytes | None:
    """Write Arrow data without compression, so that it can be searched; None if that is not possible."""
    if find_spec("pyarrow") is None:
        return None
    import pyarrow as pa

    try:
        with pa.ipc.open_stream(data) as reader:
            table = reader.read_all()
    except pa.ArrowException:
        return None
    plain = pa.BufferOutputStream()
    with pa.ipc.new_stream(plain, table.schema) as writer:
        writer.write_table(table)
    return bytes(plain.getvalue())


def _event(event: Event, redactor: Redactor, revealing: Collection[str]) -> Event:
    changed: dict[str, Any] = {}
    for f in fields(event):
        match getattr(event, f.name):
            case Value() as value:
                changed[f.name] = _value(value, redactor, revealing)
            case tuple() as values if values and isinstance(values[0], Value):
                changed[f.name] = tuple(_value(value, redactor, revealing) for value in values)
            case ErrorInfo() as error:
                changed[f.name] = replace(
                    error,
                    message=redactor.mask(error.message),
                    traceback=redactor.mask(error.traceback),
                    reason=None if error.reason is None else redactor.mask(error.reason),
                )
            case str() as text if f.name in _FREE_TEXT or (f.name == "name" and isinstance(event, WorkflowStarted)):
                changed[f.name] = redactor.mask(text)
    return replace(event, **changed)


def _value(value: Value, redactor: Redactor, revealing: Collection[str]) -> Value:
    preview = redactor.mask(value.preview)
    if value.digest in revealing:
        return Value("none", type=value.type, preview=preview)
    if value.codec != "json":
        return replace(value, preview=preview)
    try:
        masked = encode(parse(value.json), redactor=redactor)
    except ValueError:
        return Value("none", type="JSON", preview="nested too deeply to be read")
    if masked.codec != "json":
        return Value("none", type=masked.type, preview=masked.preview)
    return replace(
        value, json=masked.json, preview=preview, masked=tuple(dict.fromkeys((*value.masked, *masked.masked)))
    )


def _code(data: bytes, redactor: Redactor) -> bytes:
    parts = [
        (kind, name, digest, MASK if redactor.hides(name.rpartition(".")[2]) else redactor.mask(text))
        for kind, name, digest, text in parse(inflate(data))
    ]
    return zlib.compress(json.dumps(parts, separators=(",", ":")).encode(), 6)
