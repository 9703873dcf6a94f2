"""A real JupyterLab in a temporary folder, and a headless Chromium in front of it.

Screenshots are kept in ``artifacts/browser/``, to be looked at.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]


def _chromium() -> str | None:
    """Find a browser that starts; Ubuntu's chromium-browser may be a script that only says to install the snap."""
    for name in ("chromium", "chromium-browser"):
        path = shutil.which(name)
        if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    return None


CHROMIUM = _chromium()
WITHOUT = "no Chromium (`chromium` or `chromium-browser`) that starts is on the PATH: sudo apt-get install chromium"
MARKS = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Playwright's own transports, at its end
]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "notebook-extension/tracker": {"windowingMode": "none", "autoStartDefaultKernel": True},
    "docmanager-extension/plugin": {"autosave": False},
}


class Lab:
    """A running JupyterLab."""

    def __init__(self, folder: Path, url: str, token: str, settings: Path) -> None:
        self.folder, self.url, self.token, self._settings = folder, url, token, settings

    def theme(self, name: str) -> None:
        """Choose the theme of pages opened from now on."""
        _write(self._settings, "apputils-extension/themes", {"theme": name})

    def notebook(self, name: str, *cells: str) -> Path:
        """Make a notebook."""
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = self.folder / name
        nbformat.write(made, path)
        return path

    def open(self, context: BrowserContext, name: str, *, kernel: bool = True) -> Notebook:
        """Open a notebook in its own page."""
        page = context.new_page()
        workspace = f"w{time.monotonic_ns()}"
        page.goto(f"{self.url}/lab/workspaces/{workspace}/tree/{name}?token={self.token}")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=90_000)
        book = Notebook(page)
        if kernel:
            page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=90_000)
        return book

    def end_kernels(self) -> None:
        """Shut down every kernel, as somebody does who closes the laptop."""
        for session in json.loads(self._call("GET", "api/sessions")):
            self._call("DELETE", f"api/sessions/{session['id']}")

    def _call(self, method: str, path: str) -> bytes:
        request = urllib.request.Request(
            f"{self.url}/{path}", method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())


class Notebook:
    """An open notebook."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def cell(self, number: int) -> Locator:
        """Return a cell, counted from 0."""
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(number)

    def output(self, number: int) -> Locator:
        """Return what a cell shows."""
        return self.cell(number).locator(".jp-Cell-outputArea")

    def run(self, number: int) -> None:
        """Run a cell, without waiting."""
        prompt = self.cell(number).locator(".jp-InputPrompt")
        before = prompt.inner_text()
        for _ in range(5):  # a page that is still opening loses keys
            self.cell(number).locator(".jp-InputArea-editor").click()
            self.page.keyboard.press("Control+Enter")
            try:
                expect(prompt).not_to_have_text(before, timeout=5_000)
            except AssertionError:
                continue
            return
        raise AssertionError(f"cell {number} does not start")

    def run_through(self, number: int) -> None:
        """Run a cell and wait until it is done."""
        self.run(number)
        self.page.wait_for_function(
            "n => /\\[\\d+\\]/.test(document.querySelectorAll('.jp-Notebook .jp-CodeCell')[n]"
            ".querySelector('.jp-InputPrompt').textContent)",
            arg=number,
            timeout=60_000,
        )

    def edit(self, number: int, source: str) -> None:
        """Write a cell again."""
        self.cell(number).locator(".jp-InputArea-editor").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(source)

    def stop(self) -> None:
        """Press the stop button."""
        self.page.locator('[data-jp-item-name="interrupt"]').first.click()

    def save(self) -> None:
        """Save, and wait until it is on disk."""
        with self.page.expect_response(lambda r: r.request.method == "PUT" and "/api/contents/" in r.url):
            self.page.keyboard.press("Control+s")


def jupyter_environment(home: Path) -> dict[str, str]:
    """Return an environment in which Jupyter keeps everything in ``home``, with the settings of these tests."""
    settings = home / "settings"
    for name, values in SETTINGS.items():
        _write(settings, name, values)
    return {
        **os.environ,
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }


@contextmanager
def running_lab(folder: Path) -> Iterator[Lab]:
    """Start JupyterLab in ``folder``; end it however the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = folder / "home" / "settings"
    books = folder / "books"
    books.mkdir()
    environment = jupyter_environment(folder / "home")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    options = ["--ServerApp.port_retries=0", "--IdentityProvider.token=t", "--LabApp.news_url=", "--ip=127.0.0.1"]
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen([*command, *options], cwd=books, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_up(url, server, folder / "lab.log")
            yield Lab(books, url, "t", settings)
        finally:
            server.terminate()
            server.wait(timeout=120)


@contextmanager
def running_browser(folder: Path) -> Iterator[BrowserContext]:
    """Start Chromium with its own profile."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(folder / "profile"),
            executable_path=CHROMIUM,
            args=FLAGS,
            viewport={"width": 1250, "height": 1000},
        )
        try:
            yield context
        finally:
            context.close()


def shoot(page: Page, name: str) -> None:
    """Keep a picture of the page."""
    folder = ROOT / "artifacts" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")


def _wait_until_up(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        if server.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError(log.read_text())
        try:
            with urllib.request.urlopen(f"{url}/api?token=t", timeout=5):
                return
        except OSError:
            time.sleep(0.2)


def _write(settings: Path, name: str, values: dict[str, object]) -> None:
    path = settings / "@jupyterlab" / f"{name}.jupyterlab-settings"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
