"""What all commands share: exit codes, opening the log, printing errors and JSON.

It imports nothing that is slow to import.
"""

from __future__ import annotations

import json
import math
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable
from enum import IntEnum
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from .._text.terminal import fit
from ..errors import (
    ApprovalError,
    CerebelumError,
    ExecutionBusyError,
    ExecutionNotFoundError,
    ExecutionStoppedError,
    InputsError,
    ResumeError,
    ScheduleNotFoundError,
    SecretMissingError,
    SignalError,
    StepDefinitionError,
    StoreError,
    WorkflowDefinitionError,
    WorkflowNotFoundError,
)
from .echo import paint

if TYPE_CHECKING:
    from .._core.labels import Labels
    from .._store.sqlite import SqliteStore

__all__ = [
    "EXITS",
    "Cli",
    "Exit",
    "Failure",
    "core_of",
    "core_option",
    "debug_option",
    "labels_of",
    "log_argument",
    "log_options",
    "log_path",
    "open_either",
    "open_log",
    "print_json",
    "trust_options",
    "write_command",
]

F = TypeVar("F", bound=Callable[..., Any])

_MOST_LINES = 18
"""A longer error is cut in the middle, so that it fits on one screen."""


_NARROW, _NARROWEST = 53, 20
"""With fewer columns click's help does not fit, and below the second number no help does: then its lines wrap."""


class Exit(IntEnum):
    """The exit codes."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    BUSY = 4
    LOG = 5
    CODE = 6
    REFUSED = 7
    IDLE = 8
    STOPPED = 130


EXITS = {
    Exit.OK: "done",
    Exit.FAILED: "the execution failed or was cancelled; `doctor`, `verify`, `tutorial`, `promote`: something is wrong",
    Exit.USAGE: "the command line cannot be parsed: an option, a number, JSON",
    Exit.NOT_FOUND: "no execution (or schedule) has that id, or several ids begin with it",
    Exit.BUSY: "another process is running the execution",
    Exit.LOG: "the log cannot be opened, read or written",
    Exit.CODE: "the workflow's code cannot be found, imported or run as it is",
    Exit.REFUSED: "the execution's state does not allow it: it is completed, already decided, or waits for nothing",
    Exit.IDLE: "`watch`: no process is running the execution; it is paused, or its process died",
    Exit.STOPPED: "stopped by Ctrl-C; a run in the foreground is paused and can be resumed",
}
"""What each exit code means, for the reference."""

_CODES: tuple[tuple[type[CerebelumError], Exit], ...] = (
    (ExecutionNotFoundError, Exit.NOT_FOUND),
    (ScheduleNotFoundError, Exit.NOT_FOUND),
    (ExecutionBusyError, Exit.BUSY),
    (StoreError, Exit.LOG),
    (WorkflowNotFoundError, Exit.CODE),
    (WorkflowDefinitionError, Exit.CODE),
    (StepDefinitionError, Exit.CODE),
    (InputsError, Exit.USAGE),
    (ResumeError, Exit.REFUSED),
    (ApprovalError, Exit.REFUSED),
    (SignalError, Exit.REFUSED),
    (SecretMissingError, Exit.REFUSED),
    (ExecutionStoppedError, Exit.STOPPED),
)


class Failure(click.ClickException):
    """An error for the user: its message on one screen, and an exit code."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        vars(self)["exit_code"] = code  # click declares it as a class variable

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the message to stderr."""
        lines = fit(f"Error: {self.message}")
        if len(lines) > _MOST_LINES:
            lines = [*lines[: _MOST_LINES - 4], f"... {len(lines) - _MOST_LINES + 1} more lines ...", *lines[-3:]]
        paint(lines[0], "red", err=True)
        for line in lines[1:]:
            click.echo(line, err=True)


class _Formatter(click.HelpFormatter):
    """Help text for terminals narrower than click's minimum of 50 columns."""

    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        columns = shutil.get_terminal_size().columns
        if width is None and columns < _NARROW:
            width = max(columns - 1, _NARROWEST)
        super().__init__(indent_increment, width, max_width)

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a list of options and their help."""
        super().write_dl([*rows], min(col_max, self.width // 3), col_spacing)


class _Context(click.Context):
    formatter_class = _Formatter


class Cli(click.Group):
    """A group whose commands are imported when they are called, and whose errors are messages."""

    context_class = _Context
    homes: dict[str, tuple[str, str]]
    """The module in ``commands`` and the first line of the help of each command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order of the reference."""
        return list(self.homes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self.homes:
            return None
        module, _ = self.homes[cmd_name]
        command: click.Command = getattr(import_module(f".commands.{module}", __package__), cmd_name)
        command.context_class = _Context
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.homes.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for a wrong name, suggest the nearest."""
        if args and args[0] not in self.homes and not args[0].startswith("-"):
            from .._text.text import did_you_mean

            hint = did_you_mean(args[0], self.homes, "`cerebelum -h` lists them.")
            ctx.fail(f"there is no command {args[0]!r}. {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error of this library becomes its message and an exit code."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            message = "\n".join(fit(f"Error: {error.format_message()}")).removeprefix("Error: ")
            raise click.UsageError(message, error.ctx) from error
        except CerebelumError as error:
            if is_debugging(ctx):
                raise
            raise Failure(str(error), exit_code_of(error)) from error
        except KeyboardInterrupt:
            if is_debugging(ctx):
                raise
            click.echo("stopped", err=True)
            ctx.exit(Exit.STOPPED)


def exit_code_of(error: CerebelumError) -> Exit:
    """Return the exit code of an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.FAILED)


# -- the log ------------------------------------------------------------------------------------------------

_DB, _DEBUG, _CORE = "cerebelum_nb.db", "cerebelum_nb.debug", "cerebelum_nb.core"


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value:  # an option after the command's name is parsed later, and wins
        key = {"debug": _DEBUG, "core": _CORE}.get(param.name or "", _DB)
        has_core = any(one.name == "core" for one in ctx.command.params)
        if key == _DB and has_core and str(value).startswith("temporal://"):
            key = _CORE
        ctx.meta[key] = value


def debug_option(command: F) -> F:
    """Give a command ``--debug``, which may also come before its name."""
    return click.option(
        "--debug", is_flag=True, expose_value=False, callback=_remember, help="Show the traceback of an error."
    )(command)


def is_debugging(ctx: click.Context) -> bool:
    """Whether ``--debug`` was given."""
    return bool(ctx.meta.get(_DEBUG))


def log_options(command: F) -> F:
    """Give a command ``--db`` and ``--debug``; both may also come before its name."""
    db = click.option(
        "--db",
        metavar="PATH",
        type=click.Path(),
        expose_value=False,
        callback=_remember,
        help="The log. Default: $CEREBELUM_DB, else .cerebelum/history.db here.",
    )
    return db(debug_option(command))


def core_option(command: F) -> F:
    """Give a command ``--core``, with which it works on the executions of a cluster."""
    return click.option(
        "--core",
        metavar="HOST:PORT",
        expose_value=False,
        callback=_remember,
        help="The executions of this cluster (a Temporal server), instead of a log's.",
    )(command)


def core_of(ctx: click.Context) -> str | None:
    """Return the cluster that ``--core`` names; None without it."""
    named: str | None = ctx.meta.get(_CORE)
    return named


def log_argument(command: F) -> F:
    """Let a command take the log's path as an argument, instead of ``--db``."""
    return click.argument(
        "log", metavar="[LOG]", required=False, type=click.Path(), expose_value=False, callback=_remember
    )(command)


trust_options = (
    click.option(
        "--trust-code",
        is_flag=True,
        help="Run the code that the log names for executions not started by you on this machine.",
    ),
    click.option(
        "--trust",
        is_flag=True,
        help="Restore the pickled values of the log, which can run any code. Only if you know who wrote it.",
    ),
)
"""For logs and executions that this user has not made on this machine."""


def log_path(ctx: click.Context) -> Path:
    """Return the path of the log.

    Raises:
        StoreError: the given path is not a file.
    """
    from .._store.connect import default_path
    from .._store.log_file import path_of

    named: str | None = ctx.meta.get(_DB)
    return Path(path_of(named)) if named is not None else default_path()


def write_command(ctx: click.Context, command: str) -> str:
    """Write a command, for the user to copy, that works on the same log."""
    named: str | None = ctx.meta.get(_DB)
    if (core := core_of(ctx)) is not None:
        return f"cerebelum {command} --core {shlex.quote(core)}"
    return f"cerebelum {command}" if named is None else f"cerebelum {command} --db {shlex.quote(named)}"


def labels_of(name: str | None, tags: Iterable[str]) -> Labels:
    """Read ``--name`` and ``--tag``.

    Raises:
        UsageError: one of them is invalid.
    """
    from .._core.labels import Labels

    try:
        return Labels.of(name, tags)
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error)) from None


def open_either(ctx: click.Context) -> SqliteStore:
    """Open the log, or the cluster named by ``--core``, until the command ends.

    Raises:
        StoreError: it does not exist, or cannot be used.
    """
    core = core_of(ctx)
    if core is None:
        return open_log(ctx)
    from .._engine.cluster_access import load_cluster_module

    remote: SqliteStore = load_cluster_module("remote").open_remote(core)
    ctx.call_on_close(remote.close)
    return remote


def open_log(
    ctx: click.Context, *, create: bool = False, read_only: bool = False, trusted: bool = False
) -> SqliteStore:
    """Open the log until the command ends; ``read_only`` does not migrate an older log.

    ``trusted`` overrides the default: a log is trusted if this user made it on this machine.

    Raises:
        StoreError: it does not exist, or cannot be used.
    """
    from .._store.sqlite import SqliteStore

    path = log_path(ctx)
    if path.is_dir():
        raise StoreError(f"{path} is a folder, not a log. Give the file, such as --db {path / 'history.db'}.")
    if not create and not path.exists():
        given: str = ctx.meta.get(_DB) or str(path)
        named = given if Path(given).is_absolute() else f"{given} (in {Path.cwd()})"
        raise StoreError(
            f"There is no log at {named}. The first run of a workflow creates it, in the folder where that "
            "runs: go there, or give its path with --db PATH or CEREBELUM_DB."
        )
    store = SqliteStore(path, read_only=read_only, trusted=trusted or None)
    ctx.call_on_close(store.close)
    return store


# -- JSON ---------------------------------------------------------------------------------------------------


def print_json(data: Any) -> None:
    """Print data as JSON, in ASCII, so that every program reads it; numbers that are not finite become null."""
    try:
        text = json.dumps(data, indent=2, allow_nan=False, default=repr)  # a damaged log may hold bytes
    except ValueError:
        text = json.dumps(_finite(data), indent=2, default=repr)
    sys.stdout.write(text + "\n")


def _finite(data: Any) -> Any:
    match data:
        case dict():
            return {name: _finite(value) for name, value in data.items()}
        case list():
            return [_finite(value) for value in data]
        case float():
            return data if math.isfinite(data) else None
        case _:
            return data
