"""``cerebelum list`` in a log of 100,000 executions: its own time, beyond that of a Python that starts and ends."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from cerebelum_nb._store.sqlite import SqliteStore

from .measure import ROOT, Figure, Settings, interleave, value_of

__all__ = ["run"]

NAME = "listing"
EXECUTIONS = 100_000


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
    ]


def _time(*arguments: str) -> float:
    """Run a command and return how long it took, ms."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment, cwd=ROOT)
    return (time.perf_counter() - began) * 1e3


def _fill(path: Path, count: int) -> None:
    """Write executions of one step each, one in a hundred of them failed, with their events."""
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
        kinds = ("WorkflowStarted", "StepStarted", "StepCompleted", "WorkflowCompleted")
        failed = (*kinds[:2], "StepFailed", "WorkflowFailed")
        for version in range(1, 5):
            db.executemany(
                "INSERT INTO event (execution, version, type, step, visit, attempt, at, data) "
                "VALUES (?, ?, ?, NULL, NULL, NULL, ?, ?)",
                (
                    (
                        n + 1,
                        version,
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
