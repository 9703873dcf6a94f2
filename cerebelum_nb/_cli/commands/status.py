"""``cerebelum status`` and ``cerebelum events``: show the state of an execution, or its events."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from ..._client.reading import status_of
from ..._store.holder import CLUSTER
from ..._text.json_text import parse
from ..._text.terminal import Cell, Column, table, width, wrap
from ..._text.times import clock
from ..app import core_option, log_options, open_either, print_json
from ..echo import emit
from ..reader import ExecutionReader
from .completion import execution_argument

if TYPE_CHECKING:
    from ..._store.sqlite import SqliteStore

__all__ = ["events", "status"]


@click.command()
@execution_argument()
@click.option("--json", "json_", is_flag=True, help="The execution as one object, with its steps and values.")
@core_option
@log_options
@click.pass_context
def status(ctx: click.Context, execution_id: str, json_: bool) -> None:
    """Show one execution: its steps, waits, errors, what to do next."""
    store = open_either(ctx)
    if json_:
        row = store.execution(execution_id)
        shown = status_of(store, row, time.time_ns() // 1000).to_dict()
        children, _ = store.executions(caller=row.execution_id)
        print_json(shown | {"children": [child.execution_id for child in reversed(children)]})
        return
    picture = ExecutionReader(ctx, store, execution_id).take()
    for line in picture.lines(width()):
        emit(line)
    holder = picture.row.holder
    if holder is not None and holder.is_cluster and holder.host != store.location:
        core = holder.host.removeprefix(CLUSTER)
        emit("")
        copy = "This log has a copy, which is up to date while a process follows it."
        for line in wrap(f"It runs on {core}. {copy} To see it there:"):
            emit(line)
        emit(f"    cerebelum status {picture.row.execution_id} --core {core}")


def _types(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from ..._core.events import EVENT_TYPES

    return [CompletionItem(name) for name in EVENT_TYPES if name.lower().startswith(incomplete.lower())]


def _parse_types(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Read names of event types, in any case."""
    from ..._core.arguments import names
    from ..._core.events import EVENT_TYPES

    try:
        return names(given, EVENT_TYPES, "type of event")
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


@click.command()
@execution_argument()
@click.option(
    "--type",
    "types",
    metavar="TYPE",
    multiple=True,
    callback=_parse_types,
    shell_complete=_types,
    help="Only events of this type, such as StepFailed. Can be repeated.",
)
@click.option("--step", metavar="STEP", help="Only events of this step.")
@click.option("--limit", metavar="N", type=click.IntRange(min=0), default=200, help="At most N (200).")
@click.option("--offset", metavar="N", type=click.IntRange(min=0), default=0, help="Skip the first N (0).")
@click.option("--json", "json_", is_flag=True, help="One object: execution_id, events, total, has_more.")
@core_option
@log_options
@click.pass_context
def events(
    ctx: click.Context,
    execution_id: str,
    types: tuple[str, ...],
    step: str | None,
    limit: int,
    offset: int,
    json_: bool,
) -> None:
    """Show the events of one execution, in order."""
    store = open_either(ctx)
    execution_id = store.execution(execution_id).execution_id
    terms, values = ["execution_id = ?"], [execution_id]
    if types:
        terms.append(f"type IN ({', '.join('?' * len(types))})")
        values += types
    if step is not None:
        terms.append("step = ?")
        values.append(step)
    where = f"FROM events WHERE {' AND '.join(terms)}"
    with closing(store.read_connection()) as db:
        (total,) = db.execute(f"SELECT count(*) {where}", values).fetchone()
        found = db.execute(
            f"SELECT {', '.join(_COLUMNS)} {where} ORDER BY version LIMIT ? OFFSET ?", [*values, limit, offset]
        ).fetchall()
    more = offset + len(found) < total
    if json_:
        shown = [dict(zip(_COLUMNS, (*row[:-1], _data(row[-1])), strict=True)) for row in found]
        print_json({"execution_id": execution_id, "events": shown, "total": total, "has_more": more})
        return
    for line in table(_SHOWN, [_event(row) for row in found], width())[: None if found else 0]:
        emit(line)
    if not found:
        click.secho(_nothing_found(store, execution_id, step), err=True, dim=True)
    elif more:
        reached = offset + len(found)
        click.secho(f"{offset + 1} to {reached} of {total}; next: --offset {reached}", err=True, dim=True)


def _nothing_found(store: SqliteStore, execution_id: str, step: str | None) -> str:
    """Say that no event was found; suggest the right name of a mistyped step."""
    with closing(store.read_connection()) as db:
        asked = "SELECT DISTINCT step FROM events WHERE execution_id = ? AND step IS NOT NULL"
        begun = [name for (name,) in db.execute(asked, [execution_id])]
    if step is None or step in begun:
        return "no event matches"
    from ..._text.text import did_you_mean

    hint = did_you_mean(step, begun, f"These have: {', '.join(begun) or 'none yet'}.")
    return f"no step {step!r} has begun in {execution_id}. {hint}"


_COLUMNS = ("version", "type", "step", "visit", "attempt", "at", "data")
_SHOWN = (
    Column(title="#", right=True),
    Column(title="AT (UTC)", drop=1),
    Column(title="EVENT"),
    Column(title="STEP", least=6),
    Column(title="TRY", right=True, drop=2),
    Column(title="DATA", least=4, drop=3),
)


def _event(row: Sequence[Any]) -> tuple[Cell, ...]:
    version, kind, step, _, attempt, at, data = row
    style = "red" if kind.endswith("Failed") else "green" if kind.endswith("Completed") else ""
    return (
        Cell(str(version), "dim"),
        Cell(_clock(at), "dim"),
        Cell(kind, style),
        Cell(step or ""),
        Cell("" if attempt is None else str(attempt)),
        Cell(_data_text(data), "dim"),
    )


def _clock(at: Any) -> str:
    """Write a time of day; an invalid time, as in a damaged log, as it is."""
    try:
        return clock(datetime.fromisoformat(at))
    except (TypeError, ValueError):
        return str(at)


def _data(text: str) -> Any:
    """Parse an event's data; if it cannot be parsed, show it as text."""
    try:
        return parse(text)
    except ValueError:
        return text


def _data_text(data: str) -> str:
    """Write an event's data on one line; of an error only its reason, or its type and message."""
    found = _data(data)
    if not isinstance(found, dict):
        return str(found)
    error = found.get("error")
    if isinstance(error, dict):
        text = error["reason"] if error.get("reason") is not None else f"{error.get('type')}: {error.get('message')}"
        return str(text).partition("\n")[0]
    return json.dumps(found, ensure_ascii=False) if found else ""
