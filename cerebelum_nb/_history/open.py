"""``history.open``: the functions of history bound to one log, or to several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Concatenate, Generic, ParamSpec, TypeVar

from .._core.arguments import ExecutionLike
from . import plots, tables
from .database import database
from .diff import diff
from .graph import graph
from .replay import replay, slider
from .schedules import schedules
from .snapshot import state_at
from .sources import Log, Logs, located
from .try_step import try_step

__all__ = ["History", "open"]

P = ParamSpec("P")
R = TypeVar("R")


class over_all(Generic[P, R]):  # noqa: N801  # used like a decorator
    """Make a function of history a method over all the logs, which become its ``store=``."""

    def __init__(self, function: Callable[P, R]) -> None:
        self.function, self.__doc__ = function, function.__doc__

    def __get__(self, logs: History, owner: type[History]) -> Callable[P, R]:
        @wraps(self.function)
        def bound(*args: P.args, **kwargs: P.kwargs) -> R:
            kwargs.setdefault("store", logs)
            return self.function(*args, **kwargs)

        return bound


class in_one(Generic[P, R]):  # noqa: N801  # used like a decorator
    """Make a function of one execution a method: the log that holds the execution becomes its ``store=``."""

    def __init__(self, function: Callable[Concatenate[ExecutionLike, P], R]) -> None:
        self.function, self.__doc__ = function, function.__doc__

    def __get__(self, logs: History, owner: type[History]) -> Callable[Concatenate[ExecutionLike, P], R]:
        @wraps(self.function)
        def bound(execution_id: ExecutionLike, /, *args: P.args, **kwargs: P.kwargs) -> R:
            with located(logs, execution_id) as (name, log, full):
                store = log if name is None else logs.named[name]
            kwargs.setdefault("store", store)
            return self.function(full, *args, **kwargs)

        return bound


class History(Logs):
    """One log or several, with every function of ``history`` as a method; ``open`` makes it.

    Frames have a first column ``log`` (category), the name of the log a row is from. An execution is found in
    the log that holds it. ``logs["prod"]`` is the same over that log only.
    """

    executions = over_all(tables.executions)
    steps = over_all(tables.steps)
    events = over_all(tables.events)
    notes = over_all(tables.notes)
    schedules = over_all(schedules)
    sql = over_all(tables.sql)
    database = over_all(database)
    diff = over_all(diff)
    plot_durations = over_all(plots.plot_durations)
    plot_failures = over_all(plots.plot_failures)
    plot_time = over_all(plots.plot_time)
    plot_trend = over_all(plots.plot_trend)
    try_step = over_all(try_step)
    graph = in_one(graph)
    outputs = in_one(tables.outputs)
    plot = in_one(plots.plot)
    replay = in_one(replay)
    slider = in_one(slider)
    state_at = in_one(state_at)

    def __getitem__(self, name: str) -> History:
        if name not in self.named:
            raise KeyError(f"no log is named {name!r}; available: {', '.join(self.named)}")
        return History({name: self.named[name]})


def open(  # noqa: A001  # its public name is history.open
    logs: Log | Iterable[Log] | Mapping[str, Log], /
) -> History:
    """Open one log, or several at once, for reading.

    Args:
        logs: a log or the path of one, several of them, or a mapping of names to them. Without a name, a log is
            named by its path.

    Returns:
        Every function of ``history`` as a method, over these logs. Frames have a first column ``log`` (category), and
        so have the views that ``sql`` asks: one query over all of them, which may group, sort and count across logs
        (if they are more than ten, SQLite's limit, they are all read first). An execution is found in the log that
        holds it; an id or prefix that several logs hold is refused. ``logs["prod"]`` is one of them. A path is opened
        for each call, and closed after it.

    Raises:
        StoreError: there is no log at a path.
        ValueError: no log is given, or two have one name.

    Example:
        >>> from cerebelum_nb import history
        >>> from cerebelum_nb.testing import MemoryStore
        >>> logs = history.open({"prod": MemoryStore(), "test": MemoryStore()})
        >>> list(logs.executions().columns[:3])
        ['log', 'execution_id', 'workflow']
        >>> logs.sql("SELECT count(*) AS runs FROM executions WHERE log = :log", log="prod")
           runs
        0     0
    """
    return History(logs)
