"""Shell completion: ids, workflows and states, read from the log. It never fails and is never slow."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from contextlib import closing
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..app import log_path

__all__ = ["execution_argument", "ids", "workflows"]

_MOST = 100

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def execution_argument(states: Collection[str] = ()) -> Callable[[Any], Any]:
    """Give a command the argument ID; executions in ``states`` (none: any) are offered."""
    return click.argument("execution_id", metavar="ID", shell_complete=ids(states))


def ids(states: Collection[str] = ()) -> Complete:
    """Complete ids of executions in one of these states."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        sql = "SELECT execution_id, workflow, state FROM executions WHERE execution_id >= ? AND execution_id < ?"
        if states:
            sql += f" AND state IN ({', '.join('?' * len(states))})"
        found = _query(ctx, f"{sql} LIMIT {_MOST}", incomplete, incomplete + chr(0x10FFFF), *states)
        return [CompletionItem(name, help=f"{workflow}, {state.lower()}") for name, workflow, state in found]

    return complete


def workflows(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete names of workflows."""
    found = _query(ctx, "SELECT DISTINCT workflow FROM executions")
    return [CompletionItem(name) for (name,) in found if name.startswith(incomplete)]


def _query(ctx: click.Context, sql: str, *values: str) -> list[tuple[Any, ...]]:
    try:
        address = log_path(ctx).absolute().as_uri() + "?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=0.2)) as db:
            return db.execute(sql, values).fetchall()
    except (sqlite3.Error, OSError, ValueError):
        return []
