"""The examples in docstrings run, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import cerebelum_nb
from cerebelum_nb.store import default

MODULES = [
    found.name
    for found in pkgutil.walk_packages(cerebelum_nb.__path__, "cerebelum_nb.")
    if not found.name.endswith("__main__")
]


def public() -> Iterator[tuple[str, Any]]:
    """Every public function and class, those of small public modules included."""
    for name in cerebelum_nb.__all__:
        value = getattr(cerebelum_nb, name)
        if not isinstance(value, ModuleType):
            yield name, value
        elif name in ("flow", "testing"):
            yield from ((f"{name}.{inner}", getattr(value, inner)) for inner in value.__all__)


PUBLIC = dict(public())


@pytest.mark.parametrize("name", MODULES)
def test_its_examples_show_what_happens(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(default, "_default", None)  # what connect() sets is the example's own
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert results.failed == 0, "see what was captured"
    if default._default is not None:
        default._default.close()


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_an_example(name: str) -> None:
    value = PUBLIC[name]
    described = value if inspect.isclass(value) or inspect.isfunction(value) else type(value).__call__
    assert "Example:\n" in (inspect.getdoc(described) or ""), f"{name} has no example in its docstring"
    assert ">>>" in described.__doc__
