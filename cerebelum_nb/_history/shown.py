"""Small tables of texts, as lines for a terminal and as HTML; a header row first."""

from __future__ import annotations

import html
from collections.abc import Sequence

__all__ = ["WIDEST", "as_html", "as_lines"]

Row = Sequence[str]
WIDEST = 60
"""Characters that a value or a difference is given."""


def as_lines(rows: Sequence[Row]) -> list[str]:
    """Align the columns.

    Example:
        >>> as_lines([("step", "took"), ("provision", "3s")])
        ['step       took', 'provision  3s']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def as_html(rows: Sequence[Row]) -> str:
    """Write an HTML table."""
    head, *body = (
        "".join(f"<{tag} style='text-align:left'>{html.escape(cell)}</{tag}>" for cell in row)
        for tag, row in zip(["th", *["td"] * len(rows)], rows, strict=False)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{row}</tr>' for row in body)}</tbody></table>"
