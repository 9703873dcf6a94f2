"""Fingerprint a step's code, and explain why two fingerprints differ.

A fingerprint covers the source of a function and everything it reaches in user code: helpers, classes, constants,
defaults, closures. Values are read again at every call; only parsed sources are cached, so nothing stale is used.

Plain data counts by value, a user's object by its attributes. Installed code, modules, other steps, and state that the
function or its class changes count by name; so do live objects (connections, sessions), which `unseen` lists.
source.py finds a source, constants.py writes a value.
"""

from __future__ import annotations

import importlib.util
import linecache
import sys
import types
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from enum import Enum
from functools import cached_property, partial
from pathlib import PurePath
from typing import Any, Literal

from .._core.record import record
from .constants import (
    LARGEST,
    attribute_of,
    constant,
    digest_of,
    is_live,
    is_of_the_shell,
    is_ours,
    is_user,
    is_users,
    name_of,
    shorten,
    state_of,
)
from .source import Source, chains, class_source, difference, file_digest, source_of

__all__ = ["Fingerprint", "Part", "explain", "fingerprint", "function_of", "reach", "unseen"]

Kind = Literal["code", "helper", "constant", "default", "closure", "class", "decorator", "variable"]


@record
class Part:
    """One part of a step's code.

    ``text`` is the source as written, or the value of a constant; ``line`` is its line in ``file``, from 1, and 0 for a
    value. With ``unseen`` only its class counts, because its content cannot be digested.
    """

    kind: Kind
    name: str
    digest: str
    text: str = ""
    file: str = ""
    line: int = 0
    unseen: bool = False


@record
class Fingerprint:
    """The digest of a function and all that it reaches (16 hex characters), and its parts."""

    digest: str
    parts: tuple[Part, ...]


def fingerprint(fn: Callable[..., Any]) -> Fingerprint | None:
    """Fingerprint a function, method, lambda, partial or callable object.

    Comments, formatting, docstrings, annotations and decorators do not count. It is the same with all supported
    versions of Python.

    Returns:
        The fingerprint; None if there is no source, as for built-in functions.
    """
    if type(fn) is types.FunctionType:
        kept = _self_contained.get(id(fn.__code__))
        if kept is not None and _is_only_its_code(fn):
            return kept[1]
    root, around = _unwrap(fn)
    if root is None:
        return None
    walk = _Walk(root.__globals__.get("__name__"))
    if not walk.function("code", root.__name__, root):
        return None
    for kind, name, value in around:
        walk.value(kind, name, value)
    walk.finish()
    lines = sorted(f"{part.kind}\0{part.name}\0{part.digest}" for part in walk.parts)
    found = Fingerprint(digest=digest_of("\n".join(lines)), parts=tuple(walk.parts))
    if root is fn and _is_self_contained(fn):
        key = id(root.__code__)
        _self_contained[key] = weakref.ref(root.__code__, lambda _: _self_contained.pop(key, None)), found
    return found


def reach(code: types.CodeType, names: Iterable[str], namespace: dict[str, Any]) -> tuple[Part, ...]:
    """Collect the user code that some globals of a code object refer to.

    Args:
        code: the compiled code of a cell.
        names: the globals to follow; of objects only their code counts, since they are data of the cell.
        namespace: the namespace of the globals.
    """
    walk = _Walk(namespace.get("__name__"))
    wanted = set(names)
    for chain in chains(code):
        if chain[0] in wanted and chain[0] in namespace:
            walk.chain(chain, "", namespace[chain[0]])
    walk.with_state = False
    for name in [name for name in walk.data if name in wanted]:
        walk.value("constant", name, walk.data.pop(name))
    walk.with_state = True
    walk.finish()
    return tuple(walk.parts)


def function_of(fn: Callable[..., Any]) -> Any:
    """Find the user's function behind a callable or an installed decorator; None if there is none."""
    return _unwrap(fn)[0]


def unseen(parts: Iterable[Part]) -> list[str]:
    """Describe the parts whose changes cannot be detected."""
    return [
        f"cannot tell whether {part.name} changed: only the type of {part.text} counts" for part in parts if part.unseen
    ]


def explain(old: Iterable[Part], new: Iterable[Part]) -> list[str]:
    """Describe what changed between the parts of two fingerprints.

    Returns:
        Reasons such as "helper `clean` changed at line 3" or "constant TIMEOUT was 5, is 10"; empty if nothing changed.
        Lines are those of the new file or cell.
    """
    before, after = ({_key(part): part for part in parts} for parts in (old, new))
    reasons = []
    for key, part in after.items():
        was = before.get(key)
        if was is None:
            reasons.append(f"{_describe_part(part)} is new")
        elif was.digest != part.digest:
            reasons.append(f"{_describe_part(part)} {_change(was, part)}")
    reasons += [f"{_describe_part(part)} is no longer used" for key, part in before.items() if key not in after]
    return reasons


def _key(part: Part) -> tuple[str, str]:
    return part.kind, "" if part.kind == "code" else part.name


def _describe_part(part: Part) -> str:
    match part.kind:
        case "code":
            return "the step's own code"
        case "default":
            return f"default of `{part.name}`"
        case "constant":
            return f"constant {part.name}"
        case "closure":
            return f"closure variable `{part.name}`"
        case "decorator":
            return part.name
    return f"{part.kind} `{part.name}`"


def _change(old: Part, new: Part) -> str:
    if new.line == 0:
        return f"was {old.text}, is {new.text}" if old.text != new.text else "changed"
    line = difference(old.text, new.text) if old.text and new.text else None
    return "changed" if line is None else f"changed at line {new.line + line - 1}"


_self_contained: dict[int, tuple[weakref.ref[types.CodeType], Fingerprint]] = {}
"""Fingerprints of functions that read nothing but their arguments, by the identity of the code that determines them.

By identity, because the hash of a code object reads all that it holds, and equal code objects may be in two files."""


def _is_self_contained(fn: Any) -> bool:
    code = fn.__code__
    return (
        not code.co_names
        and not code.co_freevars
        and not any(isinstance(item, types.CodeType) for item in code.co_consts)
        and _is_only_its_code(fn)
    )


def _is_only_its_code(fn: Any) -> bool:
    """Whether a function has nothing beside its code: no defaults, no other name, nothing wrapped."""
    return (
        not fn.__defaults__
        and not fn.__kwdefaults__
        and fn.__name__ == fn.__code__.co_name
        and "__wrapped__" not in fn.__dict__
    )


# -- the walk -----------------------------------------------------------------------------------------


def _unwrap(fn: Any) -> tuple[Any, list[tuple[Kind, str, object]]]:
    """Find the user's function behind a callable or an installed decorator, and the values bound to it."""
    around: list[tuple[Kind, str, object]] = []
    while not isinstance(fn, types.FunctionType) or (hasattr(fn, "__wrapped__") and not is_users(fn)):
        if isinstance(fn, partial):
            around += [("default", f"argument {index}", item) for index, item in enumerate(fn.args)]
            around += [("default", name, item) for name, item in fn.keywords.items()]
            fn = fn.func
        elif isinstance(fn, types.MethodType):
            around.append(("closure", "self", fn.__self__))
            fn = fn.__func__
        elif isinstance(getattr(fn, "__wrapped__", None), types.FunctionType):
            fn = fn.__wrapped__
        elif is_ours(fn) and isinstance(attribute_of(fn, "fn"), types.FunctionType):
            fn = attribute_of(fn, "fn")
        elif isinstance(vars(type(fn)).get("__call__"), types.FunctionType):
            around.append(("closure", "self", fn))
            fn = vars(type(fn))["__call__"]
        else:
            return None, []
    return fn, around


_CODE = (types.FunctionType, types.ModuleType, type)


class _Walk:
    """Collects the parts of one function; every object is visited once."""

    def __init__(self, home: str | None) -> None:
        self.parts: list[Part] = []
        self.home = home
        self.names: dict[int, str] = {}
        self.alive: list[object] = []  # keeps objects alive, so that ids are unique
        self.read: set[str] = set()
        self.data: dict[str, object] = {}  # globals to add once all code that may change them is known
        self.changed: set[str] = set()
        self.room = LARGEST
        self.with_state = True

    def finish(self) -> None:
        """Add the data that was found on the way."""
        while self.data:
            name = next(iter(self.data))
            self.variable("constant", name, self.data.pop(name), name.rpartition(".")[2], self.changed)

    def value(self, kind: Kind, name: str, value: object) -> None:
        """Add a value; plain data counts by value."""
        text = constant(value)
        if text is None:
            self.reach(kind, name, value)
            return
        self.parts.append(Part(kind=kind, name=name, digest=digest_of(text), text=shorten(text)))
        if is_user(type(value).__module__):
            self.cls(type(value))

    def named(self, kind: Kind, name: str, text: str) -> None:
        """Add a part that counts only by this text."""
        self.parts.append(Part(kind=kind, name=name, digest=digest_of(text), text=text))

    def visited(self, kind: Kind, name: str, value: object) -> bool:
        """Whether this object was visited before; then another name for it is added."""
        first = self.names.get(id(value))
        if first is None:
            self.names[id(value)] = name
            self.alive.append(value)
            return False
        if first != name:
            self.named(kind, name, f"<{first}>")
        return True

    def reach(self, kind: Kind, name: str, value: Any) -> None:
        """Follow user code; add anything else by name."""
        if is_of_the_shell(value):
            return
        match value:
            case types.FunctionType() if is_users(value):
                if self.visited(kind, name, value) or self.function("helper", name, value):
                    return
            case type() if is_user(value.__module__):
                if name.rpartition(".")[2] != value.__qualname__:
                    self.named(kind, name, name_of(value))
                self.cls(value)
                return
            case types.MethodType() if is_user(value.__func__.__module__):
                self.reach(kind, name, value.__func__)
                self.value(kind, f"{name}.self", value.__self__)
                return
            case partial():
                self.reach(kind, name, value.func)
                for key, item in [*enumerate(value.args), *value.keywords.items()]:
                    self.value(kind, f"{name}({key})", item)
                return
            case list() | tuple() | dict() | set() | frozenset():
                self.members(kind, name, value)
                return
            case types.ModuleType() | type() | types.MethodType():
                pass
            case _ if isinstance(value, types.FunctionType) or not is_ours(value):
                inside = list(_functions_in(value))
                for item in inside:
                    self.reach("helper", name if len(inside) == 1 else f"{name}.{item.__qualname__}", item)
                if is_user(type(value).__module__) and not isinstance(value, types.FunctionType):
                    self.instance(kind, name, value)
                    return
                if not inside and is_live(value):
                    self.unseen(kind, name, value)
                    return
        self.named(kind, name, name_of(value))

    def unseen(self, kind: Kind, name: str, value: object) -> None:
        """Add an object that counts only by its class."""
        text = name_of(value)
        self.parts.append(Part(kind=kind, name=name, digest=digest_of(text), text=text, unseen=True))

    def instance(self, kind: Kind, name: str, value: object) -> None:
        """Add a user's object: its class, and its attributes except those that its methods change."""
        if self.visited(kind, name, value):
            return
        cls = type(value)
        self.cls(cls)
        if self.room <= 0:
            self.unseen(kind, name, value)
            return
        self.named(kind, name, name_of(value))
        if not self.with_state:
            return
        changed = {attribute for base in cls.__mro__ if (source := _classes.get(base)) for attribute in source.changes}
        for attribute, item in state_of(value).items():
            self.room -= 1
            if isinstance(getattr(cls, attribute, None), cached_property):
                continue
            self.variable(kind, f"{name}.{attribute}", item, attribute, changed)

    def members(self, kind: Kind, name: str, value: Any) -> None:
        """Add a container that holds more than data, such as a table of handlers."""
        if self.visited(kind, name, value):
            return
        self.named(kind, name, f"<{type(value).__name__} of {len(value):,}>")
        if isinstance(value, (set, frozenset)):
            pairs: list[tuple[object, object]] = [("", item) for item in sorted(value, key=name_of)]
        else:
            pairs = list(value.items() if isinstance(value, dict) else enumerate(value))
        for key, item in pairs[:LARGEST]:
            self.value(kind, f"{name}[{constant(key) or name_of(key)}]", item)

    def function(self, kind: Kind, name: str, fn: types.FunctionType) -> bool:
        """Add a function and what it reaches; return False if it has no source."""
        code = fn.__code__
        source = source_of(code, fn.__globals__)
        if source is None:
            return False
        self.source(kind, name, source)
        owner = "" if kind == "code" else f"{name}."
        if kind == "code":
            self.visited(kind, name, fn)
        if fn.__defaults__:
            names = code.co_varnames[: code.co_argcount][-len(fn.__defaults__) :]
            for argument, item in zip(names, fn.__defaults__, strict=True):
                self.value("default", owner + argument, item)
        for argument, item in (fn.__kwdefaults__ or {}).items():
            self.value("default", owner + argument, item)
        for variable, cell in zip(code.co_freevars, fn.__closure__ or (), strict=True):
            try:
                item = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            self.variable("closure", owner + variable, item, variable, source.changes)
        module = fn.__globals__.get("__name__")
        prefix = "" if module == self.home else f"{_stem(module)}."
        read = {chain[0] for chain in source.chains}
        self.changed |= {change for change in source.changes if change.removesuffix(".") in read}
        for chain in source.chains:
            if chain[0] in fn.__globals__:
                self.chain(chain, prefix, fn.__globals__[chain[0]])
        for imported in source.imports:
            self.imported(imported, fn.__globals__.get("__package__"))
        return True

    def source(self, kind: Kind, name: str, source: Source) -> None:
        self.parts.append(
            Part(
                kind=kind,
                name=name,
                digest=source.digest,
                text=source.text,
                file=source.file,
                line=source.line,
            )
        )

    def variable(self, kind: Kind, name: str, value: object, short: str, changed: Collection[str]) -> None:
        """Add the value of a name; a value that the code itself changes is state and counts by name.

        Args:
            kind: its kind.
            name: the name in the fingerprint.
            value: the value.
            short: the name in the source.
            changed: the names that the source changes, as in `Source.changes`.
        """
        if (short in changed or f"{short}." in changed) and not isinstance(value, _CODE):
            is_object = is_user(type(value).__module__) and constant(value) is None
            if (f"{short}." if is_object else short) in changed:
                self.named(kind, name, f"<{type(value).__name__} that it changes>")
                return
        self.value(kind, name, value)

    def chain(self, chain: tuple[str, ...], prefix: str, value: Any) -> None:
        """Follow ``mod.helper`` through user modules to its value."""
        name = prefix + chain[0]
        for attribute in chain[1:]:
            if not isinstance(value, types.ModuleType) or not is_user(value.__name__):
                break
            if attribute not in vars(value):
                break
            name = f"{value.__name__}.{attribute}"
            value = vars(value)[attribute]
        if name in self.read:
            return
        self.read.add(name)
        if isinstance(value, _CODE):
            self.value("constant", name, value)
        else:
            self.data[name] = value

    def imported(self, name: str, package: str | None) -> None:
        """Add a user module that a function imports: the whole file counts, whether it is loaded yet or not."""
        try:
            name = importlib.util.resolve_name(name, package)
            parent = name.rpartition(".")[0]
            spec = importlib.util.find_spec(name) if not parent or parent in sys.modules else None
        except (ImportError, ValueError, AttributeError):  # not there, or not a module
            return
        if spec is None or not spec.origin or not is_user(name, spec.origin) or name in self.read:
            return
        self.read.add(name)
        linecache.checkcache(spec.origin)
        text = "".join(linecache.getlines(spec.origin))
        part = Part(kind="helper", name=name, digest=file_digest(text), file=spec.origin, line=1)
        self.parts.append(part)

    def cls(self, cls: type) -> None:
        """Add a class: its source and attributes, and what its methods and bases reach."""
        name = cls.__qualname__
        if self.visited("class", name, cls):
            return
        source = _source_of_class(cls)
        if source is not None:
            self.source("class", name, source)
        self.named("class", f"{name}.__bases__", ", ".join(map(name_of, cls.__bases__)))
        for base in cls.__bases__:
            if is_user(base.__module__):
                self.cls(base)
        if issubclass(cls, Enum):
            for member in cls:
                self.value("class", f"{name}.{member.name}", member.value)
        for key, item in vars(cls).items():
            for function in _methods(cls, item):
                self.reach("helper", f"{name}.{key}", function)
            if key.startswith("_") or isinstance(item, (types.FunctionType, Enum)):
                continue
            if constant(item) is not None or isinstance(item, (type, list, tuple, dict)):
                self.value("class", f"{name}.{key}", item)


def _functions_in(value: Any) -> Iterator[types.FunctionType]:
    """Yield the user's functions inside an installed decorator, which may be a function or an object."""
    inside: dict[int, Any] = {}
    todo = list((getattr(value, "__dict__", None) or {}).values())
    wrapped = attribute_of(value, "__wrapped__")
    todo.append(wrapped)
    for cell in getattr(value, "__closure__", None) or ():
        with suppress(ValueError):  # not assigned yet
            todo.append(cell.cell_contents)
    for item in todo:
        members = item.values() if isinstance(item, (dict, types.MappingProxyType)) else (item,)
        inside.update((id(one), one) for one in members if isinstance(one, types.FunctionType) and is_users(one))
        if item is wrapped and isinstance(item, types.FunctionType) and not is_users(item):
            inside.update((id(one), one) for one in _functions_in(item))
    yield from inside.values()


def _stem(module: Any) -> str:
    """Return a module's name, which is the same whether its file is run or imported."""
    if module != "__main__":
        return str(module)
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return PurePath(file).stem if file else "__main__"


def _methods(cls: type, item: Any) -> Iterator[types.FunctionType]:
    """Yield the user's functions of a member of a class: a method, a property, a class or static method."""
    names = ("__func__", "__wrapped__", "fget", "fset", "fdel", "func")
    for function in (item, *(attribute_of(item, name) for name in names)):
        # functions without a file were made by dataclasses and the like
        if not isinstance(function, types.FunctionType) or function.__code__.co_filename == "<string>":
            continue
        if is_users(function):
            yield function


_classes: weakref.WeakKeyDictionary[type, Source] = weakref.WeakKeyDictionary()


def _source_of_class(cls: type) -> Source | None:
    source = _classes.get(cls)
    if source is None:
        source = class_source(cls, _files_of(cls))
        if source is not None:
            _classes[cls] = source
    return source


def _files_of(cls: type) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the files in which a class may be defined, the likely ones first."""
    module = sys.modules.get(cls.__module__)
    module_globals = vars(module) if module is not None else {}
    for item in vars(cls).values():
        for function in _methods(cls, item):
            yield function.__code__.co_filename, module_globals
    file = getattr(module, "__file__", None)
    if file:
        yield file, module_globals
    elif cls.__module__ == "__main__":  # a class without methods does not say which cell it is from
        cells = (name for name in reversed(list(linecache.cache)) if "ipykernel" in name or name[:1] == "<")
        yield from ((name, {}) for name in cells)
