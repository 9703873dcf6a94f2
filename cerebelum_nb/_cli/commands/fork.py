"""``cerebelum fork``: start an execution from a step of another one, in the foreground of this terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from ..._text.terminal import fit
from ..._workflow.execution_id import new_id
from ..app import core_option, log_options
from ..code import workflow_of
from ..echo import emit
from ..foreground import foreground, run_to_end
from .completion import execution_argument
from .resume import open_for_run, parse_results, workflow_options

if TYPE_CHECKING:
    from ..._workflow.workflow import Workflow

__all__ = ["fork"]


@click.command()
@execution_argument()
@click.option("--from", "from_step", metavar="STEP", help="The first step that runs in the fork.")
@click.option(
    "--override",
    "overrides",
    metavar="STEP=JSON",
    multiple=True,
    callback=parse_results,
    help="Use this as the result of STEP, which does not run; the steps after it do.",
)
@workflow_options
@click.option(
    "--rerun",
    metavar="STEP",
    multiple=True,
    help="Run this kept step again, with all that depend on it; `stale` means the steps whose code has changed.",
)
@click.option("--plan", is_flag=True, help="Only show what would run, and why.")
@click.option("--wait", is_flag=True, help="Stay in this process through long waits.")
@core_option
@click.option("--json", "json_", is_flag=True, help="When the fork has ended, print it as `status --json` does.")
@log_options
@click.pass_context
def fork(
    ctx: click.Context,
    execution_id: str,
    from_step: str | None,
    overrides: Mapping[str, Any],
    module: str | None,
    notebook: Path | None,
    trust: bool,
    trust_code: bool,
    inputs: Mapping[str, Any] | None,
    secrets: Mapping[str, Any],
    rerun: tuple[str, ...],
    plan: bool,
    wait: bool,
    json_: bool,
) -> None:
    """Run the rest of an execution as a new one, from any step.

    Results recorded before the step are kept; the original does not change, and can be in any state. The fork runs
    here, in the foreground: Ctrl-C pauses it. With --core it runs on that cluster, and is followed here. Its state is
    shown at the end.
    """
    store, core = open_for_run(ctx, execution_id, trust=trust, module=module, notebook=notebook)
    execution_id = store.execution(execution_id).execution_id
    found = workflow_of(store, execution_id, module=module, notebook=notebook, trust_code=trust_code)
    workflow = cast("Workflow", found)
    given = {**(inputs or {}), **secrets} or inputs
    what: dict[str, Any] = {
        "from_step": from_step,
        "inputs": given,
        "overrides": overrides,
        "rerun": "stale" if rerun == ("stale",) else rerun,
        "store": store,
    }
    if plan:
        with foreground(ctx, json_=json_):
            lines = fit(repr(workflow.plan_fork(execution_id, **what)))
        for line in lines:
            emit(line)
        return
    fork_id = new_id()
    run_to_end(
        ctx,
        store,
        fork_id,
        lambda: workflow.fork(execution_id, fork_id=fork_id, wait=wait, core_url=core, **what),
        json_=json_,
    )
