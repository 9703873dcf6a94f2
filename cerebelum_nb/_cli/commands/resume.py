"""``cerebelum resume``: resume an execution, in the foreground of this terminal."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..._core.state_name import ACTIVE, ExecutionState
from ..._engine.cluster_access import load_cluster_module
from ..._store.sqlite import SqliteStore
from ...errors import (
    ExecutionNotFoundError,
    OutcomeUnknownError,
)
from ..app import Exit, Failure, core_of, core_option, log_options, open_log, trust_options, write_command
from ..code import workflow_of
from ..foreground import run_to_end
from .completion import execution_argument
from .decide import read_json

__all__ = [
    "describe_unknown_effects",
    "open_for_run",
    "parse_inputs",
    "parse_results",
    "parse_secrets",
    "resume",
    "workflow_options",
]


def parse_results(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    """Read STEP=VALUE, where VALUE is JSON."""
    marks = {}
    for text in given:
        step, sign, value = text.partition("=")
        if not sign or not step.strip():
            raise click.BadParameter(f"{text!r} is not STEP=VALUE, such as charge='{{\"id\": 7}}'", ctx, param)
        marks[step.strip()] = read_json(value, f"{param.opts[0]} {step.strip()}=")
    return marks


def parse_inputs(ctx: click.Context, param: click.Parameter, given: str | None) -> dict[str, Any] | None:
    """Read inputs from a JSON object."""
    read = read_json(given, "--inputs")
    if read is not None and not isinstance(read, dict):
        raise click.BadParameter('inputs must be names with values, such as \'{"size": "small"}\'', ctx, param)
    return read


def parse_secrets(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    """Ask for each NAME on the terminal, without echo; for NAME=env:VARIABLE, read the variable."""
    from ..._values import Secret

    found: dict[str, Any] = {}
    for text in given:
        name, _, source = text.partition("=")
        kind, _, variable = source.partition(":")
        if source and (kind != "env" or not variable):
            # The message does not repeat the text, which may be the secret itself.
            raise click.BadParameter(
                "a secret is not written on the command line, where others see it: write NAME, and it is asked for, "
                "or NAME=env:VARIABLE",
                ctx,
                param,
            )
        if variable and variable not in os.environ:
            raise click.BadParameter(f"there is no environment variable {variable}", ctx, param)
        if not variable and not sys.stdin.isatty():
            raise click.BadParameter(f"there is no terminal to ask for {name}: write {name}=env:VARIABLE", ctx, param)
        found[name] = Secret(os.environ[variable] if variable else click.prompt(name, hide_input=True, err=True))
    return found


def workflow_options(command: Any) -> Any:
    """Give a command the options for where the workflow is, and for its inputs."""
    for option in (
        click.option(
            "--secret",
            "secrets",
            metavar="NAME[=env:VARIABLE]",
            multiple=True,
            callback=parse_secrets,
            help="Give a secret input again, which is not in the log: the command asks for it without echo, or reads "
            "it from the environment.",
        ),
        click.option("--inputs", metavar="JSON", callback=parse_inputs, help="Replace the inputs with these names."),
        click.option(
            "--notebook",
            metavar="PATH",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Use the workflow of this notebook. Only its definitions are run: imports, functions, classes, and "
            "the assignments they use.",
        ),
        click.option("--module", metavar="NAME", help="Use this module, or .py file, instead of the recorded one."),
        *trust_options,
    ):
        command = option(command)
    return command


@click.command()
@execution_argument((*ACTIVE, "PAUSED", "FAILED", "ROLLED_BACK", "QUEUED"))
@workflow_options
@click.option(
    "--rerun",
    metavar="STEP",
    multiple=True,
    help="Run this completed step again, with all that depend on it; `stale` means the steps whose code has changed.",
)
@click.option("--all", "everything", is_flag=True, help="Run every step again, under the same id.")
@click.option(
    "--repeat",
    metavar="STEP",
    multiple=True,
    help='For an interrupted step with effect="external" whose effect did not happen: run it again.',
)
@click.option(
    "--mark-done",
    metavar="STEP=JSON",
    multiple=True,
    callback=parse_results,
    help="For such a step whose effect did happen: take this as its result.",
)
@click.option(
    "--wait",
    is_flag=True,
    help="Stay in this process through long waits; otherwise it hibernates, and a scheduler resumes it.",
)
@click.option("--json", "json_", is_flag=True, help="When the execution has ended, print it as `status --json` does.")
@core_option
@log_options
@click.pass_context
def resume(
    ctx: click.Context,
    execution_id: str,
    module: str | None,
    notebook: Path | None,
    trust: bool,
    trust_code: bool,
    inputs: Mapping[str, Any] | None,
    secrets: Mapping[str, Any],
    rerun: tuple[str, ...],
    everything: bool,
    repeat: tuple[str, ...],
    mark_done: Mapping[str, Any],
    wait: bool,
    json_: bool,
) -> None:
    """Resume an execution that failed, was stopped, or died.

    The module it was started from is imported, with the working directory on the path. A script runs from its top up to
    the line where it would start a run, without the block under `if __name__ == "__main__":`. Finished steps do not run
    again. The execution runs here, in the foreground: Ctrl-C pauses it. With --core it runs on that cluster, and is
    followed here. Its state is shown at the end.
    """
    store, core = open_for_run(ctx, execution_id, trust=trust, module=module, notebook=notebook)
    row = store.execution(execution_id)
    execution_id = row.execution_id
    if row.summary.state is ExecutionState.COMPLETED and not (everything or rerun):
        raise Failure(
            f"execution {execution_id} is completed: there is nothing to resume.\n"
            f"To run all of it again: {write_command(ctx, f'resume {shlex.quote(execution_id)} --all')}",
            Exit.REFUSED,
        )
    if row.summary.state is ExecutionState.CANCELLED:
        raise Failure(f"execution {execution_id} was cancelled and cannot be resumed. Start a new one.", Exit.REFUSED)
    workflow = workflow_of(store, execution_id, module=module, notebook=notebook, trust_code=trust_code)
    there = {} if core is None else {"core_url": core}
    chosen = {**there, "rerun": "stale" if rerun == ("stale",) else rerun, "repeat": repeat, "mark_done": mark_done}
    given = {**(inputs or {}), **secrets} or inputs
    try:
        run_to_end(
            ctx,
            store,
            execution_id,
            lambda: workflow.resume(execution_id, not everything, given, store=store, wait=wait, **chosen),
            json_=json_,
        )
    except OutcomeUnknownError as error:
        raise Failure(describe_unknown_effects(ctx, "resume", execution_id, error.steps), Exit.REFUSED) from error


def open_for_run(
    ctx: click.Context, execution_id: str, *, trust: bool, module: str | None, notebook: Path | None
) -> tuple[SqliteStore, str | None]:
    """Open the log, and copy the execution to it if ``--core`` is given; return the log and the cluster."""
    if module is not None and notebook is not None:
        raise click.UsageError("--module and --notebook both say where the workflow is: give only one of them")
    core = core_of(ctx)
    store = open_log(ctx, trusted=trust, create=core is not None)
    if core is not None:
        _copy_from(core, store, execution_id)
    return store, core


def _copy_from(core: str, store: SqliteStore, execution_id: str) -> None:
    """Copy an execution from a cluster to the log, unless only the log has it."""
    try:
        whole = load_cluster_module("remote").open_remote(core).execution(execution_id).execution_id
    except ExecutionNotFoundError:
        if any(row.execution_id.startswith(execution_id) for row in store.executions()[0]):
            return
        raise
    asyncio.run(load_cluster_module("follow").follow(core, store, [whole], lambda line: None, once=True))


def describe_unknown_effects(ctx: click.Context, command: str, execution_id: str, steps: tuple[str, ...]) -> str:
    """Describe which effects may have happened, and the options of ``resume`` or ``rollback`` that say whether."""
    named = ", ".join(f"'{step}'" for step in steps)
    call = f"{command} {shlex.quote(execution_id)}"
    repeat = " ".join(f"--repeat {shlex.quote(step)}" for step in steps)
    done = " ".join(f"--mark-done {shlex.quote(step + '=null')}" for step in steps)
    undoes = command == "rollback"
    return (
        f'execution {execution_id} was interrupted in {named} (effect="external"): its effect may have happened.\n'
        f"Find out whether it has. If not{'' if undoes else ', run it again'}:\n"
        f"    {write_command(ctx, f'{call} {repeat}')}\n"
        f"If it has, give its result as JSON{', and it is undone too' if undoes else ''}:\n"
        f"    {write_command(ctx, f'{call} {done}')}"
    )
