"""The case of lesson 6: a log of a year of a newsletter that is sent every Monday.

It is not shipped but made on a fake clock, in a second and the same on every machine.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .._dsl.step import step
from .._engine.run_sync import run_sync
from .._store.log_file import here
from .._store.sqlite import SqliteStore
from .._testing.clock import FakeClock
from .._workflow.decorator import workflow
from ..errors import WorkflowError

__all__ = ["FIRST", "FORGED", "LIMIT", "WEEKS", "forged_copy", "recorded_year", "subscribers"]

WEEKS, LIMIT, FIRST = 52, 1000, 23
"""The number of weeks, the recipients that the mail server allows, and the first week with more."""
FORGED = "week-17"
"""The execution that is changed in the forged copy."""

_BEGIN = datetime(2025, 1, 6, 7, tzinfo=UTC)


def subscribers(week: int) -> int:
    """Return how many subscribers the newsletter has in a week.

    Example:
        >>> subscribers(1), subscribers(FIRST - 1) <= LIMIT < subscribers(FIRST)
        (811, True)
    """
    return 800 + 9 * week + 2 * (week % 2)


@step
def collect(inputs: dict[str, Any]) -> dict[str, int]:
    return {"subscribers": subscribers(inputs["week"])}


@step
def write(inputs: dict[str, Any]) -> str:
    return f"news of week {inputs['week']}"


@step
def send(collect: dict[str, int], write: str) -> str:
    if collect["subscribers"] > LIMIT:
        raise ConnectionError(f"the mail server takes at most {LIMIT} recipients at once")
    return f"{write}, to {collect['subscribers']} people"


@workflow
def newsletter(wf: Any) -> None:
    wf.timeline([collect, write] >> send)


def recorded_year(path: str | os.PathLike[str]) -> Path:
    """Record a year of runs in a new log, unless it is there already.

    Args:
        path: where the log goes.

    Returns:
        The path: a log of 52 executions, ``week-01`` to ``week-52``, of a workflow ``newsletter``.

    Example:
        >>> import tempfile
        >>> from cerebelum_nb import history
        >>> year = history.open(recorded_year(Path(tempfile.mkdtemp(), "year.db")))
        >>> len(year.executions())
        52
    """
    found = here() / path
    if not found.exists():
        draft = found.with_suffix(".part")
        draft.unlink(missing_ok=True)
        run_sync(lambda: _record(draft))
        draft.rename(found)
    return found


async def _record(path: Path) -> None:
    with SqliteStore(path, durability="normal") as store:
        for week in range(1, WEEKS + 1):
            with FakeClock(_BEGIN + timedelta(weeks=week - 1)):
                # In the background, so that a notebook shows no card.
                run = newsletter.start({"week": week}, store=store, execution_id=f"week-{week:02}")
                with suppress(WorkflowError):
                    await run


def forged_copy(path: str | os.PathLike[str]) -> Path:
    """Copy the log of :func:`recorded_year`, and forge one event of the copy past the guards of the database.

    Args:
        path: the log.

    Returns:
        The path of the copy.

    Example:
        >>> import tempfile
        >>> from cerebelum_nb import archive
        >>> forged = forged_copy(recorded_year(Path(tempfile.mkdtemp(), "year.db")))
        >>> archive.verify(store=forged).ok
        False
    """
    found = Path(path)
    copy = found.with_name(f"{found.stem}-copy{found.suffix}")
    shutil.copyfile(found, copy)
    with closing(sqlite3.connect(copy)) as db:
        guards = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            db.execute(f'DROP TRIGGER "{name}"')
        number = int(FORGED[-2:])
        db.execute(
            "UPDATE event SET data = replace(data, ?, ?) WHERE step = 'collect' AND type = 'StepCompleted' "
            "AND execution = (SELECT key FROM execution WHERE execution_id = ?)",
            (str(subscribers(number)), str(subscribers(number) - 500), FORGED),
        )
        for _, sql in guards:
            db.execute(sql)
        db.commit()
    return copy
