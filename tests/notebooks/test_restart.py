"""What notebook 01 promises at its end: the kernel may die, and the run still continues."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import Request, urlopen

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "01_deploy_a_service.ipynb"


@contextmanager
def kernel(folder: Path) -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    with TemporaryDirectory() as sockets:  # as in tests/kernel/live.py
        manager = KernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel")
        manager.kernel_spec.argv[0] = sys.executable
        manager.start_kernel(cwd=str(folder))
        client = manager.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=240)
            yield manager, client
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def run(client: BlockingKernelClient, source: str) -> str:
    """Run a cell; return what it printed."""
    printed: list[str] = []
    raised: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        match message["msg_type"]:
            case "stream":
                printed.append(message["content"]["text"])
            case "error":
                raised.extend(message["content"]["traceback"])

    client.execute_interactive(source, output_hook=hear, timeout=120)
    assert raised == []
    return "".join(printed)


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
    with kernel(folder) as (manager, client):
        for cell in ids[: ids.index("execute")]:
            run(client, cells[cell])
        assert "no such column: author" in run(client, cells["execute"])
        manager.signal_kernel(signal.SIGKILL)
    with kernel(folder) as (_, client):
        printed = {cell: run(client, cells[cell]) for cell in ids if cell != "execute"}
    assert "3 quotes, each with an author" in printed["resume"]
    assert printed["once"] == "started 1 time\n"
