"""The shape of a workflow's inputs: a dataclass, a TypedDict or a pydantic model, and what is given held against it.

The log holds plain values by name, so that inputs are read without the class. What steps receive is made of them each
time. Pydantic checks its own models; the others are checked here, and converted where nothing is lost: text to a
number, to a date, to a member of an enumeration.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import sys
import types
import typing
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .._text.duration import seconds
from .._text.text import cut, did_you_mean
from ..errors import WorkflowDefinitionError
from .secret import Secret

__all__ = ["Shape", "shape_of", "shape_taken"]


class _MisfitError(Exception):
    """A value that does not fit; its text says what would."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    type: Any
    required: bool
    default: Callable[[], Any] | None = None


class Shape:
    """What a workflow takes as inputs.

    Args:
        cls: the dataclass or TypedDict.
        fields: its fields by name.
    """

    def __init__(self, cls: type[Any], fields: Mapping[str, _Field]) -> None:
        self.cls, self._fields = cls, fields

    def as_given(self, inputs: Any) -> Any:
        """Return names with values, also of an instance of the class."""
        if dataclasses.is_dataclass(inputs) and isinstance(inputs, self.cls):
            return {name: getattr(inputs, name) for name in self._fields}
        return inputs

    def take(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Hold inputs against the shape.

        Args:
            given: names to values.

        Returns:
            The inputs as they are recorded, converted and with defaults; and every problem.
        """
        problems: list[str] = []
        made = _made(self.cls, self._fields, given, "", problems)
        return ({} if problems else {name: _plain(value) for name, value in made.items()}), problems

    def make(self, recorded: Mapping[str, Any]) -> Any:
        """Make what a step receives of recorded inputs.

        Raises:
            ValueError: they do not fit.
        """
        problems: list[str] = []
        made = _made(self.cls, self._fields, recorded, "", problems)
        if problems:
            raise ValueError("; ".join(problems))
        return made if typing.is_typeddict(self.cls) else self.cls(**made)

    def read(self, name: str, text: str, parsed: Any) -> Any:
        """Choose what a word of a command line means: the text itself where the field takes it, else what it parses as.

        Args:
            name: the input.
            text: what was written.
            parsed: the same read as JSON, or the text where it is none.
        """
        field = self._fields.get(name)
        if field is None or isinstance(parsed, str) or field.type is Any:
            return parsed
        try:
            _fit(field.type, text, name)
        except _MisfitError:
            return parsed
        return text

    def schema(self) -> dict[str, Any]:
        """Describe the inputs as JSON Schema."""
        return _schema_of(self.cls, self._fields)


class _ModelShape(Shape):
    """A pydantic model, which checks, converts and describes itself."""

    def __init__(self, cls: Any) -> None:
        super().__init__(cls, {})

    def as_given(self, inputs: Any) -> Any:
        """Return names with values, also of an instance of the model."""
        return dict(inputs) if isinstance(inputs, self.cls) else inputs

    def take(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Hold inputs against the model."""
        try:
            made = self.cls.model_validate(_revealed(given))
        except ValueError as error:
            return {}, [_of_pydantic(problem) for problem in getattr(error, "errors", list)()] or [str(error)]
        return {name: _plain(value) for name, value in made.model_dump().items()}, []

    def make(self, recorded: Mapping[str, Any]) -> Any:
        """Make an instance of the model."""
        return self.cls.model_validate(_revealed(recorded))

    def read(self, name: str, text: str, parsed: Any) -> Any:
        """Take text where the field is text."""
        field = self.cls.model_fields.get(name)
        return text if field is not None and field.annotation is str and not isinstance(parsed, str) else parsed

    def schema(self) -> dict[str, Any]:
        """Describe the model as JSON Schema."""
        made: dict[str, Any] = self.cls.model_json_schema()
        return made


def shape_of(cls: Any, where: str, space: Mapping[str, Any] | None = None) -> Shape | None:
    """Read the shape of inputs; None when there is no class.

    Args:
        cls: a dataclass, a TypedDict or a pydantic model.
        where: whose inputs they are, for messages.
        space: the names of the code that uses it, for annotations that are text: a script that a command has loaded is
            not the module that is called ``__main__``.

    Raises:
        WorkflowDefinitionError: it is none of the three, or its annotations cannot be read.
    """
    if cls is None:
        return None
    if isinstance(cls, type) and hasattr(cls, "model_validate") and hasattr(cls, "model_fields"):
        return _ModelShape(cls)
    if not isinstance(cls, type) or not (dataclasses.is_dataclass(cls) or typing.is_typeddict(cls)):
        raise WorkflowDefinitionError(
            f"{where}: inputs= is a dataclass, a TypedDict or a pydantic model, not {cut(repr(cls), 60)}"
        )
    try:
        _learn(cls, space)
        return Shape(cls, _fields_of(cls))
    except (NameError, TypeError) as error:
        raise WorkflowDefinitionError(f"{where}: the fields of {cls.__name__} cannot be read: {error}") from error


def shape_taken(fn: Callable[..., Any]) -> Shape | None:
    """Read the shape that a step's parameter ``inputs`` is annotated with; None when that says none."""
    try:
        fn = inspect.unwrap(fn)
        return shape_of(get_type_hints(fn).get("inputs"), "", fn.__globals__)
    except (WorkflowDefinitionError, NameError, TypeError, AttributeError):
        return None


_learnt: weakref.WeakKeyDictionary[type[Any], dict[str, _Field]] = weakref.WeakKeyDictionary()
"""The fields of classes, as their annotations were understood where they were declared as inputs."""


def _learn(cls: type[Any], space: Mapping[str, Any] | None) -> None:
    """Read the fields of a class, and of those that they are of."""
    if cls in _learnt:
        return
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError:
        if space is None:
            raise
        hints = get_type_hints(cls, {**vars(sys.modules[cls.__module__]), **space}, include_extras=True)
    _learnt[cls] = _fields(cls, hints)
    todo = list(hints.values())
    while todo:
        kind = todo.pop()
        todo.extend(part for part in get_args(kind) if get_origin(kind) is not Literal)
        if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or typing.is_typeddict(kind)):
            _learn(kind, space)


def _fields_of(cls: type[Any]) -> dict[str, _Field]:
    _learn(cls, None)
    return _learnt[cls]


def _fields(cls: type[Any], hints: Mapping[str, Any]) -> dict[str, _Field]:
    if typing.is_typeddict(cls):
        # Where annotations are text, __required_keys__ does not know NotRequired.
        required: frozenset[str] = cls.__required_keys__
        return {
            name: _Field(hint, get_origin(hint) is not typing.NotRequired and name in required)
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
            found[field.name] = _Field(hints[field.name], default is None, default)
    return found


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def _made(
    cls: type[Any], fields: Mapping[str, _Field], given: Mapping[str, Any], path: str, problems: list[str]
) -> dict[str, Any]:
    """Convert what is given, field by field."""
    made: dict[str, Any] = {}
    for name, field in fields.items():
        where = f"{path}.{name}" if path else name
        if name in given:
            try:
                made[name] = _fit(field.type, given[name], where)
            except _MisfitError as error:
                problems.extend(error.args)
        elif field.default is not None:
            made[name] = field.default()
        elif field.required:
            problems.append(f"{where} is missing: give {_said(field.type)}")
    for name in given:
        if name not in fields:
            hint = did_you_mean(str(name), fields, f"{cls.__name__} has: {', '.join(fields) or 'none'}", most=1)
            problems.append(f"{f'{path}.{name}' if path else name} is no input. {hint}")
    return made


def _fit(kind: Any, value: Any, where: str) -> Any:
    """Convert a value to what an annotation says.

    Raises:
        _MisfitError: it does not fit; the arguments are the problems.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any or isinstance(kind, typing.TypeVar):
        return value
    if origin in (typing.Annotated, typing.Required, typing.NotRequired, typing.ClassVar):
        return _fit(parts[0], value, where)
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
        return _fit(real[0], value, where)
    exact = [part for part in real if isinstance(part, type) and type(value) is part]
    for part in (*exact, *real):
        with suppress(_MisfitError):
            return _fit(part, value, where)
    raise _wrong(kind, value, where)


def _fit_nested(kind: type[Any], value: Any, where: str) -> Any:
    if isinstance(value, kind) if not typing.is_typeddict(kind) else False:
        return value
    if not isinstance(value, Mapping):
        raise _wrong(kind, value, where)
    problems: list[str] = []
    made = _made(kind, _fields_of(kind), value, where, problems)
    if problems:
        raise _MisfitError(*problems)
    return made if typing.is_typeddict(kind) else kind(**made)


def _fit_container(kind: Any, base: Any, parts: tuple[Any, ...], value: Any, where: str) -> Any:
    accepted: tuple[type[Any], ...] = (dict,) if base is dict else (list, tuple, set, frozenset)
    if not isinstance(value, accepted):
        raise _wrong(kind, value, where)
    problems: list[str] = []

    def each(part: Any, item: Any, place: str) -> Any:
        try:
            return _fit(part, item, place)
        except _MisfitError as error:
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
        raise _MisfitError(*problems)
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


def _of_text(kind: type[Any], read: Callable[[str], Any]) -> Callable[[Any], Any]:
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
    datetime: _of_text(datetime, datetime.fromisoformat),
    date: _of_text(date, date.fromisoformat),
    time: _of_text(time, time.fromisoformat),
    timedelta: _length,
    Decimal: lambda value: value if isinstance(value, Decimal) else Decimal(str(value)),
    Path: lambda value: value if isinstance(value, Path) else Path(_text(value)),
}
_WORDS = {
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


def _wrong(kind: Any, value: Any, where: str) -> _MisfitError:
    return _MisfitError(f"{where} is {cut(repr(value), 60)}, not {_said(kind)}")


def _said(kind: Any) -> str:
    """Say in words what an annotation takes."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_said(part) for part in parts)
    if origin is Literal:
        return f"one of {', '.join(map(repr, parts))}"
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        return _said(parts[0])
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f"one of {', '.join(repr(member.value) for member in kind)}"
    if (origin or kind) in (list, set, frozenset) and parts:
        return f"a list of {_said(parts[0])}"
    if kind is Secret or origin is Secret:
        return "a secret"
    return _WORDS.get(origin or kind) or str(getattr(kind, "__name__", kind))


def _plain(value: Any) -> Any:
    """Write a value as the log is to hold it: without classes that only this code knows."""
    if isinstance(value, Secret):
        return value
    if isinstance(value, enum.Enum):
        return _plain(value.value)
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
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in (sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value)]
    return value


def _revealed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Give pydantic, which has secrets of its own, what ours hold."""
    return {name: value.reveal() if isinstance(value, Secret) else value for name, value in given.items()}


def _of_pydantic(problem: Mapping[str, Any]) -> str:
    where = ".".join(map(str, problem["loc"])) or "the inputs"
    if problem["type"] == "missing":
        return f"{where} is missing"
    shown = "" if isinstance(problem["input"], Mapping) else f" is {cut(repr(problem['input']), 60)}"
    message = problem["msg"]
    return f"{where}{shown}: {message[:1].lower()}{message[1:]}"


# -- JSON Schema --------------------------------------------------------------------------------------------

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


def _schema_of(cls: type[Any], fields: Mapping[str, _Field]) -> dict[str, Any]:
    told: dict[str, Any] = {"title": cls.__name__, "type": "object"}
    told["properties"] = {name: dict(_described(field)) for name, field in fields.items()}
    told["required"] = [name for name, field in fields.items() if field.required]
    told["additionalProperties"] = False
    return told


def _described(field: _Field) -> Iterator[tuple[str, Any]]:
    yield from _schema(field.type).items()
    if field.default is not None:
        default = _plain(field.default())
        if not isinstance(default, Secret):
            yield "default", default


def _schema(kind: Any) -> dict[str, Any]:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        return _schema(parts[0])
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(part) for part in parts]}
    if origin is Literal:
        return {"enum": list(parts)}
    if kind is Secret or origin is Secret:
        return {"type": "string", "format": "password", "writeOnly": True}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or typing.is_typeddict(kind)):
        return _schema_of(kind, _fields_of(kind))
    base = origin or kind
    if base is dict:
        return {"type": "object", **({"additionalProperties": _schema(parts[1])} if parts else {})}
    if base is tuple and parts and parts[-1] is not ...:
        return {"type": "array", "prefixItems": [_schema(part) for part in parts]}
    if base in (list, tuple, set, frozenset):
        return {"type": "array", **({"items": _schema(parts[0])} if parts else {})}
    return dict(_JSON.get(kind, {}))
