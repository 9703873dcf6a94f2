"""``Lesson``: what a lesson's notebook works with."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .._core.arguments import ExecutionLike
from .._core.state_name import ExecutionState
from .._engine.clock import Clock
from .._store.connect import connect
from .._store.log_file import here
from .._text.html import Html
from .._text.times import at as moment_of
from .._workflow.workflow import Workflow
from .answers import is_blank, plain, record_answer
from .crash import Crash, crash
from .evidence import Answer, Evidence
from .exercises import blank, exercises_of, graded, hints
from .grading import score_of
from .language import say
from .quiz import Quiz
from .verdict import Score, Verdict
from .world import World

__all__ = ["Lesson"]

_POLL_SECONDS = 0.05


class Lesson:
    """A folder with a log and a world, and the exercises of one lesson.

    It makes its log the session's. A lesson that was begun continues: the log is kept.

    Args:
        name: which lesson, ``"lesson-1"``.
        folder: where its log and its world are kept; by default a folder of that name in the working directory.
        hibernate_after: waits that are longer hibernate; see :func:`cerebelum_nb.connect`.

    Attributes:
        folder: where its log and its world are.
        log: the log's file, which is what a student hands in.
        world: where side effects are noted.

    Raises:
        ValueError: there is no such lesson.
        StoreError: the log cannot be written.

    Example:
        >>> import tempfile
        >>> lesson = Lesson("lesson-1", tempfile.mkdtemp())
        >>> lesson.check(1, ...)
        1 predict: not yet
          - write your number in place of the `...` after `payments =`, run that cell again, and then its check
        >>> str(lesson.score())
        '0 of 4'
        >>> lesson.close()
    """

    def __init__(self, name: str, folder: str | os.PathLike[str] | None = None, *, hibernate_after: str = "1h") -> None:
        self.name = name
        self._exercises = exercises_of(name)
        self.folder = here() / (name if folder is None else folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "history.db"
        self.store = connect(self.log, durability="normal", hibernate_after=hibernate_after)
        self.world = World(self.folder / "world.txt")

    def crash(
        self,
        workflow: Workflow,
        inputs: dict[str, Any] | None = None,
        *,
        after: int | str | None = None,
        before: int | str | None = None,
        nth: int = 1,
        execution_id: ExecutionLike | None = None,
        resume: bool = False,
        clock: Clock | None = None,
    ) -> Crash:
        """Run a workflow in another process, in this lesson's log, and kill that process; see :func:`crash`."""
        return crash(
            workflow,
            inputs,
            after=after,
            before=before,
            nth=nth,
            execution_id=execution_id,
            resume=resume,
            clock=clock,
            store=self.store,
        )

    def events(self, execution_id: ExecutionLike) -> list[tuple[str, str | None]]:
        """Return the type and the step of each event of an execution."""
        return Evidence(self.store).run(execution_id).pairs()

    def wakes_at(self, execution_id: ExecutionLike) -> datetime | None:
        """Return when a hibernated execution is due, UTC; None for one that does not hibernate."""
        wake_at = self.store.execution(execution_id).summary.wake_at
        return None if wake_at is None else moment_of(wake_at)

    async def until(self, execution_id: ExecutionLike, *states: str) -> None:
        """Wait until an execution is in one of these states, whoever runs it; without any, until it has ended."""
        wanted = {ExecutionState(state) for state in states}
        while True:
            state = self.store.execution(execution_id).summary.state
            if state in wanted or state.is_final:
                return
            await asyncio.sleep(_POLL_SECONDS)

    def check(self, number: int, answer: Any = None) -> Verdict:
        """Say whether an exercise is done, and what is missing if it is not. Never raises for a wrong answer.

        The answer is recorded in the log, with what the world looks like now.

        Args:
            number: which exercise, from 1.
            answer: what is asked for, if anything is; without it, what was answered before is checked.

        Raises:
            ValueError: there is no such exercise.
        """
        exercise, evidence = self._exercises[number], Evidence(self.store)
        name = self._exercises.name(number)
        if is_blank(answer):
            return Verdict(name, [blank(exercise)])
        if answer is None and exercise.asks:  # by a quiz, or earlier
            return Verdict(name, graded(self._exercises, number, evidence))
        try:
            found = answer if exercise.record is None else exercise.record(evidence, answer)
        except Exception as error:  # noqa: BLE001 - it may call a function of the student
            return Verdict(name, [say("your answer raised {error}", error=f"{type(error).__name__}: {error}")])
        try:
            value = plain(found)
        except (TypeError, ValueError, RecursionError) as error:
            what = str(error)
            return Verdict(
                name, [say("your answer may hold text, numbers and lists of them; it holds: {what}", what=what)]
            )
        world = self.world.counts()
        record_answer(self.store, self.name, number, exercise.title, value, world)
        return Verdict(name, hints(self._exercises, number, evidence, Answer(value, world, value is not None)))

    def quiz(self, number: int, question: str, options: Mapping[str, str], answer: Any = ...) -> Quiz:
        """Ask a question with several options: a click, or a letter in the cell, answers an exercise.

        Args:
            number: which exercise.
            question: the question.
            options: the options by their letters.
            answer: the letter; left as `...`, one answers by a click.
        """
        translated = {letter: say(text) for letter, text in options.items()}
        return Quiz(say(question), translated, lambda letter: self.check(number, letter), answer)

    def score(self) -> Score:
        """Say how many exercises are done."""
        return score_of(Evidence(self.store), self.name)

    def close(self) -> None:
        """Close the log; the kernel's end does it as well."""
        self.store.close()

    def __repr__(self) -> str:
        title, progress = self._describe()
        return f"{title}: {progress} {self.log}"

    def _repr_html_(self) -> str:
        return Html("<b>{}</b>: {} <code>{}</code>").format(*self._describe(), str(self.log))

    def _describe(self) -> tuple[str, str]:
        return say(self._exercises.title), say("{score} exercises done. Your log is", score=self.score())
