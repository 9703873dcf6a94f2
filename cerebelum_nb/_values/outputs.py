"""The recorded values of steps, each decoded on access."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from .._core.value import Value
from .._text.text import cut
from ..errors import SerializationError, StoreError

__all__ = ["Outputs", "short"]


class Outputs(Mapping[str, Any]):
    """The values of completed steps by name, in order of completion; each is decoded on access."""

    def __init__(self, values: Mapping[str, Value], load: Callable[[str], Any]) -> None:
        self._values, self._load = values, load

    def __getitem__(self, step: str) -> Any:
        if step not in self._values:
            raise KeyError(f"step '{step}' has no result; these have: {', '.join(self._values) or 'none'}")
        return self._load(step)

    def __reduce__(self) -> tuple[Any, ...]:
        loaded = {}
        for name in self._values:
            with suppress(SerializationError, StoreError):  # it cannot be read after unpickling either
                loaded[name] = self._load(name)
        return Outputs, (dict(self._values), loaded.__getitem__)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        body = ", ".join(f"{name!r}: {short(value)}" for name, value in self._values.items())
        return f"{{{body}}}"


def short(value: Value | None) -> str:
    """Return the first line of a value, cut to the width of a table."""
    return "" if value is None else cut(next(iter(value.text.splitlines()), ""), 80)
