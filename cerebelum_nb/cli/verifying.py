"""``cerebelum verify``: does the log say what was written to it."""

from __future__ import annotations

import click

from .completing import ids
from .frame import Exit, as_json, log_options, open_log
from .text import emit, styled, wrap

__all__ = ["verify"]

_MOST = 50


@click.command()
@click.argument("execution_id", metavar="[ID]", required=False, shell_complete=ids())
@click.option("--json", "json_", is_flag=True, help="One object: ok, findings, and the head of each chain.")
@log_options
@click.pass_context
def verify(ctx: click.Context, execution_id: str | None, json_: bool) -> None:
    """Say whether the log was altered or damaged, and where.

    With ID, only that execution is looked at. Events are held against the hashes that chain them, values against their
    digests, the list against the events, and the file is checked as a whole. Nothing is changed. Exits with 1 when
    something is not as it was written.
    """
    from ..archive.verifying import verify as check

    found = check(execution_id, store=open_log(ctx, read_only=True))
    if json_:
        as_json(found.to_dict())
    else:
        for finding in found.findings[:_MOST]:
            first, *rest = wrap(str(finding), "  ")
            emit(f"{styled('✗', 'red')} {first.strip()}")
            for line in rest:
                emit(line)
        if len(found.findings) > _MOST:
            emit(f"  ... {len(found.findings) - _MOST} more: --json")
        looked = f"{found.executions:,} executions, {found.events:,} events, {found.values:,} values"
        if execution_id is not None:
            ((name, (version, head)),) = found.heads.items()
            looked = f"{name}, {version} events; its chain ends in {head}"
        word, colour = ("✓ as it was written", "green") if found.ok else ("altered or damaged", "red")
        for line in wrap(f"{word}: {looked}"):
            emit(line.replace(word, styled(word, colour)))
    if not found.ok:
        ctx.exit(Exit.FAILED)
