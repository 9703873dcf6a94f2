"""Rows of the log as typed DataFrames: what each column holds, and how it is converted.

This module knows no SQL and no log. A frame without rows has the same dtypes as a frame with rows. pandas is imported
when the first frame is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

from .._core.events import EVENT_TYPES, HEADER
from .._core.state_name import ExecutionState
from .._text.json_text import parse

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "DIFF",
    "EVENTS",
    "EXECUTIONS",
    "MOMENT",
    "NOTES",
    "SCHEDULES",
    "STEPS",
    "STEP_STATES",
    "TRIAL",
    "Kind",
    "answer",
    "expand",
    "expand_values",
    "frame",
    "in_order",
    "text",
]

Rows = Sequence[tuple[Any, ...]]
Column = Any
"""A ``pandas.Series``. The stubs know a dtype only by its literal name, not when a variable holds the name."""


class Kind(StrEnum):
    """What a column holds; the value is its dtype."""

    TEXT = "str"
    INT = "Int64"
    FLOAT = "float64"
    BOOL = "boolean"
    TIME = "datetime64[us, UTC]"
    DURATION = "timedelta64[us]"
    CATEGORY = "category"
    ANY = "object"


EXECUTIONS = {
    "execution_id": Kind.TEXT,
    "workflow": Kind.CATEGORY,
    "state": Kind.CATEGORY,
    "started_at": Kind.TIME,
    "updated_at": Kind.TIME,
    "completed_at": Kind.TIME,
    "duration": Kind.DURATION,
    "total_steps": Kind.INT,
    "done_steps": Kind.INT,
    "current_step": Kind.TEXT,
    "inputs": Kind.TEXT,
    "output": Kind.TEXT,
    "error": Kind.TEXT,
    "error_type": Kind.CATEGORY,
    "wake_at": Kind.TIME,
    "parent": Kind.TEXT,
    "parent_version": Kind.INT,
    "version": Kind.INT,
    "caller": Kind.TEXT,
    "name": Kind.TEXT,
    "tags": Kind.TEXT,
}

STEPS = {
    "execution_id": Kind.TEXT,
    "workflow": Kind.CATEGORY,
    "step": Kind.CATEGORY,
    "item": Kind.TEXT,
    "visit": Kind.INT,
    "attempt": Kind.INT,
    "state": Kind.CATEGORY,
    "started_at": Kind.TIME,
    "completed_at": Kind.TIME,
    "duration": Kind.DURATION,
    "output": Kind.TEXT,
    "error": Kind.TEXT,
    "error_type": Kind.CATEGORY,
    "code_hash": Kind.TEXT,
    "worker": Kind.CATEGORY,
    "source": Kind.TEXT,
}

EVENTS = {
    "execution_id": Kind.TEXT,
    "version": Kind.INT,
    "type": Kind.CATEGORY,
    "step": Kind.CATEGORY,
    "item": Kind.TEXT,
    "visit": Kind.INT,
    "attempt": Kind.INT,
    "at": Kind.TIME,
    "data": Kind.TEXT,
}

NOTES = {
    "execution_id": Kind.TEXT,
    "workflow": Kind.CATEGORY,
    "step": Kind.CATEGORY,
    "item": Kind.TEXT,
    "visit": Kind.INT,
    "attempt": Kind.INT,
    "at": Kind.TIME,
    "name": Kind.TEXT,
    "value": Kind.TEXT,
}

SCHEDULES = {
    "schedule_id": Kind.TEXT,
    "workflow": Kind.CATEGORY,
    "state": Kind.CATEGORY,
    "when": Kind.TEXT,
    "timezone": Kind.CATEGORY,
    "next_at": Kind.TIME,
    "last_at": Kind.TIME,
    "last_execution": Kind.TEXT,
    "overlap": Kind.CATEGORY,
    "catch_up": Kind.DURATION,
    "inputs": Kind.TEXT,
    "note": Kind.TEXT,
    "updated_at": Kind.TIME,
    "version": Kind.INT,
}

_OF_THE_LOG = ("execution_id", "workflow", "error_type", "code_hash", "worker", "source")

MOMENT = {name: kind for name, kind in STEPS.items() if name not in _OF_THE_LOG} | {"step": Kind.TEXT}

DIFF = {
    "step": Kind.TEXT,
    "state_a": Kind.CATEGORY,
    "state_b": Kind.CATEGORY,
    "attempt_a": Kind.INT,
    "attempt_b": Kind.INT,
    "duration_a": Kind.DURATION,
    "duration_b": Kind.DURATION,
    "duration_diff": Kind.DURATION,
    "inputs_changed": Kind.BOOL,
    "code_changed": Kind.BOOL,
    "output_changed": Kind.BOOL,
    "output_a": Kind.TEXT,
    "output_b": Kind.TEXT,
    "difference": Kind.TEXT,
    "cells_changed": Kind.INT,
    "max_abs_diff": Kind.FLOAT,
}

TRIAL = {
    "execution_id": Kind.TEXT,
    "old": Kind.TEXT,
    "new": Kind.TEXT,
    "changed": Kind.BOOL,
    "difference": Kind.TEXT,
    "error": Kind.TEXT,
    "duration_old": Kind.DURATION,
    "duration_new": Kind.DURATION,
}

STEP_STATES = ("RUNNING", "RETRIED", "INTERRUPTED", "COMPLETED", "FAILED")
_LATEST = 9.2e15
"""The number of a time that pandas can still hold, in microseconds."""

_ORDER = {"state": (*ExecutionState, *STEP_STATES), "type": tuple(EVENT_TYPES)}
"""The order of known categories; the others are in order of appearance."""

_TIMES = frozenset({"due_at", "wake_at", "deadline"})
_NESTED = frozenset({"error"}) | {
    name
    for cls in EVENT_TYPES.values()
    for f in fields(cls)
    if "Value" in str(f.type)
    for name in (f.name, f"{f.name}_ref")
}
_BY_TYPE = {"str": Kind.TEXT, "int": Kind.INT, "float": Kind.FLOAT, "bool": Kind.BOOL}
_INFERRED = {
    "string": Kind.TEXT,
    "integer": Kind.INT,
    "floating": Kind.FLOAT,
    "mixed-integer-float": Kind.FLOAT,
    "boolean": Kind.BOOL,
}
_ISO = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


def frame(rows: Rows, columns: Mapping[str, Kind]) -> pd.DataFrame:
    """Make a typed frame.

    Args:
        rows: one tuple per row, in the order of ``columns``, possibly with more after them; times and durations are
            integer µs.
        columns: the name and kind of each.
    """
    import pandas as pd

    raw: Any = pd.DataFrame(list(rows), columns=range(len(rows[0]) if rows else len(columns)))
    made = {name: _typed(raw.pop(place), kind, name) for place, (name, kind) in enumerate(columns.items())}
    return pd.DataFrame(made, copy=False)


def expand(events: pd.DataFrame) -> pd.DataFrame:
    """Expand the payload of events into columns, in place of ``data``.

    A field that is an object (an output, an error) becomes a column per member, ``output.ip``.
    """
    import pandas as pd

    head, texts = events.drop(columns="data"), events["data"].dropna()
    if texts.empty:
        return head
    payload = pd.DataFrame(_payloads(texts), index=texts.index, dtype="object")
    made: list[Any] = [head]
    for name in payload.columns:
        column: Column = payload[name]
        if name in _NESTED:
            made += _members(column, name)
        else:
            made.append(_typed(column, _PAYLOAD.get(name) or _infer(column), name).rename(name))
    return _side_by_side(made, head.index)


def expand_values(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Expand the members of values into columns, in place of the JSON text in the columns ``names``.

    Anything that is not JSON (the preview of a value stored as bytes) stays as it is.
    """
    if not names:
        return frame
    made: list[Any] = []
    for name in frame.columns:
        column: Column = frame[name]
        if name not in names or not column.notna().any():
            made.append(column)
            continue
        found = column.dropna()
        made += _members(found.map(_parsed).astype("object").reindex(frame.index), name)
    return _side_by_side(made, frame.index)


def _payloads(texts: Column) -> list[Any]:
    """Parse the data of all events at once; if one of them cannot be parsed, only that one is empty."""
    try:
        return list(parse(f"[{','.join(texts)}]"))
    except ValueError:
        found = map(_parsed, texts)
        return [one if isinstance(one, dict) else {} for one in found]


def _parsed(written: str) -> Any:
    try:
        return parse(written)
    except ValueError:
        return written


def _members(column: Column, name: str) -> list[Column]:
    """Make a column per member of the objects in a column; before them, one for values that are not objects, if any."""
    import pandas as pd

    is_object = column.map(type).eq(dict)
    rest, made = column.where(~is_object), []
    if rest.notna().any():
        made.append(_typed(rest, _infer(rest), name).rename(name))
    if is_object.any():
        objects = column[is_object]
        members: Any = pd.DataFrame(objects.tolist(), index=objects.index, dtype="object")
        made += [
            _typed(members[member], _infer(members[member]), member).rename(f"{name}.{member}")
            for member in members.columns
        ]
    return made


def _side_by_side(columns: Sequence[Any], index: Any) -> pd.DataFrame:
    import pandas as pd

    whole: pd.DataFrame = pd.concat([part.reindex(index) for part in columns], axis=1)
    return whole


def answer(rows: Rows, names: Sequence[str]) -> pd.DataFrame:
    """Make a frame of a query's answer. Its dtypes follow from what the columns hold, or from their names if empty."""
    import pandas as pd

    raw: Any = pd.DataFrame(list(rows), columns=range(len(names)), dtype="object")
    made: dict[int, Column] = {}
    for place, name in enumerate(names):
        column = raw.pop(place)
        named = _NAMED.get(name)
        kind = _infer(column) if column.notna().any() else named or Kind.ANY
        if kind is Kind.TEXT and column.notna().any() and _are_times(column):
            made[place] = pd.to_datetime(column, format="ISO8601", utc=True).astype(Kind.TIME.value)
            continue
        if kind is Kind.TEXT and named is Kind.CATEGORY:
            kind = named
        made[place] = _typed(column, kind, name)
    result = pd.DataFrame(made, index=raw.index, copy=False)
    result.columns = pd.Index(list(names), dtype="str")
    return result


def _typed(column: Column, kind: Kind, name: str) -> Column:
    """Give a column its type; what a damaged or forged log holds instead of a number or a time is missing."""
    import pandas as pd

    try:
        return _converted(column, kind, name)
    except (ValueError, TypeError, OverflowError):
        numbers: Any = pd.to_numeric(column, errors="coerce")
        numbers = numbers.where(numbers.abs() < _LATEST).round()
        return _converted(numbers.astype("Int64"), kind, name)


def _converted(column: Column, kind: Kind, name: str) -> Column:
    import pandas as pd

    match kind:
        case Kind.CATEGORY:
            return pd.Series(_categories(column, name), index=column.index)
        case Kind.TIME:
            return pd.to_datetime(column.astype("Int64"), unit="us", utc=True).astype(kind.value)
        case Kind.DURATION:
            return pd.to_timedelta(column.astype("Int64"), unit="us").astype(kind.value)
        case Kind.TEXT:
            return text(column)
        case Kind.ANY:
            return column.astype("object")
        case _:
            return column.astype(kind.value)


def text(column: Column) -> Column:
    """Convert a column to text; missing values stay missing with every pandas.

    pandas 3 has a dtype ``str``. In earlier versions ``astype("str")`` writes a missing value as the text ``None``, so
    the column is ``object`` there, with NaN for missing values: comparisons and ``isna`` work in the same way.
    """
    if _has_str():
        return column.astype("str")
    column = column.astype("object")
    return column.map(str, na_action="ignore").astype("object").where(column.notna(), float("nan"))


@cache
def _has_str() -> bool:
    """Whether this pandas has a dtype for text (3.0 and later)."""
    import pandas as pd

    return pd.Series([None], dtype="object").astype("str").isna().all().item()


def _categories(column: Column, name: str) -> pd.Categorical:
    import pandas as pd

    return pd.Categorical(column, categories=in_order(pd.Index(column.dropna().unique(), dtype="str"), name))


def in_order(found: pd.Index[str], name: str) -> pd.Index[str]:
    """Order the categories of a column: known names first, then the others as they come."""
    import pandas as pd

    known = pd.Index([str(n) for n in dict.fromkeys(_ORDER.get(name, ()))], dtype="str")
    return known[known.isin(found)].append(found[~found.isin(known)])


def _infer(column: Column) -> Kind:
    import pandas as pd

    kind = _INFERRED.get(pd.api.types.infer_dtype(column, skipna=True), Kind.ANY)
    if kind is Kind.INT and not column.dropna().between(-(2**63), 2**63 - 1).all():
        return Kind.ANY
    return kind


def _are_times(column: Column) -> bool:
    found = column.dropna()
    return bool(re.fullmatch(_ISO, found.iloc[0])) and bool(found.astype("str").str.fullmatch(_ISO).all())


def _payload_kinds() -> dict[str, Kind]:
    """The kind of each payload field whose type all events agree on."""
    types: dict[str, set[str]] = {}
    for cls in EVENT_TYPES.values():
        for f in fields(cls):
            if f.name not in HEADER:
                types.setdefault(f.name, set()).add(str(f.type).removesuffix(" | None"))
    kinds = {
        name: _BY_TYPE[next(iter(found))]
        for name, found in types.items()
        if len(found) == 1 and found <= _BY_TYPE.keys()
    }
    return kinds | dict.fromkeys(_TIMES, Kind.TIME)


_PAYLOAD = _payload_kinds()
_NAMED = {**EVENTS, **STEPS, **EXECUTIONS, "log": Kind.CATEGORY}
del _NAMED["duration"]
"""Columns of the views that :func:`answer` knows by name, without ``duration``, which the views give in seconds."""
