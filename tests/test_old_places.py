"""Names that people import from where they were before the modules moved still work, and say where they are now."""

from __future__ import annotations

import importlib
import sys

import pytest

import cerebelum_nb
from cerebelum_nb.testing import MemoryStore


@pytest.mark.parametrize(
    ("place", "name", "now"),
    [
        ("values", "Secret", cerebelum_nb.Secret),
        ("client", "ExecutionClient", cerebelum_nb.ExecutionClient),
        ("client", "ExecutionStatus", cerebelum_nb.ExecutionStatus),
        ("store.memory", "MemoryStore", MemoryStore),
    ],
)
def test_an_old_place_gives_the_same_object_with_a_warning(place, name, now):
    sys.modules.pop(f"cerebelum_nb.{place}", None)
    with pytest.warns(DeprecationWarning, match="import"):
        module = importlib.import_module(f"cerebelum_nb.{place}")
    assert getattr(module, name) is now


def test_the_old_place_of_the_sqlite_store_opens_a_log(tmp_path):
    sys.modules.pop("cerebelum_nb.store.sqlite", None)
    with pytest.warns(DeprecationWarning, match="connect"):
        module = importlib.import_module("cerebelum_nb.store.sqlite")
    module.SqliteStore(tmp_path / "log.db").close()
