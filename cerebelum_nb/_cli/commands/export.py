"""``cerebelum export``: write an execution as a document or a table."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..app import log_options, open_log
from ..echo import paint
from .completion import execution_argument

__all__ = ["export"]


@click.command()
@execution_argument()
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="The file to write; - is stdout. By default ID.html or similar in this folder.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["html", "jsonl", "csv", "parquet"]),
    help="By default the extension of FILE, else html. Parquet needs the extra 'arrow'.",
)
@click.option(
    "--table",
    type=click.Choice(["steps", "events"]),
    default="steps",
    help="For csv and parquet: a row per attempt of a step (the default), or per event.",
)
@log_options
@click.pass_context
def export(ctx: click.Context, execution_id: str, output: str | None, format_: Any, table: Any) -> None:
    """Write one execution to a file that needs no log.

    As html, a runbook on one page: graph, steps, values, output, code, events. As jsonl, every event, one per line.
    Secrets are masked, as in the log.
    """
    from ..._archive.export import export as write
    from ..._archive.export import exported

    store = open_log(ctx)
    try:
        if output == "-":
            full = store.execution(execution_id).execution_id
            sys.stdout.buffer.write(exported(store, full, format_ or "html", table))
        else:
            paint(str(write(execution_id, output, format=format_, table=table, store=store)))
    except ImportError as error:
        raise click.UsageError(str(error)) from error
