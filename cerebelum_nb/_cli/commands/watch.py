"""``cerebelum watch``: show an execution live.

A terminal is redrawn on the alternate screen, in its current size, and keeps the last picture. Elsewhere each change is
a line.
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

_RESUMED_SECONDS = 5.0
"""How long to keep watching after the process has stopped; a scheduler would resume the execution within a second."""


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
    watching = _Watching(picture, forever=wait)
    if watching.goes_on(picture):
        try:
            picture = (
                _live(reader, watching, picture, interval)
                if is_screen()
                else _lines(reader, watching, picture, interval)
            )
        except KeyboardInterrupt:
            _print_picture(reader.take())
            click.echo("stopped watching; the execution continues", err=True)
            ctx.exit(Exit.STOPPED)
    _print_picture(picture)
    if not picture.over:
        click.echo("no process is running it, so there is nothing to watch; --wait waits until one does", err=True)
        ctx.exit(Exit.IDLE)
    if exit_status and picture.row.summary.state is not ExecutionState.COMPLETED:
        ctx.exit(Exit.FAILED)


class _Watching:
    """Whether there is something to watch: it has not ended, and a process is running it or may soon."""

    def __init__(self, first: Picture, *, forever: bool) -> None:
        self._forever = forever
        self._idle_since: float | None = -math.inf if first.idle else None

    def goes_on(self, picture: Picture) -> bool:
        """Whether to continue; after a stop, a scheduler gets some time to resume it."""
        if picture.over or self._forever or not picture.idle:
            self._idle_since = None
            return not picture.over
        if self._idle_since is None:
            self._idle_since = time.monotonic()
        return time.monotonic() - self._idle_since < _RESUMED_SECONDS


def _print_picture(picture: Picture) -> None:
    for line in picture.lines(width()):
        emit(line)


def _live(reader: ExecutionReader, watching: _Watching, picture: Picture, interval: float) -> Picture:
    with screen():
        while watching.goes_on(picture):
            now = size()
            draw(picture.lines(now.columns, most_steps=max(1, now.lines - 12)), now.lines)  # the latest steps
            nap(interval, now)
            picture = reader.take()
    return picture


def _lines(reader: ExecutionReader, watching: _Watching, picture: Picture, interval: float) -> Picture:
    shown = ""
    while True:
        line = picture.line()
        if line != shown:
            shown = line
            emit(line)
            sys.stdout.flush()
        if not watching.goes_on(picture):
            emit("")
            return picture
        time.sleep(interval)
        picture = reader.take()
