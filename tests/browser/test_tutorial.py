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
def tutorial(folder: Path, lesson: int | str, *options: str) -> Iterator[str]:
    """Open a lesson with the command in a folder; give the address that JupyterLab prints."""
    environment = jupyter_environment(folder / "home") | {"JUPYTER_PREFER_ENV_PATH": "1"}
    command = [sys.executable, "-m", "cerebelum_nb", "tutorial", str(lesson), "--no-browser", *options]
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


def opened(browser: BrowserContext, url: str) -> Notebook:
    page = browser.new_page()
    page.goto(url)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=90_000)
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=90_000)
    return Notebook(page)


def cells(lesson: int | str) -> tuple[list[str], dict[str, str]]:
    """Return the names of a lesson's code cells, and what they are when everything is done."""
    names = [cell.name for cell in build.cells_of(build.master(lesson).read_text(encoding="utf-8")) if cell.is_code]
    return names, {cell["id"]: "".join(cell["source"]) for cell in build.notebook(lesson, build.solution)["cells"]}


def test_a_student_does_the_first_lesson(tmp_path: Path, browser: BrowserContext) -> None:
    names, solved = cells(1)
    with tutorial(tmp_path, 1) as url:
        book = opened(browser, url)
        page = book.page
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


def test_a_question_is_answered_by_a_click_and_the_answer_is_in_the_log(
    tmp_path: Path, browser: BrowserContext
) -> None:
    names, _ = cells(3)
    with tutorial(tmp_path, 3) as url:
        book = opened(browser, url)
        for name in ("setup", "workflow", "crash-after", "answer"):
            book.run_through(names.index(name))
        asked = book.output(names.index("answer"))
        asked.get_by_text("Every step runs again").click()
        expect(asked).to_contain_text("not yet")
        asked.get_by_text("The step runs again; what had finished").click()
        expect(asked).to_contain_text("4 what runs again: done")
        asked.scroll_into_view_if_needed()
        shoot(book.page, "lesson_3_quiz")
        book.run_through(names.index("check-4"))
        expect(book.output(names.index("check-4"))).to_contain_text("done")
        book.page.close()
    score = grade(tmp_path / "cerebelum-tutorial" / "lesson-3" / "history.db")
    assert str(score) == "1 of 4"


def test_a_lesson_in_spanish_is_answered_in_spanish(tmp_path: Path, browser: BrowserContext) -> None:
    names, solved = cells(1)
    with tutorial(tmp_path, 1, "--lang", "es") as url:
        book = opened(browser, url)
        for number, name in enumerate(names[: names.index("check-1") + 1]):
            if name == "prediction":
                book.edit(number, "payments = 1")
            book.run_through(number)
        told = book.output(names.index("check-1"))
        expect(told).to_contain_text("1 predecir: todavía no")
        shoot(book.page, "lesson_1_spanish")
        book.edit(names.index("prediction"), solved["prediction"])
        book.run_through(names.index("prediction"))
        book.run_through(names.index("check-1"))
        expect(told).to_contain_text("1 predecir: hecho")
        book.page.close()


def test_a_notebook_that_was_saved_is_promoted(tmp_path: Path, browser: BrowserContext) -> None:
    names, solved = cells("C")
    with tutorial(tmp_path, "C") as url:
        book = opened(browser, url)
        for number, name in enumerate(names):
            book.edit(number, solved[name])
            if name == "promotion":
                book.save()
            book.run_through(number)
        expect(book.output(names.index("promotion"))).to_contain_text("the code that ran")
        expect(book.output(names.index("score"))).to_contain_text("lesson-C: 3 of 3")
        shoot(book.page, "lesson_C")
        book.page.close()


def test_a_month_goes_by_and_the_neighbour_approves(tmp_path: Path, browser: BrowserContext) -> None:
    names, solved = cells(4)
    with tutorial(tmp_path, 4) as url:
        book = opened(browser, url)
        for number, name in enumerate(names):
            if name in ("prediction", "parcel", "approve", "processes"):
                book.edit(number, solved[name])
            book.run_through(number)
            if name in ("resume", "approve", "wake"):
                book.output(number).scroll_into_view_if_needed()
                shoot(book.page, f"lesson_4_{name}")
        expect(book.output(names.index("score"))).to_contain_text("lesson-4: 4 of 4")
        book.page.close()
