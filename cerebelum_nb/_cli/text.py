"""How things are written on a terminal: clean text, colours, columns that fit, bars, times.

Plain strings in and out; nothing here knows an execution. A terminal is asked for its width at every call, so
that it may be resized.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from .._text.duration import format_seconds

__all__ = [
    "Cell",
    "Column",
    "bar",
    "cells",
    "clean",
    "cut",
    "emit",
    "file_size",
    "fit",
    "moment",
    "paint",
    "short_time",
    "styled",
    "table",
    "width",
    "wrap",
]

_WIDEST = 120
"""Beyond this a bar or a paragraph is no longer easy to read."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A text and its colour."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table.

    ``least`` is how narrow it may be cut (0: never); of those with a ``drop``, the highest goes first when the
    terminal is too narrow for all.
    """

    title: str
    right: bool = False
    least: int = 0
    drop: int = 0


def width() -> int | None:
    """How many columns there are to write in; None when the output is no terminal and nothing is to be cut."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return None
    return shutil.get_terminal_size().columns


def clean(text: str) -> str:
    """Show control characters instead of sending them to the terminal: what a log holds was written by anyone."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)


def styled(text: str, style: str) -> str:
    """Colour a text that is clean already; what is no terminal gets none (see :func:`paint`)."""
    match style if text else "":
        case "":
            return text
        case "bold":
            return click.style(text, bold=True)
        case "dim":
            return click.style(text, dim=True)
        case _:
            return click.style(text, fg=style)


def paint(text: str, style: str = "", *, err: bool = False) -> None:
    """Print a line, in colour if somebody looks at it and does not mind."""
    click.echo(styled(clean(text), style), err=err, color=False if os.environ.get("NO_COLOR") else None)


def emit(line: str) -> None:
    """Print a line that is clean and coloured already."""
    click.echo(line, color=False if os.environ.get("NO_COLOR") else None)


def cut(text: str, most: int) -> str:
    """Shorten a text to so many columns of a terminal."""
    if cells(text) <= most:
        return text
    while text and cells(text) > most - 1:
        text = text[: min(len(text) - 1, most)]
    return text + "…" if most > 0 else ""


def cells(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )  # fmt: skip


def wrap(text: str, indent: str = "") -> list[str]:
    """Break a paragraph into lines that fit."""
    room = min(width() or _WIDEST, _WIDEST)
    lines = textwrap.wrap(
        clean(text), room, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )  # fmt: skip
    return lines or [indent]


def fit(text: str) -> list[str]:
    """Break those lines that do not fit; a command, which is indented to be copied, stays as it is."""
    room, lines = width(), list[str]()
    for line in text.splitlines() or [""]:
        if room is None or cells(line) <= room or line.startswith("    "):
            lines.append(clean(line))
        else:
            lines += textwrap.wrap(clean(line), room, break_on_hyphens=False)
    return lines


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], room: int | None) -> list[str]:
    """Write a table in so many columns of a terminal (None: as many as it takes).

    Example:
        >>> lines = table([Column(title="A"), Column(title="B", right=True)], [[Cell("x"), Cell("10")]], 80)
        >>> [click.unstyle(line) for line in lines]
        ['A   B', 'x  10']
    """
    shown = list(range(len(columns)))
    rows = [[Cell(clean(cell.text), cell.style) for cell in row] for row in rows]
    wide = [max([cells(column.title), *(cells(row[i].text) for row in rows)]) for i, column in enumerate(columns)]
    if room is not None:
        least = [min(wide[i], max(column.least, cells(column.title))) if column.least else wide[i]
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
        space = " " * (wide - cells(text))
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


def moment(at: datetime | None) -> str:
    """Write a time in UTC, as the log does: who looks may be elsewhere than who ran it."""
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def short_time(seconds: float) -> str:
    """Write a duration in a few characters, such as ``2h 5m``."""
    if 1 <= seconds < 60:
        return f"{seconds:.0f}s" if seconds >= 10 else f"{seconds:.1f}s"
    return format_seconds(max(0.0, seconds))


def file_size(size: float) -> str:
    """Write a number of bytes in a few characters, such as ``12 MB``."""
    for unit in ("bytes", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
