"""Small text helpers shared by messages, tables and pictures."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

__all__ = [
    "as_lines",
    "as_stage",
    "counted",
    "cut",
    "cut_middle",
    "did_you_mean",
    "file_size",
    "one_line",
]


def as_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align the columns of a table.

    Example:
        >>> as_lines([("step", "took"), ("provision", "3s")])
        ['step       took', 'provision  3s']
    """
    widths = [max(map(text_width, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell + " " * (width - text_width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def as_stage(steps: Sequence[str]) -> str:
    """Write the steps of a stage as a timeline does.

    Example:
        >>> as_stage(["build"]), as_stage(["left", "right"])
        ('build', '[left, right]')
    """
    return steps[0] if len(steps) == 1 else f"[{', '.join(steps)}]"


def text_width(text: str) -> int:
    """Return how many columns of a terminal a text takes.

    Example:
        >>> text_width("build"), text_width("東京")
        (5, 4)
    """
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def _columns_of(char: str) -> int:
    return 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, most: int) -> str:
    """Return the beginning of a text, at most this many columns of a terminal.

    Example:
        >>> cut("provision", 9), cut("provision", 5), cut("東京都", 5)
        ('provision', 'prov…', '東京…')
    """
    if most <= 0:
        return ""
    if text.isascii():
        return text if len(text) <= most else text[: most - 1] + "…"
    used = end = 0
    for place, char in enumerate(text, start=1):  # stops where the text is cut: a value may be long
        used += _columns_of(char)
        if used > most:
            return text[:end] + "…"
        if used < most:
            end = place
    return text


def one_line(text: str, most: int = 160) -> str:
    """Return the beginning of a text as one line.

    Example:
        >>> one_line("two  words", 5)
        'two …'
    """
    return cut(" ".join(text[: 2 * most].split()), most)


def cut_middle(text: str, most: int) -> str:
    """Keep the beginning and the end of a long text, and say how much was cut.

    Example:
        >>> cut_middle("a" * 50 + "b" * 50, 10)
        'aaaaa … 90 characters … bbbbb'
    """
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} characters … {text[-half:]}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Write a number of things; ``plural`` is the plural, by default with an s.

    Example:
        >>> counted(1, "event"), counted(1200, "event")
        ('1 event', '1,200 events')
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def file_size(size: float) -> str:
    """Write a number of bytes in a few characters.

    Example:
        >>> file_size(12_345_678)
        '12 MB'
    """
    for unit in ("bytes", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def did_you_mean(name: str, known: Iterable[str], otherwise: str, *, most: int = 2) -> str:
    """Suggest the names nearest to a mistyped one, ignoring case; if there are none, return another hint.

    Example:
        >>> did_you_mean("biuld", ["build", "ship"], "There are: build, ship.")
        "Did you mean 'build'?"
    """
    by_fold = {one.casefold(): one for one in known}
    import difflib  # here: most runs have no name to guess, and it takes milliseconds

    near = [by_fold[fold] for fold in difflib.get_close_matches(name.casefold(), by_fold, n=most)]
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else otherwise
