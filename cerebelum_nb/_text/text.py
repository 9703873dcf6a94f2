"""Small forms of words that messages, tables and pictures have in common."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["as_stage", "counted", "cut", "did_you_mean"]


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
