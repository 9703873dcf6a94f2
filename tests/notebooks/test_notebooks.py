"""Every notebook runs from top to bottom in a fresh kernel, and shows again what is stored in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import IPython
import pandas
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"

# Older versions lay out tables and tracebacks in other ways: with them every cell has to run, whatever it shows.
IS_LAID_OUT_AS_STORED = IPython.version_info >= (9,) and int(pandas.__version__.partition(".")[0]) >= 3
NBVAL = "--nbval" if IS_LAID_OUT_AS_STORED else "--nbval-lax"


@pytest.mark.kernel
@pytest.mark.timeout(300)
@pytest.mark.parametrize("notebook", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.name)
def test_runs_and_shows_what_it_showed(notebook: Path, tmp_path: Path) -> None:
    if notebook.name == "06_across_machines.ipynb":
        pytest.importorskip("temporalio", reason="it needs the extra [temporal]")
    shutil.copy(notebook, tmp_path)  # so that what it leaves behind is left elsewhere
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", NBVAL, "--nbval-current-env"),
            *("--nbval-sanitize-with", NOTEBOOKS / "sanitize.cfg", "--nbval-cell-timeout", "200"),
            *("-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "--rootdir", tmp_path, notebook.name),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{done.stdout}{done.stderr}", pytrace=False)
