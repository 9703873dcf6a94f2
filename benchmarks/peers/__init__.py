"""Other libraries on the same shapes, each in an environment of its own.

The environments are made here with venv and pip at first use and kept in ``.venv`` beside this file. Every
round runs each library once in a fresh process with a fresh database; ours runs at ``full``, as the others do:
an fsync per commit. A figure is how many times as much time as ours they take: 5 are wanted at a library's
default, 2 at its best setting.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import median

from ..measure import Figure, Settings, compare, in_child, interleave, value_of
from .servers import program

__all__ = ["BEST", "DEFAULT", "Taken", "Variants", "beside_ours", "bytes_of", "figures_of", "run"]

NAME = "peers"
HERE = Path(__file__).parent
STEPS, SIBLINGS, EXECUTIONS = 1_000, 100, 100
ROUNDS = 5
DEFAULT, BEST = 5.0, 2.0

Taken = dict[str, float]
"""What a script printed: the seconds, CPU seconds and bytes of its shapes."""
Variants = Mapping[str, tuple[float | None, str, *tuple[str, ...]]]
"""By name: how many times as much time as ours is wanted, the library, the modes of its script."""
VARIANTS: Variants = {
    "DBOS as it comes": (DEFAULT, "dbos", "async"),
    "DBOS in WAL mode": (BEST, "dbos", "async", "wal"),
    "DBOS in WAL mode, sync steps": (BEST, "dbos", "sync", "wal"),
    "DBOS on PostgreSQL as it comes": (DEFAULT, "dbos", "async", "postgres"),
    "DBOS on PostgreSQL, sync steps": (BEST, "dbos", "sync", "postgres"),
    "LangGraph": (DEFAULT, "langgraph", "chain"),
    "LangGraph, one node in a loop": (BEST, "langgraph", "loop"),
    "Prefect as it comes": (DEFAULT, "prefect"),
    "Temporal, activities": (DEFAULT, "temporal", "activities"),
    "Temporal, local activities": (BEST, "temporal", "local"),
}


def run(settings: Settings) -> list[Figure]:
    steps, siblings, executions = (settings.size(size) for size in (STEPS, SIBLINGS, EXECUTIONS))
    variants = VARIANTS
    if not program("postgres"):
        settings.progress("no PostgreSQL here (apt-get install postgresql)")
        variants = {name: variant for name, variant in VARIANTS.items() if "postgres" not in variant}
    found = beside_ours(settings, variants, (), [steps, siblings, executions, 0])
    shapes = {
        "sequential": (f"{steps:,} steps", steps),
        "fanout": (f"1 -> {siblings} -> 1", siblings),
        "concurrency": (f"{executions} x 10 steps at once", executions * 10),
    }
    figures: list[Figure] = []
    for shape, (title, count) in shapes.items():
        figures += figures_of(NAME, title, shape, found, variants, count)
    return figures + bytes_of(NAME, "a step on disk", "disk", found, variants, 1)


def beside_ours(
    settings: Settings, variants: Variants, ours: tuple[str, ...], sizes: list[int]
) -> dict[str, list[Taken]]:
    """Run the scripts of ours, with the given modes, and of all variants, in turns."""
    numbers = [str(size) for size in sizes]
    pythons = {library: _environment(library, settings) for library in ("ours", *(v[1] for v in variants.values()))}

    def measured(library: str, *modes: str) -> Taken:
        settings.progress(" ".join((library, *modes)))
        folder = settings.directory / "peer"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        script = ("-m", f"benchmarks.peers.run_{library}", str(folder / "peer.db"))
        if "resume" in modes:  # of what failed in another process
            in_child(*script, *numbers, *modes, "fail", python=pythons[library])
        return in_child(*script, *numbers, *modes, python=pythons[library])

    sides = {"ours": partial(measured, "ours", *ours)}
    sides |= {name: partial(measured, library, *modes) for name, (_, library, *modes) in variants.items()}
    return interleave(sides, min(settings.repeat, ROUNDS))


def figures_of(
    benchmark: str, title: str, shape: str, found: Mapping[str, list[Taken]], variants: Variants, count: int
) -> list[Figure]:
    """Make the figures of each variant that has the shape: its time and its CPU to ours, over so many."""
    return [
        compare(
            benchmark,
            f"{title}{what}: {name} to ours",
            [one[f"{shape}{what}"] / count for one in found["ours"]],
            [one[f"{shape}{what}"] / count for one in found[name]],
            target=None if what else target,
            target_is="at least",
            detail=lambda ours, theirs: f"{theirs * 1e6:,.0f} us, ours {ours * 1e6:,.0f} us",
        )
        for name, (target, *_) in variants.items()
        if shape in found[name][0]
        for what in ("", " CPU")
    ]


def bytes_of(
    benchmark: str, title: str, shape: str, found: Mapping[str, list[Taken]], variants: Variants, count: int
) -> list[Figure]:
    """Make a figure of each variant that has the shape: how many bytes over ``count``."""
    ours = median(one[shape] for one in found["ours"]) / count
    return [
        value_of(
            benchmark,
            f"{title}: {name}",
            [one[shape] / count for one in found[name]],
            "bytes",
            target=None,
            detail=f"ours {ours:,.0f} bytes",
        )
        for name in variants
        if shape in found[name][0]
    ]


def _environment(library: str, settings: Settings) -> Path:
    """Make the environment unless it is there; return its interpreter. Ours is the one that runs."""
    if library == "ours":
        return Path(sys.executable)
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
