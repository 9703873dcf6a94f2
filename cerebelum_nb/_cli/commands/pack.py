"""``cerebelum pack`` and ``unpack``: write an execution to a file, and add it to another log."""

from __future__ import annotations

from dataclasses import asdict

import click

from ..._text.terminal import clean
from ..._text.text import counted
from ..app import log_options, open_log, print_json
from ..echo import paint
from .completion import execution_argument

__all__ = ["pack", "unpack"]


@click.command()
@execution_argument()
@click.option("-o", "--output", metavar="FILE", help="The file to write. By default ID.cerebelum in this folder.")
@click.option("--redact", metavar="NAME", multiple=True, help="Mask values with this name. Can be repeated.")
@click.option("--for-tests", is_flag=True, help="Write text for tests of the workflow, ID.jsonl: see `replay`.")
@click.option(
    "--json", "json_", is_flag=True, help="One object: path, execution_id, events, values, masked, left_out, children."
)
@log_options
@click.pass_context
def pack(
    ctx: click.Context, execution_id: str, output: str | None, redact: tuple[str, ...], for_tests: bool, json_: bool
) -> None:
    """Write one execution to a file that opens elsewhere.

    The file is a small log, with the values that the execution uses and its children: `cerebelum unpack` adds it to
    another log, and every command reads it with --db FILE. Secrets are masked in it. A run in progress is paused in the
    copy.
    """
    from ..._archive.pack import pack as write

    made = write(execution_id, output, redact=redact, for_tests=for_tests, store=open_log(ctx))
    if json_:
        print_json({**asdict(made), "path": str(made.path)})
        return
    paint(str(made.path))
    text = f"{made.execution_id}: {counted(made.events, 'event')}, {counted(made.values, 'value')}"
    if made.children:
        text += f"; with {len(made.children):,} that its steps started"
    if made.masked:
        text += f"; {counted(made.masked, 'secret')} masked"
    if made.left_out:
        text += f"; {counted(made.left_out, 'value')} left out, because they may hold a secret and cannot be masked"
    click.secho(clean(text), err=True, dim=True)


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False))
@click.argument("execution_ids", metavar="[ID]...", nargs=-1)
@click.option("--trust", is_flag=True, help="Restore its pickled values here, which can run any code.")
@click.option("--json", "json_", is_flag=True, help="One object: executions, each with execution_id, is_new, pickles.")
@log_options
@click.pass_context
def unpack(ctx: click.Context, file: str, execution_ids: tuple[str, ...], trust: bool, json_: bool) -> None:
    """Add executions from a packed file to the log.

    The file is verified first. If it was altered or conflicts with the log, nothing is written. Previews of its pickled
    values are shown, but the values are not restored unless you --trust whoever made it.
    """
    from ..._archive.pack import unpack as bring

    found = bring(file, execution_ids, trusted=trust, store=open_log(ctx, create=True))
    if json_:
        print_json({"executions": [{**asdict(one), "state": one.state.value} for one in found]})
        return
    for one in found:
        text = f"unpacked, {counted(one.events, 'event')}" if one.is_new else "is here already"
        paint(f"{one.execution_id}: {text}")
    pickles = sum(one.pickles for one in found)
    if pickles:
        click.secho(f"{counted(pickles, 'value')} need unpickling: shown, but not restored without --trust", err=True)
