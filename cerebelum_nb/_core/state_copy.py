"""Copies of a state: folding into one leaves the other as it is. Events and values never change, and are shared."""

from __future__ import annotations

from copy import copy
from dataclasses import fields
from typing import Any, TypeVar, cast

from .state import Rollback, State
from .step_state import Items, Operation, StepState

__all__ = ["copied"]

_PARTS = (State, Rollback, StepState, Items)

_FIELDS = {kind: tuple(field.name for field in fields(kind)) for kind in _PARTS}

P = TypeVar("P", State, Rollback, StepState, Items)


def copied(part: P) -> P:
    """Copy a state, or a part of one.

    Example:
        >>> state = State()
        >>> copied(state).in_flight["build"] = None
        >>> state.in_flight
        {}
    """
    made = copy(part)
    for name in _FIELDS[type(part)]:
        value = getattr(part, name)
        if isinstance(value, dict):
            setattr(made, name, _copied_values(value))
        elif isinstance(value, list):
            setattr(made, name, value.copy())
        elif isinstance(value, _PARTS):
            setattr(made, name, copied(cast(Any, value)))
    return made


def _copied_values(values: dict[Any, Any]) -> dict[Any, Any]:
    match next(iter(values.values()), None):
        case Operation():  # one that is done does not change any more
            return {name: one if one.done else copy(one) for name, one in values.items()}
        case StepState():
            return {name: copied(one) for name, one in values.items()}
        case _:
            return values.copy()
