"""``cerebelum scheduler``: resume executions that are due or were left by a dead process, until it is stopped."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from ..._text.times import utc
from ..app import log_options, open_log, trust_options
from ..echo import paint

__all__ = ["scheduler"]


@click.command()
@click.argument("modules", metavar="[MODULE]...", nargs=-1)
@click.option(
    "--notebook",
    metavar="PATH",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also use the workflows of this notebook; only its definitions are run.",
)
@click.option(
    "--max-deaths",
    metavar="N",
    type=click.IntRange(min=1),
    default=5,
    help="Pause an execution after N processes in a row died in it without finishing anything (5).",
)
@click.option(
    "--notify",
    metavar="URL",
    multiple=True,
    help="Notify this URL of what happens in the log, as `cerebelum notify --to URL` does. Can be repeated.",
)
@trust_options[0]
@trust_options[1]
@log_options
@click.pass_context
def scheduler(
    ctx: click.Context,
    modules: tuple[str, ...],
    notebook: Path | None,
    max_deaths: int,
    notify: tuple[str, ...],
    trust: bool,
    trust_code: bool,
) -> None:
    """Resume what is due, or was left by a dead process.

    It also times out approvals. Workflows are found in the module or script they were started from; MODULEs (names, or
    .py files) are imported first, with the working directory on the path. Several schedulers on one log share the work.
    Ctrl-C or SIGTERM lets running steps finish, and leaves the rest to other schedulers. It prints a line for
    everything it does.
    """
    from ..._scheduler.scheduler import run_forever

    store = open_log(ctx, trusted=trust)
    if notify:
        from ..._observe.notify import Notifier

        ctx.call_on_close(Notifier(store.location, notify).start().close)
    tell(f"running on {store.location}")
    run_forever(store, modules=modules, notebook=notebook, max_deaths=max_deaths, trust_code=trust_code, tell=tell)
    tell("stopped")


def tell(line: str) -> None:
    """Print a line with the time, and flush it for a pipe."""
    paint(f"{utc(datetime.now(UTC))} {line}")
    sys.stdout.flush()
