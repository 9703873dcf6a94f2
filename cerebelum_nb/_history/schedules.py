"""The schedules of a log as a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._core.schedule import ScheduleState
from .._text.recurrence import format_rule
from .since import Zone, converted
from .sources import Source, each
from .union import concatenate

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["schedules"]


def schedules(*, tz: Zone | None = None, store: Source | None = None) -> pd.DataFrame:
    """Read schedules, one row each, ordered by id; deleted ones are left out.

    The ids of a schedule's executions begin with its id and a dash.

    Args:
        tz: the zone to give times in: ``"Europe/Berlin"``, ``"local"``; by default UTC.
        store: the log, or its path; by default the session's.

    Returns:
        A frame of these columns:

        - ``schedule_id`` (str), ``workflow`` (category)
        - ``state`` (category): ACTIVE or PAUSED
        - ``when`` (str): its cron expression, or its interval
        - ``timezone`` (category): the zone of its cron expression
        - ``next_at`` (datetime, UTC): when it starts the next execution; NaT while it is paused
        - ``last_at`` (datetime, UTC), ``last_execution`` (str): the last time, and the execution started for it
        - ``overlap`` (category): what happens if the previous execution has not ended, skip or queue
        - ``catch_up`` (timedelta): how late an execution may still start
        - ``inputs`` (str): JSON text of what executions are started with
        - ``note`` (str): why nothing was started at the last time; missing when something was
        - ``updated_at`` (datetime, UTC), ``version`` (Int64): its last event, and how many it has

    Raises:
        ValueError: there is no such zone.
        StoreError: the log cannot be read.

    Example:
        >>> from cerebelum_nb import history
        >>> from cerebelum_nb.testing import MemoryStore
        >>> log = MemoryStore()
        >>> made = release.schedule(every="2 hours", store=log)
        >>> history.schedules(store=log)[["schedule_id", "state", "when"]]
          schedule_id   state      when
        0     release  ACTIVE  every 2h
    """
    from .frames import SCHEDULES, frame

    with each(store) as logs:
        made = {name: frame(list(map(_row, log.schedules())), SCHEDULES) for name, log in logs.items()}
    return converted(concatenate(made), tz)


def _row(state: ScheduleState) -> tuple[Any, ...]:
    definition = state.definition
    return (
        state.schedule_id,
        definition.workflow,
        state.state,
        format_rule(definition.cron, definition.every),
        definition.timezone,
        state.next_at,
        state.last_at,
        state.last_execution,
        definition.overlap,
        definition.catch_up,
        definition.inputs,
        state.note,
        state.updated_at,
        state.version,
    )
