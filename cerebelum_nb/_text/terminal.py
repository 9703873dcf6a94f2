"""Output for a terminal: clean text, colours, tables and paragraphs that fit, bars.

Plain strings in and out. The terminal's width is read at every call, so it can be resized.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from .text import cut, text_width

__all__ = ["Cell", "Column", "bar", "clean", "fit", "styled", "table", "width", "wrap"]

_WIDEST = 120
"""Columns beyond which a bar or a paragraph is hard to read."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A text and its colour."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table.

    ``least`` is the width to which it may be cut (0: never). When the terminal is too narrow for all columns, those
    with a ``drop`` are left out, the highest first.
    """

    title: str
    right: bool = False
    least: int = 0
    drop: int = 0


def width() -> int | None:
    """The columns of the terminal; None if the output is not a terminal, so nothing is cut."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return None
    return shutil.get_terminal_size().columns


def clean(text: str) -> str:
    """Show control characters instead of sending them to the terminal: a log may contain anything."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)


_STYLES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}
"""The parameters of SGR, the control sequence of a terminal that sets colours (ECMA-48)."""


def styled(text: str, style: str) -> str:
    """Colour a text that is already clean."""
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if text and style else text


def wrap(text: str, indent: str = "") -> list[str]:
    """Break a paragraph into lines that fit."""
    room = min(width() or _WIDEST, _WIDEST)
    lines = textwrap.wrap(
        clean(text), room, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )  # fmt: skip
    return lines or [indent]


def fit(text: str) -> list[str]:
    """Break lines that do not fit; an indented command, for copying, does not change."""
    room, lines = width(), list[str]()
    for line in text.splitlines() or [""]:
        if room is None or text_width(line) <= room or line.startswith("    "):
            lines.append(clean(line))
        else:
            lines += textwrap.wrap(clean(line), room, break_on_hyphens=False)
    return lines


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], room: int | None) -> list[str]:
    """Write a table in this many columns of a terminal (None: as many as it takes).

    Example:
        >>> table([Column(title="A"), Column(title="B", right=True)], [[Cell("x"), Cell("10")]], 80)[1]
        'x  10'
    """
    shown = list(range(len(columns)))
    rows = [[Cell(clean(cell.text), cell.style) for cell in row] for row in rows]
    wide = [
        max([text_width(column.title), *(text_width(row[i].text) for row in rows)]) for i, column in enumerate(columns)
    ]
    if room is not None:
        least = [min(wide[i], max(column.least, text_width(column.title))) if column.least else wide[i]
                 for i, column in enumerate(columns)]  # fmt: skip
        while _total([least[i] for i in shown]) > room and any(columns[i].drop for i in shown):
            shown.remove(max(shown, key=lambda i: columns[i].drop))
        while _total([wide[i] for i in shown]) > room:
            widest = max(shown, key=lambda i: wide[i] - least[i])
            if wide[widest] <= least[widest]:
                break
            wide[widest] -= 1
    head = [Cell(column.title, "dim") for column in columns]
    return [_line([(columns[i], row[i], wide[i]) for i in shown]) for row in (head, *rows)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _line(parts: Sequence[tuple[Column, Cell, int]]) -> str:
    written = []
    for place, (column, cell, wide) in enumerate(parts):
        text = cut(cell.text, wide)
        space = " " * (wide - text_width(text))
        last = place == len(parts) - 1
        written.append(
            space + styled(text, cell.style)
            if column.right
            else styled(text, cell.style) + ("" if last else space)
        )  # fmt: skip
    return "  ".join(written).rstrip()


def bar(share: float, wide: int) -> str:
    """Draw a bar of ``wide`` columns, ``share`` of it (0 to 1) full."""
    full = round(max(0.0, min(1.0, share)) * wide)
    return "█" * full + "░" * (wide - full)
