"""A real kernel in its own process, driven like a front end drives it."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Cell:
    """The result of running a cell."""

    printed: str = ""
    error: str = ""
    shown: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.error


class LiveKernel:
    """A kernel and its client."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager, self.client = manager, client

    def run(
        self, source: str, *, interrupt_when: str | None = None, presses: int = 1, as_a_person: bool = False
    ) -> Cell:
        """Run a cell to its end; press stop when its output contains a text. A kernel that is busy for 2 minutes fails.

        ``as_a_person`` runs it like JupyterLab does, so that a run shows widgets.
        """
        cell = Cell()
        # An old ipykernel drops a request soon after an error, as if it had been queued behind the cell.
        message_id = self.client.execute(source, allow_stdin=as_a_person, stop_on_error=False)
        deadline = time.monotonic() + 120
        pressed = interrupt_when is None
        while True:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the kernel stays busy; so far: {cell}")
            message = self.client.get_iopub_msg(timeout=120)
            if message["parent_header"].get("msg_id") != message_id:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    cell.printed += content["text"]
                case "error":
                    cell.error = _COLOUR.sub("", "\n".join(content["traceback"]))
                case "display_data" | "execute_result" | "update_display_data":
                    cell.shown.append(content["data"])
                case "status" if content["execution_state"] == "idle":
                    return cell
            if not pressed and interrupt_when is not None and interrupt_when in cell.printed:
                pressed = True
                for _ in range(presses):
                    time.sleep(0.2)  # like a person presses it: after the cell has begun to wait
                    self.manager.interrupt_kernel()


@contextmanager
def live_kernel(folder: Path) -> Iterator[LiveKernel]:
    """Start a kernel in ``folder``, and end it after the block."""
    with TemporaryDirectory() as sockets:  # a free port may be taken by another kernel that starts at the same moment
        manager = KernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel")
        manager.kernel_spec.argv[0] = sys.executable
        manager.start_kernel(cwd=str(folder))
        client = manager.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=240)
            yield LiveKernel(manager, client)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            manager.cleanup_resources()
