"""A folded state as facts, each a Python-like name and a short text; and what changed between two states.

Fields with their default value are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from enum import Enum
from pathlib import PurePath
from typing import Any

from .._core import events as e
from .._core.state import State
from .._core.step_state import Items, Operation, StepState
from .._core.value import Value
from .._text.json_text import parse
from .._text.text import one_line
from .._text.times import clock, stamp

__all__ = ["Change", "changes", "facts", "operation_of", "step_facts", "variables"]

Change = tuple[str, str | None, str | None]
"""A fact's name, what it was and what it is; None when it is not known."""

_APART = ("steps", "operations", "op", "plan", "counts", "checkpoints")
_VERSIONS = ("settled_at", "routed_at")
"""What these say is an event's version; every other number whose name ends so is a time."""
_MOST_NAMES = 12
_CHANGE_NONE = (e.StepPrinted, e.StepProgressed, e.StepCheckpointed)
_ALWAYS = ("version", "updated_at", "active_at")
"""These change with every event, so they are not worth showing."""


def facts(state: State) -> dict[str, str]:
    """Return everything a state says.

    Example:
        >>> from cerebelum_nb._core.events import StepStarted
        >>> from cerebelum_nb._core.fold import fold
        >>> facts(fold([StepStarted(at=0, step="build")]))["in_flight"]
        'build'
    """
    found = dict(_told(state))
    for name, step in state.steps.items():
        found |= step_facts(name, step)
    return found


def step_facts(name: str, step: StepState, op: str | None = None) -> dict[str, str]:
    """Return what is known of one step; if ``op`` is given, only that of its operations.

    Example:
        >>> step_facts("build", StepState(attempt=2))
        {"steps['build'].attempt": '2'}
    """
    lead = f"steps[{name!r}]."
    found = dict(_told(step, lead))
    if step.checkpoints:
        last = step.checkpoints[-1].event
        found[f"{lead}line"] = str(last.line)
        found.update(
            (f"{lead}variables[{', '.join(map(repr, names))}]", text) for names, text in variables(last).items()
        )
    wanted = step.operations if op is None else [op] if op in step.operations else []
    for key in wanted:
        told = ", ".join(f"{field} {text}" for field, text in _told(step.operations[key]))
        found[f"{lead}operations[{key!r}]"] = told
    return found


def changes(before: State, after: State, op: str | None = None) -> list[Change]:
    """Compare two states of a run from :func:`.replay.transitions`; shared parts are not compared.

    Args:
        before: one state.
        after: the state one event later.
        op: what :func:`operation_of` says of that event; by default all operations are compared.

    Example:
        >>> from cerebelum_nb._core.events import StepStarted
        >>> from cerebelum_nb._history.replay import transitions
        >>> start, retry = transitions([StepStarted(at=1, step="build"), StepStarted(at=1, step="build", attempt=2)])
        >>> changes(start.state, retry.state)
        [("steps['build'].attempt", '1', '2')]
    """
    found = [change for change in _differ(dict(_told(before)), dict(_told(after))) if change[0] not in _ALWAYS]
    for name in dict.fromkeys((*before.steps, *after.steps)):
        old, new = before.steps.get(name), after.steps.get(name)
        if old is not new:
            found += _differ(step_facts(name, old, op) if old else {}, step_facts(name, new, op) if new else {})
    return found


def operation_of(event: e.Event) -> str | None:
    """Name the operation that an event changes; "" if it changes none, None if it may change all.

    Comparing all operations of a step after each event would be quadratic in their number.

    Example:
        >>> operation_of(e.StepPrinted(at=1, step="build", text="ready"))
        ''
    """
    return "" if isinstance(event, _CHANGE_NONE) else getattr(event, "op", None)


def _differ(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            yield name, old.get(name), new.get(name)


def _told(record: State | StepState | Operation, lead: str = "") -> Iterator[tuple[str, str]]:
    for name, default in _DEFAULTS[type(record)]:
        value = getattr(record, name)
        if value != default:
            yield lead + name, _text(name, value)


def variables(last: e.StepCheckpointed) -> dict[tuple[str, ...], str]:
    """Describe the variables of a checkpoint: JSON, or a preview of anything else; those that share an object together.

    Example:
        >>> variables(e.StepCheckpointed(at=1, step="build", variables=Value("json", '{"n":1,".i1":[0,2,1,1]}')))
        {('n',): '1'}
    """
    plain = parse(last.variables.json) if last.variables is not None and last.variables.json else {}
    told: dict[tuple[str, ...], str] = {
        (name,): one_line(json.dumps(value, ensure_ascii=False)) for name, value in plain.items() if name[0] != "."
    }
    for names, kept in zip(last.groups, last.kept, strict=False):
        if shown := tuple(name for name in names if name[0] != "."):
            told[shown] = one_line(kept.text)
    return told


def _text(name: str, value: Any) -> str:
    if isinstance(value, int) and name not in _VERSIONS and (name.endswith("_at") or name in ("at", "deadline")):
        return f"{stamp(value)}{clock(value)[8:]}"
    if name == "source":
        return PurePath(value).name
    match value:
        case Enum():
            return str(value.value)
        case Value():
            return one_line(value.text)
        case Items():
            return f"{value.done} of {len(value.keys)} done, {len(value.failed)} failed, {len(value.running)} running"
        case dict():
            told = [
                f"{key}: {_text('', item)}" if isinstance(item, (int, Value)) else str(key)
                for key, item in value.items()
            ]
            return ", ".join(
                told if len(told) <= _MOST_NAMES else [f"{len(told) - _MOST_NAMES} more", *told[-_MOST_NAMES:]]
            )
        case _:
            return one_line(str(value))


def _defaults(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (f.name, f.default if f.default_factory is MISSING else f.default_factory())
        for f in fields(kind)
        if f.name not in _APART
    )


_DEFAULTS = {kind: _defaults(kind) for kind in (State, StepState, Operation)}
