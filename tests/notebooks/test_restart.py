"""What notebook 01 promises at its end: the kernel may die, and the run still continues."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from ..kernel.live import LiveKernel, live_kernel

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "01_deploy_a_service.ipynb"


def run(kernel: LiveKernel, source: str) -> str:
    """Run a cell that must not fail; return what it printed."""
    cell = kernel.run(source)
    assert cell.ok, cell
    return cell.printed


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder in which the notebook runs; a server that it leaves is stopped."""
    yield tmp_path
    config = tmp_path / "quotes-service" / "config.json"
    with suppress(OSError):  # stopped by the notebook, as it should be
        port = json.loads(config.read_text())["port"]
        urlopen(Request(f"http://127.0.0.1:{port}/stop", method="POST"), timeout=5).close()


@pytest.mark.kernel
def test_a_new_kernel_continues_where_the_killed_one_failed(folder: Path) -> None:
    cells = {
        cell["id"]: "".join(cell["source"])
        for cell in json.loads(NOTEBOOK.read_text())["cells"]
        if cell["cell_type"] == "code"
    }
    ids = list(cells)
    with live_kernel(folder) as first:
        for cell in ids[: ids.index("execute")]:
            run(first, cells[cell])
        assert "no such column: author" in run(first, cells["execute"])
        first.manager.signal_kernel(signal.SIGKILL)
    with live_kernel(folder) as second:
        printed = {cell: run(second, cells[cell]) for cell in ids if cell != "execute"}
    assert "3 quotes, each with an author" in printed["resume"]
    assert printed["once"] == "started 1 time\n"
