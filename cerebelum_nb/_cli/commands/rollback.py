"""``cerebelum rollback``: undo what an execution has done, in the foreground of this terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..._core.state_name import ExecutionState
from ...errors import OutcomeUnknownError
from ..app import Exit, Failure, core_option, log_options, print_json
from ..code import workflow_of
from ..echo import emit
from ..foreground import run_to_end
from .completion import execution_argument
from .resume import describe_unknown_effects, open_for_run, parse_results, workflow_options

__all__ = ["rollback"]


@click.command()
@execution_argument(("PAUSED", "FAILED", "COMPLETED", "CANCELLED", "SLEEPING", "WAITING_FOR_APPROVAL"))
@workflow_options
@click.option("--to", metavar="STEP", help="Undo only what completed after this step; the step itself stays done.")
@click.option("--dry-run", is_flag=True, help="Only show what would be undone, in order, and what has no handler.")
@click.option(
    "--repeat",
    metavar="STEP",
    multiple=True,
    help='For an interrupted step with effect="external" whose effect did not happen: there is nothing to undo.',
)
@click.option(
    "--mark-done",
    metavar="STEP=JSON",
    multiple=True,
    callback=parse_results,
    help="For such a step whose effect did happen: take this as its result, and undo it. "
    "For an undo that is done: ~STEP=null.",
)
@click.option("--wait", is_flag=True, help="Stay in this process through long waits in rollback handlers.")
@click.option("--json", "json_", is_flag=True, help="At the end, print the execution as `status --json` does.")
@core_option
@log_options
@click.pass_context
def rollback(
    ctx: click.Context,
    execution_id: str,
    module: str | None,
    notebook: Path | None,
    trust: bool,
    trust_code: bool,
    inputs: Mapping[str, Any] | None,
    secrets: Mapping[str, Any],
    to: str | None,
    dry_run: bool,
    repeat: tuple[str, ...],
    mark_done: Mapping[str, Any],
    wait: bool,
    json_: bool,
) -> None:
    """Undo what an execution has done.

    Completed steps that have an @STEP.on_rollback handler are undone here, in the foreground, the last one first. The
    workflow is found as in `cerebelum resume`. Repeat the command to continue a rollback that failed or was stopped.
    Afterwards the state is ROLLED_BACK, and a resume runs the undone steps again. With --core it runs on that cluster,
    and is followed here.
    """
    store, core = open_for_run(ctx, execution_id, trust=trust, module=module, notebook=notebook)
    execution_id = store.execution(execution_id).execution_id
    workflow = workflow_of(store, execution_id, module=module, notebook=notebook, trust_code=trust_code)
    if dry_run:
        plan = workflow.plan_rollback(execution_id, to, store=store)
        if json_:
            print_json([{"step": p.step, "plan": p.action, "reasons": list(p.reasons)} for p in plan])
        else:
            emit(str(plan))
        return
    given = {**(inputs or {}), **secrets} or inputs
    options = {"inputs": given, "repeat": repeat, "mark_done": mark_done, "wait": wait, "core_url": core}
    try:
        run_to_end(
            ctx,
            store,
            execution_id,
            lambda: workflow.rollback(execution_id, to, store=store, **options),
            json_=json_,
            expected=ExecutionState.ROLLED_BACK,
        )
    except OutcomeUnknownError as error:
        raise Failure(describe_unknown_effects(ctx, "rollback", execution_id, error.steps), Exit.REFUSED) from error
