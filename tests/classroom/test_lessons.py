"""Every lesson runs: in its solution every check is done; its untouched copy has no error, and every check hints."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from cerebelum_nb._classroom import build
from cerebelum_nb._classroom.exercises import LESSONS, exercises_of
from cerebelum_nb._classroom.language import texts
from cerebelum_nb.classroom import Lesson, grade

from ..programs import FRAMES, run
from .messages import messages

pytestmark = pytest.mark.process
NUMBERS = list(build.masters())
SLOW = ("C",)  # it calls the command line: .ci/full runs it
TRANSLATED = [number for number in NUMBERS if number.isdigit()]
COPIES = ("student", "solution")


@pytest.fixture(
    scope="module", params=[pytest.param(n, marks=[pytest.mark.soak] if n in SLOW else []) for n in NUMBERS]
)
def lesson(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, dict[str, Any]]:
    """Run both copies of a lesson, one after the other, in one process."""
    number, folder = str(request.param), tmp_path_factory.mktemp("lesson")
    command = [sys.executable, "-W", "error", str(Path(__file__).with_name("run_lesson.py")), number, str(folder)]
    done = run([*command, *COPIES], cwd=folder, capture_output=True, text=True, imports=FRAMES)
    if done.returncode:
        pytest.fail(done.stdout + done.stderr, pytrace=False)
    return number, folder, json.loads(done.stdout.splitlines()[-1])


def test_the_solution_runs_with_every_check_done(lesson: tuple[str, Path, dict[str, Any]]) -> None:
    number, folder, ran = lesson
    assert ran["solution"]["error"] == ""
    exercises = exercises_of(f"lesson-{number}").exercises
    for n in range(1, len(exercises) + 1):
        assert f"✓ {n} " in ran["solution"]["shown"][f"check-{n}"], ran["solution"]["shown"][f"check-{n}"]
    assert f"lesson-{number}: {len(exercises)} of {len(exercises)}" in ran["solution"]["shown"]["score"]
    score = grade(folder / "solution" / f"lesson-{number}" / "history.db")
    assert score and score.done == len(exercises)


def test_the_untouched_copy_runs_without_an_error_and_every_check_hints(
    lesson: tuple[str, Path, dict[str, Any]],
) -> None:
    number, _, ran = lesson
    assert ran["student"]["error"] == ""
    total = len(exercises_of(f"lesson-{number}").exercises)
    for n in range(1, total + 1):
        shown = ran["student"]["shown"][f"check-{n}"]
        assert "not yet\n  - " in shown, shown
        assert "cannot be read" not in shown and "raised" not in shown, shown
    assert f"lesson-{number}: 0 of {total}" in ran["student"]["shown"]["score"]


@pytest.mark.kernel
@pytest.mark.soak
def test_in_a_real_kernel_the_first_lesson_is_done_as_well(tmp_path: Path) -> None:
    build.write(1, tmp_path / "lesson.ipynb", build.solution)
    command = [sys.executable, "-c", "from nbclient.cli import main; main()", "--timeout=120", "lesson.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert grade(tmp_path / "lesson-1" / "history.db")


@pytest.mark.parametrize("number", NUMBERS)
def test_the_notebooks_are_valid_and_every_exercise_has_a_check(number: str) -> None:
    exercises = exercises_of(f"lesson-{number}").exercises
    for copy in (build.student, build.solution):
        made = build.notebook(number, copy)
        nbformat.validate(nbformat.from_dict(made))
        checks = [cell["id"] for cell in made["cells"] if cell["id"].startswith("check-")]
        assert checks == [f"check-{n}" for n in range(1, len(exercises) + 1)]
        for cell in made["cells"]:
            assert "SOLUTION" not in "".join(cell["source"])
            if cell["cell_type"] == "code":
                source = TransformerManager().transform_cell("".join(cell["source"]))
                compile(source, cell["id"], "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_student_has_something_to_write(number: str) -> None:
    cells = build.cells_of(build.master(number).read_text(encoding="utf-8"))
    assert any(build.student(cell.source) != build.solution(cell.source) for cell in cells if cell.is_code)


@pytest.mark.parametrize("number", TRANSLATED)
def test_a_translation_changes_no_code_and_says_that_it_is_not_reviewed(number: str) -> None:
    english, spanish = build.notebook(number), build.notebook(number, language="es")
    assert [cell["id"] for cell in spanish["cells"]] == [cell["id"] for cell in english["cells"]]
    for one, other in zip(english["cells"], spanish["cells"], strict=True):
        assert (one["source"] == other["source"]) is (one["cell_type"] == "code")
    assert "espera la revisión de un hablante nativo" in "".join(spanish["cells"][0]["source"])
    nbformat.validate(nbformat.from_dict(spanish))


def test_every_message_is_translated_with_the_same_values_and_the_same_code() -> None:
    spanish = texts("es", "messages")
    assert spanish.keys() == messages({"lesson_a", "lesson_b", "lesson_c", "lesson_d"}, TRANSLATED)
    for english, other in spanish.items():
        assert sorted(re.findall(r"{.*?}", other)) == sorted(re.findall(r"{.*?}", english)), other
        assert {*re.findall(r"`.*?`", english)} <= {*re.findall(r"`.*?`", other)}, other


def test_a_notebook_in_spanish_is_answered_in_spanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / build.file_name(1, "es")))
    lesson = Lesson("lesson-1", tmp_path / "lesson-1")
    assert repr(lesson.check(1, ...)).startswith("1 predecir: todavía no\n  - escribe tu número en lugar de `...`")
    lesson.world.path.write_text("charge 40 EUR\n" * 2)
    assert repr(lesson.check(1, 2)) == "✓ 1 predecir: hecho"
    assert repr(lesson).startswith("Un programa que recuerda: 1 de 4 ejercicios hechos. Tu registro es")
    assert "¿Qué?" in repr(lesson.quiz(4, "¿Qué?", {"c": "The step runs exactly once, whatever it does."}))
    lesson.close()
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "some_notes.ipynb"))
    assert next(iter(grade(lesson.log).verdicts)) == "1 predict"
    monkeypatch.setenv("CEREBELUM_LANG", "es")
    assert repr(grade(lesson.log)).endswith("lesson-1: 1 de 4")


def test_a_lesson_that_is_not_translated_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="lesson 2 is in en, es, and not in 'fr'"):
        build.notebook(2, language="fr")
    monkeypatch.setattr(build, "texts", lambda language, name: {"intro": "Hola"})
    with pytest.raises(ValueError, match=r"missing or too many: \['at-every-event'"):
        build.notebook(1, language="es")


def test_there_is_a_master_for_every_lesson() -> None:
    assert [f"lesson-{number}" for number in NUMBERS] == list(LESSONS)
