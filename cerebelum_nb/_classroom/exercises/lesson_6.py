"""Lesson 6: detective. Its questions are about a log that is the same everywhere, so its answers are known."""

from __future__ import annotations

from collections.abc import Iterator

from ..case import FIRST, FORGED, LIMIT, subscribers
from ..evidence import Answer, Evidence
from . import Exercise, Exercises

__all__ = ["EXERCISES"]

_WEEK = 42


def _since_when(log: Evidence, answer: Answer) -> Iterator[str]:
    if not isinstance(answer.value, str) or not answer.value.startswith("week-"):
        yield f'you said {answer.value!r}: an id is text such as "week-01"'
    elif answer.value != f"week-{FIRST}":
        yield f'{answer.value} was not the first: look at the last row of year.executions(state="failed")'


def _culprit(log: Evidence, answer: Answer) -> Iterator[str]:
    step, limit = answer.value
    if step != "send":
        yield f'not {step!r}: look at the column step of year.steps(state="failed")'
    if limit != LIMIT:
        yield f'not {limit!r}: the number is in the column error of year.steps(state="failed")'


def _knew(log: Evidence, answer: Answer) -> Iterator[str]:
    if answer.value != subscribers(_WEEK):
        yield f'not {answer.value!r}: ask year.state_at("week-{_WEEK}").results what `collect` returned'


def _forged(log: Evidence, answer: Answer) -> Iterator[str]:
    if answer.value != FORGED:
        yield f"not {answer.value!r}: archive.verify(store=copy) names the execution and the event"


EXERCISES = Exercises(
    "lesson-6",
    "Detective",
    (
        Exercise(
            "since when", _since_when, asks="write the id of the run in quotes in place of the `...` after `first =`"
        ),
        Exercise("which step", _culprit, asks="write the step and the number in place of both `...`"),
        Exercise("what it knew", _knew, asks="write the number in place of the `...` after `subscribers =`"),
        Exercise("forged", _forged, asks="write the id of the run in quotes in place of the `...` after `forged =`"),
    ),
)
