"""``cerebelum list`` and ``cerebelum active``: list executions, one row each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click

from ..._client.reading import ACTIVE, list_statuses, status_from_row
from ..._client.status import ExecutionStatus
from ..._core.describe_steps import waits_of
from ..._core.fold import fold
from ..._core.labels import describe_labels
from ..._core.state_name import ExecutionState
from ..._store.base import Store
from ..._text.duration import short_seconds
from ..._text.terminal import Cell, Column, table, width
from ..._text.text import counted
from ..app import core_option, labels_of, log_options, open_either, print_json
from ..echo import emit
from ..states import StateType, state_cell
from .completion import workflows

__all__ = ["active", "list"]


@click.command()
@click.option(
    "--status",
    metavar="STATE",
    type=StateType(interrupted=True),
    help="Only executions in this state: running, sleeping, waiting_for_approval, paused, completed, failed or "
    "cancelled, in any case, or its beginning; or interrupted: its process died.",
)
@click.option("--workflow", metavar="NAME", shell_complete=workflows, help="Only executions of this workflow.")
@click.option("--name", metavar="NAME", help="Only executions with this name; * matches any characters.")
@click.option(
    "--tag",
    "tags",
    metavar="TAG",
    multiple=True,
    help="Only executions with this tag. Can be repeated: with all of them.",
)
@click.option("--limit", metavar="N", type=click.IntRange(min=0), default=50, help="At most N (50).")
@click.option("--offset", metavar="N", type=click.IntRange(min=0), default=0, help="Skip the newest N (0).")
@click.option("--children", is_flag=True, help="Include executions that steps of other executions started.")
@click.option(
    "--json", "json_", is_flag=True, help="One object: executions (without their steps and values), total, has_more."
)
@core_option
@log_options
@click.pass_context
def list(  # noqa: A001  # the command's name
    ctx: click.Context,
    status: ExecutionState | str | None,
    workflow: str | None,
    name: str | None,
    tags: tuple[str, ...],
    limit: int,
    offset: int,
    children: bool,
    json_: bool,
) -> None:
    """List executions, newest first.

    The other commands take the ID. AGE is the time since the start; TOOK is from the start to the end, or to now,
    including waits and the time between a failure and a resume.
    """
    labels = labels_of(name, tags)
    store = open_either(ctx)
    now = _now()
    which: dict[str, Any] = {"workflow": workflow, "status": status, "children": children}
    which |= {"name": labels.name or None, "tags": labels.tags}
    found, total = list_statuses(store, now, **which, limit=limit, offset=offset, exact=json_)
    more = offset + len(found) < total
    if json_:
        print_json(
            {
                "executions": [shown.to_dict(details=False) for shown in found],
                "total": total,
                "has_more": more,
            }
        )
        return
    if found:
        columns, cells = [*_LISTED], [[*_listed_row(shown, now)] for shown in found]
        if any(shown.name or shown.tags for shown in found):
            columns.insert(2, _NAMED)
            for row, shown in zip(cells, found, strict=True):
                row.insert(2, Cell(describe_labels(shown.name, shown.tags)))
        for line in table(columns, cells, width()):
            emit(line)
    if not found:
        others = 0
        if not (children or total):
            _, others = list_statuses(store, now, **which | {"children": True}, limit=0, offset=0)
        filtered = bool(status or workflow or name or tags)
        _remark(_nothing_found(total, offset, filtered=filtered, children=others))
    elif more:
        _remark(f"{offset + 1} to {offset + len(found)}; next: --offset {offset + len(found)}")


@click.command()
@click.option("--json", "json_", is_flag=True, help="One object: executions (whole), total, has_more.")
@core_option
@log_options
@click.pass_context
def active(ctx: click.Context, json_: bool) -> None:
    """List what is running, sleeping or waiting, and for what.

    An execution whose process died is shown as interrupted: `cerebelum resume ID` resumes it.
    """
    store = open_either(ctx)
    rows, _ = store.executions(states=ACTIVE)
    now = _now()
    found = [status_from_row(store, row, now) for row in rows]
    if json_:
        print_json({"executions": [shown.to_dict() for shown in found], "total": len(found), "has_more": False})
        return
    if not found:
        _remark("nothing is running, sleeping or waiting")
        return
    for line in table(_ACTIVE, [_active_row(store, shown) for shown in found], width()):
        emit(line)


_LISTED = (
    Column(title="ID", least=20),
    Column(title="WORKFLOW", least=8),
    Column(title="STATE"),
    Column(title="STEPS", right=True, drop=1),
    Column(title="AT", least=8, drop=4),
    Column(title="AGE", right=True, drop=2),
    Column(title="TOOK", right=True, drop=3),
    Column(title="WHY", least=12, drop=5),
)
_NAMED = Column(title="NAME AND TAGS", least=12, drop=6)
_ACTIVE = (
    Column(title="ID", least=20),
    Column(title="WORKFLOW", least=8, drop=1),
    Column(title="STATE"),
    Column(title="STEPS", right=True, drop=2),
    Column(title="AT", least=8, drop=3),
    Column(title="NEXT", least=16),
)


def _listed_row(shown: ExecutionStatus, now: int) -> Sequence[Cell]:
    return (
        Cell(shown.execution_id, "bold"),
        Cell(shown.workflow_name),
        state_cell(shown.status, interrupted=shown.interrupted, short=True),
        _steps(shown),
        Cell("" if shown.status is ExecutionState.COMPLETED else shown.current_step_name or ""),
        Cell(short_seconds(now / 1e6 - shown.started_at.timestamp()), "dim"),
        Cell(short_seconds(shown.elapsed_seconds)),
        Cell((shown.error or "").partition("\n")[0], "red"),
    )


def _active_row(store: Store, shown: ExecutionStatus) -> Sequence[Cell]:
    return (
        Cell(shown.execution_id, "bold"),
        Cell(shown.workflow_name),
        state_cell(shown.status, interrupted=shown.interrupted, short=True),
        _steps(shown),
        Cell(shown.current_step_name or ""),
        Cell(_next(store, shown)),
    )


def _steps(shown: ExecutionStatus) -> Cell:
    return Cell(f"{shown.current_step_index}/{shown.total_steps}")


def _next(store: Store, shown: ExecutionStatus) -> str:
    """Say what an execution waits for; its state says that it waits."""
    if shown.interrupted:
        return "resume it"
    if shown.status is ExecutionState.QUEUED:
        return f"after {shown.queued_behind}" if shown.queued_behind else "it is next"
    if (asked := shown.approval_info) is not None:
        left = asked.remaining_timeout_ms
        return ("" if left is None else f"{short_seconds(left / 1000)} left for ") + f"{asked.approval_type} approval"
    if (sleep := shown.sleep_info) is not None:
        return f"wakes in {short_seconds(sleep.remaining_ms / 1000)}" if sleep.remaining_ms else "due now"
    if shown.status in (ExecutionState.WAITING_FOR_SIGNAL, ExecutionState.WAITING_FOR_CHILD):
        steps = fold(store.events(shown.execution_id)).attempted()
        waits = (waiting.what.removeprefix("waits for ") for _, step in steps for waiting in waits_of(step))
        return ", ".join(waits)
    return ""


def _nothing_found(total: int, offset: int, *, filtered: bool, children: int) -> str:
    if total:
        return f"nothing from {offset + 1} on; the total is {total}"
    hint = f"; {counted(children, 'child', 'children')} would match with --children" if children else ""
    return f"no execution matches{hint}" if filtered else "no execution yet"


def _remark(text: str) -> None:
    """Print to stderr what is not a row of the table."""
    click.secho(text, err=True, dim=True)


def _now() -> int:
    return time.time_ns() // 1000
