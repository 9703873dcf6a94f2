"""Dataclass fields that are computed on first access: read from the log, or decoded.

This module knows nothing about statuses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, TypeVar, cast

from .._core.value import Value
from .._store.base import Store
from .._text.json_text import parse
from .._values import decode
from ..errors import SerializationError, StoreError

__all__ = ["Lazy", "Preview", "Stored", "jsonable", "lazy", "lazy_fields"]

T = TypeVar("T")


class Preview(str):
    """The readable preview of a value that cannot or must not be loaded here.

    Attributes:
        type: the class of the value.
        reason: why it is not loaded, and what to do.
    """

    type: str
    reason: str

    def __new__(cls, text: str, type: str = "", reason: str = "") -> Self:  # noqa: A002  # the attribute's name
        """Make a preview from its text."""
        made = super().__new__(cls, text)
        made.type, made.reason = type, reason
        return made

    def __getnewargs__(self) -> tuple[str, str, str]:  # type: ignore[override]  # str's takes the text alone
        return str(self), self.type, self.reason

    def __repr__(self) -> str:
        return f"<{self.type or 'value'}, not loaded: {self}>"


class Lazy:
    """A value that is computed once, on first access."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make: Callable[[], Any] | None = make
        self._made: Any = None

    def get(self) -> Any:
        """Return the value."""
        if self._make is not None:
            self._made = self._make()
            self._make = None
        return self._made


class Stored(Lazy):
    """A value of the log, decoded on first access; a :class:`Preview` if it cannot or must not be decoded."""

    def __init__(self, value: Value, store: Store, where: str) -> None:
        super().__init__(self._decode)
        self.value, self._store, self._where = value, store, where

    def _decode(self) -> Any:
        try:
            return decode(self.value, self._store.payload, trusted=self._store.trusted, where=self._where)
        except (SerializationError, StoreError) as error:
            return Preview(self.value.preview, self.value.type, str(error))

    def to_plain(self) -> Any:
        """Return it as JSON-able data, without unpickling: JSON as it is, or a preview."""
        if not self.value.is_json:
            return self.value.preview
        try:
            return parse(self.value.json)
        except ValueError as error:
            return f"not shown: {error}"


class _LazyField:
    """A field that computes a :class:`Lazy` value on access."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is None:
            return self
        found = vars(instance)[self._name]
        while isinstance(found, Lazy):
            found = found.get()
        return found

    def __set__(self, instance: object, value: object) -> None:
        vars(instance)[self._name] = value


def lazy_fields(*names: str) -> Callable[[type[T]], type[T]]:
    """Compute these fields of a dataclass on first access."""

    def declare(cls: type[T]) -> type[T]:
        for name in names:
            setattr(cls, name, _LazyField(name))
        return cls

    return declare


def lazy(make: Callable[[], T]) -> T:
    """Return a lazy value, typed as the value that ``make`` will return."""
    return cast(T, Lazy(make))


def jsonable(instance: object, name: str) -> Any:
    """Return a field as JSON-able data, without unpickling values of the log."""
    found = vars(instance)[name]
    while isinstance(found, Lazy) and not isinstance(found, Stored):
        found = found.get()
    return found.to_plain() if isinstance(found, Stored) else found
