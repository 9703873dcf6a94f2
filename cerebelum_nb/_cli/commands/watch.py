"""``cerebelum watch``: one execution, live.

On a terminal it is redrawn on the alternate screen, in the current size of the terminal; the last picture stays.
Elsewhere each change is a line.
"""

from __future__ import annotations

import math
import sys
import time

import click

from ..._core.state_name import ACTIVE, ExecutionState
from ..._text.terminal import width
from ..app import Exit, core_option, log_options, open_either
from ..echo import emit
from ..picture import Picture
from ..reader import ExecutionReader
from ..screen import draw, interval_option, is_screen, nap, screen, size
from .completion import execution_argument

__all__ = ["watch"]

_TAKEN_UP_SECONDS = 5.0
"""How long to keep watching an execution that no process is running: a scheduler would resume it within a second."""


@click.command()
@execution_argument((*ACTIVE, "PAUSED", "QUEUED"))
@interval_option(0.5)
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
                _live(reader, moves, picture, interval) if is_screen() else _lines(reader, moves, picture, interval)
            )
        except KeyboardInterrupt:
            _leave_behind(reader.take())
            click.echo("stopped watching; the execution continues", err=True)
            ctx.exit(Exit.STOPPED)
    _leave_behind(picture)
    if not picture.over:
        click.echo("no process is running it, so there is nothing to watch; --wait waits until one does", err=True)
        ctx.exit(Exit.IDLE)
    if exit_status and picture.row.summary.state is not ExecutionState.COMPLETED:
        ctx.exit(Exit.FAILED)


class _Moves:
    """Whether there is something to watch: it has not ended, and a process is running it or soon will."""

    def __init__(self, first: Picture, *, forever: bool) -> None:
        self._forever = forever
        self._idle_since: float | None = -math.inf if first.idle else None

    def on(self, picture: Picture) -> bool:
        """Whether to look again; after a stop, allow the time that a scheduler needs to resume it."""
        if picture.over or self._forever or not picture.idle:
            self._idle_since = None
            return not picture.over
        if self._idle_since is None:
            self._idle_since = time.monotonic()
        return time.monotonic() - self._idle_since < _TAKEN_UP_SECONDS


def _leave_behind(picture: Picture) -> None:
    for line in picture.lines(width()):
        emit(line)


def _live(reader: ExecutionReader, moves: _Moves, picture: Picture, interval: float) -> Picture:
    with screen():
        while moves.on(picture):
            now = size()
            draw(picture.lines(now.columns, most_steps=max(1, now.lines - 12)), now.lines)  # of more steps, the latest
            nap(interval, now)
            picture = reader.take()
    return picture


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
