"""What each lesson asks, and what its log must show: one module a lesson.

A check is a generator over the evidence: each hint that it yields names something that is missing, and none means
done. It reads nothing but the log, so that a grade can be derived again from the log alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ..._text.text import did_you_mean
from ..evidence import Answer, Evidence
from ..language import say

__all__ = [
    "LESSONS",
    "Check",
    "Exercise",
    "Exercises",
    "blank",
    "choice",
    "exercises_of",
    "graded",
    "hints",
    "names_in",
    "said",
]

LESSONS = tuple(f"lesson-{key}" for key in "123456ABCD")
"""The lessons there are; A to D are electives."""

Check = Callable[[Evidence, Answer], Iterator[str]]


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        title: what it is about, in a word or two.
        check: yields a hint for everything that is missing.
        asks: what has to be filled in, for the hint when it is not; empty if no answer is given, and the log of runs
            says it all.
        record: makes the answer that is recorded from what the student gives.
    """

    title: str
    check: Check
    asks: str = ""
    record: Callable[[Evidence, Any], Any] | None = None


@dataclass(frozen=True)
class Exercises:
    """The exercises of one lesson, numbered from 1."""

    lesson: str
    title: str
    exercises: tuple[Exercise, ...]

    def __getitem__(self, number: int) -> Exercise:
        if not 1 <= number <= len(self.exercises):
            raise ValueError(f"{self.lesson} has exercises 1 to {len(self.exercises)}, and no {number!r}")
        return self.exercises[number - 1]

    def name(self, number: int) -> str:
        """Return how an exercise is called, which is what its title says in the language that is spoken."""
        return f"{number} {say(self[number].title)}"


def exercises_of(lesson: str) -> Exercises:
    """Return the exercises of a lesson.

    Raises:
        ValueError: there is no such lesson.
    """
    if lesson not in LESSONS:
        known = ", ".join(LESSONS)
        raise ValueError(f"There is no lesson {lesson!r}. {did_you_mean(lesson, LESSONS, f'There are: {known}.')}")
    module = import_module(f".{lesson.replace('-', '_').lower()}", __name__)
    found = module.EXERCISES
    assert isinstance(found, Exercises)
    return found


def graded(exercises: Exercises, number: int, evidence: Evidence) -> list[str]:
    """Return what is missing of an exercise; nothing if it is done, by any answer that was given to it.

    So what was done stays done when its cells are run again. Never raises for what is in the log.
    """
    count = evidence.answers(exercises.lesson, number)
    newest = hints(exercises, number, evidence, evidence.answer(exercises.lesson, number, count))
    earlier = range(count - 1, 0, -1) if newest else ()
    is_done = any(not hints(exercises, number, evidence, evidence.answer(exercises.lesson, number, n)) for n in earlier)
    return [] if is_done else newest


def hints(exercises: Exercises, number: int, evidence: Evidence, answer: Answer) -> list[str]:
    """Return what is missing of an exercise, given one answer to it."""
    exercise = exercises[number]
    if exercise.asks and not answer.given:
        return [blank(exercise)]
    try:
        return list(dict.fromkeys(exercise.check(evidence, answer)))
    except Exception as error:  # noqa: BLE001 - an answer may be anything, and a check must not fail a notebook
        return [
            say(
                "this answer cannot be read ({error}): is it of the form that is asked for?",
                error=f"{type(error).__name__}: {error}",
            )
        ]


def blank(exercise: Exercise) -> str:
    """Return the hint for a place that was left as it was."""
    return say("{asks}, run that cell again, and then its check", asks=say(exercise.asks))


def choice(right: str, **wrong: str) -> Check:
    """Make the check of a question whose answer is one of a, b, c and d.

    Args:
        right: the letter of the right answer.
        wrong: for each other letter, the hint for who chose it, in English.
    """

    def check(log: Evidence, answer: Answer) -> Iterator[str]:
        if answer.value == right:
            return
        if (hint := wrong.get(str(answer.value))) is not None:
            yield say(hint)
        else:
            yield say("choose a, b, c or d, not {other!r}", other=answer.value)

    return check


def said(answer: Answer) -> str:
    """Begin a hint with the answer, as the student wrote it."""
    return say("you said {answer!r}", answer=answer.value)


def names_in(answer: Answer) -> list[str]:
    """Read an answer that names steps: in a list, or one by itself."""
    return list(map(str, [answer.value] if isinstance(answer.value, str) else answer.value))
