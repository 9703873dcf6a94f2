"""Two executions side by side: ``history.diff``, a row per step, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._core.arguments import ExecutionLike
from .._core.fold import fold
from .._core.state import State
from .._core.step_state import Phase, StepState
from .._core.value import Value
from .._store.base import Store
from .._values import decode
from ..errors import SerializationError, StoreError
from .snapshot import short
from .sources import Source, located
from .value_diff import Difference, compare

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["INPUTS", "diff"]

INPUTS = "(inputs)"
"""The name of the row that compares the inputs."""

_Row = tuple[Any, ...]
_Load = Callable[[Value], Any]


def diff(a: ExecutionLike, b: ExecutionLike, *, store: Source | None = None) -> pd.DataFrame:
    """Compare two executions step by step.

    For each step, the last attempt of its last visit counts. Masked values count as equal: secrets are not compared.

    Args:
        a: an execution: its id or an unambiguous prefix, or its result.
        b: the other execution.
        store: the log, or its path; by default the session's.

    Returns:
        A frame whose first row, with the ``step`` ``(inputs)``, compares the inputs in the columns of outputs; then a
        row per step, in the order in which they started in ``a``, then in ``b``:

        - ``step`` (str)
        - ``state_a``, ``state_b`` (category): PENDING, RUNNING, RETRYING, COMPLETED, FAILED; missing if it never
          started
        - ``attempt_a``, ``attempt_b`` (Int64): how many attempts it took
        - ``duration_a``, ``duration_b`` (timedelta): of the last attempt; NaT if it has not ended
        - ``duration_diff`` (timedelta): ``duration_b - duration_a``
        - ``inputs_changed`` (boolean): whether the execution's inputs were different when it started
        - ``code_changed`` (boolean): whether the fingerprint of its code differs
        - ``output_changed`` (boolean): whether its value, or the error it failed with, differs. All three are missing
          if there is nothing to compare or it cannot be compared
        - ``output_a``, ``output_b`` (str): JSON text of the value, the preview of what is not JSON, or the error
        - ``difference`` (str): how the values differ, in words: by path, or by shape, columns, dtypes and cells
        - ``cells_changed`` (Int64), ``max_abs_diff`` (float64): for frames, series, arrays and Arrow tables: how many
          of the common cells differ, and the largest numeric difference among them; for two numbers, their difference

        Its repr is a summary; a selection from it is a plain DataFrame.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        StoreError: the log cannot be read.

    Example:
        >>> from cerebelum_nb import history, step, workflow
        >>> from cerebelum_nb.testing import MemoryStore
        >>> @step
        ... def build(inputs):
        ...     return inputs["app"]
        >>> @workflow
        ... def release(wf):
        ...     wf.timeline(build)
        >>> log = MemoryStore()
        >>> one = release.run({"app": "shop"}, store=log)
        >>> other = release.run({"app": "blog"}, store=log)
        >>> history.diff(one.execution_id, other.execution_id, store=log)[["step", "output_changed", "difference"]]
               step  output_changed             difference
        0  (inputs)            True  app: 'shop' -> 'blog'
        1     build            True       'shop' -> 'blog'
    """
    from .diff_frame import Diff
    from .frames import DIFF, frame

    with located(store, a) as (_, log_a, full_a), located(store, b) as (_, log_b, full_b):
        one, other = fold(log_a.events(full_a)), fold(log_b.events(full_b))
        loads = _loader(log_a), _loader(log_b)
        names = {**one.steps, **other.steps}
        rows = [_step_row(name, one.steps.get(name), other.steps.get(name), loads) for name in names]
        rows.insert(0, _inputs_row(one, other, loads))
    made = Diff(frame(rows, DIFF))
    made.attrs.update(a=_title(full_a, one), b=_title(full_b, other))
    return made


def _inputs_row(one: State, other: State, loads: tuple[_Load, _Load]) -> _Row:
    changed, difference = _compare_values(one.inputs, other.inputs, loads)
    shown = [None if value is None else short(value) for value in (one.inputs, other.inputs)]
    return (INPUTS, *[None] * 9, changed, *shown, *_difference_columns(difference))


def _step_row(name: str, one: StepState | None, other: StepState | None, loads: tuple[_Load, _Load]) -> _Row:
    both = (one, other)
    took = [s.ended_at - s.started_at if s is not None and s.settled and s.started_at else None for s in both]
    slower = None if took[0] is None or took[1] is None else took[1] - took[0]
    inputs = code = changed = None
    difference: Difference | str | None = None
    if one is not None and other is not None:
        if one.inputs is not None and other.inputs is not None:
            inputs, _ = _compare_values(one.inputs, other.inputs, loads)
        code = None if None in (one.code, other.code) else one.code != other.code
        changed, difference = _compare_outcomes(one, other, loads)
    return (
        name,
        *(None if s is None else s.phase.value for s in both),
        *(None if s is None else s.attempt for s in both),
        *took,
        slower,
        inputs,
        code,
        changed,
        *map(_outcome_text, both),
        *_difference_columns(difference),
    )


def _compare_outcomes(
    one: StepState, other: StepState, loads: tuple[_Load, _Load]
) -> tuple[bool | None, Difference | str | None]:
    if not (one.settled and other.settled):
        return None, None
    if one.phase is not other.phase:
        return True, f"{one.phase} -> {other.phase}"
    if one.phase is Phase.COMPLETED:
        return _compare_values(one.output, other.output, loads)
    errors = [str(step.error) if step.error else "" for step in (one, other)]
    return errors[0] != errors[1], None if errors[0] == errors[1] else f"{errors[0]} -> {errors[1]}"


def _compare_values(
    one: Value | None, other: Value | None, loads: tuple[_Load, _Load]
) -> tuple[bool | None, Difference | str | None]:
    if one is None or other is None:
        return None, None
    if one.codec == "none" or other.codec == "none":
        return (None, "not kept") if one.preview == other.preview else (True, f"{short(one)} -> {short(other)}")
    if (one.codec, one.json, one.digest) == (other.codec, other.json, other.digest):
        return False, None
    try:
        found = compare(loads[0](one), loads[1](other))
    except (SerializationError, StoreError) as exc:
        return None, f"stored in another form, and cannot be compared here: {type(exc).__name__}"
    return bool(found), found


def _difference_columns(difference: Difference | str | None) -> _Row:
    if isinstance(difference, Difference):
        return (str(difference) or None, difference.cells, difference.largest)
    return (difference, None, None)


def _outcome_text(step: StepState | None) -> str | None:
    if step is None or not step.settled:
        return None
    return short(step.output) if step.has_result else str(step.error) if step.error else None


def _loader(log: Store) -> _Load:
    return lambda value: decode(value, log.payload, trusted=log.trusted)


def _title(execution_id: str, state: State) -> str:
    return f"{state.workflow} {execution_id} {state.status}"
