"""``cerebelum metrics``: serve the metrics of a log to Prometheus."""

from __future__ import annotations

import threading

import click

from ..app import log_argument, log_options, open_log
from ..echo import emit
from ..ending import wait_for_stop

__all__ = ["metrics"]


@click.command()
@log_argument
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=9464,
    help="The port to serve on (9464); 0 chooses a free one.",
)
@click.option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    help="The address to listen on (127.0.0.1, which only this machine can reach).",
)
@click.option("--once", is_flag=True, help="Print the metrics and exit.")
@log_options
@click.pass_context
def metrics(ctx: click.Context, port: int, host: str, once: bool) -> None:
    """Serve the metrics of a log to Prometheus.

    It reads the log, so it covers all processes that run its executions. Gauges show what the log holds; counters count
    from the start of the command. It needs `pip install 'cerebelum_nb[metrics]'`. Ctrl-C or SIGTERM ends
    it.
    """
    from ..._observe.metrics import LogMetrics
    from ..._observe.serve import Exporter, as_text

    path = open_log(ctx, read_only=True).location
    found = LogMetrics(path)
    ctx.call_on_close(found.close)
    if once:
        click.echo(as_text(found), nl=False)
        return
    with Exporter(found, host, port) as exporter:
        emit(f"metrics of {path} at {exporter.url}")
        wait_for_stop(threading.Event())
