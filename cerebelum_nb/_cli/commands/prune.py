"""``cerebelum prune``: delete finished executions that are no longer needed."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from ..._core.state_name import ExecutionState
from ..._text.duration import seconds
from ..._text.terminal import Cell, Column, table, width
from ..._text.text import counted, file_size
from ..._text.times import utc
from ..app import log_options, open_log, print_json
from ..echo import emit, paint
from ..states import StateType, state_cell
from .completion import workflows

__all__ = ["prune"]

_SHOWN = 10
_COLUMNS = (
    Column(title="ID"),
    Column(title="WORKFLOW", least=8, drop=2),
    Column(title="STATE"),
    Column(title="ENDED", drop=1),
)


def _parse_age(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    try:
        return None if value is None else timedelta(seconds=seconds(value, unit="s", what="it"))
    except (ValueError, OverflowError) as error:
        text = f"{value!r} is not a length of time: write 90d, 12h or 2w"
        raise click.BadParameter(text, ctx, param) from error


@click.command()
@click.option(
    "--older-than",
    metavar="AGE",
    callback=_parse_age,
    help="Only executions that ended longer ago than this: 90d, 12h, 2w.",
)
@click.option("--keep-last", metavar="N", type=click.IntRange(min=0), help="Keep the newest N of each workflow.")
@click.option("--workflow", metavar="NAME", shell_complete=workflows, help="Only executions of this workflow.")
@click.option(
    "--state",
    "states",
    metavar="STATE",
    type=StateType(),
    multiple=True,
    help="Only completed, failed, cancelled (by default all three) or paused ones. Can be repeated.",
)
@click.option("--archive", metavar="FILE", type=click.Path(dir_okay=False), help="Write them to this log first.")
@click.option("--dry-run", is_flag=True, help="Only show what would be deleted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--json", "json_", is_flag=True, help="One object: execution_ids, events, values, freed, archive, dry_run."
)
@log_options
@click.pass_context
def prune(
    ctx: click.Context,
    older_than: timedelta | None,
    keep_last: int | None,
    workflow: str | None,
    states: tuple[ExecutionState, ...],
    archive: str | None,
    dry_run: bool,
    yes: bool,
    json_: bool,
) -> None:
    """Delete finished executions and free their space.

    An execution is deleted if it meets every condition; --older-than, --keep-last or both must be given. Executions
    that run, sleep or wait for an approval are never deleted. Other processes can use the log at the same time.
    `cerebelum unpack FILE` brings back what was archived.
    """
    from ..._archive.prune import prune as delete

    if older_than is None and keep_last is None:
        raise click.UsageError("choose the executions: --older-than 90d, --keep-last 20, or both")
    if not (dry_run or yes or sys.stdin.isatty()):
        raise click.UsageError(
            "there is no terminal to ask on: add --yes to delete, or --dry-run to see what would be deleted"
        )
    store = open_log(ctx)
    wanted: dict[str, Any] = {
        "older_than": older_than,
        "keep_last": keep_last,
        "workflow": workflow,
        "state": states or None,
        "archive": archive,
        "store": store,
    }
    try:
        found = delete(**wanted, dry_run=True)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if not json_:
        _show(store, found.execution_ids)
    what = f"{counted(len(found.execution_ids), 'execution')} ({counted(found.events, 'event')})"
    if dry_run or not found.execution_ids:
        if json_:
            print_json(_as_data(found, dry_run=dry_run))
        elif found.execution_ids:
            paint(f"{what} would be deleted")
        return
    if not yes and not click.confirm(f"delete {what} from {store.location}?", err=True):
        paint("nothing was deleted")
        return
    done = delete(**wanted)
    if json_:
        print_json(_as_data(done, dry_run=False))
        return
    counts = (len(done.execution_ids), "execution"), (done.events, "event"), (done.values, "value")
    deleted = ", ".join(counted(number, noun) for number, noun in counts)
    paint(f"deleted {deleted}; the log is {file_size(done.freed)} smaller")
    if done.archive is not None:
        paint(f"they are in {done.archive}")


def _show(store: Any, ids: tuple[str, ...]) -> None:
    if not ids:
        paint("there is nothing to delete")
        return
    rows = []
    for name in ids[:_SHOWN]:
        shown = store.execution(name).summary
        ended = utc(shown.completed_at or shown.updated_at)
        rows.append((Cell(name), Cell(shown.workflow), state_cell(shown.state), Cell(ended, "dim")))
    for line in table(_COLUMNS, rows, width()):
        emit(line)
    if len(ids) > _SHOWN:
        emit(f"... and {len(ids) - _SHOWN:,} more")


def _as_data(found: Any, *, dry_run: bool) -> dict[str, Any]:
    archive: Path | None = found.archive
    return {
        "execution_ids": list(found.execution_ids),
        "events": found.events,
        "values": found.values,
        "freed": found.freed,
        "archive": None if archive is None else str(archive),
        "dry_run": dry_run,
    }
