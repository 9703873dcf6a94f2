"""Bytes on disk per no-op step after a checkpoint: the file's growth, with indexes and all."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from cerebelum_nb._store.sqlite import SqliteStore

from .measure import Figure, Settings
from .workloads import chain

__all__ = ["checkpointed_size", "run"]

NAME = "disk"
STEPS = 1_000
RUNS = 10


def checkpointed_size(path: Path) -> int:
    """Move everything into the database file and return its size."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return path.stat().st_size


def run(settings: Settings) -> list[Figure]:
    steps, path = settings.size(STEPS), settings.file("disk.db")
    work = chain(steps)
    with SqliteStore(path, durability="normal") as store:
        empty = checkpointed_size(path)
        for _ in range(RUNS):
            asyncio.run(work.execute(store=store))
        taken = checkpointed_size(path) - empty
    value = taken / (RUNS * steps)
    return [
        Figure(
            benchmark=NAME,
            name="bytes a no-op step",
            value=value,
            unit="bytes",
            target=150,
            detail=f"{RUNS} runs of {steps:,}",
        )
    ]
