"""Run the benchmarks: ``python -m benchmarks [name ...]``; see README.md beside this file."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from . import report
from .measure import Figure, Settings

__all__ = ["NAMES", "main", "measure"]

NAMES = (
    "sequential",
    "fanout",
    "concurrency",
    "constant",
    "resume",
    "plan",
    "imports",
    "dashboard",
    "listing",
    "reading",
    "disk",
    "keeping",
    "memory",
    "waiting",
    "checkpoints",
    "turns",
    "cold",
    "observing",
    "foreach",
    "live",
    "distributed",
    "peers",
    "peers.items",
    "peers.resume",
)
"""In the order in which they run."""
ON_DEMAND = ("distributed", "peers", "peers.items", "peers.resume")
"""These run when named, or with --all: they start a server, or install other libraries."""


def measure(name: str, settings: Settings) -> list[Figure]:
    """Run one benchmark."""
    run: Callable[[Settings], list[Figure]] = import_module(f"benchmarks.{name}").run
    return run(settings)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"which: {', '.join(NAMES)} (all but the last four)")
    parser.add_argument(
        "--all", action="store_true", help="with the last four, which start a server, install libraries"
    )
    parser.add_argument("--repeat", type=int, default=7, help="measurements per side, in turns (7)")
    parser.add_argument("--scale", type=float, default=1.0, help="sizes as a part of the real ones, to try things out")
    parser.add_argument("--directory", type=Path, help="where the databases go: a real disk (the temporary folder)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--markdown", action="store_true", help="print the README's table instead")
    given = parser.parse_args(arguments)
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    names = given.names or [name for name in NAMES if given.all or name not in ON_DEMAND]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=given.directory) as directory:
        for name in names:

            def tell(what: str, name: str = name) -> None:
                print(f"{name}: {what}", file=sys.stderr, flush=True)

            tell("...")
            settings = Settings(directory=Path(directory), repeat=given.repeat, scale=given.scale, progress=tell)
            figures += measure(name, settings)
    if given.json:
        found = {"machine": report.machine(), "figures": [figure.to_json() for figure in figures]}
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    if given.markdown:
        today = datetime.now(UTC).date()
        print(f"{today}; {report.machine()}; {given.repeat} measurements a side.\n\n{report.markdown(figures)}")
    else:
        report.show(figures)


if __name__ == "__main__":
    main()
