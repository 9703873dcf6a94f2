"""``cerebelum signal``: send a signal to a step that waits with ``wait_for_signal``."""

from __future__ import annotations

import shlex

import click

from ..._core.state_name import ACTIVE
from ..app import core_option, log_options, open_either, print_json, write_command
from ..echo import paint
from .completion import execution_argument
from .decide import read_json, user

__all__ = ["signal"]


@click.command()
@execution_argument(
    ("WAITING_FOR_SIGNAL", *(state for state in ACTIVE if state != "WAITING_FOR_SIGNAL"), "PAUSED", "QUEUED")
)
@click.argument("name")
@click.option("--data", metavar="JSON", help="What the step receives; by default null.")
@click.option("--signal-id", metavar="ID", help="A second signal with the same id is ignored.")
@click.option("--by", metavar="NAME", help="Who sends it, as recorded in the log; by default your user name.")
@click.option("--json", "json_", is_flag=True, help="One object: execution_id, name, sent.")
@core_option
@log_options
@click.pass_context
def signal(
    ctx: click.Context,
    execution_id: str,
    name: str,
    data: str | None,
    signal_id: str | None,
    by: str | None,
    json_: bool,
) -> None:
    """Send a signal to an execution.

    A step that waits for NAME with wait_for_signal receives the data. A signal that arrives before a step waits is
    kept.
    """
    from ..._engine.signals import deliver

    value = read_json(data, "--data")
    store = open_either(ctx)
    row = store.execution(execution_id)
    try:
        sent = deliver(store, row.execution_id, name, value, signal_id, by or user())
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if json_:
        print_json({"execution_id": row.execution_id, "name": name, "sent": sent})
        return
    if not sent:
        paint(f"a signal with the id {signal_id} was sent before: nothing was sent now")
        return
    paint(f"sent: signal '{name}' to {row.execution_id}")
    if store.execution(row.execution_id).holder is None:
        resume = write_command(ctx, f"resume {shlex.quote(row.execution_id)}")
        paint("No process is running it. A scheduler resumes it if a step waits for this signal, or:")
        paint(f"    {resume}")
