"""Run the examples in the docstrings of a package or a module, in their own process: they may change it.

python run_examples.py cerebelum_nb._engine

An example may use what `cerebelum_nb` and its `testing` export without importing it, and ``release``, a workflow of one
step, ``build``, which returns "image". The log of the session, ``log``, is a new one in memory for each example.
"""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import importlib
import pkgutil
import sys
import tempfile
from typing import Any

import cerebelum_nb
from cerebelum_nb import connect, step, testing, workflow


@step
def build() -> str:
    return "image"


@workflow
def release(wf: Any) -> None:
    wf.timeline(build)


def modules(name: str) -> list[str]:
    found = importlib.import_module(name)
    inner = pkgutil.walk_packages(getattr(found, "__path__", []), f"{name}.")
    return [name, *(module.name for module in inner)]


def known() -> dict[str, Any]:
    """The names that an example may use."""
    public = {name: getattr(found, name) for found in (cerebelum_nb, testing) for name in found.__all__}
    return {**public, "asyncio": asyncio, "build": build, "release": release}


def run(examples: list[str]) -> int:
    """Run the examples of these modules; return how many failed."""
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    names = known()
    for name in examples:
        for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name), name):
            with connect(":memory:") as log:
                test.globs = {**names, "log": log, **test.globs}
                runner.run(test)
    return runner.failures


if __name__ == "__main__":
    found = modules(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # some write files
        sys.exit(run(found) > 0)
