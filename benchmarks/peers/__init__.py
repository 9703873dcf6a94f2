"""DBOS (SQLite) and LangGraph (SqliteSaver) on the same shapes, each in an environment of its own.

The environments are made here with venv and pip at first use and kept in ``.venv`` beside this file. Every
round runs each library once in a fresh process with a fresh database; ours runs at ``full``, as the others do:
an fsync per commit.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..measure import Figure, Settings, compare, in_child, interleave

__all__ = ["run"]

NAME = "peers"
HERE = Path(__file__).parent
STEPS, SIBLINGS, EXECUTIONS = 1_000, 100, 100
ROUNDS = 5
VARIANTS = {
    "DBOS as it comes": ("dbos", "async"),
    "DBOS in WAL mode": ("dbos", "async", "wal"),
    "DBOS in WAL mode, sync steps": ("dbos", "sync", "wal"),
    "LangGraph": ("langgraph", "chain"),
    "LangGraph, one node in a loop": ("langgraph", "loop"),
}


def run(settings: Settings) -> list[Figure]:
    sizes = (settings.size(STEPS), settings.size(SIBLINGS), settings.size(EXECUTIONS))
    numbers = [str(size) for size in sizes]
    pythons = {library: _environment(library, settings) for library in ("dbos", "langgraph")}

    def ours() -> dict[str, float]:
        return in_child("-m", "benchmarks.peers.run_ours", str(settings.file("ours.db")), *numbers)

    def theirs(library: str, *modes: str) -> dict[str, float]:
        settings.progress(f"{library} {' '.join(modes)}")
        script = str(HERE / f"run_{library}.py")
        return in_child(script, str(settings.file("peer.db")), *numbers, *modes, python=pythons[library])

    sides: dict[str, Callable[[], dict[str, float]]] = {"ours": ours}
    sides |= {name: partial(theirs, *variant) for name, variant in VARIANTS.items()}
    found = interleave(sides, min(settings.repeat, ROUNDS))
    figures = []
    for shape, unit, title in _shapes(*sizes):
        for variant in VARIANTS:
            if shape not in found[variant][0]:
                continue
            figures.append(
                compare(
                    NAME,
                    f"{title}: {variant} to ours",
                    [one[shape] for one in found[variant]],
                    [one[shape] for one in found["ours"]],
                    target=None,
                    detail=partial(_detail, unit),
                )
            )
    return figures


def _shapes(steps: int, siblings: int, executions: int) -> list[tuple[str, float, str]]:
    """Name the shapes: key, what a value is divided by (0: it is bytes), title."""
    return [
        ("sequential", steps, f"{steps:,} steps"),
        ("fanout", siblings, f"1 -> {siblings} -> 1"),
        ("concurrency", executions * 10, f"{executions} x 10 steps at once"),
        ("disk", 0, "disk"),
    ]


def _detail(steps: float, theirs: float, ours: float) -> str:
    return f"{_say(theirs, steps)}, ours {_say(ours, steps)}"


def _say(value: float, steps: float) -> str:
    return f"{value / steps * 1e6:,.0f} us a step" if steps else f"{value:,.0f} bytes a step"


def _environment(library: str, settings: Settings) -> Path:
    """Make the environment unless it is there; return its interpreter."""
    wanted = HERE / f"requirements-{library}.txt"
    folder = HERE / ".venv" / f"{library}-{sys.version_info.major}.{sys.version_info.minor}"
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted.read_text():
        settings.progress(f"installing {library}")
        venv.create(folder, clear=True, with_pip=True)
        pip = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            str(wanted),
        ]
        subprocess.run(pip, check=True)
        stamp.write_text(wanted.read_text())
    return python
