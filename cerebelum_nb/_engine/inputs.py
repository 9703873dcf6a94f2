"""The inputs of an execution: check them, merge them over recorded inputs, keep the secrets that the log masks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from .._core.value import Value
from .._store.base import Store
from .._text.text import counted
from .._values import Redactor, Secret, decode, encode
from ..errors import InputsError
from .remembered import remembered
from .values import ExecutionValues

if TYPE_CHECKING:
    from .._values.shape import Shape  # imported by the workflow that declares one

__all__ = ["Inputs", "check_inputs", "keep_inputs", "merge_inputs"]

Inputs = Mapping[str, Any]


def check_inputs(inputs: Any, shape: Shape | None = None) -> dict[str, Any]:
    """Return inputs as a dict, converted to the class that their workflow declares, if any.

    Raises:
        TypeError: they are not a mapping of names to values.
        InputsError: they do not fit the declared class.

    Example:
        >>> check_inputs(None)
        {}
    """
    if shape is not None:
        inputs = shape.as_given(inputs)
    if inputs is None:
        inputs = {}
    if isinstance(inputs, Secret) or not isinstance(inputs, Mapping):
        raise TypeError(
            f"inputs must be a dict of names to values, such as {{'size': 'small'}}, not {type(inputs).__name__} "
            f"{inputs!r}"
        )
    for name in inputs:
        if not isinstance(name, str):
            raise TypeError(f"the names of inputs must be text, not {name!r}")
    return dict(inputs) if shape is None else _fitted(dict(inputs), shape)


def _fitted(inputs: dict[str, Any], shape: Shape) -> dict[str, Any]:
    fitted, problems = shape.take(inputs)
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise InputsError(
            f"the inputs do not fit {shape.cls.__name__}, {counted(len(problems), 'problem')}:\n{listed}",
            problems=tuple(problems),
        )
    return fitted


def merge_inputs(
    store: Store,
    redactor: Redactor,
    execution_id: str,
    recorded: Value | None,
    inputs: Inputs | None,
    heir: str | None = None,
    shape: Shape | None = None,
) -> tuple[dict[str, Any], Value]:
    """Merge new inputs over the recorded ones; an input that was a secret stays a secret.

    Args:
        store: the log.
        redactor: the secrets of the execution.
        execution_id: the execution whose inputs are recorded.
        recorded: the recorded inputs.
        inputs: the new inputs.
        heir: the execution that gets them, if not the same.
        shape: the declared class that the merged inputs must fit.

    Returns:
        All inputs, and their encoded form for the log.
    """
    known: dict[str, Any] = {}
    if recorded is not None:
        missing = partial(Secret.missing, execution_id=heir or execution_id)
        where = f"the inputs of execution {execution_id}"
        known = decode(recorded, store.payload, trusted=store.trusted, where=where, missing=missing)
    masked = () if recorded is None else recorded.masked
    given = {
        name: Secret(value) if name in masked and not isinstance(value, Secret) else value
        for name, value in check_inputs(inputs).items()
    }
    merged = {**known, **(remembered(store, execution_id).inputs or {}), **given}
    if shape is not None:
        merged = _fitted(merged, shape)
    return merged, encode(merged, redactor=redactor, path="inputs")


def keep_inputs(execution: ExecutionValues, inputs: dict[str, Any], value: Value) -> None:
    """Keep the inputs in memory if some are masked in the log: the steps need the secrets themselves."""
    if value.masked:
        execution.live_inputs = copy.deepcopy(inputs)  # the caller may change the original
