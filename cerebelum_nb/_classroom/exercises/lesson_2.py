"""Lesson 2: steps that need each other."""

from __future__ import annotations

from collections.abc import Iterator

from ..evidence import Answer, Evidence, RecordedRun
from ..language import say
from . import Exercise, Exercises, step_names, you_said

__all__ = ["EXERCISES"]

_CAKE = ("buy", "mix", "heat", "bake", "cool")


def _completed(log: Evidence, workflow: str) -> RecordedRun | None:
    return next((run for run in log.runs(workflow) if run.is_completed), None)


def _missing(run: RecordedRun) -> Iterator[str]:
    if missing := [step for step in _CAKE if step not in run.state.finished]:
        yield say("all five steps belong in the cake; missing: {steps}", steps=", ".join(missing))


def _order(log: Evidence, answer: Answer) -> Iterator[str]:
    run = _completed(log, "cake")
    if run is None:
        yield say("no cake is finished yet: move each step behind those it needs, run that cell and the one below it")
    else:
        yield from _missing(run)


def _write(log: Evidence, answer: Answer) -> Iterator[str]:
    run = log.newest("party")
    guests = None if run is None else run.inputs.get("guests")
    if run is None or guests is None:
        yield say("run the cell with the party first, with the number of guests as it was")
    elif not run.is_completed:
        yield say(
            'the party failed: {error}. The guests are inputs["guests"], with `inputs` in the brackets of `invoice`',
            error=run.state.error,
        )
    elif run.output != 4 * guests:
        yield say(
            "{guests} guests at 4 each, and the invoice says {output!r}: put `price` and `inputs` into the brackets of "
            '`invoice`, and return price * inputs["guests"]',
            guests=guests,
            output=run.output,
        )


def _parallel(log: Evidence, answer: Answer) -> Iterator[str]:
    run = _completed(log, "faster_cake")
    if run is None:
        yield say("no faster_cake is finished yet: if its cell shows a problem, repair the order, and run it again")
    elif not run.overlap("mix", "heat"):
        yield say(
            "in the log, one of mix and heat started only when the other was finished: put both into one pair of [ ]"
        )
    else:
        yield from _missing(run)


def _kept(log: Evidence, answer: Answer) -> Iterator[str]:
    run = next((run for run in log.runs("unlucky_cake") if run.was_resumed and run.is_completed), None)
    if run is None:
        yield say("let the cake fail, close the door and resume it: run the two cells below your answer")
        return
    kept = run.results(run.pairs().index(("WorkflowResumed", None)))
    if sorted(step_names(answer)) != sorted(kept):
        yield say(
            "{said}: in the log, which steps have a StepCompleted before WorkflowResumed, and which start again "
            "after it?",
            said=you_said(answer),
        )


EXERCISES = Exercises(
    "lesson-2",
    "Steps that need each other",
    (
        Exercise("order", _order),
        Exercise("write a step", _write),
        Exercise("side by side", _parallel),
        Exercise("what is kept", _kept, asks='write the names of the steps in the list, such as ["buy"]'),
    ),
)
