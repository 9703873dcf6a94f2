"""The exercises of each lesson, and what its log must show: one module per lesson.

A check is a generator over the evidence: each hint that it yields names something that is missing; no hint means done.
It reads nothing but the log, so that a grade can be derived from the log alone.
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
    "step_names",
    "you_said",
]

LESSONS = tuple(f"lesson-{key}" for key in "123456ABCD")
"""All lessons; A to D are electives."""

Check = Callable[[Evidence, Answer], Iterator[str]]


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        title: its topic, in a word or two.
        check: yields a hint for everything that is missing.
        asks: what to fill in, for the hint if it was not; "" if no answer is needed besides the runs in the log.
        record: makes the recorded answer from what the student gives.
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
        """Return the number of an exercise with its title in the language of the notebook."""
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
    """Return what is missing of an exercise; nothing if any of its answers is right.

    So an exercise stays done when its cells are run again. Nothing in the log makes it raise.
    """
    count = evidence.answers(exercises.lesson, number)
    newest = hints(exercises, number, evidence, evidence.answer(exercises.lesson, number, count))
    earlier = range(count - 1, 0, -1) if newest else ()
    is_done = any(not hints(exercises, number, evidence, evidence.answer(exercises.lesson, number, n)) for n in earlier)
    return [] if is_done else newest


def hints(exercises: Exercises, number: int, evidence: Evidence, answer: Answer) -> list[str]:
    """Return what is missing of an exercise with one of its answers."""
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
    """Return the hint for a place that was not filled in."""
    return say("{asks}, run that cell again, and then its check", asks=say(exercise.asks))


def choice(right: str, **wrong: str) -> Check:
    """Make the check of a question whose answer is one of a, b, c and d.

    Args:
        right: the letter of the right answer.
        wrong: for each other letter, the hint in English.
    """

    def check(log: Evidence, answer: Answer) -> Iterator[str]:
        if answer.value == right:
            return
        if (hint := wrong.get(str(answer.value))) is not None:
            yield say(hint)
        else:
            yield say("choose a, b, c or d, not {other!r}", other=answer.value)

    return check


def you_said(answer: Answer) -> str:
    """Return the beginning of a hint: the answer as the student wrote it."""
    return say("you said {answer!r}", answer=answer.value)


def step_names(answer: Answer) -> list[str]:
    """Return the steps that an answer names, in a list or as a single name."""
    return list(map(str, [answer.value] if isinstance(answer.value, str) else answer.value))
