"""``cerebelum watch``: one execution, live.

On a terminal it is redrawn on the alternate screen, each time for the size the terminal has then; the last
picture is left behind. Elsewhere each change is a line.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from ..._core.state_name import ACTIVE, ExecutionState
from ..._text.terminal import styled, width
from ..app import Exit, core_option, log_options, open_either
from ..echo import emit
from ..picture import Picture
from ..reader import ExecutionReader
from .completion import execution_argument

__all__ = ["watch"]

_ENDING = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
"""Windows has no SIGHUP."""

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
"""The alternate screen, without a cursor and without line wrap; and back."""

_TAKEN_UP_SECONDS = 5.0
"""How long an execution that no process is running is still watched: a scheduler would resume it in a second."""


@click.command()
@execution_argument((*ACTIVE, "PAUSED", "QUEUED"))
@click.option(
    "--interval",
    metavar="SECONDS",
    type=click.FloatRange(min=0.1, max=3600),
    default=0.5,
    help="How often to look (0.5).",
)
@click.option("--wait", is_flag=True, help="If no process is running it, wait until one does.")
@click.option("--exit-status", is_flag=True, help="Exit with 1 if it failed or was cancelled.")
@core_option
@log_options
@click.pass_context
def watch(ctx: click.Context, execution_id: str, interval: float, wait: bool, exit_status: bool) -> None:
    """Watch one execution, live, until it ends.

    If the execution has ended, it shows how and exits with 0. If no process is running it, it says how to resume it and
    exits with 8. On a terminal it fills the screen; in a pipe it writes a line for each change. Ctrl-C only stops
    watching.
    """
    reader = ExecutionReader(ctx, open_either(ctx), execution_id)
    picture = reader.take()
    moves = _Moves(picture, forever=wait)
    if moves.on(picture):
        try:
            picture = (
                _live(reader, moves, picture, interval) if _is_screen() else _lines(reader, moves, picture, interval)
            )
        except KeyboardInterrupt:
            _leave_behind(reader.take())
            click.echo("stopped watching; the execution goes its way", err=True)
            ctx.exit(Exit.STOPPED)
    _leave_behind(picture)
    if not picture.over:
        click.echo("no process is running it, so there is nothing to watch; --wait waits until one does", err=True)
        ctx.exit(Exit.IDLE)
    if exit_status and picture.row.summary.state is not ExecutionState.COMPLETED:
        ctx.exit(Exit.FAILED)


class _Moves:
    """Knows whether there is something to watch: it has not ended, and a process runs it, or will in a moment."""

    def __init__(self, first: Picture, *, forever: bool) -> None:
        self._forever = forever
        self._idle_since: float | None = -math.inf if first.idle else None

    def on(self, picture: Picture) -> bool:
        """Whether to look again; one that stops meanwhile is given the time a scheduler needs to resume it."""
        if picture.over or self._forever or not picture.idle:
            self._idle_since = None
            return not picture.over
        if self._idle_since is None:
            self._idle_since = time.monotonic()
        return time.monotonic() - self._idle_since < _TAKEN_UP_SECONDS


def _is_screen() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def _leave_behind(picture: Picture) -> None:
    for line in picture.lines(width()):
        emit(line)


def _live(reader: ExecutionReader, moves: _Moves, picture: Picture, interval: float) -> Picture:
    colourless = bool(os.environ.get("NO_COLOR"))
    with _screen():
        while moves.on(picture):
            size = os.get_terminal_size(sys.stdout.fileno())
            _draw(picture, size.columns, size.lines, colourless)
            _nap(interval, size)
            picture = reader.take()
    return picture


def _draw(picture: Picture, columns: int, lines: int, colourless: bool) -> None:
    """Draw over what was there; of more steps than fit, the latest."""
    written = picture.lines(columns, most_steps=max(1, lines - 12))[: lines - 2]
    written += [""] * (lines - 1 - len(written))
    written.append(styled("Ctrl-C stops watching", "dim"))
    # Cleared before it is written: after a line as wide as the terminal, clearing would take its last character.
    text = "\n".join(f"\x1b[2K{click.unstyle(line) if colourless else line}" for line in written)
    sys.stdout.write(f"\x1b[H{text}\x1b[J")
    sys.stdout.flush()


def _nap(interval: float, size: os.terminal_size) -> None:
    """Wait for the next look; a terminal that was resized is drawn at once."""
    end = time.monotonic() + interval
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))
        if os.get_terminal_size(sys.stdout.fileno()) != size:
            return


@contextmanager
def _screen() -> Iterator[None]:
    """Have the alternate screen, and give it back however this ends."""

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


def _lines(reader: ExecutionReader, moves: _Moves, picture: Picture, interval: float) -> Picture:
    told = ""
    while True:
        line = picture.line()
        if line != told:
            told = line
            emit(line)
            sys.stdout.flush()
        if not moves.on(picture):
            emit("")
            return picture
        time.sleep(interval)
        picture = reader.take()
