"""Names that are imported from where they were before the modules moved still work, and say where they are now."""

from __future__ import annotations

import importlib
import sys

import pytest

import cerebelum_nb
from cerebelum_nb import Context
from cerebelum_nb._values.pickles import loads
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


def test_the_old_name_of_a_resume_plan_is_the_same_class():
    with pytest.warns(DeprecationWarning, match="ResumePlan"):
        assert cerebelum_nb.Outlook is cerebelum_nb.ResumePlan


class Basket:
    """The result of a step of an older program."""


def test_objects_pickled_before_the_modules_moved_still_load():
    home = ({"Basket": Basket},)
    found = loads(BASKET, home)
    assert type(found) is Basket
    assert found.size == 3
    assert loads(CONTEXT) == Context(inputs={"size": 2}, execution_id="k1")


BASKET = (
    b"\x80\x05\x95K\x00\x00\x00\x00\x00\x00\x00\x8c\x1bcerebelum_nb.values.classes\x94\x8c\nmain_class\x94\x93\x94"
    b"\x8c\x06Basket\x94\x85\x94R\x94)\x81\x94}\x94\x8c\x04size\x94K\x03sb."
)
CONTEXT = (
    b"\x80\x05\x95\x9d\x00\x00\x00\x00\x00\x00\x00\x8c\x1bcerebelum_nb.engine.context\x94\x8c\x07Context\x94\x93\x94"
    b")\x81\x94}\x94(\x8c\x06inputs\x94}\x94\x8c\x04size\x94K\x02s\x8c\x0cexecution_id\x94\x8c\x02k1\x94"
    b"\x8c\rworkflow_name\x94\x8c\x00\x94\x8c\tstep_name\x94h\x0b\x8c\x07attempt\x94K\x01\x8c\x05visit\x94K\x01"
    b"\x8c\x06_scope\x94Nub."
)
