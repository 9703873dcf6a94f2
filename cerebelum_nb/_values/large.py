"""Write and parse large JSON in pieces, so that other threads run in between.

The functions of `json` hold the interpreter's lock until they return: for 100 MB that is a second in each direction, in
which the event loop stands still, even if the call is made in a thread. So a large value is written a piece at a time,
and while a large text is parsed Python code is called at every object. After each piece the thread sleeps for an
instant: without that, the loop would wait 5 ms, the interpreter's switch interval, each time that it asks for the lock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from math import inf
from types import FunctionType, ModuleType
from typing import Any

from .._host.collector import uncollected
from .._text.json_text import parse
from .arrow import takes
from .gather_secrets import held_by
from .tags import DEEPEST, NotJsonError

__all__ = [
    "ANY_LEVELS",
    "LARGE_TEXT",
    "PIECE",
    "LargeValueError",
    "is_large",
    "parse_large",
    "plain",
    "weigh",
    "write_large",
]

ANY_LEVELS = -1

_UNSIZED = frozenset({int, float, bool, type(None)})
_TEXT = frozenset({str})

PIECE = 4_000
"""The weight of what is written at a time, which takes about a millisecond; a value that weighs more is large."""

_CHARACTERS = 7
"""So many characters, as a power of two, weigh as much as one scalar."""

LARGE_TEXT = 100_000
"""The characters of a JSON text from which it is large; to parse so many takes about a millisecond."""

_PAUSE_SECONDS = 1e-5
_OBJECTS = 1_000
"""The objects of a text that are parsed between two pauses."""


class LargeValueError(Exception):
    """Raised on an event loop before anything was done: to encode or decode a value would take it too long."""


def weigh(value: Any, levels: int, most: float = PIECE) -> int:
    """Weigh a value that JSON can hold: a scalar counts 1, and long texts more; 0 if its types are not those of JSON.

    The weight of a value that weighs more than ``most`` is any number above that: the rest of it is not searched.

    Args:
        value: anything; JSON holds dicts with text keys, lists and scalars, by exact types.
        levels: how many levels of containers it may have.
        most: the weight from which it is large.
    """
    cls = type(value)
    if (cls is dict or cls is list) and levels:
        weight = 1 + len(value)
        if weight > most:
            return weight
        if cls is dict and not _TEXT.issuperset(map(type, value)):
            return 0
        members = value.values() if cls is dict else value
        if _UNSIZED.issuperset(map(type, members)):
            return weight
        for item in members:
            kind = type(item)
            if kind is str:
                weight += len(item) >> _CHARACTERS
            elif kind not in _UNSIZED:
                if not (inner := weigh(item, levels - 1, most)):
                    return 0
                weight += inner
                if weight > most:
                    return weight
        return weight
    if cls is str:
        return 1 + (len(value) >> _CHARACTERS)
    return int(cls in _UNSIZED)


def plain(value: object) -> bool:
    """Whether all types in a value are those of JSON."""
    return weigh(value, DEEPEST, inf) > 0


def is_large(value: object, *, searched: bool) -> bool:
    """Whether it takes more than an instant to encode a value of any type.

    Args:
        value: anything.
        searched: whether the attributes of objects count, as they are pickled.
    """
    if takes(value):  # an Arrow file is made, read again and compared: some milliseconds even if it is small
        return searched
    left, found = PIECE, [value]
    while found and left >= 0:
        one: Any = found.pop()
        if isinstance(one, (str, bytes, bytearray)):
            left -= len(one) >> _CHARACTERS
        elif takes(one):
            left -= (one.nbytes if hasattr(one, "nbytes") else one.size * 8) >> _CHARACTERS
        elif (members := held_by(one)) is not None:
            items = [item for _, item in islice(members, PIECE)]
            left -= 1 + len(items)
            found += items
        elif searched and hasattr(one, "__dict__") and not isinstance(one, (type, ModuleType, FunctionType)):
            left -= 1 + len(one.__dict__)
            found += islice(one.__dict__.values(), PIECE)
    return left < 0


def write_large(value: object, levels: int, dump: Callable[[object], str], most: int = PIECE) -> str:
    """Write a value as JSON, a piece at a time.

    Args:
        value: anything; it must not change meanwhile.
        levels: how many levels of containers it may have.
        dump: writes a piece.
        most: the weight of a piece.

    Raises:
        NotJsonError: its types are not those of JSON, or it has more levels.
        ValueError: it holds a lone surrogate, which is not UTF-8; also what ``dump`` raises.
    """
    pieces: list[str] = []

    def put(piece: str) -> None:
        if not piece.isascii():
            piece.encode()  # raises for a lone surrogate
        pieces.append(piece)
        time.sleep(_PAUSE_SECONDS)

    def write(value: Any, levels: int) -> None:
        weight = weigh(value, levels, most)
        if not weight:
            raise NotJsonError
        if weight <= most:
            put(dump(value))
        elif type(value) is str:
            pieces.append('"')
            length = most << _CHARACTERS
            for start in range(0, len(value), length):
                put(dump(value[start : start + length])[1:-1])
            pieces.append('"')
        else:
            write_members(value, levels - 1)

    def write_members(value: Any, levels: int) -> None:
        is_dict = type(value) is dict
        pieces.append("{" if is_dict else "[")
        run: dict[Any, Any] = {}  # the members of the next piece
        weight = 0
        for key, item in value.items() if is_dict else enumerate(value):
            if is_dict and type(key) is not str:
                raise NotJsonError
            one = 1 if type(item) in _UNSIZED else weigh(item, levels, most)
            if not one:
                raise NotJsonError
            if weight + one > most and run:
                put(dump(run if is_dict else [*run.values()])[1:-1])
                pieces.append(",")
                run, weight = {}, 0
            if one <= most:
                run[key] = item
                weight += one
                continue
            if is_dict:
                put(dump(key))
                pieces.append(":")
            write(item, levels)
            pieces.append(",")
        if run:
            put(dump(run if is_dict else [*run.values()])[1:-1])
            pieces.append(",")
        pieces[-1] = "}" if is_dict else "]"  # in place of the last comma

    write(value, levels)
    return "".join(pieces)


def parse_large(text: str) -> Any:
    """Parse JSON, a piece at a time, as far as it is made of objects, or of two levels of lists and scalars.

    Raises:
        ValueError: it is not JSON, or too deep.
    """
    reader = _Reader(text)
    with uncollected():  # the collector would take longer than the parser
        try:
            found, end = reader.read(0, outermost=True)
            if end == len(text):
                return found
        except (ValueError, IndexError, RecursionError):  # not JSON, too deep, or with white space between its parts
            pass
        return parse(text, reader.note)


class _Reader:
    """Reads JSON that has no white space between its parts, as `write_large` makes it, and pauses now and then."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._parse = json.JSONDecoder(object_hook=self.note).raw_decode
        self._objects = self._paused_at = 0

    def note(self, found: dict[str, Any]) -> dict[str, Any]:
        """Count an object that was read."""
        self._objects += 1
        if self._objects % _OBJECTS == 0:
            time.sleep(_PAUSE_SECONDS)
        return found

    def read(self, at: int, *, outermost: bool = False) -> tuple[Any, int]:
        """Read the value at a place; return it and where it ends.

        The outermost dict and a list are read in slices. A slice ends at its last comma; if that is inside a member,
        what is cut off is not JSON, and the members of the slice are read one by one.
        """
        text, parse = self._text, self._parse
        opening = text[at]
        is_dict = opening == "{"
        if opening not in "[{" or (is_dict and not outermost) or text[at + 1] in "{]}":
            return parse(text, at)
        closing = "}" if is_dict else "]"
        made: Any = {} if is_dict else []
        cut = 0
        while not made or not self._ends(at, closing):
            at += 1
            if at >= cut and (is_dict or text[at] not in "[{"):
                cut = text.rfind(",", at, at + LARGE_TEXT)
                with suppress(ValueError):
                    run, length = parse(f"{opening}{text[at:cut]}{closing}")
                    if run:
                        (made.update if is_dict else made.extend)(run)
                        at += length - 2  # the end of the slice, or of the whole
                        continue
            if not is_dict:
                one, at = parse(text, at)
                made.append(one)
                continue
            key, at = parse(text, at)
            if type(key) is not str or text[at] != ":":
                raise ValueError
            made[key], at = self.read(at + 1)
        return made, at + 1

    def _ends(self, at: int, closing: str) -> bool:
        """Whether a container ends at a place after one of its members."""
        if at > self._paused_at + LARGE_TEXT:
            self._paused_at = at
            time.sleep(_PAUSE_SECONDS)
        if self._text[at] not in ("," + closing):
            raise ValueError
        return self._text[at] == closing
