"""Convert values to the types of annotations: text to a number, a date or a member of an enumeration.

Values are converted only if nothing is lost. All problems are collected.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import types
import typing
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .._text.duration import seconds
from .._text.text import cut, did_you_mean
from .secret import Secret

__all__ = ["Field", "MisfitError", "fields_of", "fit", "learn", "made_of", "plain"]


class MisfitError(Exception):
    """A value does not fit; the arguments are the problems."""


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    type: Any
    required: bool
    default: Callable[[], Any] | None = None


_learned: weakref.WeakKeyDictionary[type[Any], dict[str, Field]] = weakref.WeakKeyDictionary()
"""The fields of classes, with annotations resolved where they were declared as inputs."""


def learn(cls: type[Any], space: Mapping[str, Any] | None) -> None:
    """Read the fields of a class, and of the classes in them."""
    if cls in _learned:
        return
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError:
        if space is None:
            raise
        hints = get_type_hints(cls, {**vars(sys.modules[cls.__module__]), **space}, include_extras=True)
    _learned[cls] = _fields(cls, hints)
    todo = list(hints.values())
    while todo:
        kind = todo.pop()
        todo.extend(part for part in get_args(kind) if get_origin(kind) is not Literal)
        if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or typing.is_typeddict(kind)):
            learn(kind, space)


def fields_of(cls: type[Any]) -> dict[str, Field]:
    learn(cls, None)
    return _learned[cls]


def _fields(cls: type[Any], hints: Mapping[str, Any]) -> dict[str, Field]:
    if typing.is_typeddict(cls):
        # Where annotations are text, __required_keys__ does not know NotRequired.
        required: frozenset[str] = cls.__required_keys__
        return {
            name: Field(hint, get_origin(hint) is not typing.NotRequired and name in required)
            for name, hint in hints.items()
        }
    found = {}
    for field in dataclasses.fields(cls):
        if field.init:
            default = None
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory
            elif field.default is not dataclasses.MISSING:
                default = _constant(field.default)
            found[field.name] = Field(hints[field.name], default is None, default)
    return found


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def made_of(
    cls: type[Any], fields: Mapping[str, Field], given: Mapping[str, Any], path: str, problems: list[str]
) -> dict[str, Any]:
    """Convert the given values, field by field."""
    made: dict[str, Any] = {}
    for name, field in fields.items():
        where = f"{path}.{name}" if path else name
        if name in given:
            try:
                made[name] = fit(field.type, given[name], where)
            except MisfitError as error:
                problems.extend(error.args)
        elif field.default is not None:
            made[name] = field.default()
        elif field.required:
            problems.append(f"{where} is missing: give {describe_type(field.type)}")
    for name in given:
        if name not in fields:
            hint = did_you_mean(str(name), fields, f"{cls.__name__} has: {', '.join(fields) or 'none'}", most=1)
            problems.append(f"{f'{path}.{name}' if path else name} is not an input. {hint}")
    return made


def fit(kind: Any, value: Any, where: str) -> Any:
    """Convert a value to the type of an annotation.

    Raises:
        MisfitError: it does not fit; the arguments are the problems.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any or isinstance(kind, typing.TypeVar):
        return value
    if origin in (typing.Annotated, typing.Required, typing.NotRequired, typing.ClassVar):
        return fit(parts[0], value, where)
    if origin in (Union, types.UnionType):
        return _fit_one_of(kind, parts, value, where)
    if origin is Literal:
        found = next((p for p in parts if p == value and type(p) is type(value)), None)
        found = found if found is not None else next((p for p in parts if str(p) == value), None)
        if found is None and value is not None:
            raise _wrong(kind, value, where)
        return found
    if kind is Secret or origin is Secret:
        return value if isinstance(value, Secret) else Secret(value)
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or typing.is_typeddict(kind)):
        return _fit_nested(kind, value, where)
    if (origin or kind) in _CONTAINERS:
        return _fit_container(kind, origin or kind, parts, value, where)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        if isinstance(value, kind):
            return value
        found = next((m for m in kind if value == m.value or value == m.name or str(m.value) == value), None)
        if found is None:
            raise _wrong(kind, value, where)
        return found
    convert = _CONVERTERS.get(kind)
    if convert is not None:
        try:
            return convert(value)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise _wrong(kind, value, where) from error
    if kind is None or kind is types.NoneType:
        if value is None:
            return None
        raise _wrong(kind, value, where)
    if isinstance(origin or kind, type) and not isinstance(value, origin or kind):
        raise _wrong(kind, value, where)
    return value


def _fit_one_of(kind: Any, parts: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and types.NoneType in parts:
        return None
    real = [part for part in parts if part is not types.NoneType]
    if len(real) == 1:
        return fit(real[0], value, where)
    exact = [part for part in real if isinstance(part, type) and type(value) is part]
    for part in (*exact, *real):
        with suppress(MisfitError):
            return fit(part, value, where)
    raise _wrong(kind, value, where)


def _fit_nested(kind: type[Any], value: Any, where: str) -> Any:
    if isinstance(value, kind) if not typing.is_typeddict(kind) else False:
        return value
    if not isinstance(value, Mapping):
        raise _wrong(kind, value, where)
    problems: list[str] = []
    made = made_of(kind, fields_of(kind), value, where, problems)
    if problems:
        raise MisfitError(*problems)
    return made if typing.is_typeddict(kind) else kind(**made)


def _fit_container(kind: Any, base: Any, parts: tuple[Any, ...], value: Any, where: str) -> Any:
    accepted: tuple[type[Any], ...] = (dict,) if base is dict else (list, tuple, set, frozenset)
    if not isinstance(value, accepted):
        raise _wrong(kind, value, where)
    problems: list[str] = []

    def each(part: Any, item: Any, place: str) -> Any:
        try:
            return fit(part, item, place)
        except MisfitError as error:
            problems.extend(error.args)
            return None

    made: Any
    if base is dict:
        key_type, value_type = parts or (Any, Any)
        made = {each(key_type, k, f"{where}'s key"): each(value_type, v, f"{where}[{k!r}]") for k, v in value.items()}
    elif base is tuple and parts and parts[-1] is not ...:
        if len(parts) != len(value):
            raise _wrong(kind, value, where)
        pairs = enumerate(zip(parts, value, strict=True))
        made = tuple(each(part, item, f"{where}[{place}]") for place, (part, item) in pairs)
    else:
        made = base([each(parts[0] if parts else Any, item, f"{where}[{n}]") for n, item in enumerate(value)])
    if problems:
        raise MisfitError(*problems)
    return made


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or (isinstance(value, float) and value % 1):
        raise TypeError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    return float(value)


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() not in ("true", "false") or not isinstance(value, str):
        raise ValueError
    return value.lower() == "true"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _refuse()


def _refuse() -> Any:
    raise TypeError


def _parser(kind: type[Any], read: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda value: value if type(value) is kind else read(_text(value))


def _length(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    return timedelta(seconds=seconds(value, unit="s")) if isinstance(value, str) else timedelta(seconds=_number(value))


_CONTAINERS = (list, tuple, set, frozenset, dict)
_CONVERTERS: dict[Any, Callable[[Any], Any]] = {
    int: _integer,
    float: _number,
    bool: _truth,
    str: _text,
    datetime: _parser(datetime, datetime.fromisoformat),
    date: _parser(date, date.fromisoformat),
    time: _parser(time, time.fromisoformat),
    timedelta: _length,
    Decimal: lambda value: value if isinstance(value, Decimal) else Decimal(str(value)),
    Path: lambda value: value if isinstance(value, Path) else Path(_text(value)),
}
_DESCRIPTIONS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    datetime: "a date and time, such as 2026-11-29T06:00",
    date: "a date, such as 2026-11-29",
    time: "a time, such as 06:00",
    timedelta: 'a duration, such as "2 days"',
    Decimal: "a decimal number",
    Path: "a path",
    list: "a list",
    tuple: "a list",
    set: "a list",
    frozenset: "a list",
    dict: "names with values",
    types.NoneType: "null",
    None: "null",
}


def _wrong(kind: Any, value: Any, where: str) -> MisfitError:
    return MisfitError(f"{where} is {cut(repr(value), 60)}, not {describe_type(kind)}")


def describe_type(kind: Any) -> str:
    """Describe an annotation in words, for a message."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(part) for part in parts)
    if origin is Literal:
        return f"one of {', '.join(map(repr, parts))}"
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        return describe_type(parts[0])
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f"one of {', '.join(repr(member.value) for member in kind)}"
    if (origin or kind) in (list, set, frozenset) and parts:
        return f"a list of {describe_type(parts[0])}"
    if kind is Secret or origin is Secret:
        return "a secret"
    return _DESCRIPTIONS.get(origin or kind) or str(getattr(kind, "__name__", kind))


def plain(value: Any) -> Any:
    """Convert a value for the log, to types that can be read without its classes."""
    if isinstance(value, Secret):
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if hasattr(value, "get_secret_value"):  # pydantic's
        return Secret(value.get_secret_value())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in (sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value)]
    return value
