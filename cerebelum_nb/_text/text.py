"""Small forms of words that messages, tables and pictures have in common."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["as_lines", "as_stage", "counted", "cut", "cut_middle", "did_you_mean"]


def as_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align the columns of a table.

    Example:
        >>> as_lines([("step", "took"), ("provision", "3s")])
        ['step       took', 'provision  3s']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def as_stage(steps: Sequence[str]) -> str:
    """Write the steps of a stage as a timeline does.

    Example:
        >>> as_stage(["build"]), as_stage(["left", "right"])
        ('build', '[left, right]')
    """
    return steps[0] if len(steps) == 1 else f"[{', '.join(steps)}]"


def cut(text: str, most: int) -> str:
    """Return the beginning of a text, at most so many characters.

    Example:
        >>> cut("provision", 9), cut("provision", 5)
        ('provision', 'prov…')
    """
    return text if len(text) <= most else text[: max(most - 1, 0)] + "…"


def cut_middle(text: str, most: int) -> str:
    """Keep the beginning and the end of a long text, and say how much is left out.

    Example:
        >>> cut_middle("a" * 50 + "b" * 50, 10)
        'aaaaa … 90 characters … bbbbb'
    """
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} characters … {text[-half:]}"


def counted(number: int, noun: str) -> str:
    """Write how many there are.

    Example:
        >>> counted(1, "event"), counted(1200, "event")
        ('1 event', '1,200 events')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def did_you_mean(name: str, known: Iterable[str], otherwise: str, *, most: int = 2) -> str:
    """Ask whether a name nearest to a mistyped one is meant, whatever the case; when none is near, say something else.

    Example:
        >>> did_you_mean("biuld", ["build", "ship"], "There are: build, ship.")
        "Did you mean 'build'?"
    """
    by_fold = {one.casefold(): one for one in known}
    near = [by_fold[fold] for fold in difflib.get_close_matches(name.casefold(), by_fold, n=most)]
    return f"Did you mean {' or '.join(map(repr, near))}?" if near else otherwise
