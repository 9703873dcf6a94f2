"""Lesson 2: steps that need each other."""

from __future__ import annotations

from collections.abc import Iterator

from ..evidence import Answer, Evidence, RecordedRun
from . import Exercise, Exercises

__all__ = ["EXERCISES"]

_CAKE = ("buy", "mix", "heat", "bake", "cool")


def _completed(log: Evidence, workflow: str) -> RecordedRun | None:
    return next((run for run in log.runs(workflow) if run.is_completed), None)


def _order(log: Evidence, answer: Answer) -> Iterator[str]:
    run = _completed(log, "cake")
    if run is None:
        yield "no cake is finished yet: move each step behind those it needs, run that cell and the one below it"
    elif missing := [step for step in _CAKE if step not in run.state.finished]:
        yield f"all five steps belong into the cake; missing: {', '.join(missing)}"


def _write(log: Evidence, answer: Answer) -> Iterator[str]:
    run = log.newest("party")
    guests = None if run is None else run.inputs.get("guests")
    if run is None or guests is None:
        yield "run the cell with the party first, with the number of guests as it was"
    elif not run.is_completed:
        yield f"the party failed: {run.state.error}"
    elif run.output != 4 * guests:
        yield (
            f"{guests} guests at 4 each, and the invoice says {run.output!r}: put `price` and `inputs` into the "
            'brackets of `invoice`, and return price * inputs["guests"]'
        )


def _parallel(log: Evidence, answer: Answer) -> Iterator[str]:
    run = _completed(log, "faster_cake")
    if run is None:
        yield "run the cell with faster_cake first"
    elif not run.overlap("mix", "heat"):
        yield "in the log, one of mix and heat started only when the other one was finished: put both into [ ]"
    elif missing := [step for step in _CAKE if step not in run.state.finished]:
        yield f"all five steps belong into the cake; missing: {', '.join(missing)}"


def _kept(log: Evidence, answer: Answer) -> Iterator[str]:
    run = next((run for run in log.runs("unlucky_cake") if run.was_resumed and run.is_completed), None)
    if run is None:
        yield "close the door and resume the cake: run the cell below your answer"
        return
    kept = run.results(run.pairs().index(("WorkflowResumed", None)))
    if sorted(map(str, answer.value)) != sorted(kept):
        yield (
            f"you said {answer.value!r}: in the log, which steps have a StepCompleted before WorkflowResumed, and "
            "which start again after it?"
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
