"""The JSON Schema of a class that inputs must fit."""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from .fitting import Field, fields_of, plain
from .secret import Secret

__all__ = ["schema_of"]

_JSON: dict[Any, dict[str, Any]] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    str: {"type": "string"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
    time: {"type": "string", "format": "time"},
    timedelta: {"type": ["string", "number"], "format": "duration"},
    Decimal: {"type": ["string", "number"]},
    Path: {"type": "string", "format": "path"},
    types.NoneType: {"type": "null"},
    None: {"type": "null"},
}


def schema_of(cls: type[Any], fields: Mapping[str, Field], outer: tuple[Any, ...] = ()) -> dict[str, Any]:
    """Describe a class; inside itself it is only named.

    Args:
        cls: the class.
        fields: its fields by name.
        outer: the classes around it.
    """
    if cls in outer:
        return {"title": cls.__name__, "type": "object"}
    outer = (*outer, cls)
    schema: dict[str, Any] = {"title": cls.__name__, "type": "object"}
    schema["properties"] = {name: dict(_describe_field(field, outer)) for name, field in fields.items()}
    schema["required"] = [name for name, field in fields.items() if field.required]
    schema["additionalProperties"] = False
    return schema


def _describe_field(field: Field, outer: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    yield from _schema(field.type, outer).items()
    if field.default is not None:
        default = plain(field.default())
        with suppress(TypeError, ValueError):  # a secret in it, or what JSON cannot hold
            json.dumps(default, allow_nan=False)
            yield "default", default


def _schema(kind: Any, outer: tuple[Any, ...]) -> dict[str, Any]:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        return _schema(parts[0], outer)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(part, outer) for part in parts]}
    if origin is Literal:
        return {"enum": list(parts)}
    if kind is Secret or origin is Secret:
        return {"type": "string", "format": "password", "writeOnly": True}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or typing.is_typeddict(kind)):
        return schema_of(kind, fields_of(kind), outer)
    base = origin or kind
    if base is dict:
        return {"type": "object", **({"additionalProperties": _schema(parts[1], outer)} if parts else {})}
    if base is tuple and parts and parts[-1] is not ...:
        return {"type": "array", "prefixItems": [_schema(part, outer) for part in parts]}
    if base in (list, tuple, set, frozenset):
        return {"type": "array", **({"items": _schema(parts[0], outer)} if parts else {})}
    return dict(_JSON.get(kind, {}))
