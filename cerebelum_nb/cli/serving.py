"""``cerebelum scheduler``: wakes what is due and takes up what was left, until it is told to stop."""

from __future__ import annotations

from pathlib import Path

import click

from .frame import log_options

__all__ = ["scheduler"]


@click.command()
@click.argument("modules", metavar="[MODULE]...", nargs=-1)
@click.option(
    "--notebook",
    "notebooks",
    metavar="PATH",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take workflows from this notebook too; only its definitions are run. May be given several times.",
)
@log_options
@click.pass_context
def scheduler(ctx: click.Context, modules: tuple[str, ...], notebooks: tuple[Path, ...]) -> None:
    """Wake what is due, time approvals out, go on with what a dead process left.

    Workflows are found by the module they were started from; MODULEs are imported first, with the working directory
    on the path. Several schedulers on one log share the work. Ctrl-C or SIGTERM lets running steps finish.
    """
    raise NotImplementedError
