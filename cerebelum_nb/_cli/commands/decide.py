"""``cerebelum approve``, ``reject`` and ``cancel``."""

from __future__ import annotations

import asyncio
import getpass
import shlex
from typing import Any

import click

from ..._text.json_text import parse
from ..app import core_option, log_options, open_either, print_json, write_command
from ..echo import paint
from .completion import execution_argument

__all__ = ["approve", "cancel", "reject"]

_WAITING = ("WAITING_FOR_APPROVAL", "RUNNING", "SLEEPING")
_ACTIVE = (*_WAITING, "PAUSED", "QUEUED")

_by = click.option("--by", metavar="NAME", help="Who decides, as recorded in the log; by default your user name.")
_step = click.option("--step", metavar="STEP", help="The step to decide for, if several are waiting.")
_json = click.option("--json", "json_", is_flag=True, help="The decision as one object.")


@click.command()
@execution_argument(_WAITING)
@click.option("--response", metavar="JSON", help="What the step receives; by default null.")
@click.option("--reason", metavar="TEXT", help="Why, for the log.")
@_by
@_step
@_json
@core_option
@log_options
@click.pass_context
def approve(
    ctx: click.Context,
    execution_id: str,
    response: str | None,
    reason: str | None,
    by: str | None,
    step: str | None,
    json_: bool,
) -> None:
    """Approve what an execution is waiting for.

    `cerebelum status ID` shows what is asked. The process that runs the execution continues; if there is none, a
    scheduler or `cerebelum resume ID` resumes it.
    """
    answer = read_json(response)
    _decide(ctx, execution_id, approve=True, response=answer, reason=reason, by=by, step=step, json_=json_)


@click.command()
@execution_argument(_WAITING)
@click.option("--reason", metavar="TEXT", required=True, help="Why, for the step and the log.")
@_by
@_step
@_json
@core_option
@log_options
@click.pass_context
def reject(ctx: click.Context, execution_id: str, reason: str, by: str | None, step: str | None, json_: bool) -> None:
    """Reject what an execution is waiting for.

    The step that asked raises ApprovalRejectedError with the reason.
    """
    _decide(ctx, execution_id, approve=False, reason=reason, by=by, step=step, json_=json_)


@click.command()
@execution_argument(_ACTIVE)
@click.option("--reason", metavar="TEXT", help="Why, for the log.")
@click.option("--by", metavar="NAME", help="Who cancels it, as recorded in the log; by default your user name.")
@click.option("--json", "json_", is_flag=True, help="One object: execution_id, outcome.")
@core_option
@log_options
@click.pass_context
def cancel(ctx: click.Context, execution_id: str, reason: str | None, by: str | None, json_: bool) -> None:
    """End an execution for good.

    Finished steps stay in the log. If another process runs the execution, it ends as soon as that process sees this.
    """
    from ..._engine.cancel import cancel_execution

    store = open_either(ctx)
    execution_id = store.execution(execution_id).execution_id
    outcome = asyncio.run(cancel_execution(store, execution_id, reason=reason, by=by or user()))
    if json_:
        print_json({"execution_id": execution_id, "outcome": outcome})
    elif outcome == "cancelled":
        paint(f"{execution_id} is cancelled")
    else:
        shows = write_command(ctx, f"status {shlex.quote(execution_id)}")
        paint(f"{execution_id} has been asked to stop; `{shows}` shows when it has")


def _decide(
    ctx: click.Context,
    execution_id: str,
    *,
    approve: bool,
    response: Any = None,
    reason: str | None = None,
    by: str | None,
    step: str | None,
    json_: bool,
) -> None:
    from ..._core.fold import fold
    from ..._engine.approvals import decide_approval, wait_for_validation
    from ..._engine.hints import Reader, advise

    store = open_either(ctx)
    decision = decide_approval(
        store, execution_id, approve=approve, response=response, reason=reason, by=by or user(), step=step
    )
    runs = store.execution(decision.execution_id).holder is not None
    if decision.pending and runs:
        decision = asyncio.run(wait_for_validation(store, decision))
    if json_:
        print_json(
            {
                "execution_id": decision.execution_id,
                "step_name": decision.step,
                "approval_type": decision.approval_type,
                "approved": decision.approved,
                "by": decision.by,
                "pending": decision.pending,
            }
        )
        return
    did = "approved" if approve else "rejected"
    who = f" by {decision.by}" if decision.by else ""
    paint(f"{did}{who}: {decision.approval_type} of step '{decision.step}' of {decision.execution_id}")
    if decision.pending:
        paint(
            "the step takes the response when it is resumed" if not runs else "the step has not taken the response yet"
        )
    if not runs:
        advice = advise(
            fold(store.events(decision.execution_id)),
            decision.execution_id,
            what="No process is running it. A scheduler resumes it, or:",
            reader=Reader.TERMINAL,
            command=lambda command: write_command(ctx, command),
        )
        assert advice is not None  # it can be resumed
        for line in [advice.what, *(f"    {way}" for way in advice.ways)]:
            paint(line)


def read_json(text: str | None, option: str = "--response") -> Any:
    """Read the JSON that an option was given.

    Raises:
        click.UsageError: it is not JSON; the message says where, and how to quote.
    """
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise click.UsageError(
            f"{option} must be JSON ({error}): {text}\n"
            f"Text needs its own quotes, and the shell needs quotes around everything:\n"
            f"    {option} '\"yes\"'\n"
            f"    {option} '{{\"ok\": true}}'"
        ) from None


def user() -> str | None:
    """Return the name of the user at the terminal, if known."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None
