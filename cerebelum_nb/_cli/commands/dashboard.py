"""``cerebelum dashboard``: the executions of logs in a browser, live."""

from __future__ import annotations

import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import click

from ..._engine.hints import in_terminal
from ...errors import CerebelumError
from ..app import log_options, log_path, open_log

__all__ = ["dashboard"]


@click.command()
@click.argument("logs", metavar="[LOG]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--port", metavar="N", type=click.IntRange(0, 65535), default=8799, help="Listen on this port (8799).")
@click.option(
    "--uds",
    metavar="PATH",
    type=click.Path(),
    help="Listen on this Unix socket instead, in a folder that only you can enter; there is no token.",
)
@click.option(
    "--token-file",
    metavar="PATH",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the token in this file, created if missing; by default each start makes a new token.",
)
@click.option("--read-only", is_flag=True, help="Only show: no approving, cancelling or resuming.")
@click.option(
    "--allow-resume",
    is_flag=True,
    help="Offer to start, resume, fork and roll back; each starts that `cerebelum` command, which runs workflow code.",
)
@click.option(
    "--allow-host",
    "hosts",
    metavar="HOST",
    multiple=True,
    help="Also answer under this name, which a reverse proxy passes on. Can be repeated.",
)
@click.option(
    "--user-header",
    metavar="NAME",
    default="",
    help="The request header in which your proxy says who is logged in; that name is recorded with what they do.",
)
@click.option(
    "--notify",
    metavar="URL",
    multiple=True,
    help="Notify this URL of what happens in the logs, as `cerebelum notify --to URL` does. Can be repeated.",
)
@click.option("--open", "open_", is_flag=True, help="Open it in the browser.")
@log_options
@click.pass_context
def dashboard(
    ctx: click.Context,
    logs: tuple[Path, ...],
    port: int,
    uds: str | None,
    token_file: Path | None,
    read_only: bool,
    allow_resume: bool,
    hosts: tuple[str, ...],
    user_header: str,
    notify: tuple[str, ...],
    open_: bool,
) -> None:
    """Watch and control executions in a browser, live.

    Prints an address that contains a token: whoever has it can see the LOGs and, without --read-only, approve and
    cancel. It listens only on this machine. Ctrl-C stops the dashboard, but no execution.
    """
    if read_only and allow_resume:
        raise click.UsageError("--read-only and --allow-resume exclude each other: give one of them")
    if any(find_spec(name) is None for name in ("starlette", "uvicorn", "jinja2")):
        raise CerebelumError("the dashboard needs more packages: pip install 'cerebelum_nb[web]'")
    from ..._web.rendering import Settings
    from ..._web.serving import serve

    if not logs:
        open_log(ctx, read_only=True).close()  # raises if there is no log

    shown = logs or (log_path(ctx),)
    if notify:
        from ..._observe.notify import Notifier

        for log in shown:
            ctx.call_on_close(Notifier(log, notify).start().close)

    def ready(address: str) -> None:
        click.echo(f"The dashboard is at {address}" if uds else address)
        click.echo("Ctrl-C stops it.", err=True)
        if open_ and uds is None:
            _launch(ctx, address)

    in_terminal.set(True)
    serve(
        shown,
        port=port,
        uds=uds,
        token_file=token_file,
        hosts=hosts,
        settings=Settings(read_only=read_only, allow_resume=allow_resume, user_header=user_header),
        ready=ready,
    )


def _launch(ctx: click.Context, address: str) -> None:
    """Open an address in the browser. It is not on a command line, where every user could read its token."""
    folder = Path(tempfile.mkdtemp(prefix="cerebelum-"))  # only this user can enter it
    ctx.call_on_close(lambda: shutil.rmtree(folder, ignore_errors=True))
    page = folder / "dashboard.html"
    page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0;url={address}">', encoding="utf-8")
    click.launch(page.as_uri())
