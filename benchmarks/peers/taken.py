"""What a block takes: seconds, CPU and memory of this process and of those it started (Linux's /proc); a file's size.

Scripts in the peers' environments import it, so it needs the standard library only.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["clock", "since", "size", "taken"]


@contextmanager
def taken(found: dict[str, float], shape: str) -> Iterator[None]:
    """Note under ``shape`` the seconds of the block, and beside it those of CPU and the bytes its peak lies higher."""
    others, peak = _others(), _peak()
    cpu, began = time.process_time(), time.perf_counter()
    yield
    found[shape] = time.perf_counter() - began
    found[f"{shape} CPU"] = time.process_time() - cpu + _others() - others
    found[f"{shape} memory"] = _peak() - peak


def clock() -> tuple[float, float]:
    """Read the time and the CPU of this process, seconds."""
    return time.perf_counter(), time.process_time()


def since(began: tuple[float, float], ended: tuple[float, float], shape: str) -> dict[str, float]:
    """Return what passed between two readings of the clock, by the names that `taken` uses."""
    return {shape: ended[0] - began[0], f"{shape} CPU": ended[1] - began[1]}


def size(path: Path) -> int:
    """Move everything into an SQLite file and return its size."""
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return path.stat().st_size


def _others() -> float:
    """Return the CPU seconds of the descendants, which the kernel counts in ticks."""
    fields = (_stat(pid) for pid in _family() - {os.getpid()})
    return sum(sum(map(int, one[11:13])) for one in fields) / os.sysconf("SC_CLK_TCK")


def _peak() -> int:
    """Return the most memory that each of them ever had, added up."""
    lines = (line for pid in _family() for line in _read(pid, "status").splitlines() if line.startswith("VmHWM"))
    return sum(int(line.split()[1]) for line in lines) * 1024


def _family() -> set[int]:
    """Return this process and its descendants."""
    parents = {int(one.name): int(stat[1]) for one in Path("/proc").glob("[0-9]*") if (stat := _stat(int(one.name)))}
    found, size = {os.getpid()}, 0
    while size < len(found):
        size = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields of a process's stat behind its name: the state first, then the parent's id."""
    return _read(pid, "stat").rpartition(")")[2].split()


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except OSError:  # it has ended
        return ""
