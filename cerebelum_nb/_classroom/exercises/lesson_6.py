"""Lesson 6: detective. Its log is the same everywhere, so its answers are known."""

from __future__ import annotations

from collections.abc import Iterator

from ..case import FIRST, FORGED, LIMIT, subscribers
from ..evidence import Answer, Evidence
from ..language import say
from . import Exercise, Exercises, you_said

__all__ = ["EXERCISES"]

_WEEK = 42


def _since_when(log: Evidence, answer: Answer) -> Iterator[str]:
    if not isinstance(answer.value, str) or not answer.value.startswith("week-"):
        yield say('{said}: an id is text such as "week-01"', said=you_said(answer))
    elif answer.value != f"week-{FIRST}":
        yield say(
            '{week} was not the first: look at the last row of year.executions(state="failed")', week=answer.value
        )


def _culprit(log: Evidence, answer: Answer) -> Iterator[str]:
    step, limit = answer.value
    if step != "send":
        yield say('not {step!r}: look at the column step of year.steps(state="failed")', step=step)
    if limit != LIMIT:
        yield say('not {limit!r}: the number is in the column error of year.steps(state="failed")', limit=limit)


def _knew(log: Evidence, answer: Answer) -> Iterator[str]:
    if answer.value != subscribers(_WEEK):
        yield say(
            '{said}: ask year.state_at("week-{week}").results what `collect` returned',
            said=you_said(answer),
            week=_WEEK,
        )


def _forged(log: Evidence, answer: Answer) -> Iterator[str]:
    if answer.value != FORGED:
        yield say("{said}: archive.verify(store=copy) names the execution and the event", said=you_said(answer))


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
