"""``history.try_step``: run an edited step on the arguments of recorded runs, and compare the results."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .._core.arguments import count, workflow_name
from .._core.events import Event, OperationFailed, StepCompleted, StepFailed, StepStarted
from .._core.fold import fold
from .._core.graph import StepSpec, key_of, of_item, step_of
from .._core.state import State
from .._core.step_state import Operation, StepState
from .._core.value import Value
from .._dsl.step import Step
from .._engine.run_sync import run_sync
from .._operations.trial import Trial, try_out
from .._store.base import Store
from .._store.event_key import event_of
from .._store.executions import STARTED
from .._values import decode
from ..errors import CerebelumError, SerializationError, StoreError
from .snapshot import short
from .sources import Source, opened, snapshot
from .value_diff import compare

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["try_spec", "try_step"]


def try_step(
    step: Step[..., Any],
    runs: int = 20,
    *,
    workflow: Any = None,
    item: str | None = None,
    repeat: bool = False,
    values: bool = False,
    at_line: bool = False,
    concurrency: int = 4,
    store: Source | None = None,
) -> pd.DataFrame:
    """Run a step as it is now on the arguments of recorded runs, and compare the results; nothing is written.

    It works in cells and scripts, without ``await``, even for an async step (which runs on a separate event loop).
    Each run is one attempt, under the step's timeout, with the inputs and the results of other steps as they were when
    the step last started. Its operations return what they returned then; sleeps are skipped.

    Args:
        step: the step, as ``@step`` made it.
        runs: how many runs to try it on: the newest that reached it.
        workflow: only runs of this workflow: its name, or the workflow itself.
        item: for a step of a foreach, the name of the item to try it on, such as ``"ams3"``.
        repeat: True carries out operations that the run did not record (a ``context.run``, a poll or a retry with
            other arguments or code), and allows a step with ``effect="external"``. By default such a step is refused,
            and such an operation is an error in its row.
        values: True adds ``old_value`` and ``new_value``, the values themselves.
        at_line: True enters the step where a resume would: at the line where it last waited or raised, with the
            variables it had there, so that earlier statements do not run again. The column ``line`` (Int64) says where;
            it is missing if the step can only start at its top.
        concurrency: how many are tried at once.
        store: the log, or its path; by default the session's.

    Returns:
        A frame with a row per run, newest first: ``execution_id`` (str); ``old``, ``new`` (str): JSON text of the
        value, the preview of what is not JSON, or the error; ``changed`` (boolean): missing where there is nothing to
        compare; ``difference`` (str): by path, or by shape, columns, dtypes and cells; ``error`` (str): why the trial
        failed; ``duration_old``, ``duration_new`` (timedelta).

    Raises:
        CerebelumError: it has an external effect; nothing ran.
        ValueError: no run has reached it.
        StoreError: the log cannot be read.

    Example:
        >>> import asyncio
        >>> from cerebelum_nb import history, step, workflow
        >>> from cerebelum_nb.testing import MemoryStore
        >>> @step
        ... def price(inputs):
        ...     return inputs["amount"] * 2
        >>> @workflow
        ... def order(wf):
        ...     wf.timeline(price)
        >>> log = MemoryStore()
        >>> for amount in (1, 2):
        ...     run = asyncio.run(order.execute({"amount": amount}, store=log))
        >>> @step
        ... def price(inputs):
        ...     return inputs["amount"] ** 2
        >>> history.try_step(price, store=log)[["old", "new", "changed", "difference"]]
          old new  changed difference
        0   4   4    False        NaN
        1   2   1     True     2 -> 1
    """
    if not isinstance(step, Step):
        raise TypeError(f"try_step takes the step itself, as it is now: try_step(build), not {step!r}")
    spec = step.spec()
    workflow = workflow_name(workflow)
    most = None if runs is None else count(runs, "runs")
    if most == 0:
        raise ValueError("runs (how many runs to try the step on) must be a whole number from 1, not 0")
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise ValueError(f"concurrency (how many are tried at once) must be a whole number from 1, not {concurrency!r}")
    if spec.policy.effect == "external" and not repeat:
        raise CerebelumError(
            f"step '{spec.name}' has an external effect: a trial would repeat it for every run. If that does no harm, "
            f"try_step({spec.name}, repeat=True)"
        )
    with opened(store) as log:
        found = _runs_that_reached(log, spec.name, most, workflow, item)
        if not found:
            of = f" of workflow '{workflow}'" if workflow is not None else ""
            what = f"step '{spec.name}'" if item is None else f"step '{spec.name}' for the item {item!r}"
            one = "" if item is not None else _find_item(log, spec.name, workflow)
            raise ValueError(
                f"no run{of} in {log.location} has reached {what}: there is nothing to try it on"
                if not one
                else f"step '{spec.name}' runs for the items of a foreach: name one, such as "
                f"try_step({spec.name}, item={one!r})"
            )
        rows = run_sync(lambda: _try_all(spec, log, found, repeat, at_line, concurrency, item))
    return _frame(rows, values, at_line)


async def try_spec(spec: StepSpec, log: Store, execution_id: str) -> tuple[bool | None, str | None]:
    """Run a step as it is now on the arguments of one run; return whether its result differs, and how.

    Args:
        spec: the step, which has started in that run.
        log: the log, which is only read.
        execution_id: the run, by its whole id.

    Returns:
        The columns ``changed`` and ``difference`` of :func:`try_step`; if the trial failed, the difference is its
        error.
    """
    row = await _try(spec, log, execution_id, repeat=False, at_line=False)
    _, _, _, changed, difference, error, *_ = row.shown
    return changed, difference or error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    shown: tuple[Any, ...]
    old: Any
    new: Any
    line: int | None


async def _try_all(
    spec: StepSpec, log: Store, found: Sequence[str], repeat: bool, at_line: bool, concurrency: int, item: str | None
) -> list[_Row]:
    free = asyncio.Semaphore(concurrency)

    async def one(execution_id: str) -> _Row:
        async with free:
            return await _try(spec, log, execution_id, repeat, at_line, item)

    return await asyncio.gather(*map(one, found))


async def _try(
    spec: StepSpec, log: Store, execution_id: str, repeat: bool, at_line: bool, item: str | None = None
) -> _Row:
    history = log.events(execution_id)
    began = max(
        n
        for n, event in enumerate(history, 1)
        if isinstance(event, StepStarted)
        and (step_of(event.step), key_of(event.step)) == (spec.name, item or "")
        and ("[" in event.step) is (item is not None)
    )
    start = history[began - 1]
    assert isinstance(start, StepStarted)
    name = start.step
    ended = _end_of(history, start, began)
    before = fold(history[: ended - 1])  # the outcome drops the operations from the state
    operations = _refused_operations(history[: ended - 1], name, began) | _state_of(before, name).operations
    state = before if at_line else fold(history[:began])
    here = replace(spec, name=name)
    trial = await try_out(here, log, execution_id, state, operations, repeat=repeat, at_line=at_line)
    then = _state_of(fold(history[:ended]), name)
    return _row(log, execution_id, then, trial)


def _state_of(state: State, name: str) -> StepState:
    found = state.step(name)
    assert found is not None, "it has started"
    return found


def _end_of(history: Sequence[Event], start: StepStarted, began: int) -> int:
    """Return the version of the outcome of this visit; one after the last event if there is none."""
    for n, event in enumerate(history[began:], began + 1):
        if isinstance(event, (StepCompleted, StepFailed)) and (event.step, event.visit) == (start.step, start.visit):
            return n
    return len(history) + 1


def _refused_operations(history: Sequence[Event], step: str, began: int) -> dict[str, Operation]:
    """Return the operations that failed because their wait was refused, as they were when that was decided."""
    found: dict[str, Operation] = {}
    for n, event in enumerate(history[began:], began):
        if isinstance(event, OperationFailed) and event.step == step:
            operation = _state_of(fold(history[:n]), step).operations.get(event.op)
            if operation is not None and operation.is_decided:
                found[event.op] = operation
    return found


def _row(log: Store, execution_id: str, then: StepState, trial: Trial) -> _Row:
    error = None if trial.error is None else str(trial.error)
    if type(trial.live) is dict and trial.live.keys() == {"error"}:
        error = str(trial.live["error"])
    old = None if then.output is None else _load(log, then.output)
    changed, difference = _compared(then, old, trial, error)
    took = then.ended_at - then.started_at if then.settled and then.started_at else None
    shown = (
        execution_id,
        None if not then.settled else short(then.output) if then.has_result else _failure_of(then),
        error if trial.value is None else short(trial.value),
        changed,
        difference,
        error,
        took,
        round(trial.seconds * 1e6),
    )
    return _Row(shown=shown, old=old, new=trial.live, line=trial.line)


def _compared(then: StepState, old: Any, trial: Trial, error: str | None) -> tuple[bool | None, str | None]:
    if not then.settled:
        return None, None
    if then.has_result != (error is None):
        return True, "failed -> completed" if error is None else "completed -> failed"
    if error is not None:
        was = _failure_of(then)
        return (False, None) if was == error else (True, f"{was} -> {error}")
    was_value, now = then.output, trial.value
    assert was_value is not None and now is not None, "what completed has a value"
    if (was_value.codec, was_value.json, was_value.digest) == (now.codec, now.json, now.digest):
        return (None, "not kept") if now.codec == "none" else (False, None)
    if old is _UNKNOWN:
        return None, "cannot be compared: the recorded value cannot be restored"
    found = compare(old, trial.live)
    return bool(found), str(found) or None


def _failure_of(then: StepState) -> str:
    return "" if then.error is None else str(then.error)


_UNKNOWN: Any = type("Unknown", (), {"__repr__": lambda self: "<not restorable>"})()


def _load(log: Store, value: Value) -> Any:
    try:
        return decode(value, log.payload, trusted=log.trusted)
    except (SerializationError, StoreError):
        return _UNKNOWN


def _runs_that_reached(log: Store, step: str, runs: int | None, workflow: str | None, item: str | None) -> list[str]:
    """Return the newest runs in which the step began, for an item if one is named."""
    of, parameters = ("", list[object]()) if workflow is None else ("x.workflow = ? AND", [workflow])
    began, names = "e.step = ?", list[object]([step])
    if item is not None:  # in a chain, the other steps are named after the last one: deploy[ams3].build
        end = f"[{item}].{step}"
        began, names = "(e.step = ? OR substr(e.step, ?) = ?)", [of_item(step, item), -len(end), end]
    with snapshot(log) as db:
        asked = db.execute(
            f"""SELECT x.execution_id FROM execution x WHERE {of} EXISTS (
                SELECT 1 FROM event e WHERE {event_of("x.key")} AND e.type = 'StepStarted' AND {began})
            ORDER BY {STARTED} DESC, x.key DESC LIMIT ?""",
            (*parameters, *names, -1 if runs is None else runs),
        )
        return [execution_id for (execution_id,) in asked]


def _find_item(log: Store, step: str, workflow: str | None) -> str:
    """Return an item for which the step has started; "" if there is none."""
    of, parameters = ("", list[object]()) if workflow is None else ("x.workflow = ? AND", [workflow])
    begins, ends = f"{step}[", f"].{step}"
    with snapshot(log) as db:
        asked = db.execute(
            f"""SELECT e.step FROM execution x JOIN event e ON {event_of("x.key")} WHERE {of} e.type = 'StepStarted'
                AND (substr(e.step, 1, ?) = ? OR substr(e.step, ?) = ?) LIMIT 1""",
            (*parameters, len(begins), begins, -len(ends), ends),
        )
        found = asked.fetchone()
    return "" if found is None else key_of(found[0])


def _frame(rows: Sequence[_Row], values: bool, at_line: bool) -> pd.DataFrame:
    import pandas as pd

    from .frames import TRIAL, frame

    made = frame([row.shown for row in rows], TRIAL)
    if at_line:
        made["line"] = pd.array([row.line for row in rows], dtype="Int64")
    if values:
        made["old_value"] = pd.Series([None if row.old is _UNKNOWN else row.old for row in rows], dtype="object")
        made["new_value"] = pd.Series([row.new for row in rows], dtype="object")
    return made
