"""What a person waits for first, in CPU: the first result in a new folder, in one that has a log, and two commands.

Each is a fresh interpreter; its CPU is that of the whole process, Python's own start included. Bytecode is there, as
after an installation: without it, compiling click alone takes 35 ms.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from .measure import Figure, Settings, value_of

__all__ = ["run"]

NAME = "cold"
_FIRST = """
from cerebelum_nb import step, workflow
@step
def one(inputs): return 1
@workflow
def first(wf): wf.timeline(one)
assert first.run().output == 1
"""


def run(settings: Settings) -> list[Figure]:
    fresh, used = settings.directory / "fresh", settings.directory / "used"
    used.mkdir(exist_ok=True)
    script = settings.directory / "first.py"
    script.write_text(_FIRST)
    first, command = [sys.executable, str(script)], [sys.executable, "-m", "cerebelum_nb"]
    for once in first, [*command, "list"], [*command, "--help"]:
        _cpu(once, used)  # also writes the bytecode

    def anew() -> float:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        return _cpu(first, fresh)

    times = {
        ("first result in a new folder", 200.0): [anew() for _ in range(settings.repeat)],
        ("first result in a folder with a log", 120.0): [_cpu(first, used) for _ in range(settings.repeat)],
        ("cerebelum list", 120.0): [_cpu([*command, "list"], used) for _ in range(settings.repeat)],
        ("cerebelum --help", 100.0): [_cpu([*command, "--help"], used) for _ in range(settings.repeat)],
    }
    return [
        value_of(NAME, name, taken, "ms", target=target, detail="CPU of the whole process, Python's start included")
        for (name, target), taken in times.items()
    ]


def _cpu(command: list[str], folder: Path) -> float:
    """Run a command in a folder and return the CPU it took, in ms."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3
