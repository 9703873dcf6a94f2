"""Lesson B: undo what was done."""

from __future__ import annotations

from collections.abc import Iterator

from ..._core import events as e
from ..evidence import Answer, Evidence, RecordedRun
from ..language import say
from . import Exercise, Exercises, step_names, you_said

__all__ = ["EXERCISES"]


def _undone(run: RecordedRun) -> list[str]:
    """Return the steps that a rollback undid, in order."""
    return [event.step[1:] for event in run.events if isinstance(event, e.StepCompleted) and event.step.startswith("~")]


def _rolled_back(log: Evidence, workflow: str) -> RecordedRun | None:
    return next((run for run in log.runs(workflow) if ("WorkflowRolledBack", None) in run.pairs()), None)


def _handler(log: Evidence, answer: Answer) -> Iterator[str]:
    run = _rolled_back(log, "trip")
    if run is None:
        yield say("roll the trip back: run the cell with `await trip.rollback(run)`")
    elif "book_hotel" not in _undone(run):
        yield say("the hotel is still booked: write what undoes `book_hotel`, and run the cells from there on again")
    elif answer.world.get("cancel hotel in Lima") != 1:
        yield say('nobody cancelled the hotel: let the undo call world.note("cancel " + book_hotel)')


def _order(log: Evidence, answer: Answer) -> Iterator[str]:
    run = next((run for run in log.runs("trip") if len(_undone(run)) == 2), None)
    if run is None:
        yield say("roll a trip back that knows how to undo both: do exercise 1 first")
    elif step_names(answer) != _undone(run):
        yield say("{said}: which of them was booked last, and may need the other one?", said=you_said(answer))


def _once(log: Evidence, answer: Answer) -> Iterator[str]:
    run = _rolled_back(log, "second_trip")
    if run is None or not any(isinstance(x, e.StepFailed) and x.step == "~book_flight" for x in run.events):
        yield say("call the rollback again when the telephone works: run the cell below your answer")
    elif answer.value != 1:
        yield say(
            "{said}: the log says that `~book_hotel` is completed. Does a completed step run again?",
            said=you_said(answer),
        )


EXERCISES = Exercises(
    "lesson-B",
    "Undo what was done",
    (
        Exercise("handler", _handler),
        Exercise("undo order", _order, asks='write the names of the steps in the list, such as ["pay"]'),
        Exercise("half way", _once, asks="write your number in place of the `...` after `cancellations =`"),
    ),
)
