"""Lesson 3: the gap nobody can close."""

from __future__ import annotations

from collections.abc import Iterator

from ..evidence import Answer, Evidence, RecordedRun
from ..language import say
from . import Exercise, Exercises, choice, you_said

__all__ = ["EXERCISES"]

_PAID = ("OperationCompleted", "charge")
_PAYMENT = "charge 40 EUR"


def _recorded_before_the_crash(run: RecordedRun) -> bool:
    """Whether the payment was on disk when the process died."""
    pairs = run.pairs()
    return _PAID in pairs[: pairs.index(("WorkflowResumed", None))]


def _after(log: Evidence, answer: Answer) -> Iterator[str]:
    if not any(run.was_resumed and run.is_completed and _recorded_before_the_crash(run) for run in log.runs("shop")):
        yield say(
            "crash the order after `OperationCompleted charge` and resume it: run the two cells around your answer"
        )
    elif answer.value != 1:
        yield say(
            "{said}: count the payments in the world. What did the log hold before the crash?",
            said=you_said(answer),
        )


def _before(log: Evidence, answer: Answer) -> Iterator[str]:
    gaps = [run for run in log.runs("shop") if run.was_resumed and not _recorded_before_the_crash(run)]
    if not any(run.is_completed for run in gaps):
        yield say(
            "crash the order before `OperationCompleted charge` and resume it: run the two cells around your answer"
        )
    elif answer.value != 2:
        yield say(
            "{said}: the log did not know of the first payment, so what did the resume do?", said=you_said(answer)
        )


def _key(log: Evidence, answer: Answer) -> Iterator[str]:
    runs = log.runs("careful_shop")
    gaps = [run for run in runs if run.was_resumed and not _recorded_before_the_crash(run)]
    if runs and not gaps and runs[0].is_completed and _PAID not in runs[0].pairs():
        yield say("the payment is not in the log at all: call the bank in `await context.run(...)`, as before")
        return
    if not gaps or not gaps[0].is_completed:
        yield say(
            "crash an order of `careful_shop` before the payment is written down, and resume it: run the cell above"
        )
        return
    paid = {what: times for what, times in answer.world.items() if what == _PAYMENT or what.startswith(_PAYMENT + ",")}
    times = sum(paid.values())
    if not times:
        yield say("nobody paid 40 EUR: `bank` takes the amount first, and then the key")
    elif times > 1:
        yield say("the customer paid {times} times: is context.idempotency_key the last argument?", times=times)
    elif not any(what.startswith(_PAYMENT + ", key ") and len(what) > len(_PAYMENT + ", key ") for what in paid):
        yield say("the bank got no key: pass context.idempotency_key to it")


_what_runs = choice(
    "c",
    a="a step that did not finish has no result: in the logs above, did `charge` start again?",
    b="`reserve` had finished: in the logs above, did it start again?",
    d="in exercise 2 the customer paid twice: exactly once is what no log can promise",
)


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
