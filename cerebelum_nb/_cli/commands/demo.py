"""``cerebelum demo``: run the first notebook cell by cell in a real kernel, and show it as it runs.

Only the kernel runs the workflow. This module starts the kernel, sends it the cells and prints their outputs.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markdown import Markdown
from rich.padding import Padding
from rich.rule import Rule
from rich.syntax import Syntax
from rich.text import Text

if TYPE_CHECKING:
    from jupyter_client.asynchronous.client import AsyncKernelClient
    from jupyter_client.manager import AsyncKernelManager
    from rich.status import Status

__all__ = ["demo"]

NOTEBOOK = "01_deploy_a_service.ipynb"
LOG = Path(".cerebelum", "history.db")
CELL_TIMEOUT = 60.0  # seconds without a message from the kernel
LONG, SHOWN = 24, 8  # of a cell with more than LONG lines, only SHOWN lines are printed


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where to run it; by default a new temporary folder.",
)
def demo(directory: Path | None) -> None:
    """Watch a real deployment fail, get fixed and resume.

    It runs the notebook 01_deploy_a_service.ipynb: it starts a small HTTP server on a free port of this
    machine, fails in one step, gets fixed, resumes, and stops the server. It takes about five seconds.
    """
    if not all(importlib.util.find_spec(name) for name in ("ipykernel", "jupyter_client")):
        raise click.ClickException(
            "the demo needs a Jupyter kernel, which this environment does not have. Install it with\n\n"
            '    pip install "cerebelum_nb[notebook]"'
        )
    place = _prepare(directory)
    console = Console(highlight=False)
    cells = json.loads((place / NOTEBOOK).read_text(encoding="utf-8"))["cells"]
    try:
        problem = asyncio.run(_run(cells, place, console))
    except (RuntimeError, TimeoutError) as error:  # raised by jupyter_client when a kernel has died or does not answer
        problem = str(error)
    console.print(Padding(Rule(style="dim"), (1, 0, 0, 0)))
    if problem:
        raise click.ClickException(f"the notebook did not run as it should: {problem}\nIts files are in {place}")
    console.print(_farewell(place), soft_wrap=True)


def _prepare(directory: Path | None) -> Path:
    """Copy the notebook to the folder where it runs."""
    place = Path(tempfile.mkdtemp(prefix="cerebelum-demo-")) if directory is None else directory.resolve()
    copy = place / NOTEBOOK
    if copy.exists():
        raise click.ClickException(f"{copy} already exists. Choose another folder with --dir, or leave --dir out.")
    try:
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_notebook(), copy)
    except OSError as error:
        raise click.ClickException(f"cannot write to {place}: {error.strerror}") from error
    return place


def _notebook() -> Path:
    package = Path(__file__).parents[2]  # cerebelum_nb
    packed, cloned = package / "demo_notebooks" / NOTEBOOK, package.parent / "notebooks" / NOTEBOOK
    return packed if packed.exists() else cloned


async def _run(cells: list[dict[str, Any]], place: Path, console: Console) -> str | None:
    """Run the cells in order; return what went wrong, or None."""
    kernel = await _start_kernel(place)
    client: AsyncKernelClient = kernel.client()
    client.start_channels()
    index = 0
    try:
        await client.wait_for_ready(timeout=60)
        for index, cell in enumerate(cells, start=1):
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                console.print(Padding(Markdown(source), (1, 0, 0, 0)))
                continue
            console.print(_code(source))
            with _status_line(place, console):
                reply = await client.execute_interactive(
                    source,
                    output_hook=_Outputs(console).show,
                    allow_stdin=False,
                    stop_on_error=False,  # otherwise interrupting a cell would also drop the cleanup
                    timeout=CELL_TIMEOUT,
                )
            if reply["content"]["status"] != "ok" and "raises-exception" not in _tags(cell):
                return f"cell {index} raised {reply['content'].get('ename', 'an error')}"
        return None
    finally:
        for cell in cells[index:]:  # if it was cut short, stop the server all the same
            if "cleanup" in _tags(cell) and await kernel.is_alive():
                await kernel.interrupt_kernel()
                await client.execute_interactive("".join(cell["source"]), silent=True, timeout=CELL_TIMEOUT)
        client.stop_channels()
        await kernel.shutdown_kernel(now=True)


async def _start_kernel(place: Path) -> AsyncKernelManager:
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class ThisPython(KernelSpecManager):
        """Finds only the kernel of this interpreter, whatever kernels the user has registered."""

        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
            command = [
                sys.executable,
                "-m",
                "ipykernel_launcher",
                "--log-level=ERROR",
                "-f",
                "{connection_file}",
            ]
            return KernelSpec(argv=command, language="python", display_name=kernel_name)

    kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisPython())
    environment = {name: value for name, value in os.environ.items() if name != "CEREBELUM_DB"}  # its own log
    await kernel.start_kernel(cwd=str(place), env=environment)
    return kernel


def _tags(cell: dict[str, Any]) -> list[str]:
    tags: list[str] = cell["metadata"].get("tags", [])
    return tags


def _code(source: str) -> Padding:
    lines = source.splitlines()
    if len(lines) > LONG:
        source = "\n".join([*lines[:SHOWN], f"# ... {len(lines) - SHOWN} more lines"])
    shown = Syntax(source, "python", theme="ansi_dark", background_color="default", word_wrap=True)
    return Padding(shown, (1, 0, 0, 4))


@contextmanager
def _status_line(place: Path, console: Console) -> Iterator[None]:
    """While a cell runs, show the running step on the last line of the terminal."""
    if not console.is_terminal:
        yield
        return

    async def follow(status: Status) -> None:
        while True:
            status.update(_running_step(place / LOG) or "")
            await asyncio.sleep(0.1)

    with console.status("") as status:
        following = asyncio.get_running_loop().create_task(follow(status))
        try:
            yield
        finally:
            following.cancel()


def _running_step(log: Path) -> str | None:
    try:
        with closing(sqlite3.connect(f"{log.as_uri()}?mode=ro", uri=True)) as db:
            row = db.execute(
                "SELECT current_step, done_steps + 1, total_steps FROM executions WHERE current_step IS NOT NULL"
            ).fetchone()
    except sqlite3.Error:  # not there yet
        return None
    return None if row is None else "{}, step {} of {}".format(*row)


class _Outputs:
    """Prints the outputs of one cell as they come."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.began = False

    def show(self, message: dict[str, Any]) -> None:
        """Print a message of the kernel; those without text are skipped."""
        content = message["content"]
        match message["msg_type"]:
            case "stream":
                self._print(content["text"], end="")
            case "execute_result" | "display_data":
                self._print(content["data"].get("text/plain", ""))
            case "error":
                self._print("\n".join(content["traceback"]))

    def _print(self, text: str, end: str = "\n") -> None:
        if not self.began:
            self.console.print()
            self.began = True
        self.console.print(Text.from_ansi(text), end=end)


def _farewell(place: Path) -> str:
    return (
        "That was a real run. Its event log is a SQLite file, which any tool can query:\n\n"
        f"    {place / LOG}\n\n"
        "To do it yourself, open the notebook:\n\n"
        f"    {sys.executable} -m jupyter lab {place / NOTEBOOK}\n"
    )
