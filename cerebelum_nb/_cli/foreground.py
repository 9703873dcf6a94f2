"""Show a run in the foreground of this terminal: its waits while it runs, its state when it ends."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import click

from .._client.reading import status_of
from .._core.events import ApprovalRequested, Event, SleepStarted
from .._core.state_name import ExecutionState
from .._engine import display_hooks, observers
from .._engine.hints import in_terminal
from .._engine.ports import Host
from .._engine.scope import current_scope
from .._store.base import Store
from .._text.duration import short_seconds
from .._text.terminal import clean, styled, width
from .._text.times import utc
from ..errors import ExecutionCancelledError, ExecutionStoppedError, WorkflowError
from .app import Exit, Failure, is_debugging, print_json, write_command
from .echo import emit
from .reader import ExecutionReader

__all__ = ["foreground", "run_to_end"]

_SHORTEST_SLEEP_SECONDS = 1.0
"""A shorter sleep is not reported: it ends before anybody reads of it."""


@contextmanager
def foreground(ctx: click.Context, *, json_: bool) -> Iterator[None]:
    """While the block runs, print the execution's waits to stderr, and show hints as commands."""
    observer = observers.Observer(lambda execution, version, event: _tell(ctx, execution, event))
    token = display_hooks.outcome_reported.set(not json_ and sys.stdout.isatty())
    commands = in_terminal.set(True)
    observers.add(observer)
    try:
        yield
    finally:
        observers.remove(observer)
        in_terminal.reset(commands)
        display_hooks.outcome_reported.reset(token)


def _tell(ctx: click.Context, execution: Host, event: Event) -> None:
    """Print that a step is waiting, and how to end the wait."""
    match event:
        case ApprovalRequested():
            left = "" if event.due_at is None else f", {short_seconds((event.due_at - execution.now()) / 1e6)} left"
            asked = sum(key.startswith("approval:") for key in execution.state.waiting)
            which = f" --step {shlex.quote(event.step)}" if asked > 1 else ""
            _say(f"'{event.step}' waits for {event.approval_type} approval{left}. In another terminal:")
            _say(f"    {write_command(ctx, f'approve {shlex.quote(execution.id)}{which}')}")
        case SleepStarted() if (left_over := (event.due_at - execution.now()) / 1e6) >= _SHORTEST_SLEEP_SECONDS:
            _say(f"'{event.step}' sleeps, {short_seconds(left_over)} left, until {utc(event.due_at)}")


def _say(line: str) -> None:
    token = current_scope.set(None)  # the line is not the step's output
    try:
        click.echo(clean(line), err=True)
    finally:
        current_scope.reset(token)


def run_to_end(
    ctx: click.Context,
    store: Store,
    execution_id: str,
    call: Callable[[], Coroutine[Any, Any, object]],
    *,
    json_: bool,
    expected: ExecutionState = ExecutionState.COMPLETED,
) -> None:
    """Run an execution in the foreground, show how it ended, and exit accordingly.

    ``call`` starts or resumes it; ``expected`` is the state that counts as success.
    """
    failure: str | None = None
    try:
        with foreground(ctx, json_=json_):
            asyncio.run(call())
    except (WorkflowError, ExecutionCancelledError, ExecutionStoppedError) as error:
        if is_debugging(ctx):
            raise
        failure = str(error)
    _end(ctx, store, execution_id, failure, json_, expected)


def _end(
    ctx: click.Context, store: Store, execution_id: str, failure: str | None, json_: bool, expected: ExecutionState
) -> None:
    """Show how an execution ended, and exit accordingly."""
    reader = ExecutionReader(ctx, store, execution_id)
    picture = reader.take()
    if json_:
        print_json(status_of(store, store.execution(execution_id), time.time_ns() // 1000).to_dict())
    else:
        for line in picture.lines(width()):
            emit(line)
        error = picture.state.error
        if picture.row.summary.state is ExecutionState.FAILED and error is not None and error.traceback:
            emit("")
            for line in error.traceback.splitlines():
                if line.startswith("  "):  # only the frames: the error itself is shown above
                    emit(styled(clean(line), "dim"))
    match picture.row.summary.state:
        case state if state is expected:
            return
        case ExecutionState.FAILED | ExecutionState.CANCELLED | ExecutionState.ROLLED_BACK:
            ctx.exit(Exit.FAILED)
        case ExecutionState.PAUSED:
            ctx.exit(Exit.STOPPED)
        case _ if failure is not None:
            raise Failure(failure)
        case _:
            click.echo(
                "it is waiting, and no process is running it: `cerebelum scheduler` resumes it when it is due",
                err=True,
            )
