"""How code is found again: a program is loaded as Python runs it, with the recorded settings, or refused."""

from __future__ import annotations

import asyncio
import json
import sys
import textwrap

import pytest

from cerebelum_nb._workflow.load import load_module, load_notebook, load_script
from cerebelum_nb.errors import WorkflowNotFoundError

HEAD = """
from cerebelum_nb import step, workflow
S = {"n": 1}
@step
def read(): return S["n"]
@workflow
def deploy(wf): wf.timeline(read)
"""


@pytest.fixture(autouse=True)
def clean_path(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def script(tmp_path):
    def write(tail, head=HEAD, name="deploy.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(head + textwrap.dedent(tail))
        return path

    return write


def read(module):
    return vars(module)["read"].fn()


@pytest.mark.parametrize(
    "tail",
    [
        "S['n'] = 50",
        "S.update(n=50)",
        "for key in ['n']:\n    S[key] = 50",
        "def fill():\n    S['n'] = 50\nfill()",
        "S['n'] = 50\ndeploy.run()\n1 / 0",
        "import asyncio\nS['n'] = 50\nasync def main():\n    await deploy.execute()\nasyncio.run(main())\n1 / 0",
        "S['n'] = 50\ntry:\n    deploy.run()\nexcept Exception:\n    S['n'] = 3",
    ],
)
def test_a_script_is_loaded_with_the_settings_of_its_own_top_level(script, tail):
    assert read(load_script(script(tail))) == 50


async def test_a_script_that_starts_a_loop_is_loaded_next_to_a_running_one(script):
    path = script("import asyncio\nS['n'] = 50\nasyncio.run(asyncio.sleep(0))\nasyncio.run(deploy.execute())")
    assert read(load_script(path)) == 50
    assert asyncio.get_running_loop().is_running()


@pytest.mark.parametrize(
    ("tail", "told"),
    [
        ("if __name__ == '__main__':\n    S['n'] = 50\n    deploy.run()", "sets 'S' at line 9, under `if __name__"),
        ("if __name__ == '__main__':\n    S.update(n=50)\n    deploy.run()", "sets 'S' at line 9"),
        ("if __name__ != '__main__':\n    S['n'] = 50", "sets 'S' at line 9"),
        ("deploy.run()\nS['n'] = 2\ndeploy.run(execution_id='k1')", "sets 'S' at line 9, after it starts a run"),
        ("import sys\nS['n'] = int(sys.argv[1])", "reads its command line"),
        ("import argparse\nargparse.ArgumentParser().parse_args()", "reads its command line"),
        ("1 / 0", "raised ZeroDivisionError"),
        ("raise SystemExit(3)", "raised SystemExit"),
    ],
)
def test_a_script_whose_settings_cannot_be_known_is_refused_with_the_reason(script, tail, told):
    with pytest.raises(WorkflowNotFoundError, match=told):
        load_script(script(tail))


def test_code_after_the_run_that_no_step_reads_is_not_refused(script):
    path = script("result = deploy.run()\nprint(result)\nif __name__ == '__main__':\n    result = None")
    assert read(load_script(path)) == 1


def test_a_file_of_a_package_imports_from_its_package(script, tmp_path):
    script("", head="def add(x): return x + 1\n", name="pkg_one/helpers.py")
    script("", head="", name="pkg_one/__init__.py")
    path = script("from .helpers import add\nS['n'] = add(49)", name="pkg_one/flow.py")
    assert read(load_script(path)) == 50


def test_a_module_is_found_from_any_folder_by_its_recorded_file(script):
    path = script("S['n'] = 50", name="pkg_two/flow.py")
    assert read(load_module("pkg_two.flow", source=str(path))) == 50


def test_a_module_that_starts_a_run_when_it_is_imported_is_refused(script):
    path = script("deploy.run()", name="starts_at_once.py")
    with pytest.raises(WorkflowNotFoundError, match="starts a run when it is imported"):
        load_module("starts_at_once", source=str(path))


@pytest.fixture
def notebook(tmp_path):
    def write(*cells):
        path = tmp_path / "book.ipynb"
        path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": cell} for cell in cells]}))
        return path

    return write


@pytest.mark.parametrize(
    "cell",
    [
        "S['n'] = 50",
        "S.update(n=50)",
        "S |= {'n': 50}",
        "for key in S:\n    S[key] = 50",
        "with open(__file__) as file:\n    S = {'n': 50}",
    ],
)
def test_every_cell_that_sets_what_a_step_reads_is_run(notebook, cell):
    assert read(load_notebook(notebook(HEAD, cell, "open('/nothing/there')"))) == 50


def test_a_value_that_only_a_run_sets_is_missing_and_not_taken_from_before(notebook):
    module = load_notebook(notebook(HEAD, "S = deploy.run().output"))
    with pytest.raises(NameError):
        read(module)
