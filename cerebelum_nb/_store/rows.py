"""Events as rows: the only place that knows how an event is laid out in the log.

A row is ``(type, step, visit, attempt, at, data)``. ``data`` is one JSON object of the event's other fields, or NULL
if it has none; fields at their default are omitted. There is no SQL and no I/O here, and no value is parsed:

- An event has at most one :class:`Value` with a text. Its JSON text stands under the field's name and always comes
  **last**, so that it can be cut out without being parsed: ``{"by_hand":true,"output":{"ip":"10.0.0.1"}}``.
- A value's description comes before it: ``output_masked`` (its masked paths) and ``output_ref`` (codec, type, preview,
  digest, size). Of a value that is not JSON only the description is recorded. JSON with tags has the description
  ``{"codec":"tagged"}``, followed by its text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from json.encoder import encode_basestring as _quote
from typing import Any, cast

from .._core.events import (
    EVENT_TYPES,
    HEADER,
    PAYLOAD_FIELDS,
    Event,
    StepCompleted,
    StepStarted,
    make_completed,
    make_started,
)
from .._core.record import record
from .._core.value import ErrorInfo, Value
from .._text.json_text import compact, parse
from .._text.text import cut
from ..errors import StoreError

__all__ = ["KINDS", "NO_VALUES", "Row", "decode", "encode", "stored_values", "value_field", "value_of", "values_of"]

Row = tuple[str, str | None, int | None, int | None, int, str | None]
"""``(type, step, visit, attempt, at, data)``; the middle three are NULL for the execution's own events."""

KINDS = {"StepStarted": 0, "StepCompleted": 1}
"""The types, nearly all there are, that the table ``event`` holds as a number in its column ``kind``. Others are a text
there. SQLite stores these two numbers in no byte at all. Changing this takes a migration."""

NO_VALUES = frozenset({"code", "plan"})
"""Codecs of payloads that are not values: the code of steps, and plans."""

_REQUIRED = object()
_dumps = compact(allow_nan=True)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_SHOWN = 60
_QUOTES = 4
"""The quotes in the data of a step's start that contain only its code."""


@record
class _Layout:
    """How the events of one class are laid out; computed once, at import."""

    name: str
    cls: type[Any]
    of_step: bool
    plain: tuple[tuple[str, str, object], ...]  # (field, '"field":', default), all but the value
    tuples: frozenset[str]
    kinds: dict[str, Callable[[Any], bool]]  # whether what was read for a field is of its type
    absent: dict[str, None]  # fields without a default that may be None; None is not written
    value: str  # the field that holds the Value, or ""
    values: str  # the field that holds Values kept as bytes, or ""
    first: str  # the beginning of data that contain only the value
    marker: str  # the text between the other fields and the value


_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "float": (float, int),
    "None": (type(None),),
    "Value": (Value,),
    "ErrorInfo": (ErrorInfo,),
    "list[str]": (list,),
    "tuple[str, ...]": (tuple,),
    "tuple[list[str], ...]": (tuple,),
    "tuple[Value, ...]": (tuple,),
    "dict[str, str]": (dict,),
    "dict[str, int]": (dict,),
    "dict[str, list[str | int]]": (dict,),
}
"""The types of fields, as they are written in the events, and their classes."""

_INSIDE = re.compile(r"(?:tuple|dict|list)\[(?:str, )?(.+?)(?:, \.\.\.)?\]")


def _checker(kind: str) -> Callable[[Any], bool]:
    """Return a function that says whether something is of a type, given as it is written."""
    kind, maybe = (kind.removesuffix(" | None"), " | None" in kind) if kind.endswith("None") else (kind, False)
    classes = (*_KINDS[kind], *(_KINDS["None"] if maybe else ()))
    if (inside := _INSIDE.fullmatch(kind)) is None:
        return lambda found: type(found) in classes
    part = _checker(inside[1]) if inside[1] in _KINDS else lambda _: True
    return lambda found: (
        type(found) in classes and all(map(part, found.values() if type(found) is dict else found or ()))
    )


def _layout(cls: type[Any]) -> _Layout:
    by_name = {f.name: f for f in fields(cls)}
    own = [by_name[name] for name in PAYLOAD_FIELDS[cls]]
    values = next((f.name for f in own if str(f.type).startswith("tuple[Value")), "")
    value = next((f.name for f in own if "Value" in str(f.type) and f.name != values), "")
    absent = {f.name: None for f in own if f.default is MISSING and "None" in str(f.type)}
    return _Layout(
        name=cls.__name__,
        cls=cls,
        of_step="step" in by_name,
        plain=tuple(
            (f.name, f'"{f.name}":', absent.get(f.name, _REQUIRED) if f.default is MISSING else f.default)
            for f in own
            if f.name != value
        ),
        kinds={name: _checker(str(f.type)) for name, f in by_name.items()},
        tuples=frozenset(f.name for f in own if str(f.type).startswith("tuple")),
        absent=absent,
        value=value,
        values=values,
        first=f'{{"{value}":',
        marker=f',"{value}":',
    )


_LAYOUTS = {cls: _layout(cls) for cls in EVENT_TYPES.values()}
_BY_NAME = {layout.name: layout for layout in _LAYOUTS.values()}


# -- writing ------------------------------------------------------------------------------------------------


def encode(event: Event) -> Row:
    """Return the row of ``event``."""
    # Nearly all events are of these two types, so they have a fast path; the general code below would write the same.
    if isinstance(event, StepStarted):
        code = event.code
        data = None if code is None else f'{{"code":{_quote(code)}}}'
        if data is None or data.isascii():
            return "StepStarted", event.step, event.visit, event.attempt, event.at, data
    elif isinstance(event, StepCompleted) and not event.by_hand and not event.worker and not event.key:
        value = event.output
        if value.codec == "json" and not (value.masked or value.type or value.preview or value.digest or value.size):
            data = f'{{"output":{value.json}}}'
            if data.isascii():
                return "StepCompleted", event.step, event.visit, event.attempt, event.at, data
    layout = _LAYOUTS[type(event)]
    members = []
    for name, key, default in layout.plain:
        field = getattr(event, name)
        if field != default:
            members.append(key + _text(field))
    if layout.value:
        value = getattr(event, layout.value)
        if value is not None:
            _add_value(members, layout.value, value)
    data = None
    if members:
        data = "{" + ",".join(members) + "}"
        if not data.isascii():
            # SQLite takes UTF-8, which cannot represent a lone surrogate. Its JSON escape could be stored, but then no
            # query could read the text; so the escape itself is escaped. Values contain none (_values/tags.py).
            try:
                data.encode()  # a quarter of the time of the search
            except UnicodeEncodeError:
                data = _LONE_SURROGATE.sub(lambda found: f"\\\\u{ord(found[0]):04x}", data)
    if layout.of_step:
        step = cast(Any, event)
        return layout.name, step.step, step.visit, step.attempt, event.at, data
    return layout.name, None, None, None, event.at, data


def value_of(event: Event) -> Value | None:
    """Return the value of ``event`` that has a text; None if there is none."""
    name = _LAYOUTS[type(event)].value
    return getattr(event, name) if name else None


def values_of(event: Event) -> tuple[Value, ...]:
    """Return all values of ``event``, including those kept only as bytes."""
    layout = _LAYOUTS[type(event)]
    value = getattr(event, layout.value) if layout.value else None
    kept: tuple[Value, ...] = getattr(event, layout.values) if layout.values else ()
    return kept if value is None else (value, *kept)


def value_field(event: Event) -> str:
    """Return the name of the field that holds the value of ``event``; "" if it has none."""
    return _LAYOUTS[type(event)].value


def kept_values(event: Event) -> tuple[Value, ...]:
    """Return the values of ``event`` that are kept only as bytes."""
    name = kept_field(event)
    return getattr(event, name) if name else ()


def kept_field(event: Event) -> str:
    """Return the name of the field whose values are kept only as bytes; "" if there is none."""
    return _LAYOUTS[type(event)].values


def stored_values(event: Event) -> Iterable[Value]:
    """Return the values of ``event`` whose bytes must be stored beside it."""
    layout = _LAYOUTS[type(event)]
    if layout.values:
        return [value for value in values_of(event) if value.payload is not None]
    value: Value | None = getattr(event, layout.value) if layout.value else None  # the hot path of every commit
    return (value,) if value is not None and value.payload is not None else ()


def _text(field: Any) -> str:
    kind = type(field)
    if kind is str:
        return _quote(field)
    if kind is int:
        return str(field)
    if kind is tuple and field and type(field[0]) is Value:
        return _dumps([_reference(value) | ({"json": value.json} if value.json else {}) for value in field])
    return _dumps(_error_members(field) if kind is ErrorInfo else field)


def _add_value(members: list[str], name: str, value: Value) -> None:
    if value.masked:
        members.append(f'"{name}_masked":{_dumps(value.masked)}')
    if value.codec != "json":
        members.append(f'"{name}_ref":{_dumps(_reference(value))}')
        if value.json:
            members.append(f'"{name}":{value.json}')
        return
    if value.type or value.preview or value.digest or value.size:
        members.append(f'"{name}_ref":{_dumps(_about(value))}')
    members.append(f'"{name}":{value.json}')


def _reference(value: Value) -> dict[str, object]:
    return {"codec": value.codec, **_about(value)}


def _about(value: Value) -> dict[str, object]:
    return {name: known for name in ("type", "preview", "digest", "size") if (known := getattr(value, name))}


def _error_members(error: ErrorInfo) -> dict[str, object]:
    members: dict[str, object] = {"type": error.type, "message": error.message}
    if error.traceback:
        members["traceback"] = error.traceback
    if error.mro:
        members["mro"] = error.mro
    if error.reason is not None:
        members["reason"] = error.reason
    return members


# -- reading ------------------------------------------------------------------------------------------------


def decode(rows: Iterable[Row]) -> list[Event]:
    """Return the events of ``rows``.

    Raises:
        StoreError: a row was written by a newer version of this library, or is damaged.
    """
    events: list[Event] = []
    for kind, step, visit, attempt, at, data in rows:
        # As in `encode`, a fast path for two types; the code below would return the same, at five times the cost.
        if type(step) is str and type(data) is str and type(at) is type(visit) is type(attempt) is int:
            if kind == "StepCompleted" and data.startswith('{"output":'):
                value = Value("json", data[10:-1])
                events.append(make_completed(at=at, step=step, visit=visit, attempt=attempt, output=value))
                continue
            if (
                kind == "StepStarted"
                and data.startswith('{"code":"')
                and data.endswith('"}')
                and data.count('"') == _QUOTES
                and "\\" not in data
            ):
                events.append(make_started(at=at, step=step, visit=visit, attempt=attempt, code=data[9:-2]))
                continue
        layout = _BY_NAME.get(kind)
        if layout is None:
            raise _newer(f"events of type {kind}")
        try:
            header = {"at": at, "step": step, "visit": visit, "attempt": attempt} if layout.of_step else {"at": at}
            members = header | _fields(layout, data)
            _check(layout.kinds, members)
            event = layout.cls(**members)
        except (ValueError, TypeError, AttributeError, RecursionError) as exc:
            raise StoreError(
                f"The log holds a damaged {kind} event (step {step!r}, at {at}): {exc}. Restore the log from "
                "a copy, or export what is whole."
            ) from exc
        events.append(event)
    return events


def _fields(layout: _Layout, data: str | None) -> dict[str, Any]:
    if data is None:
        return dict(layout.absent)
    name = layout.value
    if name and data.startswith(layout.first):
        return {name: Value("json", data[len(layout.first) : -1])}
    found: dict[str, Any] = dict(layout.absent)
    # The first marker is the right one: within a JSON string its quotes would be escaped, and the objects before the
    # value (an error, a description) have no member of that name.
    head, marker, tail = data.partition(layout.marker) if name else (data, "", "")
    found |= parse(head + "}" if marker else head)
    if name:
        about = found.pop(name + "_ref", None)
        masked = found.pop(name + "_masked", ())
        if marker or about:
            found[name] = _value(tail[:-1] if marker else "", about or {}, masked)
    for member in found.keys() - PAYLOAD_FIELDS[layout.cls]:
        raise _newer(f"{layout.name} events with {member!r}")
    for member in layout.tuples & found.keys():
        found[member] = tuple(found[member])
    if layout.values in found:
        found[layout.values] = tuple(_value("", about, ()) for about in found[layout.values])
    if "error" in found:
        found["error"] = _error(found["error"])
    return found


def _check(kinds: dict[str, Callable[[Any], bool]], found: dict[str, Any]) -> None:
    for name, value in found.items():
        if not kinds[name](value):
            raise ValueError(f"{name} is {cut(repr(value), _MOST_SHOWN)}")


def _value(text: str, about: dict[str, Any], masked: Iterable[str]) -> Value:
    for member in about.keys() - _VALUE_MEMBERS:
        raise _newer(f"values with {member!r}")
    members = {"codec": "json", "json": text, **about, "masked": tuple(masked)}
    _check(_VALUE_KINDS, members)
    return Value(**members)


def _error(members: dict[str, Any]) -> ErrorInfo:
    for member in members.keys() - _ERROR_MEMBERS:
        raise _newer(f"errors with {member!r}")
    members = {**members, "mro": tuple(members.get("mro", ()))}
    _check(_ERROR_KINDS, members)
    return ErrorInfo(**members)


_VALUE_MEMBERS = {f.name for f in fields(Value)} - {"payload", "masked"}
_ERROR_MEMBERS = {f.name for f in fields(ErrorInfo)}
_VALUE_KINDS = {f.name: _checker(str(f.type)) for f in fields(Value) if f.name != "payload"}
_ERROR_KINDS = {f.name: _checker(str(f.type)) for f in fields(ErrorInfo)}
assert not {layout.value for layout in _LAYOUTS.values() if layout.value} & (_VALUE_MEMBERS | _ERROR_MEMBERS)
assert not any(set(HEADER) & {name for name, _, _ in layout.plain} for layout in _LAYOUTS.values())


def _newer(what: str) -> StoreError:
    return StoreError(
        f"The log holds {what}, which this version of cerebelum_nb does not know: a newer one wrote it. "
        "Upgrade with `pip install -U cerebelum_nb`, then read it again."
    )
