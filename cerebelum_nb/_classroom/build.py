"""Builds a lesson's notebooks from its master: the student's copy and the solution.

A master is a Python file in the percent format: ``# %% name`` begins a code cell and ``# %% [markdown] name`` a text,
which is commented out. What a student must write is between ``### BEGIN SOLUTION`` and ``### END SOLUTION``, the
markers of nbgrader; ``### INSTEAD`` between them begins what the student's copy has instead. A single line ends with
``### SOLUTION``, which may be followed by what the student's copy has instead of the right side.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .language import texts

__all__ = [
    "Cell",
    "cells_of",
    "file_name",
    "languages",
    "master",
    "masters",
    "notebook",
    "solution",
    "student",
    "write",
]

_FOLDER = Path(__file__).with_name("lessons")
_LESSON = re.compile(r"0?(?P<key>[1-9A-Z])_\w+")
_HEAD = re.compile(r"^# %% (?P<markdown>\[markdown\] )?(?P<name>[\w-]+)$", re.MULTILINE)
_BLOCK = re.compile(
    r"^(?P<indent> *)### BEGIN SOLUTION\n(?P<right>.*?)\n(?: *### INSTEAD\n(?P<instead>.*?)\n)? *### END SOLUTION$",
    re.MULTILINE | re.DOTALL,
)
_LINE = re.compile(r"^(?P<left>.*?= )?(?P<right>.*?)  ### SOLUTION(?: (?P<instead>.*))?$", re.MULTILINE)


_NOT_SIGNED_OFF = {"es": "*Traducción provisional: espera la revisión de un hablante nativo.*"}
"""The note on a translation that no native speaker has reviewed yet."""


@dataclass(frozen=True)
class Cell:
    """One cell of a master: its name, which is its id in the notebooks, and its source."""

    name: str
    source: str
    is_code: bool


def masters() -> dict[str, Path]:
    """Return the masters by the number of the lesson, or the letter of an elective."""
    found = ((_LESSON.fullmatch(path.stem), path) for path in sorted(_FOLDER.glob("*.py")))
    return {named["key"]: path for named, path in found if named is not None}


def master(number: str | int) -> Path:
    """Return the master of a lesson.

    Raises:
        ValueError: there is no such lesson.
    """
    found = masters()
    if str(number) not in found:
        raise ValueError(f"there is no lesson {number}; there are {', '.join(found)}")
    return found[str(number)]


def cells_of(text: str) -> list[Cell]:
    r"""Read a master.

    Example:
        >>> cells_of("# %% [markdown] a\n# Hello\n\n# %% b\nn = 1  ### SOLUTION\n")
        [Cell(name='a', source='Hello', is_code=False), Cell(name='b', source='n = 1  ### SOLUTION', is_code=True)]
    """
    heads = list(_HEAD.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    found = []
    for head, end in zip(heads, ends, strict=True):
        source = text[head.end() : end].strip("\n")
        if head["markdown"]:
            source = re.sub(r"^# ?", "", source, flags=re.MULTILINE)
        found.append(Cell(head["name"], source, not head["markdown"]))
    return found


def student(source: str) -> str:
    """Return a code cell of the student's copy, without the solution.

    Example:
        >>> student("n = 1  ### SOLUTION")
        'n = ...'
    """
    source = _BLOCK.sub(lambda found: found["instead"] or f"{found['indent']}...  # your code here", source)
    return _LINE.sub(lambda found: (found["left"] or "") + (found["instead"] or "..."), source)


def solution(source: str) -> str:
    """Return a code cell with the solution.

    Example:
        >>> solution("n = 1  ### SOLUTION")
        'n = 1'
    """
    source = _BLOCK.sub(lambda found: found["right"], source)
    return re.sub(r"  ### SOLUTION.*$", "", source, flags=re.MULTILINE)


def languages(number: str | int) -> tuple[str, ...]:
    """Return the languages of a lesson, English first."""
    found = sorted(path.parent.name for path in _FOLDER.glob(f"*/lesson-{number}.toml"))
    return ("en", *found)


def notebook(number: str | int, copy: Callable[[str], str] = student, language: str = "en") -> dict[str, Any]:
    """Build a notebook, in nbformat 4.5.

    Args:
        number: the number of the lesson, or the letter of an elective.
        copy: makes each code cell: `student` or `solution`.
        language: the language of the texts; code is not translated.

    Raises:
        ValueError: the lesson is not translated, or only in part.
    """
    cells = cells_of(master(number).read_text(encoding="utf-8"))
    if language != "en":
        cells = _translate(number, cells, language)
    made = [replace(cell, source=copy(cell.source)) if cell.is_code else cell for cell in cells]
    return {
        "cells": [_as_json(cell) for cell in made],
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def file_name(number: str | int, language: str = "en") -> str:
    """Return the file name of a lesson's notebook."""
    suffix = "" if language == "en" else f"_{language}"
    return f"lesson_{master(number).stem}{suffix}.ipynb"


def write(
    number: str | int,
    path: Path,
    copy: Callable[[str], str] = student,
    language: str = "en",
    *,
    is_for_pyodide: bool = False,
) -> None:
    """Write a lesson's notebook; for JupyterLite, with its kernel and a first cell that installs the package."""
    made = notebook(number, copy, language)
    if is_for_pyodide:
        made["cells"].insert(0, _as_json(Cell("install", "%pip install cerebelum_nb", is_code=True)))
        made["metadata"]["kernelspec"] = {"name": "python", "display_name": "Python (Pyodide)", "language": "python"}
    path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _translate(number: str | int, cells: list[Cell], language: str) -> list[Cell]:
    """Replace the English texts by their translations, which must be complete and have no others."""
    found = texts(language, f"lesson-{number}")
    if not found:
        raise ValueError(f"lesson {number} is in {', '.join(languages(number))}, and not in {language!r}")
    names = {cell.name for cell in cells if not cell.is_code}
    if found.keys() != names:
        raise ValueError(f"{language}/lesson-{number}.toml: missing or too many: {sorted(found.keys() ^ names)}")
    made = [cell if cell.is_code else replace(cell, source=found[cell.name].strip()) for cell in cells]
    return [replace(made[0], source=f"{made[0].source}\n\n{_NOT_SIGNED_OFF[language]}"), *made[1:]]


def _as_json(cell: Cell) -> dict[str, Any]:
    lines = cell.source.splitlines(keepends=True)
    if not cell.is_code:
        return {"cell_type": "markdown", "id": cell.name, "metadata": {}, "source": lines}
    code = {"cell_type": "code", "id": cell.name, "metadata": {}, "source": lines}
    return {**code, "execution_count": None, "outputs": []}
