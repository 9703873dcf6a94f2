"""Every notebook runs from top to bottom in a new kernel, shows again what is stored in it, and can be promoted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import IPython
import pandas
import pytest

from cerebelum_nb._promote.promote import Promoted, PromotionError, promote
from cerebelum_nb._store.sqlite import SqliteStore
from cerebelum_nb.errors import WorkflowNotFoundError

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"

# Older versions lay out tables and tracebacks differently: with them every cell must run, whatever it shows.
IS_LAID_OUT_AS_STORED = IPython.version_info >= (9,) and int(pandas.__version__.partition(".")[0]) >= 3
NBVAL = "--nbval" if IS_LAID_OUT_AS_STORED else "--nbval-lax"


@dataclass(frozen=True)
class Promotion:
    """What `cerebelum promote` says about a notebook; docs/howto/promote.md lists it.

    ``pure``: the steps that are tried on recorded runs. ``refused``: why it cannot be a module. ``differ``: the steps
    whose code differs from the code that ran, by workflow.
    """

    pure: tuple[str, ...] = ("all",)
    refused: str = ""
    differ: dict[str, set[str]] = field(default_factory=dict)


PROMOTIONS = {
    "01_deploy_a_service": Promotion(pure=("report",)),
    "02_cell_by_cell": Promotion(refused="'MINIMUM' is set to different values"),
    "03_waits_and_approvals": Promotion(),
    "04_history_as_dataframes": Promotion(refused="write one into deployments.py, which is a module already"),
    "05_time_travel": Promotion(
        refused="'migrate' .* reads 'growth', which code cell 12 computes",
        differ={"deploy": {"migrate", "publish"}, "nightly": {"migrate"}},
    ),
    "06_across_machines": Promotion(refused="write one into report.py, which is a module already"),
    "07_operations": Promotion(),
    "08_real_deployments": Promotion(
        pure=("regions", "report", "summary", "healthy"),
        differ={name: {"deploy"} for name in ("best_effort", "canary", "release", "rollout")}
        | {"guarded": {"deploy", "smoke_tests"}, "smoke_tests": {"answers"}},
    ),
}


@dataclass
class Ran:
    """A notebook that was run in a folder of its own."""

    path: Path
    done: subprocess.CompletedProcess[str]

    def promote(self, *, pure: tuple[str, ...] = (), force: bool = False) -> Promoted:
        """Promote it, with the log that its kernel left behind."""
        logs = [found for name in ("history.db", "operations.db") for found in self.path.parent.rglob(name)]
        module = Path(f"flow_{self.path.stem}.py")
        try:
            if not logs:
                return promote(self.path, module, None)
            with SqliteStore(logs[0]) as log:
                return promote(self.path, module, log, pure=pure, tests=True, force=force)
        finally:
            sys.modules.pop(module.stem, None)


@pytest.fixture(scope="module", params=sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Run a notebook; all files that it leaves are in its folder."""
    notebook: Path = request.param
    if notebook.name == "06_across_machines.ipynb":
        pytest.importorskip("temporalio", reason="temporalio is not installed (extra [temporal])")
    folder = tmp_path_factory.mktemp("notebook")
    shutil.copy(notebook, folder)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", NBVAL, "--nbval-current-env"),
            *("--nbval-sanitize-with", NOTEBOOKS / "sanitize.cfg", "--nbval-cell-timeout", "200"),
            *("-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "--rootdir", folder, notebook.name),
        ],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Ran(folder / notebook.name, done)


@pytest.mark.kernel
@pytest.mark.timeout(300)
def test_a_notebook_runs_and_shows_what_it_showed(ran: Ran) -> None:
    if ran.done.returncode:
        pytest.fail(f"{ran.done.stdout}{ran.done.stderr}", pytrace=False)


@pytest.mark.kernel
def test_a_notebook_becomes_a_module_with_the_code_that_ran(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ran.path.parent)
    monkeypatch.setattr(tempfile, "tempdir", str(ran.path.parent))
    told = PROMOTIONS[ran.path.stem]
    if told.refused:
        with pytest.raises((PromotionError, WorkflowNotFoundError), match=told.refused) as caught:
            ran.promote()
        if isinstance(caught.value, WorkflowNotFoundError):
            return
        assert len(caught.value.problems) == 1
    made = ran.promote(pure=told.pure, force=bool(told.refused))
    for proof in made.proofs:
        differ = told.differ.get(proof.workflow, set())
        assert {proven.step for proven in proof.steps if proven.same is False} == differ
        assert proof.accepted == len(proof.histories) > 0
        for proven in proof.steps:
            assert (proven.why != "") == (proven.step in differ)
            assert proven.tried == proven.as_recorded or proven.step in differ
    assert any(proven.as_recorded for proof in made.proofs for proven in proof.steps)


@pytest.mark.kernel
@pytest.mark.soak
def test_the_tests_written_with_the_module_run(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ran.path.parent)
    told = PROMOTIONS[ran.path.stem]
    if "a module already" in told.refused:
        with pytest.raises(WorkflowNotFoundError):
            ran.promote(force=True)
        return
    made = ran.promote(pure=told.pure, force=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", *made.tests[:1]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "survives_every_crash" in made.tests[0].read_text()
