"""Run the examples in the docstrings of a package or a module, in their own process: they may change it.

python run_examples.py cerebelum_nb._engine

An example may use what `cerebelum_nb` and its `testing` export without importing it, and three workflows of one step:
``release``, whose ``build`` returns "image"; ``backup``, whose ``copy`` takes a minute; ``purchase``, whose ``ask``
waits for the approval "budget". The log of the session, ``log``, is a new one in memory for each example.
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
from cerebelum_nb import connect, step, testing, wait_for_approval, workflow


@step
def build() -> str:
    return "image"


@workflow
def release(wf: Any) -> None:
    wf.timeline(build)


@step
async def copy() -> None:
    await asyncio.sleep(60)


@workflow
def backup(wf: Any) -> None:
    wf.timeline(copy)


@step
async def ask() -> Any:
    return await wait_for_approval("budget", timeout_ms="2d", validate=lambda size: size is None or size < 3)


@workflow
def purchase(wf: Any) -> None:
    wf.timeline(ask)


def modules(name: str) -> list[str]:
    found = importlib.import_module(name)
    inner = pkgutil.walk_packages(getattr(found, "__path__", []), f"{name}.")
    return [name, *(module.name for module in inner)]


def known() -> dict[str, Any]:
    """The names that an example may use."""
    public = {name: getattr(found, name) for found in (cerebelum_nb, testing) for name in found.__all__}
    flows = {"release": release, "backup": backup, "purchase": purchase}
    return {**public, **flows, "asyncio": asyncio, "build": build, "copy": copy, "ask": ask}


def run(examples: list[str]) -> int:
    """Run the examples of these modules; return how many failed."""
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    names = known()
    for name in examples:
        for test in doctest.DocTestFinder().find(importlib.import_module(name), name):
            if test.examples:
                with connect(":memory:") as log:
                    test.globs = {**names, "log": log, **test.globs}
                    runner.run(test)
    return runner.failures


if __name__ == "__main__":
    found = modules(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # some write files
        sys.exit(run(found) > 0)
