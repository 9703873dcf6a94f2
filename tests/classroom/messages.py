"""The messages of lessons besides their texts: the literals that `say` translates, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import cerebelum_nb._classroom as classroom
from cerebelum_nb import ExecutionState
from cerebelum_nb._classroom import build
from cerebelum_nb._classroom.grading import state_words

FOLDER = Path(classroom.__file__).parent
COMMANDS = [FOLDER.with_name("_cli") / name for name in ("roster.py", "commands/tutorial.py")]


def messages(without: set[str], lessons: list[str]) -> set[str]:
    """Return every message in English, except those of some modules and the questions of some lessons."""
    paths = [path for path in sorted(FOLDER.rglob("*.py")) if "lessons" not in path.parts and path.stem not in without]
    found = {text for path in (*paths, *COMMANDS) for text in _said(path)}
    found |= {state_words(state) for state in ExecutionState if state is not ExecutionState.COMPLETED}
    return found | {text for lesson in lessons for text in _asked(build.master(lesson))}


def _said(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id == "say" and node.args:
            yield from _texts(node.args[0])
        elif node.func.id == "say_counted":
            yield from (text for one in node.args[1:3] for text in _texts(one))
        elif node.func.id == "choice":
            yield from (text for keyword in node.keywords for text in _texts(keyword.value))
        elif node.func.id == "Exercise":
            yield from _texts(node.args[0])
            yield from (text for keyword in node.keywords if keyword.arg == "asks" for text in _texts(keyword.value))
        elif node.func.id == "Exercises":
            yield from _texts(node.args[1])


def _asked(path: Path) -> Iterator[str]:
    """Yield the question and the options of each quiz in a master."""
    for cell in build.cells_of(path.read_text(encoding="utf-8")):
        if cell.is_code and "lesson.quiz(" in cell.source:
            for node in ast.walk(ast.parse(build.solution(cell.source))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "quiz":
                    options = node.args[2]
                    assert isinstance(options, ast.Dict)
                    for text in (node.args[1], *options.values):
                        yield from _texts(text)


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
