"""``cerebelum tutorial``: the lessons from a terminal."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cerebelum_nb._classroom import build
from cerebelum_nb.classroom import Lesson

from ..programs import Popen


@pytest.fixture(autouse=True)
def english(monkeypatch):
    """Forget the command's choice of a language after the test."""
    monkeypatch.setenv("CEREBELUM_LANG", "en")


@pytest.fixture
def no_lab(monkeypatch):
    monkeypatch.setattr("cerebelum_nb._cli.commands.tutorial.find_spec", lambda name: None)


def test_the_lessons_are_listed(call):
    lines = call("tutorial", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == [str(number) for number in build.masters()]
    assert lines[0] == "1  A program that remembers" and lines[-1] == "D  Read the engine"


def test_an_elective_is_opened_by_its_letter(call, no_lab, tmp_path):
    call("tutorial", "a", "--dir", str(tmp_path))
    assert "Your own store of events" in (tmp_path / "lesson_A_your_own_store.ipynb").read_text()


def test_all_lessons_are_written_for_a_server_and_for_a_browser(call, tmp_path):
    lines = call("tutorial", "write", "--dir", str(tmp_path / "en")).out.splitlines()
    assert [json.loads(Path(line).read_text())["nbformat"] for line in lines] == [4] * len(build.masters())
    lines = call("tutorial", "write", "--dir", str(tmp_path / "es"), "--lang", "es", "--pyodide").out.splitlines()
    assert len(lines) == 6 and all(line.endswith("_es.ipynb") for line in lines)
    made = json.loads(Path(lines[0]).read_text())
    assert (
        made["cells"][0]["source"] == ["%pip install cerebelum_nb"]
        and made["metadata"]["kernelspec"]["name"] == "python"
    )
    assert "but in: en, es" in call("tutorial", "write", "--lang", "fr").err


def test_without_jupyterlab_the_notebook_is_there_and_it_says_what_to_install(call, no_lab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call("tutorial")
    assert done.code == 1
    assert 'pip install "cerebelum_nb[notebook]"' in done.err
    path = tmp_path / "cerebelum-tutorial" / "lesson_01_a_program_that_remembers.ipynb"
    assert json.loads(path.read_text())["nbformat"] == 4


def test_an_existing_notebook_is_kept(call, no_lab, tmp_path):
    path = tmp_path / build.file_name(1)
    path.write_text("mine")
    call("tutorial", "1", "--dir", str(tmp_path))
    assert path.read_text() == "mine"


def test_it_becomes_jupyterlab(call, tmp_path, monkeypatch):
    became = []
    monkeypatch.setattr("os.execv", lambda *command: became.append(command))
    call("tutorial", "1", "--dir", str(tmp_path), "--no-browser")
    where = [f"--ServerApp.root_dir={tmp_path}", f"--LabApp.default_url=/lab/tree/{build.file_name(1)}"]
    assert became == [(sys.executable, [sys.executable, "-m", "jupyterlab", *where, "--no-browser"])]


def test_a_lesson_is_there_in_spanish(call, no_lab, tmp_path):
    call("tutorial", "1", "--dir", str(tmp_path), "--lang", "es")
    assert "Un programa que recuerda" in (tmp_path / "lesson_01_a_program_that_remembers_es.ipynb").read_text()
    assert call("tutorial", "list", "--lang", "es").out.splitlines()[0] == "1  Un programa que recuerda"
    assert "but in: en" in call("tutorial", "2", "--dir", str(tmp_path), "--lang", "fr").err


@pytest.mark.parametrize(
    "words", [("tutorial", "9"), ("tutorial", "one"), ("tutorial", "1", "a.db"), ("tutorial", "roster")]
)
def test_an_unknown_lesson_or_language_is_refused(call, words):
    assert call(*words).code == 2


def test_a_log_is_checked_again(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "Name its log" in call("tutorial", "check").err
    lesson = Lesson("lesson-1")
    assert "no exercise was checked yet" in call("tutorial", "check", str(lesson.log)).out
    for _ in range(2):
        lesson.world.note("charge 40 EUR")
    lesson.check(1, 2)
    lesson.close()
    done = call("tutorial", "check")
    assert done.code == 1
    assert "✓ 1 predict: done" in done.out and "2 diary: not yet" in done.out and "lesson-1: 1 of 4" in done.out


def test_a_teacher_sees_the_progress_of_the_class(call, tmp_path):
    assert "there is no" in call("tutorial", "roster", str(tmp_path / "nowhere")).err
    room = tmp_path / "class"
    room.mkdir()
    assert "there is no log in" in call("tutorial", "roster", str(room)).err
    for name, answer in (("ana", 2), ("ben", 1)):
        lesson = Lesson("lesson-1", room / name / "lesson-1")
        lesson.world.path.write_text("charge 40 EUR\n" * 2)
        lesson.check(1, answer)
        lesson.close()
    lines = call("tutorial", "roster", str(room)).out.splitlines()
    assert lines == ["lesson-1: 0 done, 2 at it", "", "student  lesson-1", "ana      1 of 4", "ben      0 of 4"]
    lines = call("tutorial", "roster", str(room), "--lang", "es").out.splitlines()
    assert lines[:3] == ["lesson-1: 0 con todo hecho, 2 en ello", "", "estudiante  lesson-1"]


def test_a_class_is_watched(tmp_path):
    lesson = Lesson("lesson-1", tmp_path / "ana" / "lesson-1")
    lesson.check(1, 1)
    command = [
        sys.executable,
        "-m",
        "cerebelum_nb",
        "tutorial",
        "roster",
        str(tmp_path),
        "--watch",
        "--interval",
        "0.1",
    ]
    with Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout.readline() == "ana  lesson-1  0 of 4\n"
        lesson.world.path.write_text("charge 40 EUR\n" * 2)
        lesson.check(1, 2)
        assert watching.stdout.readline() == "ana  lesson-1  1 of 4\n"
        watching.send_signal(signal.SIGINT)
        assert "lesson-1: 0 done, 1 at it" in watching.stdout.read()
        assert watching.wait(timeout=60) == 130
    lesson.close()
