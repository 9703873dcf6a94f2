"""The alternate screen of a terminal, for output that is redrawn and removed at the end."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import click

from .._text.terminal import styled

__all__ = ["draw", "interval_option", "is_screen", "nap", "screen", "size"]

Command = TypeVar("Command", bound=Callable[..., Any])

_ENDING = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
"""Windows has no SIGHUP."""

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
"""The alternate screen, without a cursor and without line wrap; and back."""


def interval_option(default: float, words: str = "How often to look") -> Callable[[Command], Command]:
    """Make the option for the seconds between two reads."""
    between = click.FloatRange(min=0.1, max=3600)
    help_ = f"{words} ({default:g})."
    return click.option("--interval", metavar="SECONDS", type=between, default=default, help=help_)


def is_screen() -> bool:
    """Whether the output is a terminal that can be redrawn."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def size() -> os.terminal_size:
    """Return the size of the terminal."""
    return os.get_terminal_size(sys.stdout.fileno())


@contextmanager
def screen() -> Iterator[None]:
    """Use the alternate screen, and always restore it at the end."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in _ENDING}
    sys.stdout.write(_ENTER)
    try:
        yield
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        for number, handler in before.items():
            signal.signal(number, handler)


def draw(written: Sequence[str], lines: int) -> None:
    """Redraw the screen."""
    colourless = bool(os.environ.get("NO_COLOR"))
    shown = [*written[: lines - 2]]
    shown += [""] * (lines - 1 - len(shown))
    shown.append(styled("Ctrl-C to stop watching", "dim"))
    # Each line is cleared before it is written: after a line as wide as the terminal, clearing would remove its last
    # character.
    text = "\n".join(f"\x1b[2K{click.unstyle(line) if colourless else line}" for line in shown)
    sys.stdout.write(f"\x1b[H{text}\x1b[J")
    sys.stdout.flush()


def nap(interval: float, before: os.terminal_size) -> None:
    """Sleep for so many seconds, or until the terminal is resized."""
    end = time.monotonic() + interval
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))
        if size() != before:
            return
