"""``cerebelum cluster``, ``worker`` and ``follow``: run a Temporal server, run steps for it, copy its executions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import Any

import click

from ..._engine.cluster_access import load_cluster_module
from ..app import Exit, debug_option, log_options, open_log
from ..code import workflows_in
from .scheduler import tell

__all__ = ["cluster", "follow", "worker"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cluster() -> None:
    """Start and stop a Temporal server on this machine.

    It is for one machine and for trials: it listens only on the loopback interface, and keeps its history in a file.
    """


@cluster.command()
@click.option("--port", type=click.IntRange(1024, 65532), default=7233, help="The port that it listens on (7233).")
@debug_option
def up(port: int) -> None:
    """Start it, unless it is running; it keeps running when this terminal is closed."""
    server = load_cluster_module("server").start(port)
    click.echo(f"the cluster is at localhost:{server.port} (process {server.pid}); its web page: {server.ui}")
    core = "" if port == 7233 else f" --core localhost:{port}"
    click.echo(f"next, where your code is: cerebelum worker MODULE{core}")


@cluster.command()
@click.option("--port", type=click.IntRange(1024, 65532), default=7233, help="The port that it listens on (7233).")
@debug_option
@click.pass_context
def down(ctx: click.Context, port: int) -> None:
    """Stop it; its history stays in its file, and executions continue when it is started again."""
    servers = load_cluster_module("server")
    running = servers.server_at(port)
    if running is None:
        click.echo(f"no server that `cerebelum cluster up` started runs on port {port}", err=True)
        ctx.exit(Exit.FAILED)
    servers.stop(running)
    click.echo(f"stopped the cluster at localhost:{port}; its history is in {running.database}")


@cluster.command()
@debug_option
@click.pass_context
def status(ctx: click.Context) -> None:
    """Show the running servers."""
    servers = load_cluster_module("server")
    found = servers.servers()
    for server in found:
        click.echo(f"localhost:{server.port}  process {server.pid}  web page {server.ui}  history {server.database}")
    if not found:
        click.echo("no server that `cerebelum cluster up` started runs here", err=True)
        ctx.exit(Exit.FAILED)


@click.command()
@click.argument("code", metavar="MODULE|FILE|NOTEBOOK...", nargs=-1, required=True)
@click.option("--core", metavar="HOST:PORT", help="The cluster. Default: $CEREBELUM_CORE_URL, else localhost:7233.")
@click.option("--queue", metavar="NAME", default="", help="The group of workers it belongs to, such as gpu.")
@click.option("--id", "worker_id", metavar="NAME", help="Its name in the history; by default its process and host.")
@click.option(
    "--max-steps", metavar="N", type=click.IntRange(min=1), default=200, help="How many steps run at a time (200)."
)
@click.option(
    "--grace",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=5.0,
    help="How long steps may still run when it is stopped (5); another worker runs the rest.",
)
@click.option(
    "--metrics", metavar="HOST:PORT", default="", help="The address where Prometheus reads the SDK's metrics."
)
@click.option(
    "--release",
    metavar="TEXT",
    default="",
    help="The release of this code: new executions run on its workers, and stay there.",
)
@debug_option
def worker(
    code: tuple[str, ...],
    core: str | None,
    queue: str,
    worker_id: str | None,
    max_steps: int,
    grace: float,
    metrics: str,
    release: str,
) -> None:
    """Run the steps of workflows for a cluster.

    It runs until Ctrl-C or SIGTERM. The workflows are those of the MODULEs (names, with the working directory on the
    path), .py FILEs and .ipynb NOTEBOOKs; of a notebook, only the definitions are run. Start any number of workers, on
    any machine that has the code.
    """
    how: dict[str, Any] = {"queue": queue, "max_steps": max_steps, "grace": grace, "metrics": metrics}
    made = load_cluster_module("worker").Worker(core, worker_id, release=release, **how)
    for name in code:
        for found in {id(made): made for made in workflows_in(name).values()}.values():
            made.register_workflow(found)
    made.run_forever(tell)
    tell("stopped")
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)  # the thread of a plain step may still run, and nothing else ends it


@click.command()
@click.argument("execution_ids", metavar="[ID]...", nargs=-1)
@click.option("--core", metavar="HOST:PORT", help="The cluster. Default: $CEREBELUM_CORE_URL, else localhost:7233.")
@click.option("--once", is_flag=True, help="Copy what is there now, including what has ended, and exit.")
@log_options
@click.pass_context
def follow(ctx: click.Context, execution_ids: tuple[str, ...], core: str | None, once: bool) -> None:
    """Copy the executions of a cluster into the log.

    With IDs, until those executions have ended; without, everything that runs there, until Ctrl-C. The log then shows
    them to every command and notebook, and nothing local resumes them while they run there.
    """
    store = open_log(ctx, create=True)
    if not execution_ids and not once:
        tell(f"following {core or 'the cluster'} into {store.location}")
    asyncio.run(load_cluster_module("follow").follow(core, store, execution_ids, tell, once=once))
