"""How figures are shown: a table in the terminal, or Markdown for the README."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Iterable, Sequence

from .measure import Figure

__all__ = ["machine", "markdown", "show"]

_HEADS = ("benchmark", "figure", "value", "target", "", "lowest - highest", "measured")


def machine() -> str:
    """Say in one line what the figures were measured on."""
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), "
        f"{platform.system()} {platform.release().split('-')[0]}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}"
    )


def markdown(figures: Sequence[Figure]) -> str:
    """Write the table of the README."""
    lines = [" | ".join(_HEADS), " | ".join(["---", "---", "---:", "---:", "---", "---:", "---"])]
    lines += [" | ".join(_cells(figure)) for figure in figures]
    return "\n".join(f"| {line} |" for line in lines)


def show(figures: Sequence[Figure]) -> None:
    """Print the table and the machine."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*_HEADS)
    for figure in figures:
        style = {True: "green", False: "bold red", None: ""}[figure.meets]
        cells = list(_cells(figure))
        table.add_row(*cells[:4], f"[{style}]{cells[4]}[/]" if style else cells[4], *cells[5:])
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table)
    console.print(machine())


def _cells(figure: Figure) -> Iterable[str]:
    sign = {"at most": "≤", "at least": "≥", "exactly": "="}[figure.target_is]
    return (
        figure.benchmark,
        figure.name,
        _number(figure.value, figure.unit),
        "" if figure.target is None else f"{sign} {_number(figure.target, figure.unit)}",
        {True: "meets", False: "misses", None: ""}[figure.meets],
        "" if figure.spread is None else " - ".join(_number(end, figure.unit) for end in figure.spread),
        figure.detail,
    )


def _number(value: float, unit: str) -> str:
    short = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    if unit == "x":
        return f"{value:.2f} x"
    return f"{short} {unit}".rstrip()
