"""Read the status of executions: from the row, and the details from the fold of the events.

A row summarises the fold and is written in the same transaction as the events. So an entry of a list costs one row, and
its details, when they are accessed, one fold of the events up to the row's version.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from .._core.events import WorkflowFailed, WorkflowHibernated, WorkflowTagged
from .._core.fold import fold
from .._core.state import State
from .._core.state_name import ACTIVE as RUN_OR_WAIT
from .._core.state_name import ExecutionState
from .._core.step_state import Operation
from .._core.value import Value
from .._store.base import ExecutionRow, Store
from .._text.json_text import parse
from .._text.times import at
from .._values.outputs import Outputs
from .lazy import Stored, lazy
from .status import ApprovalInfo, ExecutionStatus, SleepInfo, StepStatus

__all__ = ["ACTIVE", "INTERRUPTED", "list_statuses", "status_from_row", "status_of"]

_WAITING = tuple(state for state in RUN_OR_WAIT if state is not ExecutionState.RUNNING)
ACTIVE = (ExecutionState.QUEUED, *RUN_OR_WAIT)
"""States in which a process is running an execution, or should be, or will be."""

INTERRUPTED = "interrupted"
"""Not a state: lists show it, and can filter by it, if the process of an active execution has died."""

_NEARLY_DONE = 99.9


def list_statuses(
    store: Store,
    now: int,
    *,
    workflow: str | None,
    status: ExecutionState | str | None,
    limit: int,
    offset: int,
    children: bool = False,
    exact: bool = True,
    name: str | None = None,
    tags: Sequence[str] = (),
) -> tuple[list[ExecutionStatus], int]:
    """Read a page of a list, newest first, and how many executions match; ``status`` may be ``INTERRUPTED``.

    Without ``exact`` they are only counted far enough to know whether more follow.
    """
    caller = None if children else ""
    if status == INTERRUPTED:
        rows, _ = store.executions(workflow=workflow, states=ACTIVE, caller=caller, name=name, tags=tags)
        dead = [shown for row in rows if (shown := status_from_row(store, row, now)).interrupted]
        return dead[offset : offset + limit], len(dead)
    states = () if status is None else (ExecutionState(status),)
    which: dict[str, Any] = {"workflow": workflow, "states": states, "caller": caller, "name": name, "tags": tags}
    rows, total = store.executions(**which, limit=limit, offset=offset, exact=exact)
    return [status_from_row(store, row, now) for row in rows], total


def status_of(store: Store, row: ExecutionRow, now: int) -> ExecutionStatus:
    """Read a whole status; ``now`` is in µs since the epoch."""
    status = status_from_row(store, row, now)
    status.completed_steps  # noqa: B018  # folds the events now, before the log grows
    return status


def status_from_row(store: Store, row: ExecutionRow, now: int) -> ExecutionStatus:
    """Make a status from a row; fields that need the events are read on first access."""
    shown, details = row.summary, _Details(store, row, now)
    interrupted = _is_interrupted(store, row)
    if shown.completed_at is not None:
        end = shown.completed_at
    elif interrupted or shown.state not in ACTIVE:
        end = shown.updated_at
    else:
        end = max(now, shown.updated_at)
    return ExecutionStatus(
        execution_id=row.execution_id,
        workflow_name=shown.workflow,
        status=shown.state,
        started_at=at(shown.started_at),
        completed_at=None if shown.completed_at is None else at(shown.completed_at),
        current_step_index=shown.done_steps,
        total_steps=shown.total_steps,
        current_step_name=shown.current_step or _failed_step(store, row),
        progress_percentage=_progress(shown.state, shown.done_steps, shown.total_steps),
        completed_steps=lazy(lambda: details.steps),
        inputs=lazy(lambda: details.inputs),
        step_outputs=lazy(lambda: details.outputs),
        error=shown.error,
        sleep_info=lazy(lambda: details.sleep),
        approval_info=lazy(lambda: details.approval),
        queued_behind=None if shown.state is not ExecutionState.QUEUED else lazy(lambda: details.behind),
        notes=lazy(lambda: details.notes),
        elapsed_seconds=(end - shown.started_at) / 1e6,
        interrupted=interrupted,
        caller=shown.caller,
        name=shown.name or None,
        tags=shown.tags,
    )


class _Details:
    """The fields that need the events of an execution, as of its row's version."""

    def __init__(self, store: Store, row: ExecutionRow, now: int) -> None:
        self._store, self._row, self._now = store, row, now

    @cached_property
    def _state(self) -> State:
        return fold(self._store.events(self._row.execution_id, upto=self._row.version))

    @cached_property
    def _stored(self) -> dict[str, Stored]:
        steps = self._state.steps
        outputs = ((name, steps[name].output) for name in self._state.finished)
        return {
            name: self._store_of(value, f"the result of step '{name}'") for name, value in outputs if value is not None
        }

    @cached_property
    def steps(self) -> tuple[StepStatus, ...]:
        places = {name: place for place, name in enumerate(self._state.steps)}
        return tuple(self._step(name, places[name]) for name in self._state.finished)

    @cached_property
    def inputs(self) -> Any:
        value = self._state.inputs
        return {} if value is None else self._store_of(value, "the inputs")

    @cached_property
    def outputs(self) -> Outputs:
        stored = self._stored
        return Outputs({name: found.value for name, found in stored.items()}, lambda name: stored[name].get())

    @cached_property
    def notes(self) -> dict[str, dict[str, Any]]:
        return {
            name: {key: _decode_note(value) for key, value in step.notes.items()}
            for name, step in self._state.attempted()
            if step.notes
        }

    @cached_property
    def sleep(self) -> SleepInfo | None:
        found = min(self._open("sleep"), key=lambda operation: operation.due_at or 0, default=None)
        if found is None:
            return None
        return SleepInfo(
            duration_ms=found.duration_ms or 0,
            sleep_started_at=at(found.at),
            remaining_ms=self._time_left(found.due_at) or 0,
            data=self._data(found),
        )

    @cached_property
    def approval(self) -> ApprovalInfo | None:
        found = min(self._open("approval"), key=lambda operation: operation.at, default=None)
        if found is None:
            return None
        return ApprovalInfo(
            approval_type=found.approval_type,
            data=self._data(found),
            timeout_ms=None if found.due_at is None else (found.due_at - found.at) // 1000,
            requested_at=at(found.at),
            remaining_timeout_ms=self._time_left(found.due_at),
        )

    @cached_property
    def behind(self) -> str | None:
        from .._engine.queue import ahead_of

        slot, name = self._row.summary.slot or "", self._row.execution_id
        first = next(ahead_of(self._store, slot, name, self._row.summary.queued_at), None)
        return None if first is None else first.execution_id

    def _step(self, name: str, place: int) -> StepStatus:
        step = self._state.steps[name]
        return StepStatus(
            step_name=name,
            step_index=place,
            status=ExecutionState.COMPLETED,
            started_at=at(step.started_at) if step.started_at else None,
            completed_at=at(step.ended_at),
            duration_seconds=(step.ended_at - step.started_at) / 1e6 if step.started_at else None,
            output=self._stored.get(name),
        )

    def _open(self, kind: str) -> list[Operation]:
        """Return the operations of this kind that are waiting."""
        found = (
            known.operations.get(key.removesuffix(f"@{step}"))
            for key, step in self._state.waiting.items()
            if (known := self._state.step(step)) is not None
        )
        return [operation for operation in found if operation is not None and operation.kind == kind]

    def _data(self, operation: Operation) -> Stored | None:
        return None if operation.data is None else self._store_of(operation.data, f"the data of {operation.op}")

    def _time_left(self, due_at: int | None) -> int | None:
        return None if due_at is None else max(0, -((self._now - due_at) // 1000))

    def _store_of(self, value: Value, what: str) -> Stored:
        return Stored(value, self._store, f"{what} of execution {self._row.execution_id}")


def _decode_note(value: Value) -> Any:
    """Decode a note; in a log from elsewhere it may not be JSON."""
    with suppress(ValueError):
        return parse(value.json)
    return value.text


def _is_interrupted(store: Store, row: ExecutionRow) -> bool:
    """Whether no process is running an execution that should run: its holder is dead, or has released it midway."""
    if row.summary.state not in ACTIVE:
        return False
    # Imported here: it loads asyncio, which a list of finished executions does not need.
    from .._engine.leases import leases_of

    if leases_of(store).running(row.execution_id) is not None:
        return False
    if row.holder is not None:
        return not store.lease_left(row.holder)
    if row.summary.state is ExecutionState.QUEUED:
        return False  # a scheduler runs it when it gets its slot
    # a hibernated execution needs no process
    return not (
        row.summary.state in _WAITING
        and (row.summary.wake_at is not None or isinstance(_last_event(store, row), WorkflowHibernated))
    )


def _failed_step(store: Store, row: ExecutionRow) -> str | None:
    if row.summary.state is not ExecutionState.FAILED:
        return None
    last = _last_event(store, row)
    return last.failed_step if isinstance(last, WorkflowFailed) else None


def _last_event(store: Store, row: ExecutionRow) -> object:
    """Read the last event that is not a change of tags, which is possible at any time."""
    version = row.version
    while version:
        (last,) = store.events(row.execution_id, after=version - 1, upto=version) or (None,)
        if not isinstance(last, WorkflowTagged):
            return last
        version -= 1
    return None


def _progress(state: ExecutionState, done: int, total: int) -> float:
    if state is ExecutionState.COMPLETED:
        return 100.0
    return min(round(100 * done / total, 1), _NEARLY_DONE) if total else 0.0
