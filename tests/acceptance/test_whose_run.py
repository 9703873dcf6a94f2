"""``resume()`` without an id takes a run of the calling script or notebook, or says whose run it takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ..programs import run

SHARED = """
from pathlib import Path
from cerebelum_nb import connect, step, workflow

connect("h.db")

@step
def load():
    if not Path("fixed").exists():
        raise ValueError("not yet")
    return "loaded by {who}"

@workflow
def report(wf):
    wf.timeline(load)
"""
MAIN = """
import sys
from cerebelum_nb import WorkflowError

if sys.argv[1] == "run":
    try:
        report.run(execution_id="{who}")
    except WorkflowError:
        pass
else:
    print(report.resume_sync().output)
"""


def _call(folder: Path, who: str, what: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"{who}.py", what]
    return run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("first_runs", [True, False])
def test_a_script_resumes_its_own_run_and_refuses_one_of_another_script(tmp_path: Path, first_runs: bool) -> None:
    for who in ("first", "second"):
        (tmp_path / f"{who}.py").write_text((SHARED + MAIN).replace("{who}", who))
    if first_runs:
        assert _call(tmp_path, "first", "run").returncode == 0
    assert _call(tmp_path, "second", "run").returncode == 0
    (tmp_path / "fixed").touch()
    done = _call(tmp_path, "first", "resume")
    if first_runs:
        assert done.stdout == "loaded by first\n"
    else:
        assert done.returncode == 1
        assert str(tmp_path / "second.py") in done.stderr and 'report.resume_sync("second")' in done.stderr


def test_a_workflow_that_both_import_is_resumed_and_the_log_names_the_script(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(SHARED.replace("{who}", "both"))
    for who in ("first", "second"):
        (tmp_path / f"{who}.py").write_text("from flows import report\n" + MAIN.replace("{who}", who))
    assert _call(tmp_path, "second", "run").returncode == 0
    (tmp_path / "fixed").touch()
    done = _call(tmp_path, "first", "resume")
    assert done.stdout == "loaded by both\n"
    assert f"resuming execution second, which was started from {tmp_path / 'second.py'}" in done.stderr
