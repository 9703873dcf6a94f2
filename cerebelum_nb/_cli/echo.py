"""Printing: in colour on a terminal, unless NO_COLOR is set."""

from __future__ import annotations

import os

import click

from .._text.terminal import clean, styled

__all__ = ["emit", "paint"]


def paint(text: str, style: str = "", *, err: bool = False) -> None:
    """Print a line of any text, without colour if the output is not a terminal."""
    emit(styled(clean(text), style), err=err)


def emit(line: str, *, err: bool = False) -> None:
    """Print a line that is already clean and coloured."""
    click.echo(line, err=err, color=False if os.environ.get("NO_COLOR") else None)
