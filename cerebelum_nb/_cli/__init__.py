"""The ``cerebelum`` command. Each group of subcommands is a module of this package; here they are only gathered."""

from __future__ import annotations

import sys

import click

from .app import Cli, log_options

__all__ = ["main"]

_HOMES = {
    "run": "run",
    "list": "list",
    "active": "list",
    "status": "status",
    "watch": "watch",
    "events": "status",
    "dashboard": "dashboard",
    "debug": "debug",
    "resume": "resume",
    "fork": "fork",
    "rollback": "rollback",
    "approve": "decide",
    "reject": "decide",
    "cancel": "decide",
    "signal": "signal",
    "export": "export",
    "pack": "pack",
    "unpack": "pack",
    "prune": "prune",
    "scheduler": "scheduler",
    "metrics": "metrics",
    "notify": "notify",
    "trace": "trace",
    "cluster": "cluster",
    "worker": "cluster",
    "follow": "cluster",
    "verify": "verify",
    "doctor": "doctor",
    "demo": "demo",
}


@click.group(
    cls=Cli,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="An ID may be shortened to any unambiguous beginning.",
)
@click.version_option(package_name="cerebelum_nb", message="%(version)s")
@log_options
def main() -> None:
    """Durable workflows for Jupyter: see, decide, resume."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows what it can


assert isinstance(main, Cli)
main.homes = _HOMES
