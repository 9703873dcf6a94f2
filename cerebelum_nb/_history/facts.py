"""Describe a state as facts (a Python-like name and a short text), and what changed between two states.

Fields that have their default value are left out.
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
"""A fact's name, its old and its new text; None where there is none."""

_SHOWN_ELSEWHERE = ("steps", "operations", "op", "plan", "counts", "checkpoints")
_VERSIONS = ("settled_at", "routed_at")
"""These hold an event's version; every other number whose name ends in ``_at`` is a time."""
_MOST_NAMES = 12
_CHANGE_NONE = (e.StepPrinted, e.StepProgressed, e.StepCheckpointed)
_ALWAYS = ("version", "updated_at", "active_at")
"""These change with every event, so they are not shown."""


def facts(state: State) -> dict[str, str]:
    """Return all facts of a state.

    Example:
        >>> from cerebelum_nb._core.events import StepStarted
        >>> from cerebelum_nb._core.fold import fold
        >>> facts(fold([StepStarted(at=0, step="build")]))["in_flight"]
        'build'
    """
    found = _texts(state)
    for name, step in state.steps.items():
        found |= step_facts(name, step)
    return found


def step_facts(name: str, step: StepState, op: str | None = None) -> dict[str, str]:
    """Return the facts of one step; of its operations, only ``op`` if it is given.

    Example:
        >>> step_facts("build", StepState(attempt=2))
        {"steps['build'].attempt": '2'}
    """
    lead = f"steps[{name!r}]."
    found = _texts(step, lead)
    if step.checkpoints:
        last = step.checkpoints[-1].event
        found[f"{lead}line"] = str(last.line)
        found.update(
            (f"{lead}variables[{', '.join(map(repr, names))}]", text) for names, text in variables(last).items()
        )
    wanted = step.operations if op is None else [op] if op in step.operations else []
    for key in wanted:
        found[f"{lead}operations[{key!r}]"] = ", ".join(
            f"{field} {text}" for field, text in _texts(step.operations[key]).items()
        )
    return found


def changes(before: State, after: State, op: str | None = None) -> list[Change]:
    """Compare two states from :func:`.replay.transitions`; the parts that they share are not compared.

    Args:
        before: a state.
        after: the state one event later.
        op: the :func:`operation_of` that event; by default all operations are compared.

    Example:
        >>> from cerebelum_nb._core.events import StepStarted
        >>> from cerebelum_nb._history.replay import transitions
        >>> start, retry = transitions([StepStarted(at=1, step="build"), StepStarted(at=1, step="build", attempt=2)])
        >>> changes(start.state, retry.state)
        [("steps['build'].attempt", '1', '2')]
    """
    found = [change for change in _differ(_texts(before), _texts(after)) if change[0] not in _ALWAYS]
    for name in dict.fromkeys((*before.steps, *after.steps)):
        old, new = before.steps.get(name), after.steps.get(name)
        if old is not new:
            found += _differ(step_facts(name, old, op) if old else {}, step_facts(name, new, op) if new else {})
    return found


def operation_of(event: e.Event) -> str | None:
    """Return the operation that an event changes; "" if it changes none, None if it may change all.

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


def _texts(record: State | StepState | Operation, lead: str = "") -> dict[str, str]:
    values = {
        name: getattr(record, name) for name, default in _DEFAULTS[type(record)] if getattr(record, name) != default
    }
    return {lead + name: _text(name, value) for name, value in values.items()}


def variables(last: e.StepCheckpointed) -> dict[tuple[str, ...], str]:
    """Describe the variables of a checkpoint: JSON, or a preview. Variables that share an object have one description.

    Example:
        >>> variables(e.StepCheckpointed(at=1, step="build", variables=Value("json", '{"n":1,".i1":[0,2,1,1]}')))
        {('n',): '1'}
    """
    plain = parse(last.variables.json) if last.variables is not None and last.variables.json else {}
    found: dict[tuple[str, ...], str] = {
        (name,): one_line(json.dumps(value, ensure_ascii=False)) for name, value in plain.items() if name[0] != "."
    }
    for names, kept in zip(last.groups, last.kept, strict=False):
        if shown := tuple(name for name in names if name[0] != "."):
            found[shown] = one_line(kept.text)
    return found


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
            texts = [
                f"{key}: {_text('', item)}" if isinstance(item, (int, Value)) else str(key)
                for key, item in value.items()
            ]
            more = len(texts) - _MOST_NAMES
            return ", ".join(texts if more <= 0 else [f"{more} more", *texts[-_MOST_NAMES:]])
        case _:
            return one_line(str(value))


def _defaults(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (f.name, f.default if f.default_factory is MISSING else f.default_factory())
        for f in fields(kind)
        if f.name not in _SHOWN_ELSEWHERE
    )


_DEFAULTS = {kind: _defaults(kind) for kind in (State, StepState, Operation)}
