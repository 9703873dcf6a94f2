"""Grades from logs: the score of a student, and the progress of a class."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

from .._archive.verify import verify
from .._core.state_name import ExecutionState
from .._store.log_file import journal_of, path_of
from .._text.text import cut
from ..errors import CerebelumError, StoreError
from .evidence import ANSWERS, Evidence
from .exercises import LESSONS, exercises_of, graded
from .language import say, say_counted
from .verdict import Score, Verdict

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Register", "Standing", "grade", "lessons_in", "roster", "score_of", "state_words"]

_MOST_FINDINGS = 5


def score_of(evidence: Evidence, lesson: str) -> Score:
    """Derive the score of a lesson from a log."""
    exercises = exercises_of(lesson)
    names = {number: exercises.name(number) for number in range(1, len(exercises.exercises) + 1)}
    return Score(lesson, {name: Verdict(name, graded(exercises, n, evidence)) for n, name in names.items()})


def lessons_in(evidence: Evidence) -> list[str]:
    """Return the lessons whose answers a log has."""
    return [lesson for lesson in evidence.lessons() if lesson in LESSONS]


def grade(log: str | os.PathLike[str], lesson: str | None = None) -> Score:
    """Derive a student's score from the log that was handed in.

    Every check is made again from what is recorded, so that neither an output pasted into a notebook nor a changed
    check counts. Nothing in the log is unpickled, and no code is run.

    Args:
        log: the log's file.
        lesson: which lesson; by default the one that the log has answers of.

    Returns:
        The score, with what :func:`cerebelum_nb.archive.verify` finds if the log was altered.

    Raises:
        ValueError: the log holds answers of no lesson, or of several, or there is no such lesson.
        StoreError: there is no log, or it cannot be read.

    Example:
        >>> import tempfile
        >>> from cerebelum_nb.classroom import Lesson
        >>> lesson = Lesson("lesson-1", tempfile.mkdtemp())
        >>> _ = lesson.check(1, 1)
        >>> lesson.close()
        >>> print(grade(lesson.log))
        0 of 4
    """
    with Evidence.of(log) as evidence:
        if lesson is None:
            found = lessons_in(evidence)
            if len(found) != 1:
                held = ", ".join(found) or "no lesson"
                raise ValueError(f"{os.fspath(log)} holds answers of {held}: say which, grade(log, 'lesson-1')")
            (lesson,) = found
        made = score_of(evidence, lesson)
        findings = [str(finding) for finding in verify(store=evidence.store).findings[:_MOST_FINDINGS]]
    return Score(made.lesson, made.verdicts, findings)


def roster(logs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> pd.DataFrame:
    """Show where a class stands: one row a student, one column a lesson.

    Args:
        logs: the students' logs: a pattern such as ``"submissions/*/lesson-1/history.db"``, or paths. A student is
            called by the folder that the first ``*`` stands for, or by the first folder in which the paths differ.

    Returns:
        A frame of text: ``"4 of 4"``, ``"2 of 4, charge failed: TypeError"`` with the newest run if that is in trouble
        or waits, ``"-"`` where nothing was done, or why a log cannot be read.

    Raises:
        ValueError: there is no such log.

    Example:
        >>> import tempfile
        >>> from cerebelum_nb.classroom import Lesson
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name, answer in (("ana", 2), ("ben", ...)):
        ...     lesson = Lesson("lesson-1", folder / name)
        ...     _ = lesson.check(1, answer)
        ...     lesson.close()
        >>> roster(f"{folder}/*/history.db")
            lesson-1
        ana   0 of 4
        ben        -
    """
    import pandas as pd

    register = Register(logs)
    cells = register.look()
    if not cells:
        raise ValueError(f"there is no log at {logs!r}: give a pattern such as 'submissions/*/lesson-1/history.db'")
    columns = register.columns(cells)
    rows = [[str(row[name]) if name in row else "-" for name in columns] for row in cells.values()]
    return pd.DataFrame(rows, [*cells], columns)


@dataclass(frozen=True, slots=True)
class Standing:
    """The progress of a student in a lesson.

    Attributes:
        text: how many exercises are done, or why the log cannot be read.
        is_done: whether all of them are.
        trouble: what is wrong with the newest run, or what it waits for; empty if it is completed.
    """

    text: str
    is_done: bool = False
    trouble: str = ""

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.text, self.trouble)))


class Register:
    """The progress of a class, for repeated looks: a log is read again only if it has changed.

    Args:
        logs: as for :func:`roster`; a folder means all logs of lessons below it.
    """

    def __init__(self, logs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> None:
        self._logs = [logs] if isinstance(logs, (str, os.PathLike)) else [*logs]
        self._known: dict[str, tuple[tuple[int, ...], dict[str, Standing]]] = {}

    def look(self) -> dict[str, dict[str, Standing]]:
        """Return the progress of each student by lesson; the lesson is ``"log"`` if a log cannot be read."""
        pattern, paths = self._find_logs()
        cells: dict[str, dict[str, Standing]] = {}
        for student, path in zip(_name_students(pattern, paths), paths, strict=True):
            cells.setdefault(student, {}).update(self._read(path))
        return cells

    @staticmethod
    def columns(cells: Mapping[str, Mapping[str, Standing]]) -> list[str]:
        """Return the lessons that somebody has begun, in order."""
        return [name for name in (*LESSONS, "log") if any(name in row for row in cells.values())]

    def _find_logs(self) -> tuple[str, list[str]]:
        """Return the pattern that names the students, and the present logs."""
        given = os.fspath(self._logs[0]) if len(self._logs) == 1 else ""
        if given and Path(given).is_dir():
            return os.path.join(given, "*"), sorted(map(str, Path(given).rglob("history.db")))  # noqa: PTH118 - a pattern
        if any(mark in given for mark in "*?["):
            return given, sorted(glob(given, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        return "", [os.fspath(path) for path in self._logs]

    def _read(self, path: str) -> dict[str, Standing]:
        changed = _changed_at(path)
        if path not in self._known or self._known[path][0] != changed:
            self._known[path] = changed, _standings(path)
        return self._known[path][1]


def _changed_at(path: str) -> tuple[int, ...]:
    """Return times and sizes of a log's file and its WAL, which change when something is written to the log."""
    file = Path(path_of(path))
    found = [each.stat() for each in (file, Path(journal_of(file))) if each.exists()]
    return tuple(number for stat in found for number in (stat.st_mtime_ns, stat.st_size))


def _standings(path: str) -> dict[str, Standing]:
    """Return the progress in each lesson of a log, or why the log cannot be read."""
    try:
        with Evidence.of(path) as evidence:
            trouble = _describe_trouble(evidence)
            scores = {lesson: score_of(evidence, lesson) for lesson in lessons_in(evidence)}
            return {lesson: Standing(str(score), bool(score), trouble) for lesson, score in scores.items()}
    except (CerebelumError, StoreError, ValueError) as error:
        return {"log": Standing(cut(str(error).replace(str(Path(path).absolute()), Path(path).name), 60))}


def _describe_trouble(evidence: Evidence) -> str:
    """Describe the newest run, unless it is completed."""
    rows, _ = evidence.store.executions(limit=20)
    row = next((row for row in rows if row.summary.workflow != ANSWERS), None)
    if row is None or row.summary.state is ExecutionState.COMPLETED:
        return ""
    found = row.summary
    if found.error:
        return cut(say("{workflow} failed: {error}", workflow=found.workflow, error=found.error), 60)
    return say_counted(
        found.done_steps,
        "{workflow} {state} after 1 step",
        "{workflow} {state} after {n} steps",
        workflow=found.workflow,
        state=say(state_words(found.state)),
    )


def state_words(state: ExecutionState) -> str:
    """Write a state in words.

    Example:
        >>> state_words(ExecutionState.WAITING_FOR_APPROVAL)
        'waiting for approval'
    """
    return state.lower().replace("_", " ")


def _name_students(pattern: str, paths: list[str]) -> list[str]:
    """Return the student of each path: the folder at the first ``*`` of the pattern, else the first that differs."""
    parts = [Path(path).parts for path in paths]
    place = next((n for n, part in enumerate(Path(pattern).parts) if "*" in part or "?" in part), None)
    if place is None or "**" in pattern:
        place = next((n for n, several in enumerate(zip(*parts, strict=False)) if len({*several}) > 1), 0)
    return [each[min(place, len(each) - 1)] for each in parts]
