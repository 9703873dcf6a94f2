"""The event log as DataFrames.

    from cerebelum_nb import history
    history.executions(state="failed", since="7d")
    history.steps("k3v9")

Every function reads the session's log, or the one given as ``store=`` (a log, or the path of one), and never
writes; ``history.open`` takes several at once. Times are UTC, ``datetime64[us, UTC]``; lengths of time are
``timedelta64[us]``; whole numbers are the nullable ``Int64``; text is ``str``; names that repeat (workflow, step,
state, type) are categories. An id may be shortened as long as it is unambiguous, and a result or a run can be given
instead. Only public functions live here;
pandas is imported when one is called.
"""

from __future__ import annotations

from ._history.database import database
from ._history.diff import diff
from ._history.graph import graph
from ._history.open import open  # noqa: A004  # history.open is what it does
from ._history.plots import plot, plot_durations, plot_failures, plot_time, plot_trend
from ._history.replay import replay, slider
from ._history.schedules import schedules
from ._history.snapshot import state_at
from ._history.tables import events, executions, notes, outputs, sql, steps
from ._history.try_step import try_step

__all__ = [
    "database",
    "diff",
    "events",
    "executions",
    "graph",
    "notes",
    "open",
    "outputs",
    "plot",
    "plot_durations",
    "plot_failures",
    "plot_time",
    "plot_trend",
    "replay",
    "schedules",
    "slider",
    "sql",
    "state_at",
    "steps",
    "try_step",
]
