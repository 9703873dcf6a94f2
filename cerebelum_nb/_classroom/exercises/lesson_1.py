"""Lesson 1: a program that remembers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..evidence import Answer, Evidence
from ..language import say
from . import Exercise, Exercises, step_names, you_said

__all__ = ["EXERCISES"]

_PAYMENT = "charge 40 EUR"


def _forgets(log: Evidence, answer: Answer) -> Iterator[str]:
    paid = answer.world.get(_PAYMENT, 0)
    if paid < 2:
        yield say("run the two cells that run the program first: its second run has not happened yet")
    elif not isinstance(answer.value, int):
        yield say("{said}: write a number, without quotes", said=you_said(answer))
    elif answer.value not in (2, paid):  # running the second cell again makes it three payments
        yield say("{said}: what does the line `charge 40 EUR` above tell, and why?", said=you_said(answer))


def _diary(log: Evidence, answer: Answer) -> Iterator[str]:
    if not answer.value:
        yield say("the diary is empty: append (function.__name__, order) to it once the function has run")
        return
    names = [entry[0] for entry in answer.value]
    if names != ["reserve", "charge", "ship"]:
        yield say(
            "the diary should name reserve, charge and ship, in this order; it names {names}",
            names=", ".join(map(str, names)),
        )
    paid = answer.world.get(_PAYMENT, 0)
    if paid != 1:
        yield say("the customer should pay once, and paid {paid} times", paid=paid)


def _resume(log: Evidence, answer: Answer) -> Iterator[str]:
    run = next((run for run in log.runs("shop") if run.was_resumed), None)
    if run is None:
        yield say("resume the order first: run the cell with `await shop.resume(order)`")
    elif step_names(answer) != run.ran_after_resume():
        yield say(
            "{said}: which steps have a StepStarted after WorkflowResumed? `lesson.events(order)` shows it",
            said=you_said(answer),
        )


def _answers_at_every_event(log: Evidence, finished: Callable[[list[Any]], Any]) -> Any:
    """Call a student's function at every event of the newest run that was resumed."""
    run = next((run for run in log.runs("shop") if run.was_resumed), None)
    if run is None:
        return None
    pairs, answers = run.pairs(), []
    for version in range(1, len(pairs) + 1):
        found = finished(pairs[:version])
        answers.append(list(found) if isinstance(found, (list, tuple, set, dict)) else found)
    return {"execution": run.execution_id, "finished": answers}


def _fold(log: Evidence, answer: Answer) -> Iterator[str]:
    run = log.run(answer.value["execution"])
    given = answer.value["finished"]
    if given[0] is None:
        yield say("your function returns nothing: end it with `return known`")
        return
    for version in range(1, len(run.events) + 1):
        right = run.results(version)
        found = given[version - 1] if version <= len(given) else None
        if found != right:
            kind, step = run.pairs()[version - 1]
            yield say(
                "after event {version}, {event}, the library knows {right!r}, and your function says {found!r}: which "
                "type of event says that a step is finished?",
                version=version,
                event=" ".join(filter(None, (kind, step))),
                right=right,
                found=found,
            )
            return


EXERCISES = Exercises(
    "lesson-1",
    "A program that remembers",
    (
        Exercise("predict", _forgets, asks="write your number in place of the `...` after `payments =`"),
        Exercise("diary", _diary, asks="add the missing line to `run_with_diary`"),
        Exercise("resume", _resume, asks='write the names of the steps in the list, such as ["reserve"]'),
        Exercise("fold", _fold, record=_answers_at_every_event, asks="resume the order above first"),
    ),
)
