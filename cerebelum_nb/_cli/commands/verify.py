"""``cerebelum verify``: check whether the log was altered or damaged."""

from __future__ import annotations

import shlex

import click

from ..._text.terminal import styled, wrap
from ..._text.text import counted
from ..app import Exit, log_options, open_log, print_json, write_command
from ..echo import emit, paint
from .completion import ids

__all__ = ["verify"]

_MOST = 50


@click.command()
@click.argument("execution_id", metavar="[ID]", required=False, shell_complete=ids())
@click.option(
    "--repair",
    "repairs",
    is_flag=True,
    help="If the events are intact but the list does not match them, rebuild its rows. Nothing else is changed.",
)
@click.option("--json", "json_", is_flag=True, help="One object: ok, findings, repaired, and the head of each chain.")
@log_options
@click.pass_context
def verify(ctx: click.Context, execution_id: str | None, repairs: bool, json_: bool) -> None:
    """Say whether the log was altered or damaged, and where.

    With ID, only that execution is checked. Events are compared with the hashes that chain them, values with their
    digests, the list with the events, and the file is checked as a whole. Without --repair nothing is changed. Exits
    with 1 if anything was changed or damaged.
    """
    from ..._archive.repair import repair
    from ..._archive.verify import verify as check

    store = open_log(ctx, read_only=not repairs)
    found, repaired = check(execution_id, store=store), tuple[str, ...]()
    if repairs and found.repairable:
        repaired = repair(None if execution_id is None else next(iter(found.heads)), store=store)
        found = check(execution_id, store=store)
    if json_:
        print_json({**found.to_dict(), "repaired": list(repaired)})
    else:
        for name in repaired:
            paint(f"the row of {name} was rebuilt from its events")
        for finding in found.findings[:_MOST]:
            first, *rest = wrap(str(finding), "  ")
            emit(f"{styled('✗', 'red')} {first.strip()}")
            for line in rest:
                emit(line)
        if len(found.findings) > _MOST:
            emit(f"  ... {len(found.findings) - _MOST} more: --json")
        looked = ", ".join(
            [counted(found.executions, "execution"), counted(found.events, "event"), counted(found.values, "value")]
        )
        if execution_id is not None:
            ((name, (version, head)),) = found.heads.items()
            looked = f"{name}, {counted(version, 'event')}; its chain ends in {head}"
        word, colour = ("✓ unaltered", "green") if found.ok else ("altered or damaged", "red")
        for line in wrap(f"{word}: {looked}"):
            emit(line.replace(word, styled(word, colour)))
        if found.repairable:
            what = f"The events of {counted(len(found.repairable), 'execution')} are intact; only the list differs."
            for line in wrap(f"{what} To rebuild it from them:"):
                emit(line)
            command = " ".join(["verify", *map(shlex.quote, filter(None, [execution_id])), "--repair"])
            emit(f"    {write_command(ctx, command)}")
    if not found.ok:
        ctx.exit(Exit.FAILED)
