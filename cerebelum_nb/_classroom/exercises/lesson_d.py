"""Lesson D: read the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..._core import events as e
from ..evidence import Answer, Evidence, RecordedRun
from ..language import say
from . import Exercise, Exercises, choice, step_names, you_said

__all__ = ["EXERCISES"]

_STAGES = [["buy"], ["mix", "heat"], ["bake"]]


def _bread(log: Evidence) -> RecordedRun | None:
    return next((run for run in log.runs("bread") if run.is_completed), None)


def _next_stage(log: Evidence, answer: Answer) -> Iterator[str]:
    if sorted(step_names(answer)) != ["heat", "mix"]:
        yield say(
            "{said}: what stands behind `buy` in the timeline, and what does `next_commands(3)` say?",
            said=you_said(answer),
        )


def _at(run: RecordedRun, version: int) -> tuple[list[str], list[str]]:
    """Return the steps that were started and the steps that were finished at an event."""
    started = [event.step for event in run.events[:version] if isinstance(event, e.StepStarted)]
    return started, run.results(version)


def _ask_at_every_event(log: Evidence, decide: Callable[..., Any]) -> Any:
    """Call a student's function at every event of the newest bread."""
    run = _bread(log)
    if run is None:
        return None
    answers = []
    for version in range(1, len(run.events) + 1):
        started, finished = _at(run, version)
        found = decide(_STAGES, started, finished)
        answers.append(found if found is None else list(found))
    return {"execution": run.execution_id, "answers": answers}


def _decided(log: Evidence, answer: Answer) -> Iterator[str]:
    run = log.run(answer.value["execution"])
    for version, found in enumerate(answer.value["answers"], 1):
        started, finished = _at(run, version)
        stage = next((stage for stage in _STAGES if not {*stage} <= {*finished}), [])
        right = [name for name in stage if name not in started]
        if found is None or sorted(found) != sorted(right):
            yield say(
                "after event {version}, with {started!r} started and {finished!r} finished, the engine starts "
                "{right!r}, and your function says {found!r}",
                version=version,
                started=started,
                finished=finished,
                right=right,
                found=found,
            )
            return


_why = choice(
    "c",
    a="`decide` sees the plan and the state: does it read your file?",
    b="in lesson 1 the process was killed: had it the time to write anything?",
    d="`decide` gets no messages: what are its arguments?",
)


EXERCISES = Exercises(
    "lesson-D",
    "Read the engine",
    (
        Exercise("what comes next", _next_stage, asks='write the names of the steps in the list, such as ["bake"]'),
        Exercise("your own decide", _decided, asks="run the bread first", record=_ask_at_every_event),
        Exercise("why", _why, asks="click an answer, or write its letter in place of the `...`"),
    ),
)
