"""``history.executions``, ``steps``, ``events``, ``notes``, ``outputs`` and ``sql``: the log as frames."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .._core.arguments import ExecutionLike, count, names, states, workflow_name
from .._core.events import EVENT_TYPES
from .._core.labels import Labels
from .._text.text import did_you_mean
from .._values.outputs import Outputs
from . import queries
from . import sql as _sql
from .queries import Query
from .since import Since, Zone, converted, since_micros
from .snapshot import state_at
from .sources import Source, each, located, snapshot
from .union import attached, concatenate

if TYPE_CHECKING:
    import pandas as pd

    from .._store.base import Store
    from .frames import Kind

__all__ = ["events", "executions", "notes", "outputs", "sql", "steps"]


def executions(
    workflow: Any = None,
    state: str | Iterable[str] | None = None,
    since: Since | None = None,
    limit: int | None = None,
    *,
    name: str | None = None,
    tags: Iterable[str] = (),
    expand: bool | str | Iterable[str] = False,
    tz: Zone | None = None,
    store: Source | None = None,
) -> pd.DataFrame:
    """Read executions, one row each, newest first.

    Warns if the log has no run of that workflow but runs of others.

    Args:
        workflow: only those of this workflow: its name, or the workflow itself.
        state: only those in this state, or one of several: ``"failed"``, ``ExecutionState.FAILED``.
        since: only those started since then: a datetime, a timedelta or ``"24h"`` ("the last"), or text that pandas
            understands, ``"2026-03-01"``. A time without a zone is local time, or in ``tz`` if given.
        limit: at most this many, the newest.
        name: only those with this name; ``*`` in it stands for any characters: ``"release 4.*"``.
        tags: only those with all of these tags: ``["prod"]``.
        expand: ``"inputs"``, ``"output"``, or True for both: values that are JSON objects become a column per member,
            ``inputs.size``; the other values are parsed, and stay in their column.
        tz: the zone to give times in: ``"Europe/Berlin"``, ``"local"``; by default UTC.
        store: the log, or its path; by default the session's.

    Returns:
        A frame of these columns:

        - ``execution_id`` (str)
        - ``workflow`` (category): its name
        - ``state`` (category): QUEUED, RUNNING, SLEEPING, WAITING_FOR_APPROVAL, WAITING_FOR_SIGNAL, WAITING_FOR_CHILD,
          PAUSED, COMPLETED, FAILED, CANCELLED, ROLLED_BACK; one whose process died keeps the state it had
        - ``started_at``, ``updated_at`` (datetime, UTC): its first and its last event
        - ``completed_at`` (datetime, UTC): when it completed, failed or was cancelled; NaT while it may continue
        - ``duration`` (timedelta): from start to that end, waits and pauses included; NaT while it may continue
        - ``total_steps``, ``done_steps`` (Int64): steps of the timeline, and how many are completed
        - ``current_step`` (str): the step that runs (if several do, the one started last); missing if none does
        - ``inputs``, ``output`` (str): JSON text of what it started or was forked with, and of the last step's value
          once completed; for a value that is not JSON, its preview
        - ``error`` (str): why it failed, ``type: message``
        - ``error_type`` (category): the type alone, to count failures by
        - ``wake_at`` (datetime, UTC): until when it hibernates
        - ``parent`` (str), ``parent_version`` (Int64): the execution it was forked from, and at which event of it
        - ``version`` (Int64): how many events it has
        - ``caller`` (str): for a child, the execution whose step started it
        - ``name`` (str): the name it was given at the start
        - ``tags`` (str): its tags as a JSON list, sorted; missing if it has none

    Raises:
        ValueError: the state, the zone, a tag or ``since`` is invalid, or ``workflow`` is the id of an execution.
        TypeError: an argument is of another type.
        StoreError: the log cannot be read.

    Example:
        >>> from cerebelum_nb import history
        >>> from cerebelum_nb.testing import MemoryStore
        >>> len(history.executions(state="failed", store=MemoryStore()))
        0
    """
    from .frames import EXECUTIONS, expand_values

    workflow, labels = workflow_name(workflow), Labels.of(name, tags)
    wanted = _columns(expand, ("inputs", "output"))
    limit = None if limit is None else count(limit, "limit")
    query = queries.executions(
        workflow,
        states(state),
        None if since is None else since_micros(since, tz),
        limit,
        labels.name or None,
        labels.tags,
    )
    with each(store) as logs:
        made = concatenate({name: _read(log, query, EXECUTIONS) for name, log in logs.items()})
        if made.empty and workflow is not None:
            _warn_if_unknown(workflow, logs)
    if len(logs) > 1:
        made = made.sort_values("started_at", ascending=False, kind="stable", ignore_index=True)
        made = made if limit is None else made.head(limit)
    return expand_values(converted(made, tz), wanted)


def steps(
    execution_id: ExecutionLike | None = None,
    workflow: Any = None,
    step: Any = None,
    state: str | Iterable[str] | None = None,
    *,
    expand: bool | str | Iterable[str] = False,
    tz: Zone | None = None,
    store: Source | None = None,
) -> pd.DataFrame:
    """Read steps, one row per attempt, in the order they started; oldest execution first.

    Args:
        execution_id: only those of this execution.
        workflow: only those of executions of this workflow: its name, or the workflow itself.
        step: only this step's, or several's: its name, or the step itself.
        state: only attempts in this state, or one of several: ``"failed"``.
        expand: True, or ``"output"``: outputs that are JSON objects become a column per member, ``output.url``; the
            other outputs are parsed, and stay in their column.
        tz: the zone to give times in: ``"Europe/Berlin"``, ``"local"``; by default UTC.
        store: the log, or its path; by default the session's.

    Returns:
        A frame of these columns:

        - ``execution_id`` (str), ``workflow`` (category)
        - ``step`` (category): its name
        - ``item`` (str): which item of a ``foreach`` it ran for; missing for other steps, and for the whole of a
          ``foreach``
        - ``visit`` (Int64): 1, and more when a jump or a resume ran it again
        - ``attempt`` (Int64): 1, and more when it was retried or run again in the same visit
        - ``state`` (category): RUNNING, RETRIED (failed, another attempt follows), INTERRUPTED (stopped, or its process
          died), COMPLETED, FAILED
        - ``started_at`` (datetime, UTC)
        - ``completed_at`` (datetime, UTC): when this attempt ended, however it ended; NaT while it has not
        - ``duration`` (timedelta): from start to end; NaT while it has not ended
        - ``output`` (str): JSON text of what it returned; the preview of a value that is not JSON
        - ``error`` (str): why this attempt failed, ``type: message``
        - ``error_type`` (category): the type alone, to count failures by
        - ``code_hash`` (str): fingerprint of the code that ran
        - ``worker`` (category): on a cluster, the worker that ran it; missing otherwise, and while it runs
        - ``source`` (str): the execution and the event that its result was taken from (``k0@17``), with ``cache=``

    Raises:
        ExecutionNotFoundError: there is no such execution.
        ValueError: there is no such state or zone.
        TypeError: an argument is of another type.
        StoreError: the log cannot be read.

    Example:
        >>> run = release.run()
        >>> history.steps(run.execution_id)[["step", "attempt", "state", "output"]]
            step  attempt      state   output
        0  build        1  COMPLETED  "image"
    """
    from .frames import STEP_STATES, STEPS, expand_values

    workflow = workflow_name(workflow)
    wanted = names(state, STEP_STATES, "state of a step")
    columns = _columns(expand, ("output",))
    with _open_logs(store, execution_id) as (logs, full):
        query = queries.steps(full, workflow, _step_names(step), wanted)
        made = concatenate({name: _read(log, query, STEPS) for name, log in logs.items()})
    return expand_values(converted(made, tz), columns)


def events(
    execution_id: ExecutionLike | None = None,
    type: str | Iterable[str] | None = None,  # noqa: A002  # the column's name, and the contract's
    expand: bool = False,
    step: Any = None,
    *,
    tz: Zone | None = None,
    store: Source | None = None,
) -> pd.DataFrame:
    """Read events, one row each, in order; oldest execution first.

    Args:
        execution_id: only those of this execution.
        type: only those of this type, or of several: ``"StepCompleted"``.
        expand: True puts the payload into columns, in place of ``data``.
        step: only what happened to this step, or to several: its name, or the step itself.
        tz: the zone to give times in: ``"Europe/Berlin"``, ``"local"``; by default UTC.
        store: the log, or its path; by default the session's.

    Returns:
        A frame of these columns:

        - ``execution_id`` (str)
        - ``version`` (Int64): 1, 2, 3 ... within its execution
        - ``type`` (category): what happened
        - ``step`` (category), ``visit``, ``attempt`` (Int64): the attempt of the step; missing for events of the
          execution as a whole
        - ``item`` (str): the item of a ``foreach``; missing otherwise
        - ``at`` (datetime, UTC): when
        - ``data`` (str): the rest, as JSON text; missing if there is none

        With ``expand``, a column per field of the payload instead of ``data``: ``due_at``, ``deadline`` and ``wake_at``
        are times, ``duration_ms`` is in milliseconds, and an object becomes a column per member: ``output.ip``,
        ``error.type``, ``output_ref.preview``. A field at its default is not recorded, so it is missing.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        ValueError: there is no such type of event, or no such zone.
        TypeError: an argument is of another type.
        StoreError: the log cannot be read.

    Example:
        >>> run = release.run()
        >>> history.events(run.execution_id)[["version", "type", "step"]]
           version               type   step
        0        1    WorkflowStarted    NaN
        1        2        StepStarted  build
        2        3      StepCompleted  build
        3        4  WorkflowCompleted    NaN
    """
    from . import frames

    if not isinstance(expand, bool):
        raise TypeError(f"expand= must be True or False, not {expand!r}")
    types = names(type, EVENT_TYPES, "type of event")
    with _open_logs(store, execution_id) as (logs, full):
        query = queries.events(full, types, _step_names(step))
        made = concatenate({name: _read(log, query, frames.EVENTS) for name, log in logs.items()})
    return converted(frames.expand(made) if expand else made, tz)


def notes(
    execution_id: ExecutionLike | None = None,
    workflow: Any = None,
    step: Any = None,
    name: str | None = None,
    *,
    expand: bool = False,
    tz: Zone | None = None,
    store: Source | None = None,
) -> pd.DataFrame:
    """Read what steps published with ``context.note``, one row per note, in order; oldest execution first.

    Args:
        execution_id: only those of this execution.
        workflow: only those of executions of this workflow: its name, or the workflow itself.
        step: only this step's, or several's: its name, or the step itself.
        name: only the notes with this name.
        expand: True parses the values: objects become a column per member, ``value.url``.
        tz: the zone to give times in: ``"Europe/Berlin"``, ``"local"``; by default UTC.
        store: the log, or its path; by default the session's.

    Returns:
        A frame of these columns:

        - ``execution_id`` (str), ``workflow`` (category)
        - ``step`` (category), ``item`` (str), ``visit``, ``attempt`` (Int64): which attempt of which step published it
        - ``at`` (datetime, UTC): when
        - ``name`` (str): its name; the last note with a name counts
        - ``value`` (str): JSON text

    Raises:
        ExecutionNotFoundError: there is no such execution.
        ValueError: there is no such zone.
        TypeError: an argument is of another type.
        StoreError: the log cannot be read.

    Example:
        >>> from cerebelum_nb import history
        >>> from cerebelum_nb.testing import MemoryStore
        >>> len(history.notes(store=MemoryStore()))
        0
    """
    from .frames import NOTES, expand_values

    workflow = workflow_name(workflow)
    with _open_logs(store, execution_id) as (logs, full):
        query = queries.notes(full, workflow, _step_names(step), name)
        made = concatenate({one: _read(log, query, NOTES) for one, log in logs.items()})
    return expand_values(converted(made, tz), ("value",) if expand else ())


def outputs(execution_id: ExecutionLike, *, store: Source | None = None) -> Outputs:
    """Read the outputs of the completed steps of an execution, by name, in order of completion.

    A value is decoded when it is looked up. The repr shows all of them; for those that cannot or must not be restored,
    the recorded preview.

    Args:
        execution_id: the execution.
        store: the log, or its path; by default the session's.

    Returns:
        A mapping. Looking up a value that cannot be restored raises SerializationError, or UntrustedValueError when
        the log was opened with ``trusted=False``; the message contains the preview.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        StoreError: the log cannot be read.

    Example:
        >>> run = release.run()
        >>> history.outputs(run.execution_id)["build"]
        'image'
    """
    return state_at(execution_id, store=store).results


def sql(query: str, /, *, tz: Zone | None = None, store: Source | None = None, **params: Any) -> pd.DataFrame:
    """Run a read-only SQL query on the views ``executions``, ``steps``, ``events`` and ``schedules``.

    Args:
        query: one SELECT.
        tz: the zone to give times in: ``"Europe/Berlin"``, ``"local"``; by default UTC.
        store: the log, or its path; by default the session's.
        params: a value for each ``:name`` in the query. A datetime is converted to the format of the views, in UTC;
            without a zone it is local time, or in ``tz`` if given.

    Returns:
        A frame of the answer. Times in the format of the views become ``datetime64[us, UTC]``, whole numbers
        ``Int64``, names that repeat categories; values and payloads are JSON text, and ``steps.duration`` is seconds.

    Raises:
        StoreError: the statement would write; nothing was changed.
        ValueError: the query is wrong, or a ``:name`` has no value.

    Example:
        >>> from cerebelum_nb import history
        >>> from cerebelum_nb.testing import MemoryStore
        >>> history.sql("SELECT count(*) AS runs FROM executions WHERE workflow = :w", w="deploy", store=MemoryStore())
           runs
        0     0
    """
    from .frames import answer

    with each(store) as logs, snapshot(logs[None]) if None in logs else attached(logs, str(query)) as db:
        rows, names = _sql.select(db, query, params, tz)
    return converted(answer(rows, names), tz)


def _columns(given: bool | str | Iterable[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns of values to expand."""
    if isinstance(given, bool):
        return known if given else ()
    return names(given, known, "column of values")


def _step_names(given: Any) -> tuple[str, ...]:
    """Return the names of the given steps; () means all."""
    if given is None:
        return ()
    several = [given] if isinstance(given, str) or not isinstance(given, Iterable) else given
    found = tuple(getattr(one, "name", one) for one in several)
    for one in found:
        if not isinstance(one, str):
            raise TypeError(f"steps= takes steps or their names, not {one!r}")
    return found


def _warn_if_unknown(workflow: str, logs: Mapping[str | None, Store]) -> None:
    """Warn if the log holds no run of this workflow but runs of others.

    Raises:
        ValueError: it is the id of an execution.
    """
    rows = [row for log in logs.values() for row in log.executions()[0]]
    known = dict.fromkeys(row.summary.workflow for row in rows)
    if workflow in known or not known:
        return
    if any(row.execution_id == workflow for row in rows):
        raise ValueError(
            f"{workflow!r} is the id of an execution, but executions() takes the name of a workflow. To read that "
            f"execution: history.state_at({workflow!r}), history.steps({workflow!r}), history.outputs({workflow!r})"
        )
    hint = did_you_mean(workflow, known, f"Available: {', '.join(known)}.")
    warnings.warn(f"the log holds no run of a workflow {workflow!r}. {hint}", stacklevel=3)


@contextmanager
def _open_logs(
    store: Source | None, execution_id: ExecutionLike | None
) -> Iterator[tuple[dict[str | None, Store], str | None]]:
    """Open the log that holds the execution and yield its full id too; without an execution, open all."""
    if execution_id is None:
        with each(store) as logs:
            yield logs, None
        return
    with located(store, execution_id) as (name, log, full):
        yield {name: log}, full


def _read(log: Store, query: Query, columns: Mapping[str, Kind]) -> pd.DataFrame:
    from . import arrow, frames

    with snapshot(log) as db:
        if query.is_bulk and arrow.pays_off(db) and (table := arrow.read(db, query, columns)) is not None:
            return arrow.frame(table, columns)
        return frames.frame(db.execute(query.sql, query.parameters).fetchall(), columns)
