"""Where a step's microseconds go, by component: ``python -m benchmarks.profile > docs/profile.md`` makes the page.

A run of 1,000 no-op steps under `cProfile` gives each function's own time. What a function in C takes counts for
whoever called it, except SQLite, which is a component by itself. Profiling makes every call dearer, so only the shares
are taken from it, and the microseconds from runs without it.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import pstats
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from cerebelum_nb._store.sqlite import SqliteStore

from . import report
from .workloads import chain

__all__ = ["main"]

STEPS = 1_000
RUNS = 7
SQLITE = "SQLite, its system calls included"
COMPONENTS = {
    "/_core/": "core: the driver's decisions, the fold, the events",
    "/_engine/": "engine: attempts, the inbox and its turns, scopes",
    "/_store/": "store: rows, the hash chain, the commit",
    "/_values/": "values: to the log and back",
    "/_dsl/": "plan: the workflow read again at each `execute`",
    "/_workflow/": "plan: the workflow read again at each `execute`",
    "/asyncio/": "asyncio: tasks and turns of the event loop",
}
OTHER = "the step itself, and the rest of Python"

Function = tuple[str, int, str]


def main() -> None:
    """Print the page."""
    work = chain(STEPS)
    with (
        tempfile.TemporaryDirectory(prefix="profile-") as folder,
        SqliteStore(Path(folder, "log.db"), durability="normal") as store,
    ):

        def run(profile: cProfile.Profile | None = None) -> float:
            gc.collect()
            began = time.process_time()
            if profile is None:
                asyncio.run(work.execute(store=store))
            else:
                profile.runcall(asyncio.run, work.execute(store=store))
            return (time.process_time() - began) / STEPS * 1e6

        run()
        taken = [run() for _ in range(RUNS)]
        profile = cProfile.Profile()
        run(profile)
    print(_page(median(taken), min(taken), pstats.Stats(profile)))


def _page(micros: float, least: float, stats: pstats.Stats) -> str:
    own: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for function, (_, count, seconds, _, callers) in stats.stats.items():  # type: ignore[attr-defined]
        if function[0] == "~" and "sqlite3" not in function[2]:
            for caller, (_, _, part, _) in callers.items():
                own[_component(caller)] += part
        else:
            own[_component(function)] += seconds
            calls[_component(function)] += count
    whole = sum(own.values())
    rows = [
        f"| {name} | {calls[name] / STEPS:.1f} | {part / whole:.0%} | {part / whole * micros:.1f} |"
        for name, part in sorted(own.items(), key=lambda item: -item[1])
    ]
    table = "\n".join(["| component | calls | share | us |", "|---|---:|---:|---:|", *rows])
    return f"""# Where a step's microseconds go

A chain of {STEPS:,} no-op async steps at `durability="normal"`, warm, all of `execute` included: **{micros:.0f} us of
CPU a step**, the median of {RUNS} runs; the fastest took {least:.0f}. The table divides the median by component;
"calls" are those of Python functions, and of SQLite's statements.

{table}

{datetime.now(UTC).date()}; {report.machine()}. This page is made by

```bash
python -m benchmarks.profile > docs/profile.md
```

The shares come from a run under `cProfile`, which overstates small calls. On a busy machine the microseconds are too
high and the shares change less; to measure a change there, count instructions before and after it with
`valgrind --tool=callgrind`. With `full`, a commit also waits for the disk, which takes no CPU;
[benchmarks/README.md](../benchmarks/README.md) has those figures."""


def _component(function: Function) -> str:
    file, _, name = function
    if "sqlite3" in name:
        return SQLITE
    place = file.replace("\\", "/")
    return next((component for part, component in COMPONENTS.items() if part in place), OTHER)


if __name__ == "__main__":
    main()
