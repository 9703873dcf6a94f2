"""``cerebelum run``: start a workflow in the foreground of this terminal, or for a scheduler."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from ..._client.reading import status_of
from ..._engine.cache import check_refresh
from ..._store.base import Store
from ..._text.json_text import parse
from ..._workflow.execution_id import check_id, new_id
from ..._workflow.once import launch_once
from ..._workflow.workflow import Workflow
from ..app import Exit, Failure, core_of, core_option, labels_of, log_options, open_log, print_json, write_command
from ..code import workflow_like, workflow_named
from ..foreground import foreground, run_to_end
from ..inputs import RunCommand, inputs_given
from .resume import parse_secrets

__all__ = ["inputs_options", "run", "scheduler_for", "value_of"]

F = TypeVar("F", bound=Callable[..., Any])


def parse_values(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Split NAME=VALUE; the workflow's declaration decides how VALUE is read."""
    found: dict[str, str] = {}
    wrong = []
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            wrong.append(f"{text!r} is not NAME=VALUE, such as size=small")
        elif name in found:
            wrong.append(f"{name} is given twice")
        else:
            found[name.strip()] = value
    if wrong:
        raise click.BadParameter("; ".join(wrong), ctx, param)
    return found


def value_of(workflow: Workflow, name: str, text: str) -> Any:
    """Read a value as the workflow declares it; undeclared, as JSON or else as text."""
    try:
        parsed = parse(text)
    except (ValueError, RecursionError):
        parsed = text
    return parsed if workflow.shape is None else workflow.shape.read(name, text, parsed)


def read_file(ctx: click.Context, param: click.Parameter, given: str | None) -> dict[str, Any]:
    """Read inputs from a JSON file, or from standard input."""
    if given is None:
        return {}
    try:
        text = sys.stdin.read() if given == "-" else Path(given).read_text(encoding="utf-8")
        read = parse(text)
    except OSError as error:
        raise click.BadParameter(f"{given} cannot be read ({error.strerror})", ctx, param) from error
    except (ValueError, RecursionError) as error:
        problem = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise click.BadParameter(f"{given} is not JSON ({problem})", ctx, param) from error
    if not isinstance(read, dict):
        raise click.BadParameter(f'{given} does not hold names with values, such as {{"size": "small"}}', ctx, param)
    return read


def inputs_options(command: F) -> F:
    """Give a command ``-i`` and ``--inputs``."""
    one = click.option(
        "-i",
        "--input",
        "values",
        metavar="NAME=VALUE",
        multiple=True,
        callback=parse_values,
        help="An input. VALUE is JSON, or else text: size=small, count=3, regions='[\"ams3\"]', version='\"1.10\"'.",
    )
    all_ = click.option(
        "--inputs",
        "file",
        metavar="FILE|-",
        callback=read_file,
        help="A JSON file of inputs, or standard input; -i wins.",
    )
    return one(all_(command))


@click.command(cls=RunCommand, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("code", metavar="CODE[:WORKFLOW]", default="")
@click.option("--code-of", "like", metavar="ID", help="Run the workflow of this execution, instead of naming CODE.")
@inputs_options
@click.option(
    "--secret",
    "secrets",
    metavar="NAME[=env:VARIABLE]",
    multiple=True,
    callback=parse_secrets,
    help="A secret input, never in the log: the command asks for it without echo, or reads it from the environment.",
)
@click.option("--id", "execution_id", metavar="ID", help="An id of your own; by default a new short one.")
@click.option("--name", metavar="NAME", help="What people call this execution: `list --name` finds it.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="A tag: `list --tag` finds it. Can be repeated.")
@click.option(
    "--refresh", metavar="STEP", multiple=True, help="Run this step even if a cached result exists. Can be repeated."
)
@click.option(
    "--resume",
    "again_",
    is_flag=True,
    help="If an execution with that --id exists, resume it, or show its result if it is completed.",
)
@click.option("--schema", is_flag=True, help="Only print the JSON Schema of its inputs.")
@click.option("--detach", is_flag=True, help="Only record the start; a scheduler of this log runs it.")
@click.option(
    "--wait",
    is_flag=True,
    help="Stay in this process through long waits; otherwise it hibernates, and a scheduler resumes it.",
)
@click.option("--json", "json_", is_flag=True, help="At the end, print the execution as `status --json` does.")
@core_option
@log_options
@click.pass_context
def run(
    ctx: click.Context,
    code: str,
    like: str | None,
    values: Mapping[str, str],
    file: Mapping[str, Any],
    secrets: Mapping[str, Any],
    execution_id: str | None,
    name: str | None,
    tags: tuple[str, ...],
    refresh: tuple[str, ...],
    again_: bool,
    schema: bool,
    detach: bool,
    wait: bool,
    json_: bool,
) -> None:
    """Run a workflow.

    CODE is a module, with the working directory on the path, a .py file or an .ipynb notebook: release:deploy,
    release.py, release.ipynb:deploy. Code under `if __name__ == "__main__":` is not run, and only the definitions of a
    notebook are. If the workflow declares its inputs (@workflow(inputs=...)), they are options too, after CODE: --size
    small. `cerebelum run CODE --help` lists them.

    The execution runs here, in the foreground: Ctrl-C pauses it. Its state is shown at the end, and the exit code says
    how it ended.
    """
    if like is not None:
        ctx.args = [code, *ctx.args] if code else ctx.args  # then click took an input's option for CODE
    elif not code:
        raise click.MissingParameter(ctx=ctx, param=ctx.command.params[0])
    elif code.startswith("-"):
        raise click.UsageError(f"CODE comes first, then the inputs: cerebelum run CODE {code} ...", ctx)
    if again_ and execution_id is None:
        raise click.UsageError("--resume needs the --id of the execution")
    core, labels = core_of(ctx), labels_of(name, tags)
    if detach and core is not None:
        raise click.UsageError(
            "--detach leaves it to a scheduler of the log, --core to a cluster: give only one of them"
        )
    try:
        chosen = new_id() if execution_id is None else check_id(execution_id)
    except (TypeError, ValueError) as error:
        raise click.BadParameter(str(error), ctx, param_hint="--id") from error
    workflow = workflow_named(code) if like is None else workflow_like(open_log(ctx), like)
    if refresh:
        _check_refresh(ctx, workflow, refresh)
    if schema:
        print_json(workflow.inputs_schema())
        return
    given = {**file, **{name: value_of(workflow, name, text) for name, text in values.items()}, **secrets}
    inputs = inputs_given(ctx, workflow, given, value_of)
    store = open_log(ctx, create=True)
    if detach:
        with foreground(ctx, json_=json_):
            asyncio.run(_record(workflow, inputs, store, chosen, resume=again_, labels=labels, refresh=refresh))
        if json_:
            print_json(status_of(store, store.execution(chosen), time.time_ns() // 1000).to_dict())
        else:
            click.echo(
                f"execution {chosen} of workflow '{workflow.name}' is recorded; a scheduler of this log runs it:"
            )
            click.echo(f"    {write_command(ctx, scheduler_for(code))}")
        return
    start = partial(
        workflow.execute,
        inputs,
        store=store,
        execution_id=chosen,
        resume=again_,
        wait=wait,
        name=name,
        tags=tags,
        refresh=refresh,
        core_url=core,
    )
    try:
        run_to_end(ctx, store, chosen, start, json_=json_)
    except TypeError as error:
        raise Failure(str(error), Exit.USAGE) from error


def _check_refresh(ctx: click.Context, workflow: Workflow, refresh: tuple[str, ...]) -> None:
    try:
        check_refresh(workflow.plan(), refresh)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param_hint="--refresh") from error


def scheduler_for(code: str) -> str:
    """Write the command for a scheduler that finds this code."""
    place, _, _ = code.partition(":")
    return f"scheduler --notebook {shlex.quote(place)}" if place.endswith(".ipynb") else "scheduler"


async def _record(
    workflow: Workflow, inputs: dict[str, Any], store: Store, execution_id: str, *, resume: bool, **how: Any
) -> None:
    """Record the start and leave the rest to a scheduler."""
    await launch_once(workflow, inputs, store, execution_id, resume=resume, **how).leave()
