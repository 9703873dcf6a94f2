"""Reading history: a million events into a DataFrame, one run of a large log and of a small one, the state at an event.

Each side reads a closed log in turns in this process. The bare reads fetch the same columns: Arrow's driver into a
table, ``pandas.read_sql_query`` into a frame of the same dtypes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd

from cerebelum_nb import history
from cerebelum_nb._history import arrow, queries
from cerebelum_nb._store.event_key import event_key
from cerebelum_nb._store.rows import KINDS
from cerebelum_nb._store.sqlite import SqliteStore

from .measure import Figure, Settings, compare, interleave

__all__ = ["run"]

NAME = "reading"
EVENTS = 1_000_000
STEPS = 9
PER_RUN = 2 * STEPS + 2
SMALL = 100
"""Runs in the small log."""
LONG = 10_000
"""Steps of the long run whose state is folded; of the short one a tenth."""

_DTYPES = {
    "execution_id": "str",
    "version": "Int64",
    "type": "category",
    "step": "category",
    "visit": "Int64",
    "attempt": "Int64",
    "data": "str",
}


def run(settings: Settings) -> list[Figure]:
    large, small, long = (settings.file(f"{name}.db") for name in ("large", "small", "long"))
    runs = settings.size(EVENTS // PER_RUN)
    _fill(large, {STEPS: runs})
    _fill(small, {STEPS: SMALL})
    steps = settings.size(LONG)
    _fill(long, {steps: 1, max(1, steps // 10): 1})
    return [*_bulk(large, settings, runs), *_fixed(large, small, settings), *_folds(long, steps, settings)]


def _bulk(path: Path, settings: Settings, runs: int) -> Iterator[Figure]:
    with mock.patch.object(arrow, "pays_off", return_value=True):
        taken = _taken({"ours": lambda: history.events(store=path), "floor": lambda: _bare_arrow(path)}, settings)
    yield _ratio(f"events() of {runs * PER_RUN:,} events through Arrow to the bare read", taken, 1.3)
    with mock.patch.object(arrow, "pays_off", return_value=False):
        taken = _taken({"ours": lambda: history.events(store=path), "floor": lambda: _bare_pandas(path)}, settings)
    yield _ratio("the same without Arrow, to read_sql_query with the same dtypes", taken, 1.3)


def _fixed(large: Path, small: Path, settings: Settings) -> Iterator[Figure]:
    with SqliteStore(large) as much, SqliteStore(small) as little:
        asked: dict[str, Callable[[SqliteStore], Any]] = {
            'events("run-50")': lambda log: history.events("run-0000050", store=log),
            'steps("run-50")': lambda log: history.steps("run-0000050", store=log),
            'state_at("run-50")': lambda log: history.state_at("run-0000050", store=log),
            'executions(state="failed", limit=50)': lambda log: history.executions(state="failed", limit=50, store=log),
        }
        for name, ask in asked.items():
            sides = {"ours": lambda ask=ask: ask(much), "floor": lambda ask=ask: ask(little)}
            yield _ratio(f"CPU of {name} in the large log to a log of {SMALL} runs", _taken(sides, settings, 50), 1.3)


def _folds(long: Path, steps: int, settings: Settings) -> Iterator[Figure]:
    short = max(1, steps // 10)
    with SqliteStore(long) as log:
        sides = {
            "ours": lambda: history.state_at("run-0000000", store=log),
            "floor": lambda: history.state_at("run-0000001", store=log),
        }
        taken = _taken(sides, settings, 5)
        per_event = {
            "ours": [each / (2 * steps + 2) for each in taken["ours"]],
            "floor": [each / (2 * short + 2) for each in taken["floor"]],
        }
        yield _ratio(
            f"CPU of state_at per event, {2 * steps + 2:,} of them to {2 * short + 2:,}", per_event, None, "us"
        )


def _taken(sides: dict[str, Callable[[], Any]], settings: Settings, times: int = 0) -> dict[str, list[float]]:
    """Measure each side in turns; return the seconds of one call: of CPU, for a short one called several times."""
    clock, count = (time.process_time, settings.times(times)) if times else (time.perf_counter, 1)

    def timed(call: Callable[[], Any]) -> float:
        began = clock()
        for _ in range(count):
            call()
        return (clock() - began) / count

    for call in sides.values():
        call()
    return interleave({name: lambda call=call: timed(call) for name, call in sides.items()}, settings.repeat)


def _ratio(name: str, taken: dict[str, list[float]], target: float | None, unit: str = "ms") -> Figure:
    scale = 1e6 if unit == "us" else 1e3
    return compare(
        NAME,
        name,
        taken["ours"],
        taken["floor"],
        target=target,
        detail=lambda ours, floor: f"{ours * scale:.3g} {unit} and {floor * scale:.3g}",
    )


def _bare_arrow(path: Path) -> Any:
    from adbc_driver_sqlite import dbapi

    with dbapi.connect(f"{path.as_uri()}?mode=ro", autocommit=True) as log, log.cursor() as cursor:
        cursor.execute(queries.events().sql, queries.events().parameters)
        return cursor.fetch_arrow_table()


def _bare_pandas(path: Path) -> pd.DataFrame:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as log:
        query, times = queries.events(), {"at": {"unit": "us", "utc": True}}
        return pd.read_sql_query(query.sql, log, params=query.parameters, dtype=_DTYPES, parse_dates=times)


def _fill(path: Path, lengths: dict[int, int]) -> None:
    """Write so many runs of each number of steps, one in ten of them failed at its last."""
    SqliteStore(path, durability="normal").close()
    runs = [steps for steps, count in lengths.items() for _ in range(count)]
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA synchronous = off")
        db.executemany(
            """INSERT INTO execution (execution_id, version, workflow, state, started_at, updated_at, completed_at,
                total_steps, done_steps, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
            (_execution(number, steps) for number, steps in enumerate(runs)),
        )
        db.executemany(
            "INSERT INTO event (key, kind, step, visit, attempt, at, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (event_key(number + 1, version), *event)
                for number, steps in enumerate(runs)
                for version, event in enumerate(_events(number, steps), 1)
            ),
        )
        db.commit()


def _execution(number: int, steps: int) -> tuple[object, ...]:
    failed, at = number % 10 == 0, number * 10**7
    state, error = ("FAILED", "ValueError: no such thing") if failed else ("COMPLETED", None)
    workflow = f"flow{number % 5}"
    times = (at, at + steps + 1, at + steps + 1)
    return (f"run-{number:07d}", 2 * steps + 2, workflow, state, *times, steps, steps - failed, error)


def _events(number: int, steps: int) -> Iterator[tuple[object, ...]]:
    failed, at = number % 10 == 0, number * 10**7
    inputs = f'"inputs":{{"size":"s-1vcpu-1gb","n":{number}}}'
    begun = f'{{"workflow":"flow{number % 5}","total_steps":{steps},"module":"__main__",{inputs}}}'
    error = '"error":{"type":"ValueError","message":"no such thing"}'
    yield "WorkflowStarted", None, None, None, at, begun
    for step in range(steps):
        name = f"step_{step}"
        yield KINDS["StepStarted"], name, 1, 1, at + step, '{"code":"0123456789abcdef"}'
        if failed and step == steps - 1:
            yield "StepFailed", name, 1, 1, at + step + 1, f"{{{error}}}"
        else:
            output = f'{{"output":{{"ip":"10.0.0.{step}","status":"ok","took":{number % 100}.5}}}}'
            yield KINDS["StepCompleted"], name, 1, 1, at + step + 1, output
    ended = f'{{{error},"failed_step":"{name}"}}' if failed else f'{{"last_step":"{name}"}}'
    yield "WorkflowFailed" if failed else "WorkflowCompleted", None, None, None, at + steps + 1, ended
