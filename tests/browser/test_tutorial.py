"""A student does lesson 1: one command, JupyterLab, and a browser."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from cerebelum_nb._classroom import build
from cerebelum_nb.classroom import grade

from .lab import MARKS, Notebook, jupyter_environment, shoot

pytestmark = [*MARKS, pytest.mark.soak]


@contextmanager
def tutorial(folder: Path) -> Iterator[str]:
    """Call the command in a folder; give the address that JupyterLab prints."""
    environment = jupyter_environment(folder / "home") | {"JUPYTER_PREFER_ENV_PATH": "1"}
    command = [sys.executable, "-m", "cerebelum_nb", "tutorial", "--no-browser"]
    if os.geteuid() == 0:  # as in the containers of CI: JupyterLab would refuse
        config = folder / "home" / "config"
        config.mkdir(parents=True, exist_ok=True)
        (config / "jupyter_server_config.json").write_text('{"ServerApp": {"allow_root": true}}')
    with (folder / "lab.log").open("w") as log:
        lab = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            yield address(lab, folder / "lab.log")
        finally:
            lab.terminate()
            lab.wait(timeout=120)


def address(lab: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(600):
        found = re.search(r"http://(?:localhost|127\.0\.0\.1):\d+/lab/tree/\S+\?token=\w+", log.read_text())
        if found:
            return found[0]
        try:
            lab.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            continue
        break
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()}")


def test_a_student_does_the_first_lesson(tmp_path: Path, browser: BrowserContext) -> None:
    names = [cell.name for cell in build.cells_of(build.master(1).read_text(encoding="utf-8")) if cell.is_code]
    solved = {cell["id"]: "".join(cell["source"]) for cell in build.notebook(1, build.solution)["cells"]}
    with tutorial(tmp_path) as url:
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=90_000)
        page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=90_000)
        book = Notebook(page)
        shoot(page, "lesson_1_opened")
        for number, name in enumerate(names):
            if name == "resume":  # as people do who are in a hurry
                book.run_through(names.index("check-3"))
                expect(book.output(names.index("check-3"))).to_contain_text("resume the order first")
                shoot(page, "lesson_1_hint")
            if name in ("prediction", "with-diary", "second-prediction", "finished"):
                book.edit(number, solved[name])
            book.run_through(number)
            if name.startswith("check-"):
                expect(book.output(number)).to_contain_text("done")
                expect(book.output(number)).not_to_contain_text("not yet")
            if name in ("second-run", "crash", "resume", "events", "score"):
                book.output(number).scroll_into_view_if_needed()
                shoot(page, f"lesson_1_{name}")
        expect(book.output(names.index("crash"))).to_contain_text("was killed")
        expect(book.output(names.index("score"))).to_contain_text("lesson-1: 4 of 4")
        page.close()
    log = tmp_path / "cerebelum-tutorial" / "lesson-1" / "history.db"
    assert grade(log)
