"""``cerebelum notify``: send notifications of what happens in a log, until it is stopped."""

from __future__ import annotations

import os
import threading

import click

from ..app import log_argument, log_options, open_log
from ..echo import emit
from ..ending import wait_for_stop

__all__ = ["notify"]

_KINDS = ("failed", "approval", "interrupted", "late", "completed")


@click.command()
@log_argument
@click.option(
    "--to",
    metavar="URL",
    multiple=True,
    help="Whom to notify. env:NAME and file:PATH read the URLs from there. Can be repeated. Default: "
    "$CEREBELUM_NOTIFY.",
)
@click.option(
    "--on",
    metavar="KIND,...",
    default="failed,approval,interrupted,late",
    help=f"What to notify of: {', '.join(_KINDS)}; by default all but the last.",
)
@click.option("--link", metavar="URL", default="", help="The address of the log's dashboard, for links.")
@click.option("--once", is_flag=True, help="Send what is due now, and exit.")
@click.option("--test", is_flag=True, help="Send a test message, and exit.")
@log_options
@click.pass_context
def notify(ctx: click.Context, to: tuple[str, ...], on: str, link: str, once: bool, test: bool) -> None:
    """Send notifications of what happens in a log.

    It sends one message for each execution that failed, waits for a decision, was left by a dead process, or should
    have been woken. An http(s):// URL is a webhook that gets JSON, signed with $CEREBELUM_NOTIFY_SECRET; any other URL
    is for Apprise (chat, mail, push), with `pip install 'cerebelum_nb[notify]'`. LOG.notified records what was sent.
    Ctrl-C or SIGTERM ends it.
    """
    from ..._observe.notify import Notifier

    store = open_log(ctx, read_only=True)
    kinds = [kind.strip() for kind in on.split(",") if kind.strip()]
    if unknown := [kind for kind in kinds if kind not in _KINDS]:
        raise click.UsageError(f"--on: there is no {unknown[0]!r}; there are {', '.join(_KINDS)}")
    if not to and "CEREBELUM_NOTIFY" not in os.environ:
        raise click.UsageError("nobody to notify: give --to URL, or set CEREBELUM_NOTIFY")
    notifier = Notifier(store.location, to or ("env:CEREBELUM_NOTIFY",), on=kinds, link=link)
    ctx.call_on_close(notifier.close)
    shown = ", ".join(channel.shown for channel in notifier.channels)
    if test:
        notifier.send_test()
        emit(f"sent to {shown}")
    elif once:
        notifier.look()
    else:
        emit(f"telling {shown} of what happens in {store.location}: {', '.join(kinds)}")
        notifier.start()
        wait_for_stop(threading.Event())
