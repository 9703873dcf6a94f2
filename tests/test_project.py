"""The project as a whole: the documented commands exist, and what it ships is complete."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEST_COMMAND = "python -m pytest"
LOADED_ON_USE = {
    "IPython",
    "click",
    "cloudpickle",
    "ipywidgets",
    "nest_asyncio2",
    "numpy",
    "pandas",
    "rich",
    "sqlite_utils",
}


def run(*command: str, cwd: Path = ROOT) -> str:
    """Run a command of this environment; if it fails, the test fails with its output."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout


@pytest.mark.process
def test_importing_the_package_loads_nothing_slow() -> None:
    loaded = run(sys.executable, "-c", "import sys, cerebelum_nb; print(*{name.split('.')[0] for name in sys.modules})")
    assert LOADED_ON_USE & set(loaded.split()) == set()


@pytest.mark.process
def test_a_first_run_loads_neither_pandas_nor_sqlite_utils(tmp_path: Path) -> None:
    program = """
import sys
from cerebelum_nb import ExecutionClient, connect, step, workflow

@step
def build():
    return {"n": 1}

@workflow
def deploy(wf):
    wf.timeline(build)

connect()
deploy.run()
client = ExecutionClient()
assert client.run_sync(client.list_executions())[1] == 1
from cerebelum_nb._cli import main
try:
    main(["list"])
except SystemExit as done:
    assert not done.code, done.code
print(*{name.split(".")[0] for name in sys.modules}, file=sys.stderr)
"""
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "deploy" in done.stdout, done.stderr
    assert (tmp_path / ".cerebelum" / "history.db").exists()
    assert {"pandas", "numpy", "sqlite_utils"} & set(done.stderr.split()) == set()


@pytest.mark.process
def test_a_first_run_and_a_list_load_only_what_they_use(tmp_path: Path) -> None:
    run_one = """
import sys
from cerebelum_nb import step, workflow

@workflow
def deploy(wf):
    wf.timeline(step(lambda: 1, name="build"))

deploy.run()
print(*sys.modules)
"""
    list_all = """
import atexit, sys
atexit.register(lambda: print(*sys.modules))
from cerebelum_nb._cli import main
main(["list"])
"""
    ours = ("_checkpoint.cursor", "_workflow.fork", "_workflow.rollback", "_workflow.stepper", "_workflow.sweep")
    kinds = {"decimal", "fractions", "zoneinfo", "difflib"}
    late = {
        run_one: {*kinds, "html", "random", "uuid", *(f"cerebelum_nb.{name}" for name in ours)},
        list_all: {*kinds, "asyncio", "ssl", "cerebelum_nb._core.drive", "cerebelum_nb._engine.execution"},
    }
    for program, names in late.items():
        assert names & set(run(sys.executable, "-c", program, cwd=tmp_path).split()) == set()


def test_every_public_name_exists_and_is_documented() -> None:
    import cerebelum_nb

    undocumented = [name for name in cerebelum_nb.__all__ if not getattr(cerebelum_nb, name).__doc__]
    assert undocumented == []


def test_ci_checks_and_then_tests_with_the_command_of_the_readme() -> None:
    fences = re.findall(r"```(?:bash|sh|console)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    commands = [line.strip() for fence in fences for line in fence.splitlines()]
    assert TEST_COMMAND in commands
    ci = (ROOT / ".ci" / "run").read_text().splitlines()
    assert ci.index(".ci/check") < ci.index(f'{TEST_COMMAND} "$@"')


def test_the_map_for_contributors_names_every_package_and_only_files_that_exist() -> None:
    named = set(re.findall(r"`([\w/.]+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    package = ROOT / "cerebelum_nb"
    packages = {init.parent.name for init in package.glob("*/__init__.py")}
    paths = {name for name in named if re.fullmatch(r"_\w+/\w+\.py", name)}
    assert packages - named == set()
    assert {path for path in paths if not (package / path).is_file()} == set()


def test_constraints_contain_only_pins() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pin = re.compile(r'[a-z0-9-]+==[\w.!]+( ; python_version (<|>=) "3\.\d+")?')
    assert [line for line in lines if not line.startswith("#") and not pin.fullmatch(line)] == []


@pytest.mark.process
def test_the_wheel_brings_its_types_and_the_demo_notebook(tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "cerebelum_nb/py.typed" in names
    assert "cerebelum_nb/_views/slider.js" in names
    assert "cerebelum_nb/_web/static/live.js" in names and "cerebelum_nb/_web/templates/base.html" in names
    assert "cerebelum_nb/demo_notebooks/01_deploy_a_service.ipynb" in names
    assert "cerebelum_nb/_classroom/lessons/01_a_program_that_remembers.py" in names
    assert not [name for name in names if not name.startswith(("cerebelum_nb/", "cerebelum_nb-"))]
