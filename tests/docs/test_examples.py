"""The examples in docstrings run, and every public name has one."""

from __future__ import annotations

import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import cerebelum_nb
from cerebelum_nb import classroom

from ..programs import FRAMES, run

OLD_PLACES = {"client", "store", "values"}  # importing one warns
PARTS = sorted({found.name for found in pkgutil.iter_modules(cerebelum_nb.__path__)} - {"__main__", *OLD_PLACES})


def public() -> Iterator[tuple[str, Any]]:
    """Every public function and class, those of small public modules included."""
    for name in cerebelum_nb.__all__:
        value = getattr(cerebelum_nb, name)
        if not isinstance(value, ModuleType):
            yield name, value
        elif name in ("archive", "flow", "history", "observe", "testing"):
            yield from ((f"{name}.{inner}", getattr(value, inner)) for inner in value.__all__)
    yield from ((f"classroom.{inner}", getattr(classroom, inner)) for inner in classroom.__all__)


PUBLIC = dict(public())


@pytest.mark.parametrize("part", PARTS)
def test_its_examples_show_what_happens(part: str, tmp_path: Path) -> None:
    runner = Path(__file__).with_name("run_examples.py")
    command = [sys.executable, "-W", "error", runner, f"cerebelum_nb.{part}"]
    done = run(command, cwd=tmp_path, capture_output=True, text=True, imports=FRAMES)
    if done.returncode:
        pytest.fail(f"{done.stdout}{done.stderr}", pytrace=False)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_an_example(name: str) -> None:
    value = PUBLIC[name]
    described = value if inspect.isclass(value) or inspect.isfunction(value) else type(value).__call__
    told = inspect.getdoc(described) or ""
    assert "Example:\n" in told and ">>>" in told, f"{name} has no example in its docstring"
