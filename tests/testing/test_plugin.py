"""The pytest plugin in another project: with pytest-xdist, pytest-asyncio, unittest; the report of a failure."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

SHOP = """
from cerebelum_nb import sleep, step, wait_for_approval, workflow

@step
def charge(inputs):
    raise RuntimeError("no test may ask the bank")

@step
async def ship(charge):
    await sleep("30d")
    return f"shipped for {charge}"

@workflow
def order(wf):
    wf.timeline(charge >> ship)
"""

TESTS = """
import asyncio
import unittest

import pytest
from shop import charge, order

from cerebelum_nb.testing import Workflows, every_crash

made = []

@pytest.fixture(scope="module")
def once():
    made.append(1)
    yield
    made.append(2)

@pytest.fixture
def fresh(tmp_path):
    (tmp_path / "used").mkdir()  # fails in a folder that was used before

def test_order(workflows):
    assert workflows.run(order, doubles={charge: "paid"}).output == "shipped for paid"

@pytest.mark.crash_after_every_event
def test_survives(workflows, once, fresh):
    assert workflows.run(order, doubles={charge: "paid"}).waited == "30d"
    assert made == [1]

@pytest.mark.asyncio
async def test_async(workflows):
    await asyncio.sleep(0)
    assert workflows.run(order, doubles={charge: "paid"}).output == "shipped for paid"

@pytest.mark.asyncio
@pytest.mark.crash_before_every_event
async def test_async_survives(workflows):
    await asyncio.sleep(0)
    assert workflows.run(order, doubles={charge: "paid"}).output == "shipped for paid"

class OrderTest(unittest.TestCase):
    def setUp(self):
        self.workflows = Workflows()
        self.addCleanup(self.workflows.close)

    def test_order(self):
        assert self.workflows.run(order, doubles={charge: "paid"}).output == "shipped for paid"

    @pytest.mark.crash_after_every_event
    def test_survives(self):
        assert self.workflows.run(order, doubles={charge: "paid"}).output == "shipped for paid"

    def test_every_crash(self):
        def one():
            with Workflows() as workflows:
                return workflows.run(order, doubles={charge: "paid"}).output

        for place, output in every_crash(one):
            with self.subTest(place=str(place)):
                self.assertEqual(output, "shipped for paid")
"""

WRONG = """
import pytest
from shop import charge, order

@pytest.mark.crash_before_every_event
def test_charges_once(workflows):
    charged = []
    workflows.run(order, doubles={charge: lambda: charged.append(1)})
    assert len(charged) == 1

@pytest.mark.crash_after_every_event
def test_runs_nothing(workflows):
    pass

@pytest.mark.crash_after_every_event(order)
def test_has_an_argument(workflows):
    pass

@pytest.mark.crash_after_every_event
def test_fails_without_a_crash(workflows):
    assert workflows.run(order, doubles={charge: "paid"}).output == "lost"
"""


PATIENT = """
# Hypothesis first reads the sources of this package, as if they were the project's: long on a busy machine.
from hypothesis import HealthCheck, settings
settings.register_profile("patient", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
"""


@pytest.fixture
def project(tmp_path):
    """Another project, and pytest in it without the other installed plugins, most of which take seconds to import."""

    def run(tests, *arguments, command="pytest", plugins=()):
        (tmp_path / "shop.py").write_text(SHOP)
        (tmp_path / "test_shop.py").write_text(tests)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        if "hypothesis" in tests:
            (tmp_path / "conftest.py").write_text(PATIENT)
        options = ["-p", "no:cacheprovider", "-W", "error"]
        for plugin in ("cerebelum_nb._testing.plugin", *plugins):
            options += ["-p", plugin]
        line = [sys.executable, "-m", command, *(options if command == "pytest" else []), *arguments]
        alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False, env=alone)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.parametrize("arguments", [("-o", "asyncio_mode=strict"), ("-o", "asyncio_mode=auto", "-n", "2")])
def test_it_works_with_asyncio_tests_strict_and_auto_with_processes_and_with_unittest(project, arguments):
    arguments += ("-o", "asyncio_default_fixture_loop_scope=function")
    code, told = project(TESTS, "-q", *arguments, plugins=["pytest_asyncio.plugin", "xdist.plugin"])
    assert code == 0, told
    assert "7 passed" in told


def test_a_test_class_runs_under_unittest_alone(project):
    code, told = project(TESTS, "-q", "test_shop.OrderTest", command="unittest")
    assert code == 0 and "Ran 3 tests" in told, told


def test_a_failure_names_the_crash_and_how_to_run_it_alone(project):
    code, told = project(WRONG, "-q")

    assert code == 1
    assert "it crashed before event 4 of order-1 (StepCompleted charge, StepStarted ship), and was resumed" in told
    assert "it ran no workflow: call workflows.run(...) in it" in told
    assert "takes no arguments but repeat=[...]" in told
    (alone,) = re.findall(r"alone: pytest '(.*)' --cerebelum-crash (\d+)", told)
    code, told = project(WRONG, "-q", alone[0], "--cerebelum-crash", alone[1])
    assert code == 1 and "1 failed" in told, told


def test_the_plugin_imports_nothing_before_a_test_asks(project):
    code, told = project(
        "import sys\n"
        "def test_nothing():\n"
        "    assert 'cerebelum_nb._testing.plugin' in sys.modules\n"
        "    assert 'cerebelum_nb._engine.loop' not in sys.modules\n",
        "-q",
    )
    assert code == 0, told


def test_pytest_finds_the_plugin_by_itself():
    (found,) = entry_points(group="pytest11", name="cerebelum")
    assert found.value == "cerebelum_nb._testing.plugin"


DOCS = Path(__file__).parents[2] / "docs"


def test_the_hundred_tests_of_the_example_project_pass(project, tmp_path):
    shutil.copytree(DOCS / "examples" / "shop", tmp_path / "example")
    code, told = project("", "-q", "example")
    assert code == 0 and "100 passed" in told, told


def test_the_examples_of_the_page_run_under_pytest(project):
    page = DOCS / "howto" / "test.md"
    text = page.read_text(encoding="utf-8").partition("## Keep runs as tests")[0]
    code, told = project("\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)), "-q")
    assert code == 0 and "6 passed" in told, told
