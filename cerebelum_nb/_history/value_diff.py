"""Compare two values: plain data by path, frames and arrays by shape, columns and cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Any

from .._values.preview import preview

__all__ = ["Difference", "compare"]

_MOST = 3
"""How many places are named; of the others only the number is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The difference between two values; false if there is none.

    ``cells`` counts the cells or elements that both have and that differ; ``largest`` is the largest numeric difference
    among them, or the difference of two numbers. Both are None for other values without cells.
    """

    words: tuple[str, ...] = ()
    cells: int | None = None
    largest: float | None = None

    def __bool__(self) -> bool:
        return bool(self.words)

    def __str__(self) -> str:
        more = len(self.words) - _MOST
        return "; ".join(self.words[:_MOST]) + (f"; {more} more" if more > 0 else "")


def compare(one: Any, other: Any) -> Difference:
    """Describe how ``other`` differs from ``one``.

    Example:
        >>> str(compare({"size": 1, "hosts": ["a"]}, {"size": 2, "hosts": ["a", "b"]}))
        "size: 1 -> 2; hosts[1]: added 'b'"
    """
    kinds = _kind(one), _kind(other)
    if kinds[0] != kinds[1]:
        return Difference(words=(f"{_type(one)} -> {_type(other)}",))
    match kinds[0]:
        case "frame":
            return _frames(one, other)
        case "series":
            return _frames(one.to_frame("values"), other.to_frame("values"))
        case "table":
            return _frames(one.to_pandas(), other.to_pandas())
        case "array":
            return _arrays(one, other)
    words = tuple(_plain(one, other, ""))
    return Difference(words=words, largest=_distance(one, other) if words else None)


def _distance(one: Any, other: Any) -> float | None:
    """Return the difference of two numbers, including numpy's."""
    if not all(isinstance(value, Real) and not isinstance(value, bool) for value in (one, other)):
        return None
    try:
        distance = abs(float(one) - float(other))
    except OverflowError:
        return None
    return distance if isfinite(distance) else None


def _kind(value: Any) -> str:
    cls = type(value)
    named = (cls.__module__.partition(".")[0], cls.__name__)
    known = {"DataFrame": "frame", "Series": "series", "ndarray": "array", "Table": "table"}
    return known.get(named[1], "") if named[0] in ("pandas", "numpy", "pyarrow") else ""


def _type(value: Any) -> str:
    return type(value).__name__


def _plain(one: Any, other: Any, path: str) -> Iterator[str]:
    if type(one) is type(other) is dict:
        for key in {**one, **other}:
            at = f"{path}.{key}" if path else str(key)
            if key not in other:
                yield f"{at}: removed {preview(one[key], 40)}"
            elif key not in one:
                yield f"{at}: added {preview(other[key], 40)}"
            else:
                yield from _plain(one[key], other[key], at)
    elif type(one) is type(other) is list:
        for index in range(max(len(one), len(other))):
            if index >= len(other):
                yield f"{path}[{index}]: removed {preview(one[index], 40)}"
            elif index >= len(one):
                yield f"{path}[{index}]: added {preview(other[index], 40)}"
            else:
                yield from _plain(one[index], other[index], f"{path}[{index}]")
    elif not _equal(one, other):
        yield f"{f'{path}: ' if path else ''}{preview(one, 40)} -> {preview(other, 40)}"


def _equal(one: Any, other: Any) -> bool:
    if _kind(one):
        return not compare(one, other)
    try:
        return type(one) is type(other) and bool(one == other or (one != one and other != other))
    except Exception:  # noqa: BLE001  # a user's __eq__ may raise anything; then the values count as different
        return False


def _frames(one: Any, other: Any) -> Difference:
    words = []
    if one.shape != other.shape:
        words.append(f"{_shape(one)} -> {_shape(other)}")
    gone = [name for name in one.columns if name not in other.columns]
    new = [name for name in other.columns if name not in one.columns]
    if gone or new:
        words.append("columns " + ", ".join([*(f"-{name}" for name in gone), *(f"+{name}" for name in new)]))
    elif not one.columns.equals(other.columns):
        words.append("columns in another order")
    if not (one.columns.is_unique and other.columns.is_unique):
        return Difference(words=(*words, *(() if one.equals(other) else ("cells differ",))))
    both = [name for name in one.columns if name in other.columns]
    pairs = [(name, one[name].dtype, other[name].dtype) for name in both]
    words += [f"{name}: {dtype} -> {another}" for name, dtype, another in pairs if dtype != another]
    if not one.index.equals(other.index):
        words.append("other index")
        if one.index.is_unique and other.index.is_unique:
            rows = one.index.intersection(other.index)
            one, other = one.loc[rows], other.loc[rows]
    if len(one) != len(other):
        return Difference(words=tuple(words))
    cells, largest = 0, None
    for name in both:
        count, most = _cells(one[name], other[name])
        cells += count
        largest = most if largest is None else largest if most is None else max(largest, most)
    return _with_cells(words, cells, largest)


def _arrays(one: Any, other: Any) -> Difference:
    import pandas as pd

    words = []
    if one.shape != other.shape:
        words.append(f"shape {one.shape} -> {other.shape}")
    if one.dtype != other.dtype:
        words.append(f"{one.dtype} -> {other.dtype}")
    if one.shape != other.shape:
        return Difference(words=tuple(words))
    return _with_cells(words, *_cells(pd.Series(one.ravel()), pd.Series(other.ravel())))


def _cells(one: Any, other: Any) -> tuple[int, float | None]:
    """Compare two columns of one length: return how many elements differ, and the largest numeric difference."""
    import pandas as pd

    one, other = one.reset_index(drop=True), other.reset_index(drop=True)
    are_numbers = all(
        pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column) for column in (one, other)
    )
    if not are_numbers:
        one, other = one.astype("object"), other.astype("object")
    differ = (one != other).fillna(True) & ~(one.isna() & other.isna())
    count = int(differ.sum())
    if not (are_numbers and count):
        return count, None
    most = (one[differ].astype("Float64") - other[differ].astype("Float64")).abs().max()
    return count, None if pd.isna(most) else float(most)


def _with_cells(words: list[str], cells: int, largest: float | None) -> Difference:
    if cells:
        by = "" if largest is None else f" by up to {largest:g}"
        words.append(f"{cells:,} {'cell differs' if cells == 1 else 'cells differ'}{by}")
    return Difference(words=tuple(words), cells=cells, largest=largest)


def _shape(frame: Any) -> str:
    return f"{frame.shape[0]:,} rows x {frame.shape[1]:,} columns"
