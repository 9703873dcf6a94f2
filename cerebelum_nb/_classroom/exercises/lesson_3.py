"""Lesson 3: the gap nobody can close."""

from __future__ import annotations

from collections.abc import Iterator

from ..evidence import Answer, Evidence, RecordedRun
from . import Exercise, Exercises

__all__ = ["EXERCISES"]

_PAID = ("OperationCompleted", "charge")


def _recorded_before_the_crash(run: RecordedRun) -> bool:
    """Whether the payment was on disk when the process died."""
    pairs = run.pairs()
    return _PAID in pairs[: pairs.index(("WorkflowResumed", None))]


def _after(log: Evidence, answer: Answer) -> Iterator[str]:
    if not any(run.was_resumed and run.is_completed and _recorded_before_the_crash(run) for run in log.runs("shop")):
        yield "crash the order after `OperationCompleted charge` and resume it: run the two cells around your answer"
    elif answer.value != 1:
        yield f"you said {answer.value!r}: count the payments in the world, and look what the log held before the crash"


def _before(log: Evidence, answer: Answer) -> Iterator[str]:
    gaps = [run for run in log.runs("shop") if run.was_resumed and not _recorded_before_the_crash(run)]
    if not any(run.is_completed for run in gaps):
        yield "crash the order before `OperationCompleted charge` and resume it: run the two cells around your answer"
    elif answer.value != 2:
        yield f"you said {answer.value!r}: the log did not know of the first payment, so what did the resume do?"


def _key(log: Evidence, answer: Answer) -> Iterator[str]:
    gaps = [run for run in log.runs("careful_shop") if run.was_resumed and not _recorded_before_the_crash(run)]
    if not gaps or not gaps[0].is_completed:
        yield "crash an order of `careful_shop` before the payment is written down, and resume it: run the cell above"
        return
    paid = {what: times for what, times in answer.world.items() if what.startswith("charge 40 EUR")}
    if sum(paid.values()) != 1:
        times = sum(paid.values())
        yield f"the customer paid {times} times: is context.idempotency_key the last argument of context.run?"
    elif not any(", key " in what and len(what) > len("charge 40 EUR, key ") for what in paid):
        yield "the bank got no key: pass context.idempotency_key to it"


def _what_runs(log: Evidence, answer: Answer) -> Iterator[str]:
    match answer.value:
        case "a":
            yield "a step that did not finish has no result: in the logs above, did `charge` start again?"
        case "b":
            yield "`reserve` had finished: in the logs above, did it start again?"
        case "d":
            yield "in exercise 2 the customer paid twice: exactly once is what no log can promise"
        case "c":
            return
        case other:
            yield f"choose a, b, c or d, not {other!r}"


EXERCISES = Exercises(
    "lesson-3",
    "The gap nobody can close",
    (
        Exercise("after", _after, asks="write your number in place of the `...` after `payments_after =`"),
        Exercise("before", _before, asks="write your number in place of the `...` after `payments_before =`"),
        Exercise("key", _key),
        Exercise("what runs again", _what_runs, asks="click an answer, or write its letter in place of the `...`"),
    ),
)
