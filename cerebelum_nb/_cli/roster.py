"""``cerebelum tutorial roster``: the progress of a class, once or live."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .._text.terminal import Cell, Column, table, width
from .app import Exit, Failure
from .echo import emit
from .screen import draw, is_screen, nap, screen, size

if TYPE_CHECKING:
    from .._classroom.grading import Register, Standing

__all__ = ["show_roster"]

_GAP = "   "


def show_roster(ctx: click.Context, logs: Sequence[Path], interval: float | None) -> None:
    """Show the progress of each student.

    Args:
        ctx: the command's context.
        logs: a folder or the logs in it.
        interval: seconds between two reads; None reads once.
    """
    from .._classroom.grading import Register

    missing = next((log for log in logs if not log.exists() and "*" not in str(log)), None)
    if missing is not None:
        raise Failure(f"there is no {missing}: give the folder that has a folder for each student")
    register = Register(logs)
    cells = register.look()
    if interval is None:
        if not cells:
            raise Failure(f"there is no log in {logs[0]}: give the folder that has a folder for each student")
        for line in _lines(cells, width(), None):
            emit(line)
        return
    try:
        if is_screen():
            _live(register, interval)
        else:
            _changes(register, interval)
    except KeyboardInterrupt:
        for line in _lines(register.look(), width(), None):
            emit(line)
        ctx.exit(Exit.STOPPED)


def _live(register: Register, interval: float) -> None:
    with screen():
        while True:
            now = size()
            draw(_lines(register.look(), now.columns, now.lines - 2), now.lines)
            nap(interval, now)


def _changes(register: Register, interval: float) -> None:
    """Print a line for each student whose progress has changed, when the output is not a terminal."""
    printed: dict[tuple[str, str], Standing] = {}
    while True:
        for student, row in register.look().items():
            for lesson, standing in row.items():
                if printed.get((student, lesson)) != standing:
                    printed[student, lesson] = standing
                    emit(f"{student}  {lesson}  {standing}")
        sys.stdout.flush()
        time.sleep(interval)


def _lines(cells: Mapping[str, Mapping[str, Standing]], columns: int | None, lines: int | None) -> list[str]:
    """Write the progress of a class as a table, in two columns if it is longer than the screen."""
    from .._classroom.grading import Register
    from .._classroom.language import say

    lessons = Register.columns(cells)
    heads = [Column(title=say("student"), least=6), *(Column(title=lesson, least=8) for lesson in lessons)]
    rows = [[Cell(name), *(_cell(row.get(lesson)) for lesson in lessons)] for name, row in cells.items()]
    summary = [*_summary(cells, lessons), ""]
    if columns is None or lines is None or len(rows) + len(summary) < lines:
        return [*summary, *table(heads, rows, columns)]
    half, room = (len(rows) + 1) // 2, (columns - len(_GAP)) // 2
    left, right = table(heads, rows[:half], room), table(heads, rows[half:], room)
    right += [""] * (len(left) - len(right))
    padded = [line + " " * max(0, room - len(click.unstyle(line))) for line in left]
    return summary + [f"{one}{_GAP}{other}".rstrip() for one, other in zip(padded, right, strict=True)]


def _summary(cells: Mapping[str, Mapping[str, Standing]], lessons: Sequence[str]) -> list[str]:
    """Summarise each lesson: how many students have finished it, are working on it, and are stuck."""
    from .._classroom.language import say

    lines = []
    for lesson in lessons:
        found = [row[lesson] for row in cells.values() if lesson in row]
        done, stuck = (
            sum(each.is_done for each in found),
            sum(bool(each.trouble) and not each.is_done for each in found),
        )
        parts = [say("{n} done", n=done), say("{n} at it", n=len(found) - done)]
        parts += [say("{n} with a run in trouble", n=stuck)] if stuck else []
        lines.append(f"{lesson}: {', '.join(parts)}" if lesson != "log" else say("{n} cannot be read", n=len(found)))
    return lines or [say("nobody has begun yet")]


def _cell(standing: Standing | None) -> Cell:
    if standing is None:
        return Cell("-", "dim")
    return Cell(str(standing), "green" if standing.is_done else "yellow" if standing.trouble else "")
