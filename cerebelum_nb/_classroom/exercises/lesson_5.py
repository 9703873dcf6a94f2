"""Lesson 5: the code has changed."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ..evidence import Answer, Evidence, RecordedRun
from ..language import say
from . import Exercise, Exercises, step_names, you_said

__all__ = ["EXERCISES"]

_STEPS = ("read", "convert", "average", "report")


def _originals(log: Evidence) -> list[RecordedRun]:
    return [run for run in log.runs("weather") if run.state.parent is None]


def _repair(log: Evidence, answer: Answer) -> Iterator[str]:
    resumed = [run for run in _originals(log) if run.was_resumed and ("StepFailed", "average") in run.pairs()]
    if not resumed:
        yield say("run the cells above: the report has to fail, and to be resumed")
    elif not any(run.is_completed for run in resumed):
        yield say("`average` failed again ({error}): leave out the values that are None", error=resumed[0].state.error)
    elif (wrong := [given for run in resumed if (given := _not_the_mean(run))]) and len(wrong) == len(resumed):
        known, found = wrong[0]
        yield say(
            "`average` returned {found}: add up the {n} values that are known, and divide by {n}. Then run the step "
            'again: `await weather.resume(run, rerun=["average"])`',
            found=found,
            n=known,
        )


def _not_the_mean(run: RecordedRun) -> tuple[int, float] | None:
    """Return the number of known values and the wrong average; None if it is right, perhaps rounded."""
    outputs = run.state.outputs
    if "average" not in outputs:
        return None
    known = [value for value in json.loads(outputs["convert"].json or "[]") if value is not None]
    found = json.loads(outputs["average"].json or "0")
    return None if abs(found - sum(known) / len(known)) < 1 else (len(known), found)


def _stale(log: Evidence, answer: Answer) -> Iterator[str]:
    reruns = [run.ran_after_resume() for run in _originals(log) if run.is_completed]
    ran = next((steps for steps in reruns if "convert" in steps), None)
    if ran is None:
        yield say('repair `average` first, change `celsius`, and run the cell with rerun="stale"')
    elif sorted(step_names(answer)) != sorted(ran):
        yield say(
            "{said}: who calls `celsius`, and who uses the result of that step, and of the next?",
            said=you_said(answer),
        )


def _fork(log: Evidence, answer: Answer) -> Iterator[str]:
    forks = [run for run in log.runs("weather") if run.state.parent]
    if not forks:
        yield say("fork the run: run the cell below your answer")
    elif not forks[0].is_completed:
        yield say("the fork failed: {error}", error=forks[0].state.error)
    elif answer.value != "read":
        yield say(
            "{said}: which step has `inputs` in its brackets? A step that does not run sees no new inputs",
            said=you_said(answer),
        )


def _differ(log: Evidence, answer: Answer) -> Iterator[str]:
    fork = next((run for run in log.runs("weather") if run.state.parent and run.state.forked_at == "read"), None)
    if fork is None or fork.state.parent is None:
        yield say("fork the run from the first step that uses `inputs`, and compare the two")
        return
    here, there = fork.state.outputs, log.run(fork.state.parent).state.outputs
    differ = [step for step in _STEPS if step in here and step in there and here[step].json != there[step].json]
    if sorted(step_names(answer)) != sorted(differ):
        yield say(
            "{said}: look into the column `difference`; does an average depend on the order?", said=you_said(answer)
        )


EXERCISES = Exercises(
    "lesson-5",
    "The code has changed",
    (
        Exercise("repair", _repair),
        Exercise("stale", _stale, asks='write the names of the steps in the list, such as ["read"]'),
        Exercise("fork", _fork, asks="write the name of a step, in quotes, in place of the `...` after `from_step =`"),
        Exercise("compare", _differ, asks='write the names of the steps in the list, such as ["report"]'),
    ),
)
