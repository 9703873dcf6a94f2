"""Lists: ``cerebelum list`` in a log of 100,000 executions, and the newest 50 of a million as the store reads them.

The command's time is its own, beyond that of a Python that starts and ends; the store's is CPU, in this process.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from cerebelum_nb._core.state_name import ExecutionState
from cerebelum_nb._store.event_key import event_key
from cerebelum_nb._store.rows import KINDS
from cerebelum_nb._store.sqlite import SqliteStore

from .measure import ROOT, Figure, Settings, interleave, value_of

__all__ = ["run"]

NAME = "listing"
EXECUTIONS = 100_000
MILLION = 1_000_000
PAGE = 50


def run(settings: Settings) -> list[Figure]:
    path = settings.file("listing.db")
    count = settings.size(EXECUTIONS)
    _fill(path, count)
    python = [sys.executable, "-c", "pass"]
    sides = {
        "list": lambda: _time("-m", "cerebelum_nb", "list", "--db", str(path)),
        "failed": lambda: _time("-m", "cerebelum_nb", "list", "--status", "failed", "--db", str(path)),
        "python": lambda: _time(*python[1:]),
    }
    for measure in sides.values():
        measure()  # also writes the bytecode
    taken = interleave(sides, settings.repeat)
    return [
        value_of(
            NAME,
            what,
            [max(0.0, mine - start) for mine, start in zip(taken[side], taken["python"], strict=True)],
            "ms",
            target=150,
            detail=f"{count} executions in the log; beyond Python's start",
        )
        for what, side in (("cerebelum list", "list"), ("cerebelum list --status failed", "failed"))
    ] + _newest(settings)


def _newest(settings: Settings) -> list[Figure]:
    path, count = settings.file("million.db"), settings.size(MILLION)
    _fill(path, count, events=False)
    with SqliteStore(path) as store:
        sides: dict[str, Callable[[], float]] = {
            "all": lambda: _page(store),
            "failed": lambda: _page(store, states=[ExecutionState.FAILED]),
            "of one workflow": lambda: _page(store, workflow="flow7"),
            "all, and how many there are": lambda: _page(store, exact=True),
        }
        taken = interleave(sides, settings.repeat)
    return [
        value_of(
            NAME,
            f"newest {PAGE} of {count:,}: {side}",
            taken[side],
            "ms",
            target=None if "how many" in side else 2.0,
            detail="CPU, warm",
        )
        for side in sides
    ]


def _page(store: SqliteStore, *, exact: bool = False, **filters: Any) -> float:
    """Read the newest, and return the CPU it took, ms."""
    store.executions(limit=PAGE, exact=exact, **filters)
    began = time.process_time()
    for _ in range(10):
        store.executions(limit=PAGE, exact=exact, **filters)
    return (time.process_time() - began) / 10 * 1e3


def _time(*arguments: str) -> float:
    """Run a command and return how long it took, ms."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment, cwd=ROOT)
    return (time.perf_counter() - began) * 1e3


def _fill(path: Path, count: int, *, events: bool = True) -> None:
    """Write executions of one step each, one in a hundred of them failed, with their events or without."""
    SqliteStore(path, durability="normal").close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA synchronous = off")
        ended = [("FAILED" if n % 100 == 0 else "COMPLETED") for n in range(count)]
        db.executemany(
            """INSERT INTO execution (execution_id, version, workflow, state, started_at, updated_at, completed_at,
                total_steps, done_steps, error) VALUES (?, 4, ?, ?, ?, ?, ?, 1, 1, ?)""",
            (
                (f"x{n:09d}", f"flow{n % 20}", state, n * 10**6, n * 10**6 + 9, n * 10**6 + 9, None)
                for n, state in enumerate(ended)
            ),
        )
        kinds = ("WorkflowStarted", KINDS["StepStarted"], KINDS["StepCompleted"], "WorkflowCompleted")
        failed = (*kinds[:2], "StepFailed", "WorkflowFailed")
        for version in range(1, 5) if events else ():
            db.executemany(
                "INSERT INTO event (key, kind, at, data) VALUES (?, ?, ?, ?)",
                (
                    (
                        event_key(n + 1, version),
                        (failed if state == "FAILED" else kinds)[version - 1],
                        n * 10**6,
                        _data(state, version),
                    )
                    for n, state in enumerate(ended)
                ),
            )
        db.commit()


def _data(state: str, version: int) -> str:
    if state == "FAILED" and version == 4:
        return '{"error":{"type":"E","message":"m"}}'
    return "{}"
