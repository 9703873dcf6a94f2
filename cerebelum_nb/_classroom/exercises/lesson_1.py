"""Lesson 1: a program that remembers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..._text.text import counted
from ..evidence import Answer, Evidence
from . import Exercise, Exercises

__all__ = ["EXERCISES"]

_PAYMENT = "charge 40 EUR"


def _forgets(log: Evidence, answer: Answer) -> Iterator[str]:
    paid = answer.world.get(_PAYMENT, 0)
    if paid < 2:
        yield "run the two cells that run the program first: its second run has not happened yet"
    elif answer.value != paid:
        yield f"you said {answer.value!r}, and the world says otherwise: count `{_PAYMENT}` above"


def _diary(log: Evidence, answer: Answer) -> Iterator[str]:
    if not answer.value:
        yield "the diary is empty: append (function.__name__, order) to it once the function has run"
        return
    names = [entry[0] for entry in answer.value]
    if names != ["reserve", "charge", "ship"]:
        yield f"the diary should name reserve, charge and ship, in this order; it names {', '.join(map(str, names))}"
    paid = answer.world.get(_PAYMENT, 0)
    if paid != 1:
        yield f"the customer paid {counted(paid, 'time')}"


def _resume(log: Evidence, answer: Answer) -> Iterator[str]:
    run = next((run for run in log.runs("shop") if run.was_resumed), None)
    if run is None:
        yield "resume the order first: run the cell with `await shop.resume(order)`"
        return
    ran = run.ran_after_resume()
    if answer.value != ran:
        yield f"you said {answer.value!r}: in the log, look for StepStarted after WorkflowResumed"


def _answers_at_every_event(log: Evidence, finished: Callable[[list[Any]], Any]) -> Any:
    """Ask a student's function at every moment of the newest run that was resumed."""
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
        yield "your function returns nothing: end it with `return known`"
        return
    for version in range(1, len(run.events) + 1):
        right = run.results(version)
        if version > len(given) or given[version - 1] != right:
            said = given[version - 1] if version <= len(given) else None
            kind, step = run.pairs()[version - 1]
            yield (
                f"after event {version}, {' '.join(filter(None, (kind, step)))}, the library knows {right!r}, and your "
                f"function says {said!r}: which type of event says that a step is finished?"
            )
            return


EXERCISES = Exercises(
    "lesson-1",
    "A program that remembers",
    (
        Exercise("predict", _forgets, asks="write your number in place of the `...` after `payments =`"),
        Exercise("diary", _diary),
        Exercise("resume", _resume, asks='write the names of the steps in the list, such as ["reserve"]'),
        Exercise("fold", _fold, record=_answers_at_every_event, asks="resume the order above first"),
    ),
)
