"""The few things every benchmark shares: sizes, timing side by side, and the figures that come out."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeVar

__all__ = ["ROOT", "Figure", "Settings", "compare", "in_child", "interleave", "value_of"]

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[1]
NO_TELEMETRY = {"DO_NOT_TRACK": "1", "LANGSMITH_TRACING": "false", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How often, how large, and where the files go (a real disk, or `full` means nothing)."""

    directory: Path
    repeat: int = 7
    scale: float = 1.0
    progress: Callable[[str], None] = lambda _: None

    def size(self, full: int) -> int:
        """Scale a size; tests run tiny ones."""
        return max(2, round(full * self.scale))

    def times(self, full: int) -> int:
        """Scale a number of inner repetitions."""
        return max(1, round(full * min(1.0, self.scale)))

    def file(self, name: str) -> Path:
        """Return the path of a new database; one of an earlier benchmark is removed."""
        path = self.directory / name
        for suffix in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number, and what it was to be."""

    benchmark: str
    name: str
    value: float
    unit: Literal["x", "ms", "us", "bytes", "MB", ""] = "x"
    target: float | None = None
    target_is: Literal["at most", "at least", "exactly"] = "at most"
    spread: tuple[float, float] | None = None
    detail: str = ""

    @property
    def meets(self) -> bool | None:
        """Whether the target is met; None when there is none."""
        if self.target is None:
            return None
        if self.target_is == "exactly":
            return self.value == self.target
        return self.value <= self.target if self.target_is == "at most" else self.value >= self.target

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON members."""
        return {**asdict(self), "meets": self.meets}


def interleave(sides: Mapping[str, Callable[[], T]], repeat: int) -> dict[str, list[T]]:
    """Measure every side once per round, A B then B A, so that a drifting machine hits them alike."""
    taken: dict[str, list[T]] = {name: [] for name in sides}
    for round_ in range(repeat):
        order = list(sides) if round_ % 2 == 0 else list(sides)[::-1]
        for name in order:
            gc.collect()
            taken[name].append(sides[name]())
    return taken


def compare(
    benchmark: str,
    name: str,
    ours: list[float],
    floor: list[float],
    *,
    target: float | None,
    target_is: Literal["at most", "at least"] = "at most",
    detail: Callable[[float, float], str],
) -> Figure:
    """Make a figure of two sides: the ratio of the medians, and the lowest and highest of single pairs.

    ``at least`` turns the ratio round: how many times as fast we are as the floor.
    """
    a, b = median(ours), median(floor)
    inverted = target_is == "at least"
    pairs = [y / x if inverted else x / y for x, y in zip(ours, floor, strict=True)]
    return Figure(
        benchmark=benchmark,
        name=name,
        value=b / a if inverted else a / b,
        target=target,
        target_is=target_is,
        spread=(min(pairs), max(pairs)),
        detail=detail(a, b),
    )


def value_of(
    benchmark: str,
    name: str,
    values: list[float],
    unit: Literal["ms", "us", "bytes"],
    *,
    target: float | None,
    detail: str,
) -> Figure:
    """Make a figure of one side: its median."""
    spread = (min(values), max(values))
    return Figure(
        benchmark=benchmark,
        name=name,
        value=median(values),
        unit=unit,
        target=target,
        spread=spread,
        detail=detail,
    )


def in_child(*arguments: str, python: str | Path = sys.executable) -> dict[str, Any]:
    """Run a script in a fresh interpreter and return the JSON object it prints last."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **NO_TELEMETRY}
    done = subprocess.run(
        [str(python), *arguments], capture_output=True, text=True, env=environment, cwd=ROOT, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
