"""Describe any value in a few readable lines, in bounded time and size.

It is for the log, tables and errors, never to restore a value. pandas and numpy are not imported: their objects are
recognised by the module of their class.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import islice
from typing import Any

from .._text.text import cut
from .redactor import Redactor
from .secret import MASK, Secret

__all__ = ["preview", "type_name"]

ITEMS = 12
DEPTH = 4
LONGEST_TEXT = 1_000_000
"""If secrets are masked, a longer text is only described: all of it would have to be masked before it is cut."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def preview(value: object, limit: int = 200, *, redactor: Redactor | None = None) -> str:
    """Describe a value in at most ``limit`` characters, the same in every process.

    Args:
        value: anything; its ``repr`` may raise, and of a large container only the beginning is read.
        limit: the most characters to return.
        redactor: secrets to mask.

    Example:
        >>> preview([1, "two", Secret("three")])
        "[1, 'two', Secret('********')]"
    """
    text = _Preview(limit, redactor).show(value, 0)
    return cut(redactor.mask(text) if redactor else text, limit)


def type_name(value: object) -> str:
    """Return the class of a value as ``module.qualname``."""
    cls = type(value)
    return f"{cls.__module__}.{cls.__qualname__}"


class _Preview:
    def __init__(self, limit: int, redactor: Redactor | None) -> None:
        self.limit = limit
        self.room = limit * 2
        self.redactor = redactor or None

    def show(self, value: Any, depth: int) -> str:
        if self.room <= 0:
            return "…"
        try:
            text = self._show(value, depth)
        except Exception as exc:  # noqa: BLE001 - the repr or an attribute of a user's class
            text = f"<{type_name(value)}, whose repr raised {type(exc).__name__}>"
        self.room -= min(len(text), 40)
        return text

    def _show(self, value: Any, depth: int) -> str:
        cls = type(value)
        if isinstance(value, Secret):
            return repr(value)
        if value is None or cls is bool:
            return repr(value)
        if isinstance(value, Enum):
            return self._repr(value)
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, (bytes, bytearray)):
            if self.redactor is not None and self.redactor.reveals(bytes(value)):
                return f"<{cls.__name__} of {len(value):,}>"
            return repr(value[: self.limit + 1])
        if isinstance(value, int) and value.bit_length() > 1000:
            return f"<int of {value.bit_length():,} bits>"
        if isinstance(value, (list, tuple, set, frozenset, dict)):
            return self._container(value, depth)
        match cls.__module__.partition(".")[0], cls.__name__:
            case "pandas", "DataFrame":
                return self._frame(value, depth)
            case "pandas", "Series":
                head = self._items(value.head(ITEMS).tolist(), depth, len(value))
                return f"Series {self._text(str(value.name))} {value.dtype} ({len(value):,}): [{head}]"
            case "numpy", "ndarray":
                head = self._items(value.ravel()[:ITEMS].tolist(), depth, value.size)
                return f"ndarray {value.dtype} {value.shape}: [{head}]"
            case "pyarrow", "Table":
                names = (f"{self._text(field.name)} {field.type}" for field in value.schema)
                return f"Table {value.num_rows:,} rows: {self._join(names, value.num_columns)}"
        if dataclasses.is_dataclass(cls) and hasattr(cls.__repr__, "__wrapped__"):
            shown = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.repr)
            return f"{cls.__qualname__}({self._pairs(shown, '=', depth)})"
        return self._repr(value)

    def _container(self, value: Any, depth: int) -> str:
        cls, name = type(value), type(value).__name__
        if depth >= DEPTH:
            return f"<{name} of {len(value):,}>" if len(value) else repr(value)
        if isinstance(value, dict):
            text = "{" + self._pairs(value.items(), ": ", depth, len(value)) + "}"
            return text if cls is dict else f"{name}({text})"
        if isinstance(value, (set, frozenset)):
            if len(value) > 50:  # which members come first differs between processes
                return f"<{name} of {len(value):,}>"
            text = "{" + ", ".join(sorted(self.show(item, depth + 1) for item in value)) + "}" if value else ""
            return text if cls is set and value else f"{name}({text})"
        if isinstance(value, tuple) and hasattr(cls, "_fields"):
            return f"{name}({self._pairs(zip(cls._fields, value, strict=False), '=', depth, len(value))})"
        items = self._items(value, depth, len(value))
        left, right = "()" if isinstance(value, tuple) else "[]"
        comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
        text = f"{left}{items}{comma}{right}"
        return text if cls in (list, tuple) else f"{name}({text})"

    def _items(self, items: Iterable[Any], depth: int, total: int) -> str:
        return self._join((self.show(item, depth + 1) for item in items), total)

    def _pairs(self, pairs: Iterable[tuple[Any, Any]], between: str, depth: int, total: int = 0) -> str:
        def texts() -> Iterator[str]:
            for key, item in pairs:
                hidden = self.redactor is not None and self.redactor.hides(key) and item is not None
                name = self._masked(key) if between == "=" else self.show(key, depth + 1)
                yield f"{name}{between}{MASK if hidden else self.show(item, depth + 1)}"

        return self._join(texts(), total)

    def _join(self, texts: Iterator[str], total: int) -> str:
        shown: list[str] = []
        for text in islice(texts, ITEMS):
            shown.append(text)
            if self.room <= 0:
                break
        more = total - len(shown)
        return ", ".join(shown) + (f", … {more:,} more" if more > 0 else "")

    def _frame(self, frame: Any, depth: int) -> str:
        rows, columns = frame.shape
        names = [f"{self._text(str(name))} {dtype}" for name, dtype in islice(frame.dtypes.items(), ITEMS)]
        more = f", … {columns - ITEMS:,} more" if columns > ITEMS else ""
        hidden = [self.redactor is not None and self.redactor.hides(name) for name in frame.columns[:ITEMS]]
        head = [
            f"\n  {self.show(index, depth + 1)}: "
            + ", ".join(MASK if hide else self.show(cell, depth + 1) for hide, cell in zip(hidden, row, strict=True))
            for index, *row in frame.iloc[:3, :ITEMS].itertuples(name=None)
        ]
        return f"DataFrame {rows:,} rows x {columns:,} columns: {', '.join(names)}{more}{''.join(head)}"

    def _text(self, text: str) -> str:
        if self.redactor is None:
            return repr(text[: self.limit + 1])
        if len(text) > LONGEST_TEXT:
            return f"<str of {len(text):,} characters>"
        return repr(self.redactor.mask(text)[: self.limit + 1])

    def _repr(self, value: object) -> str:
        return self._masked(_ADDRESS.sub("", repr(value)))[: self.limit + 1]

    def _masked(self, text: str) -> str:
        return self.redactor.mask(text) if self.redactor is not None else text
