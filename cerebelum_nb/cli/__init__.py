"""The ``cerebelum`` command. Each subcommand is a module of this package; here they are only gathered."""

from __future__ import annotations

import click

from .demo import demo

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cerebelum_nb", message="%(version)s")
def main() -> None:
    """Durable workflows for Jupyter."""


main.add_command(demo)
