"""Records an answer as an execution in the log, so that the log alone shows what was answered."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from .._core import events as e
from .._core.fold import fold
from .._core.summary import summarise
from .._core.value import Value
from .._store.base import Commit, Store
from .evidence import ANSWERS, Evidence

__all__ = ["is_blank", "plain", "record_answer"]

_STEP = "answer"


def is_blank(value: Any) -> bool:
    """Whether a place was not filled in: it is `...`, or a list that contains it."""
    return value is ... or (isinstance(value, (list, tuple)) and any(item is ... for item in value))


def plain(value: Any) -> Any:
    """Return an answer as a JSON value.

    Raises:
        TypeError: it cannot be JSON; the message is the type that cannot.
        ValueError: it contains itself, NaN or an infinite number.
    """
    if isinstance(value, (set, frozenset)):
        value = sorted(value)
    return json.loads(json.dumps(value, allow_nan=False, default=_refuse))


def _refuse(value: Any) -> Any:
    raise TypeError(type(value).__name__)


def record_answer(store: Store, lesson: str, number: int, title: str, value: Any, world: Mapping[str, int]) -> None:
    """Record an answer, unless it is the same as the last one.

    Args:
        store: the log.
        lesson: the name of the lesson.
        number: the number of the exercise.
        title: the title of the exercise, for readers of the log.
        value: the answer, JSON; None if the exercise needs only the world.
        world: how often each thing had been done.
    """
    evidence = Evidence(store)
    last = evidence.answer(lesson, number)
    if (last.value, last.world) == (value, dict(world)):
        return
    now = time.time_ns() // 1000
    inputs = _value({"lesson": lesson, "exercise": f"{number} {title}", "world": dict(world)})
    events: list[e.Event] = [
        e.WorkflowStarted(at=now, workflow=ANSWERS, inputs=inputs, total_steps=1),
        e.StepStarted(at=now, step=_STEP),
        e.StepCompleted(at=now, step=_STEP, output=_value(value)),
        e.WorkflowCompleted(at=now, last_step=_STEP),
    ]
    store.commit(
        [
            Commit(
                execution_id=f"{lesson}.{number}.{evidence.answers(lesson, number) + 1}",
                after=0,
                events=events,
                summary=summarise(fold(events)),
                holder=store.register(now, 60_000_000),
                release=True,
            )
        ]
    )


def _value(value: Any) -> Value:
    return Value("json", json.dumps(value, ensure_ascii=False, separators=(",", ":")))
