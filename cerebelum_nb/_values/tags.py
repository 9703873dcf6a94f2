"""Write standard Python types as JSON that any reader understands, and read them.

A type that JSON lacks is an object with one member whose name begins with ``$``: ``{"$date": "2026-01-02"}``. A dict
that looks like that, or has keys that are not text, is written as pairs: ``{"$dict": [["$date", 1]]}``. Such a text has
the codec ``"tagged"`` in the log, so plain JSON is never taken for a tag.

Types count exactly: a subclass is another type and is left to cloudpickle, unless it has a tag. `read` returns a value
of the same type as, and equal to, the value that `Writer` wrote; `Writer` refuses values for which that cannot be
guaranteed. Both halves of a tag are in this file, so that they are changed together.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import sys
import types
from base64 import b64decode, b64encode
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from enum import Enum, Flag
from importlib import import_module
from math import isfinite
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ..errors import ItemError
from .classes import Home, UnknownClassError, reference, resolve
from .redactor import Redactor
from .secret import MASK, Secret, join_path

__all__ = ["DEEPEST", "NotJsonError", "Writer", "put", "read"]

DEEPEST = 200
"""Deeper values are pickled: sqlite's JSON functions and browsers stop at some 1,000 levels."""

LONGEST_BYTES = 100_000
"""Longer bytes are pickled: they are stored once per content, outside the events."""

_MOST_BITS = 10_000
"""Ints of more bits have too many digits for JSON (sys.set_int_max_str_digits)."""


class NotJsonError(Exception):
    """A value cannot be written as JSON from which it can be restored."""


def is_tag(value: object) -> bool:
    """Whether a decoded JSON object is a tag."""
    return type(value) is dict and len(value) == 1 and next(iter(value))[:1] == "$"


# -- writing ------------------------------------------------------------------------------------------------


class Writer:
    """Writes one value as a tree for ``json.dumps``, with its secrets masked.

    Args:
        redactor: the secrets to mask.
        home: where else to look for the classes of ``__main__``.
        tags: False refuses values that need a tag.

    Attributes:
        masked: the paths of the masked secrets.
    """

    def __init__(self, redactor: Redactor | None = None, home: Home = (), *, tags: bool = True) -> None:
        self.redactor = redactor or None
        self.home = home
        self.tags = tags
        self.masked: list[str] = []

    def write(self, value: Any, path: str = "", depth: int = 0) -> Any:
        """Write a value.

        Raises:
            NotJsonError: it would not come back unchanged.
        """
        if depth > DEEPEST:
            raise NotJsonError
        cls = type(value)
        if cls is str:
            return self._text(value, path)
        if value is None or cls is bool:
            return value
        if cls is int or cls is float:
            return self._number(value, path)
        if cls is dict:
            return self._dict(value, path, depth)
        if cls is list:
            return [self.write(item, join_path(path, i), depth + 1) for i, item in enumerate(value)]
        if isinstance(value, Secret):
            self.masked.append(path)
            return MASK
        if not self.tags:
            raise NotJsonError
        return self._tagged(value, path, depth)

    def _text(self, text: str, path: str) -> Any:
        if self.redactor is not None:
            masked = self.redactor.mask(text)
            if masked != text:
                self.masked.append(path)
                text = masked
        if _is_unicode(text):
            return text
        if not self.tags:
            raise NotJsonError
        return {"$str": text.encode("unicode_escape").decode()}

    def _number(self, value: int | float, path: str) -> Any:
        if self.redactor is not None and self.redactor.covers(value):
            self.masked.append(path)
            return MASK
        if isinstance(value, float):
            if isfinite(value):
                return value
        elif value.bit_length() <= _MOST_BITS:
            return value
        if not self.tags:
            raise NotJsonError
        return {"$float": str(value)} if isinstance(value, float) else {"$int": hex(value)}

    def _dict(self, value: dict[Any, Any], path: str, depth: int) -> Any:
        named = all(type(key) is str and _is_unicode(key) for key in value)
        if self.tags and not (named and not is_tag(value)):
            return {"$dict": self._pairs(value, path, depth)}
        if not named:
            raise NotJsonError
        copy: dict[str, Any] = {}
        for key, item in value.items():
            name, hidden = self._key(key, copy, value)
            inner = join_path(path, name)
            copy[name] = self._member(key, item, inner, depth, hidden=hidden)
        return copy

    def _key(self, key: str, *taken: dict[Any, Any]) -> tuple[str, bool]:
        """Return a key as it is to be written, and whether it contained a secret."""
        name = key if self.redactor is None else self.redactor.mask(key)
        return (key, False) if name == key else (_unused(name, *taken), True)

    def _member(self, key: object, item: Any, path: str, depth: int, *, hidden: bool) -> Any:
        if hidden:
            self.masked.append(path)
        if self.redactor is not None and self.redactor.hides(key) and item is not None:
            self.masked.append(path)
            return MASK
        return self.write(item, path, depth + 1)

    def _pairs(self, value: dict[Any, Any], path: str, depth: int) -> list[Any]:
        written: list[Any] = []
        taken: dict[Any, Any] = {}
        for number, (key, item) in enumerate(value.items()):
            inner = join_path(path, number)
            if type(key) is str:
                name, hidden = self._key(key, taken, value)
                taken[name] = None
                shown = self._text(name, inner) if not hidden else name
            else:
                before = len(self.masked)
                shown = self.write(key, inner, depth + 2)
                hidden = len(self.masked) > before
                if hidden:
                    raise NotJsonError  # two keys with the same mask would become one
            written.append([shown, self._member(key, item, inner, depth + 1, hidden=hidden)])
        return written

    def _tagged(self, value: Any, path: str, depth: int) -> Any:
        cls = type(value)
        leaf = _LEAVES.get(cls) or _lazy_leaf(cls)
        if leaf is not None:
            return self._leaf(leaf[0], leaf[1](value), path)
        match value:
            case tuple() if cls is tuple:
                return {"$tuple": self.write(list(value), path, depth)}
            case set() | frozenset() if cls in (set, frozenset):
                return {f"${cls.__name__}": self.write(_ordered(value), path, depth)}
            case bytes() if cls is bytes:
                if len(value) > LONGEST_BYTES:
                    raise NotJsonError
                if self.redactor is not None and self.redactor.reveals(value):
                    self.masked.append(path)
                    return MASK
                return {"$bytes": b64encode(value).decode()}
            case Enum():
                return self._leaf("$enum", _enum(value, self.home), path)
            case OrderedDict() | Counter() if cls in (OrderedDict, Counter):
                return {f"${cls.__name__}": self._dict(dict(value), path, depth)}
            case defaultdict() if cls is defaultdict:
                factory = _factory(value.default_factory)
                return {"$defaultdict": {"factory": factory, "items": self._dict(dict(value), path, depth)}}
            case deque() if cls is deque:
                return {"$deque": {"maxlen": value.maxlen, "items": self.write(list(value), path, depth)}}
        if isinstance(value, tuple) and _is_named_tuple(cls):
            members = dict(zip(cls._fields, value, strict=True))
            return {"$namedtuple": {"class": self._class(cls), "fields": self._dict(members, path, depth)}}
        if dataclasses.is_dataclass(cls):
            members = _fields(value)
            return {"$dataclass": {"class": self._class(cls), "fields": self._dict(members, path, depth)}}
        if cls is ItemError:
            members = {name: getattr(value, name) for name in ("item", "step", "type", "message")}
            return {"$item_error": self._dict(members, path, depth)}
        if cls.__module__ == "numpy":
            return self._numpy(value, path)
        raise NotJsonError

    def _leaf(self, tag: str, content: Any, path: str) -> Any:
        """Write a tag whose content is text, a number or a list of these; a secret in it masks the whole tag."""
        texts = [str(part) for part in content] if isinstance(content, list) else [str(content)]
        if self.redactor is not None and any(self.redactor.mask(text) != text for text in texts):
            self.masked.append(path)
            return MASK
        if isinstance(content, str):
            return {tag: Writer().write(content)}
        return {tag: [Writer().write(part) for part in content] if isinstance(content, list) else content}

    def _class(self, cls: type) -> str:
        name = reference(cls, self.home)
        if name is None:
            raise NotJsonError
        return name

    def _numpy(self, value: Any, path: str) -> Any:
        name = type(value).__name__
        if name in _NUMPY_NUMBERS:
            item = value.item()
            if self.redactor is not None and self.redactor.covers(item):
                self.masked.append(path)
                return MASK
            return {f"$numpy.{value.dtype.name}": Writer().write(item)}
        if name in ("datetime64", "timedelta64"):
            shown = str(value) if name == "datetime64" else str(value.astype("int64"))
            return {f"$numpy.{value.dtype.name}": "NaT" if value != value else shown}
        raise NotJsonError


_NUMPY_NUMBERS = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)} | {
    *("bool", "bool_"),  # the names of its class in numpy 2 and before
    *("float16", "float32", "float64"),
}


def _is_unicode(text: str) -> bool:
    """Whether a text can be encoded as UTF-8, which a lone surrogate cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unused(name: str, *taken: dict[Any, Any]) -> str:
    number, free = 1, name
    while any(free in keys for keys in taken):
        number += 1
        free = f"{name} ({number})"
    return free


def _ordered(value: Iterable[Any]) -> list[Any]:
    """Return the members of a set in an order that is the same in every process."""
    members = list(value)
    kinds = set(map(type, members))
    if kinds <= {int, float} or kinds in ({str}, {bytes}):
        return sorted(members)
    return sorted(members, key=lambda member: (type(member).__name__, repr(member)))


def _zone(value: dt.datetime | dt.time) -> str:
    """Return what ``isoformat`` leaves out, in the brackets of RFC 9557."""
    zone, text = value.tzinfo, ""
    if type(zone) is dt.timezone:
        if repr(zone) != repr(dt.timezone(zone.utcoffset(None))) and zone is not dt.UTC:
            raise NotJsonError  # a zone with a custom name
    elif zone is not None:
        from zoneinfo import ZoneInfo

        if type(zone) is not ZoneInfo or zone.key is None:
            raise NotJsonError
        text = f"[{zone.key}]"
    return f"{text}[fold=1]" if value.fold else text


def _seconds(value: dt.timedelta) -> float | int | str:
    """Return the seconds as a number, which SQL can compare, or as text if a float would not be exact."""
    seconds = value.total_seconds()
    if abs(seconds) > 1e9 or dt.timedelta(seconds=seconds) != value:
        from decimal import Decimal

        return str(Decimal(value // dt.timedelta(microseconds=1)).scaleb(-6))
    return int(seconds) if seconds.is_integer() else seconds


def _enum(value: Enum, home: Home) -> Any:
    cls = type(value)
    name = reference(cls, home)
    if name is None:
        raise NotJsonError
    if value.name is not None and cls.__members__.get(value.name) is value:
        return f"{name}.{value.name}"
    if isinstance(value, Flag) and type(value.value) is int:
        return [name, value.value]
    raise NotJsonError


def _factory(factory: Any) -> str | None:
    if factory is None:
        return None
    name = next((name for name, known in _FACTORIES.items() if known is factory), None)
    if name is None:
        raise NotJsonError
    return name


_FACTORIES: dict[str, Any] = {cls.__name__: cls for cls in (list, dict, set, int, float, str, tuple, bool)}


def _is_named_tuple(cls: Any) -> bool:
    return cls.__bases__ == (tuple,) and hasattr(cls, "_fields") and _is_plain_class(cls)


_HOOKS = ("__reduce__", "__reduce_ex__", "__setstate__", "__getnewargs__", "__getnewargs_ex__", "__getstate__")


def _is_plain_class(cls: type) -> bool:
    """Whether the objects of a class have no state beside their fields, and no pickling hooks."""
    for base in cls.__mro__:
        if base in (object, tuple):
            continue
        for hook in _HOOKS:
            made = vars(base).get(hook)
            if made is None:
                continue
            if hook == "__getnewargs__" and issubclass(cls, tuple):
                continue  # every namedtuple has one
            if getattr(made, "__module__", None) != "dataclasses":  # frozen dataclasses with slots have these
                return False
    return True


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass instance that has no other state."""
    cls = type(value)
    names = [field.name for field in dataclasses.fields(value)]
    if not _is_plain_class(cls) or any(base.__flags__ & _HEAP == 0 for base in cls.__mro__[:-1]):
        raise NotJsonError
    slots = {slot for base in cls.__mro__ for slot in _slots(base)}
    held = set(getattr(value, "__dict__", ())) | {slot for slot in slots if hasattr(value, slot)}
    if held != set(names):
        raise NotJsonError
    return {name: getattr(value, name) for name in names}


_HEAP = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: a class made by a class statement."""


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    named = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in named if name not in ("__dict__", "__weakref__"))


def _complex(value: complex) -> list[float]:
    return [value.real, value.imag]


_LEAVES: dict[type, tuple[str, Callable[[Any], Any]]] = {
    dt.datetime: ("$datetime", lambda value: value.isoformat() + _zone(value)),
    dt.date: ("$date", dt.date.isoformat),
    dt.time: ("$time", lambda value: value.isoformat() + _zone(value)),
    dt.timedelta: ("$timedelta", _seconds),
    complex: ("$complex", _complex),
    range: ("$range", lambda value: [value.start, value.stop, value.step]),
    type(Path()): ("$path", str),
    PurePosixPath: ("$PurePosixPath", str),
    PureWindowsPath: ("$PureWindowsPath", str),
    types.EllipsisType: ("$ellipsis", lambda _: 0),
}

_LAZY = {"$decimal": ("decimal", "Decimal"), "$fraction": ("fractions", "Fraction"), "$uuid": ("uuid", "UUID")}
"""Leaves whose modules are only imported for such a value: together with zoneinfo they take 5 ms."""


def _lazy_leaf(cls: type) -> tuple[str, Callable[[Any], Any]] | None:
    for tag, (module, name) in _LAZY.items():
        if getattr(sys.modules.get(module), name, None) is cls:
            return _LEAVES.setdefault(cls, (tag, str))
    return None


def _lazy_reader(tag: str) -> Callable[[Any], Any]:
    module, name = _LAZY[tag]
    return lambda content: getattr(import_module(module), name)(content)


# -- reading ------------------------------------------------------------------------------------------------


def read(tree: Any, home: Home = (), *, importing: bool = True) -> Any:
    """Restore the value of a decoded tagged JSON text.

    Args:
        tree: the result of ``json.loads``.
        home: where else to look for the classes of ``__main__``.
        importing: False restores classes only if they are already imported, so that no code runs.

    Raises:
        UnknownClassError: it names a class that does not exist here.
        ValueError: the tags are invalid; also any error of a type's constructor.
    """
    cls = type(tree)
    if cls is list:
        return [read(item, home, importing=importing) for item in tree]
    if cls is not dict:
        return tree
    if not is_tag(tree):
        return {key: read(item, home, importing=importing) for key, item in tree.items()}
    ((tag, content),) = tree.items()
    if tag in ("$dataclass", "$namedtuple"):
        return _instance(
            tag,
            resolve(content["class"], home, importing=importing),
            read(content["fields"], home, importing=importing),
        )
    if tag == "$enum":
        return _member(content, home, importing)
    if tag.startswith("$numpy."):
        return _number(tag[len("$numpy.") :], read(content))
    make = _MAKE.get(tag)
    if make is None:
        raise ValueError(f"an unknown tag {tag!r}: a newer version of cerebelum_nb wrote it, upgrade")
    return make(read(content, home, importing=importing))


def _instance(tag: str, cls: Any, members: dict[str, Any]) -> Any:
    """Make an object from its fields without ``__init__``, as unpickling does."""
    if tag == "$namedtuple" and _is_named_tuple(cls):
        return tuple.__new__(cls, [members[name] for name in cls._fields])
    if tag != "$dataclass" or not dataclasses.is_dataclass(cls):
        raise UnknownClassError(f"{cls.__qualname__} of {cls.__module__} is no longer a {tag[1:]}")
    made: Any = object.__new__(cls)  # type: ignore[arg-type]  # it is a class, not one of its objects
    for name, item in members.items():
        object.__setattr__(made, name, item)
    return made


def _member(content: Any, home: Home, importing: bool) -> Any:
    if isinstance(content, list):
        name, number = content
        return _enum_class(name, home, importing)(number)
    name, _, member = content.rpartition(".")
    cls = _enum_class(name, home, importing)
    if member not in cls.__members__:
        raise UnknownClassError(f"{cls.__qualname__} of {cls.__module__} has no member {member}")
    return cls.__members__[member]


def _enum_class(name: str, home: Home, importing: bool) -> Any:
    cls = resolve(name, home, importing=importing)
    if not issubclass(cls, Enum):
        raise UnknownClassError(f"{cls.__qualname__} of {cls.__module__} is no longer an Enum")
    return cls


def _number(name: str, content: Any) -> Any:
    import numpy as np

    if name in _NUMPY_NUMBERS:
        return np.dtype(name).type(content)
    if found := re.fullmatch(r"(datetime64|timedelta64)(?:\[(\d*[a-zA-Zμ]+)\])?", name):
        if content == "NaT":
            return np.array("NaT", dtype=name)[()]
        return np.array(content if found[1] == "datetime64" else int(content)).astype(name)[()]
    raise ValueError(f"an unknown tag '$numpy.{name}'")


_SUFFIX = re.compile(r"\[([^\]]+)\]")


def _moment(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def moment(text: str) -> Any:
        body, _, rest = text.partition("[")
        value, notes = parse(body), _SUFFIX.findall("[" + rest) if rest else []
        for note in notes:
            if note == "fold=1":
                value = value.replace(fold=1)
            else:
                from zoneinfo import ZoneInfo

                value = value.replace(tzinfo=ZoneInfo(note))
        return value

    return moment


def _timedelta(content: Any) -> dt.timedelta:
    if isinstance(content, str):
        from decimal import Decimal

        return dt.timedelta(microseconds=int(Decimal(content).scaleb(6)))
    return dt.timedelta(seconds=content)


def _defaultdict(content: dict[str, Any]) -> Any:
    factory = content["factory"]
    return defaultdict(None if factory is None else _FACTORIES[factory], content["items"])


def _counter(content: dict[Any, Any]) -> Any:
    made: Counter[Any] = Counter()
    dict.update(made, content)  # Counter.update would add
    return made


_MAKE: dict[str, Callable[[Any], Any]] = {
    "$str": lambda content: content.encode().decode("unicode_escape"),
    "$int": lambda content: int(content, 16),
    "$float": float,
    "$dict": lambda pairs: {key: item for key, item in pairs},  # noqa: C416  # a pair of more members is an error
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    "$bytes": lambda content: b64decode(content, validate=True),
    "$datetime": _moment(dt.datetime.fromisoformat),
    "$date": dt.date.fromisoformat,
    "$time": _moment(dt.time.fromisoformat),
    "$timedelta": _timedelta,
    **{tag: _lazy_reader(tag) for tag in _LAZY},
    "$complex": lambda parts: complex(*parts),
    "$range": lambda parts: range(*parts),
    "$path": Path,
    "$PurePosixPath": PurePosixPath,
    "$PureWindowsPath": PureWindowsPath,
    "$ellipsis": lambda _: ...,
    "$OrderedDict": OrderedDict,
    "$Counter": _counter,
    "$defaultdict": _defaultdict,
    "$item_error": lambda content: ItemError(**content),
    "$deque": lambda content: deque(content["items"], content["maxlen"]),
}


# -- places -------------------------------------------------------------------------------------------------


def put(tree: Any, path: list[str | int], item: object, *, tagged: bool) -> Any:
    """Set the item at a masked path of a decoded JSON tree, in place, and return the tree.

    Args:
        tree: the result of ``json.loads``.
        path: the path in the value, without tags.
        item: the item.
        tagged: whether the tree has tags.
    """
    if path and tagged and str(path[-1])[:1] == "$":
        path = path[:-1]  # a tag is one value: its content is not a separate value
    if not path:
        return item
    holder, place = _place(tree, path[0], tagged)
    for key in path[1:]:
        if isinstance(holder[place], Secret):  # it is inside a value that was masked as a whole
            return tree
        holder, place = _place(holder[place], key, tagged)
    holder[place] = item
    return tree


def _place(node: Any, key: str | int, tagged: bool) -> tuple[Any, str | int]:
    """Return the list or dict that holds a member, and its place in it, looking through tags."""
    while tagged and is_tag(node):
        ((tag, content),) = node.items()
        if key == tag:  # a path through the tag itself, as in a scrubbed file
            break
        if tag == "$dict":
            return content[key], 1
        node = content[_WITHIN[tag]] if tag in _WITHIN else content
    return node, key


_WITHIN = {"$dataclass": "fields", "$namedtuple": "fields", "$defaultdict": "items", "$deque": "items"}
