"""Make a workflow's inputs options of ``cerebelum run``, which reads them and shows them in ``--help``.

A workflow declares its inputs with ``@workflow(inputs=...)``; its JSON Schema names them. Which workflow it is, is only
known after click has parsed the command line; so the options that click does not know are read here, afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from .._text.text import counted, did_you_mean
from .._workflow.workflow import Workflow
from ..errors import CerebelumError, InputsError
from .code import workflow_named

__all__ = ["RunCommand", "inputs_given"]

_CODE = "cerebelum_nb.code"
_WORDS = {"integer": "INTEGER", "number": "NUMBER", "string": "TEXT", "object": "JSON"}


class RunCommand(click.Command):
    """A command that also takes the inputs of the workflow that its first argument names."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command's own options; the others stay in ``ctx.args``."""
        if args and not args[0].startswith("-"):
            ctx.meta[_CODE] = args[0]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, and those for the inputs of the workflow if the command line names one."""
        super().format_options(ctx, formatter)
        if _CODE not in ctx.meta:
            return
        try:
            workflow = workflow_named(ctx.meta[_CODE])
        except CerebelumError as error:
            with formatter.section("Inputs"):
                formatter.write_text(str(error))
            return
        if workflow.shape is None:
            with formatter.section(f"Inputs of '{workflow.name}'"):
                formatter.write_text("They are not declared: give them with -i NAME=VALUE.")
            return
        rows = [*_help_rows(workflow, _own_options(self, ctx))]
        if rows:
            with formatter.section(f"Inputs of '{workflow.name}'"):
                formatter.write_dl(rows)


def inputs_given(
    ctx: click.Context, workflow: Workflow, given: Mapping[str, Any], read: Callable[[Workflow, str, str], Any]
) -> dict[str, Any]:
    """Read the inputs given as options, and merge them over the other inputs.

    Args:
        ctx: the context; its ``args`` are the arguments that are not options of the command.
        workflow: the workflow that declares them.
        given: the other inputs, from ``-i``, ``--inputs`` and ``--secret``.
        read: reads the text of an input's value.

    Raises:
        UsageError: the workflow does not declare its inputs.
        InputsError: they are invalid; the message names every problem.
    """
    if not ctx.args:
        return dict(given)
    shape = workflow.shape
    if shape is None:
        word = ctx.args[0]
        if not word.startswith("-"):
            raise click.UsageError(f"{word!r} is unexpected: an input is -i NAME=VALUE", ctx)
        name = word.lstrip("-").partition("=")[0]
        raise click.UsageError(
            f"there is no option {word.partition('=')[0]}. Workflow '{workflow.name}' does not declare its inputs "
            f"(@workflow(inputs=...)), so give them with -i: -i {name or 'NAME'}=VALUE",
            ctx,
        )
    problems: list[str] = []
    found = {**given, **_read(ctx, workflow, problems, read)}
    if problems:
        _, more = shape.take(found)
        problems += [problem for problem in more if problem not in problems]
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise InputsError(
            f"the inputs do not fit {shape.cls.__name__}, {counted(len(problems), 'problem')}:\n{listed}",
            problems=tuple(problems),
        )
    return found


def _read(
    ctx: click.Context, workflow: Workflow, problems: list[str], read: Callable[[Workflow, str, str], Any]
) -> dict[str, Any]:
    fields, found = _fields(workflow), dict[str, Any]()
    own = _own_options(ctx.command, ctx)
    offered = [f"--{_dashed(name)}" for name in fields if f"--{_dashed(name)}" not in own] + sorted(own)
    words = list(ctx.args)
    while words:
        word = words.pop(0)
        option, sign, text = word.partition("=")
        name = option[2:].replace("-", "_") if option[2:] not in fields else option[2:]
        turned_off = name.startswith("no_") and name not in fields and _is_bool(fields.get(name[3:], {}))
        name = name[3:] if turned_off else name
        if not word.startswith("--"):
            problems.append(f"{word!r} is unexpected: an input is given as --NAME VALUE")
            continue
        if name not in fields:
            problems.append(
                f"{option} is neither an option nor an input. {did_you_mean(option, offered, '', most=1)}".strip()
            )
            if not sign and words and not words[0].startswith("--"):
                del words[0]
            continue
        if _is_bool(fields[name]) and not sign:
            found[name] = not turned_off
            continue
        if not sign:
            if not words or words[0].startswith("--"):
                problems.append(f"{option} needs a value")
                continue
            text = words.pop(0)
        if "array" not in _types(fields[name]):
            found[name] = read(workflow, name, text)
        else:
            found.setdefault(name, []).extend(_members(fields[name], text))
    return found


def _members(field: Mapping[str, Any], text: str) -> list[Any]:
    """Read one value of a list, or several values as a JSON list."""
    try:
        parsed = json.loads(text)
    except ValueError:
        return [text]
    if isinstance(parsed, list):
        return parsed
    arrays = [one for one in (field, *field.get("anyOf", ())) if one.get("type") == "array"]
    is_text = any("string" in _types(one.get("items", {})) for one in arrays)
    return [text if is_text else parsed]


def _help_rows(workflow: Workflow, own: set[str]) -> Iterator[tuple[str, str]]:
    schema = workflow.inputs_schema()
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        option = f"--{_dashed(name)}"
        kind = _kind(field)
        if any(one.get("format") == "password" for one in (field, *field.get("anyOf", ()))):
            option, kind = f"--secret {name}", ""
        elif option in own:
            option, kind = f"-i {name}={kind}", ""
        elif _is_bool(field):
            option, kind = f"{option} / --no-{_dashed(name)}", ""
        parts = [str(field["description"])] if field.get("description") else []
        if "array" in _types(field):
            parts.append("Can be repeated.")
        if name in required:
            parts.append("Required.")
        elif field.get("default") not in (None, [], {}):
            default = field["default"]
            parts.append(f"Default: {default if isinstance(default, str) else json.dumps(default)}.")
        yield f"{option} {kind}".rstrip(), " ".join(parts)


def _fields(workflow: Workflow) -> Mapping[str, Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = workflow.inputs_schema().get("properties", {})
    return found


def _types(field: Mapping[str, Any]) -> set[str]:
    """Return the JSON types that a field may have."""
    named = field.get("type", [])
    return {named} if isinstance(named, str) else {*named, *(t for one in field.get("anyOf", ()) for t in _types(one))}


def _is_bool(field: Mapping[str, Any]) -> bool:
    return _types(field) - {"null"} == {"boolean"}


def _kind(field: Mapping[str, Any]) -> str:
    """Return the placeholder for a field's value."""
    if "enum" in field:
        return "|".join(map(str, field["enum"]))
    if field.get("format") in ("date", "time", "date-time", "duration", "path"):
        return str(field["format"]).upper()
    if "anyOf" in field:
        return "|".join(dict.fromkeys(_kind(one) for one in field["anyOf"] if _types(one) != {"null"}))
    if "array" in _types(field):
        return _kind(field.get("items", {}))
    return "|".join(_WORDS.get(one, "VALUE") for one in sorted(_types(field) - {"null"}, reverse=True)) or "VALUE"


def _own_options(command: click.Command, ctx: click.Context) -> set[str]:
    return {name for param in command.get_params(ctx) for name in param.opts if name.startswith("--")}


def _dashed(name: str) -> str:
    return name.replace("_", "-")
