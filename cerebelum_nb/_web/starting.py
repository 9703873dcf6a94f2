"""Starting a workflow from a page: the form made from the recorded schema of its inputs, and the inputs from the form.

The schema is that of the newest start. It decides only which fields there are: the process that is started checks their
values with the class itself.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException

from .._core.labels import Labels
from .._engine.code_location import is_interactive, place_of
from .._engine.plan_payloads import schema_kept
from .._store.executions import STARTED
from .._text.duration import format_seconds, seconds
from .._text.json_text import indented, parse
from .._workflow.execution_id import check_id, new_id
from .._workflow.find import origin_of
from .acting import Fields, PrivateInput

if TYPE_CHECKING:
    from .acting import Runs
    from .logs import ShownLog

__all__ = ["Field", "Problems", "Startable", "find_startable", "start_execution"]

_PREFIX = "in."
"""The prefix of inputs in a form: an input may have the name of one of the form's own fields."""
_SCALAR = {"string", "number", "integer", "boolean", "null"}
_MOST_FIELDS = 500
_LONGEST_LINE = 60
_DEEPEST = 5
"""Levels of a schema that are read: it may refer to itself, and a hostile log's may have any depth."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of the form.

    Attributes:
        name: the name of the input.
        kind: "text", "number", "choice", "date", "json", "secret", or "hidden", a text that is not shown either.
        hint: what to write, in a few words.
        about: its description by the author.
        required: whether it has no default.
        default: its initial text.
        choices: the values that can be chosen, by their texts.
        is_nullable: whether it may be null.
    """

    name: str
    kind: str
    hint: str
    about: str
    required: bool
    default: str
    choices: Mapping[str, Any] = field(default_factory=dict)
    is_nullable: bool = False

    @property
    def key(self) -> str:
        """The name of the field in the form."""
        return _PREFIX + self.name


@dataclass(frozen=True, kw_only=True)
class Startable:
    """A workflow, and how to start it.

    Attributes:
        workflow: its name.
        like: its newest execution, which recorded where its code is.
        place: its code as an argument of ``cerebelum run``; "" if it cannot be found.
        is_cell: whether it was defined in a notebook or at a prompt.
        fields: its inputs; None if the workflow declares none, or an older release wrote the log.
    """

    workflow: str
    like: str
    place: str
    is_cell: bool
    fields: tuple[Field, ...] | None

    @property
    def command(self) -> str:
        """The command that starts it in a terminal; "" if there is none."""
        if not self.place:
            return ""
        words = [f"cerebelum run {shlex.quote(self.place)}"]
        required = [one for one in self.fields or () if one.required]
        for one in required:
            words += (
                ["--secret", shlex.quote(one.name)] if one.kind == "secret" else ["-i", shlex.quote(f"{one.name}=...")]
            )
        return " ".join(words if self.fields is not None else [*words, "-i NAME=VALUE"])


Problems = Mapping[str, tuple[str, ...]]
"""Problems by the keys of a form's fields; those that belong to no field are under ""."""


def find_startable(log: ShownLog, workflow: str) -> Startable:
    """Find out how to start a workflow.

    Raises:
        HTTPException: the log has no execution of it.
        WorkflowNotFoundError: the log is damaged, and does not hold the place of its code.
    """
    sql = f"SELECT execution_id FROM execution WHERE workflow = ? ORDER BY {STARTED} DESC, key DESC LIMIT 1"
    with log.query() as db:
        row = db.execute(sql, (workflow,)).fetchone()
    if row is None:
        raise HTTPException(404)
    origin = origin_of(log.store, str(row[0]))
    schema = schema_kept(log.store, origin.plan)
    return Startable(
        workflow=workflow,
        like=str(row[0]),
        place=place_of(origin),
        is_cell=is_interactive(origin),
        fields=None if schema is None else tuple(_fields(schema)),
    )


# -- from the schema to a form ----------------------------------------------------------------------------------


def _fields(schema: Mapping[str, Any]) -> list[Field]:
    required = _list(schema.get("required"))
    found = _dict(schema.get("properties"))
    return [_field(str(name), _resolve(one, schema), name in required) for name, one in [*found.items()][:_MOST_FIELDS]]


def _field(name: str, schema: Mapping[str, Any], required: bool) -> Field:
    types, choices = _types(schema), schema.get("enum")
    if isinstance(choices, list) or types - {"null"} == {"boolean"}:
        offered = choices if isinstance(choices, list) else [True, False]
        kind, hint = "choice", ""
    else:
        offered, (kind, hint) = [], _kind(schema, types)
    return Field(
        name=name,
        kind=kind,
        hint=hint,
        about=str(schema.get("description") or ""),
        required=required,
        default="" if kind in ("secret", "hidden") else _text(schema.get("default"), schema, kind),
        choices={_text(value, schema, "text"): value for value in offered},
        is_nullable="null" in types,
    )


def _kind(schema: Mapping[str, Any], types: set[str]) -> tuple[str, str]:
    """Return the kind of field for a value, and a hint what to write."""
    match schema.get("format"):
        case "password":
            return "secret", ""
        case "date":
            return "date", ""
        case "date-time":
            return "text", "such as 2026-11-29T06:00"
        case "time":
            return "text", "such as 06:00"
        case "duration":
            return "text", "such as 2 days"
    if schema.get("writeOnly"):
        return "hidden", ""
    if not types or not types <= _SCALAR:
        return "json", "JSON"
    if "string" in types:
        return "text", ""
    return "number", "a whole number" if types - {"null"} == {"integer"} else "a number"


def _resolve(part: Any, schema: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Return a property of a schema with its references resolved, and with its other type if it may be null."""
    found = dict(_dict(part))
    for one in (*_list(found.get("allOf")), found):
        name = str(_dict(one).get("$ref", "")).rpartition("/")[2]
        found = {**_dict(_dict(schema.get("$defs")).get(name)), **found}
    others = [one for one in _list(found.get("anyOf")) if _dict(one).get("type") != "null"]
    if len(others) == 1 and depth < _DEEPEST:
        found = {**_resolve(others[0], schema, depth + 1), **found}
    return found


def _types(schema: Mapping[str, Any], depth: int = 0) -> set[str]:
    """Return the JSON types that a value may have; "any" if an alternative names none."""
    if "anyOf" in schema and depth < _DEEPEST:
        return {name for one in _list(schema["anyOf"]) for name in _types(_dict(one), depth + 1) or {"any"}}
    named = schema.get("type", [])
    return {named} if isinstance(named, str) else set(map(str, _list(named)))


def _text(value: Any, schema: Mapping[str, Any], kind: str) -> str:
    """Write a value as the text of a field."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value if kind != "json" else json.dumps(value)
    if schema.get("format") == "duration" and isinstance(value, (int, float)):
        words = format_seconds(value)
        with suppress(ValueError, OverflowError):
            if seconds(words, unit="s") == value:
                return words
    text = json.dumps(value, ensure_ascii=False)
    return indented(text) if len(text) > _LONGEST_LINE and kind == "json" else text


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# -- from a form to inputs --------------------------------------------------------------------------------------


def _inputs_of(given: Fields, asked: Startable) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the inputs of a form or of a program: those for the log, and the secrets.

    An empty field of a form is left out, so that its default applies, unless the user has deleted the default.

    Raises:
        ValueError: the inputs of a program are not names with values.
    """
    inputs, secrets = given.get("inputs") or {}, dict[str, str]()
    if not isinstance(inputs, dict):
        raise ValueError('inputs must be a JSON object of names and values, such as {"size": "small"}')
    for one in asked.fields or ():
        text = str(given.get(one.key, "")).replace("\r\n", "\n")
        if one.kind == "secret":
            text = text or inputs.pop(one.name, "")
            secrets |= {one.name: str(text)} if text else {}
        elif text.strip() or (one.default and one.key in given):
            inputs[one.name] = _value(one, text)
    return inputs, secrets


def _value(one: Field, text: str) -> Any:
    """Read the text of a field; if it cannot be read it stays text, and the workflow reports the problem."""
    if not text.strip() and one.is_nullable:
        return None
    if one.kind == "choice":
        return one.choices.get(text, text)
    if one.kind in ("number", "json"):
        with suppress(ValueError, RecursionError):
            return parse(text.strip())
    return text


def _sort_problems(output: str, asked: Startable) -> dict[str, tuple[str, ...]]:
    """Sort the output of a process that refused the inputs by fields; problems of no field are under ""."""
    found: dict[str, tuple[str, ...]] = {}
    listed = [line[4:] for line in output.splitlines() if line.startswith("  - ")]
    keys = {one.name: one.key for one in asked.fields or ()}
    for problem in listed or [output]:
        name = max((n for n in keys if problem.startswith(n) and problem[len(n) :][:1] in " .[:'"), key=len, default="")
        key = keys.get(name, "")
        found[key] = (*found.get(key, ()), problem)
    return found


def start_execution(log: ShownLog, runs: Runs, asked: Startable, given: Fields) -> tuple[str, Problems]:
    """Start a process that runs a workflow with the fields of a form or a program, and wait until it is recorded.

    A form that is sent twice starts one execution, because the page chose the id.

    Returns:
        The id of the execution, and the problems with the inputs if it was not started.

    Raises:
        ValueError: the inputs, the id, the name or a tag is invalid.
    """
    execution_id = check_id(given.get("id") or new_id())
    if runs.is_recorded(log, execution_id):
        return execution_id, {}
    inputs, secrets = _inputs_of(given, asked)
    labels = Labels.of(given.get("name", "").strip() or None, given.get("tags", "").replace(",", " ").split())
    options = [f"--code-of={asked.like}", "--inputs=-", *(f"--tag={tag}" for tag in labels.tags)]
    options += [f"--name={labels.name}"] if labels.name else []
    environment = {}
    for number, (name, secret) in enumerate(secrets.items()):
        environment[f"CEREBELUM_SECRET_{number}"] = secret
        options.append(f"--secret={name}=env:CEREBELUM_SECRET_{number}")
    runs.start(log, execution_id, "run", options, PrivateInput(json.dumps(inputs).encode(), environment))
    reason = runs.wait_for_start(log, execution_id)
    return execution_id, {} if reason is None else _sort_problems(reason, asked)
