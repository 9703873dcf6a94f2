"""Dataclasses whose methods are compiled when they are first called, so that importing a module takes less time.

To generate the methods of a dataclass at import takes 0.3 to 1 ms, twice that if it is frozen; a process imports 150 of
these classes and uses a third of them. Here it takes 0.04 ms. `__init__` assigns plainly, because `frozen` would double
the time to create an object; the type checker treats all but the mutable classes as frozen, and refuses assignments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ParamSpec, TypeVar, dataclass_transform

__all__ = ["frozen", "maker", "mutable", "record"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass with slots whose fields are passed by name."""
    return _make(cls, kw_only=True)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass with slots."""
    return _make(cls)


@dataclass_transform(field_specifiers=(field,))
def mutable(cls: type[T]) -> type[T]:
    """Make a class a dataclass with slots whose objects may change, and therefore have no hash."""
    made = _make(cls)
    made.__hash__ = None  # type: ignore[assignment]  # Python's data model makes an object unhashable this way
    return made


def maker(cls: Callable[P, T]) -> Callable[P, T]:
    """Return a function that does what calling a class of this module does, at half the cost.

    Python passes names to a class in a new dict, and to a function by position. It counts where every step makes one.
    """
    own = fields(cls)  # type: ignore[arg-type]  # it is one of these classes
    head, _, body = _init_of(own).partition(": ")
    space = {"MISSING": MISSING, "new": object.__new__, "cls": cls, **_defaults(own)}
    exec(f"{head.replace('(self', '(', 1).replace('(, ', '(')}: self = new(cls); {body}; return self", space)
    made: Callable[P, T] = space["__init__"]
    return made


def _defaults(own: tuple[Field[Any], ...]) -> dict[str, Any]:
    return {f"_{f.name}": f.default_factory if f.default is MISSING else f.default for f in own}


def _make(cls: type[T], *, kw_only: bool = False) -> type[T]:
    cls.__doc__ = cls.__doc__ or cls.__name__  # otherwise dataclass inspects the signature to make one
    made: Any = dataclass(init=False, repr=False, eq=False, slots=True, kw_only=kw_only)(cls)
    for name, source_of in ("__init__", _init_of), ("__eq__", _eq_of), ("__hash__", _hash_of):
        setattr(made, name, _compiled_later(made, name, source_of))
    if "__repr__" not in vars(cls):
        made.__repr__ = _repr
    return made  # type: ignore[no-any-return]  # the same class, with slots


def _compiled_later(cls: Any, name: str, source_of: Callable[[tuple[Field[Any], ...]], str]) -> Callable[..., Any]:
    """Return a method that, when it is called, compiles the real one, puts it in its place and calls it."""

    def method(self: Any, *args: Any, **values: Any) -> Any:
        space: dict[str, Any] = {"MISSING": MISSING, **_defaults(fields(cls))}
        exec(source_of(fields(cls)), space)
        compiled = space[name]
        compiled.__qualname__ = f"{cls.__qualname__}.{name}"  # Python's message about a missing argument shows it
        setattr(cls, name, compiled)
        return compiled(self, *args, **values)

    return method


def _repr(self: Any) -> str:
    shown = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr)
    return f"{type(self).__qualname__}({shown})"


def _init_of(members: tuple[Field[Any], ...]) -> str:
    ordered = sorted(members, key=lambda f: bool(f.kw_only))
    head, body = ["self"], []
    for f in ordered:
        if f.kw_only and "*" not in head:
            head.append("*")
        is_made = f.default_factory is not MISSING
        default = "=MISSING" if is_made else "" if f.default is MISSING else f"=_{f.name}"
        head.append(f.name + default)
        value = f"_{f.name}() if {f.name} is MISSING else {f.name}" if is_made else f.name
        body.append(f"self.{f.name} = {value}")
    return f"def __init__({', '.join(head)}): {'; '.join(body) or 'pass'}"


def _eq_of(members: tuple[Field[Any], ...]) -> str:
    ours, theirs = (_tuple_of(members, which) for which in ("self", "other"))
    return f"def __eq__(self, other): return {ours} == {theirs} if type(self) is type(other) else NotImplemented"


def _hash_of(members: tuple[Field[Any], ...]) -> str:
    return f"def __hash__(self): return hash((type(self), *{_tuple_of(members, 'self')}))"


def _tuple_of(members: tuple[Field[Any], ...], which: str) -> str:
    return "(" + "".join(f"{which}.{f.name}, " for f in members if f.compare) + ")"
