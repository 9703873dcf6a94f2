"""Lesson 4: asleep for a month."""

from __future__ import annotations

from collections.abc import Iterator

from ..._core import events as e
from ..evidence import Answer, Evidence
from ..language import say
from . import Exercise, Exercises, you_said

__all__ = ["EXERCISES"]

_TWO_DAYS = 2 * 86_400 * 1_000_000


def _next_mail(log: Evidence, answer: Answer) -> Iterator[str]:
    run = next((run for run in log.runs("campaign") if run.was_resumed and run.is_completed), None)
    if run is None:
        yield say("resume the campaign first: run the cell below your answer")
        return
    before = run.pairs()[: run.pairs().index(("WorkflowResumed", None))]
    sent = before.count(("OperationCompleted", "mails"))
    if answer.value != sent + 1:
        yield say(
            "{said}: {sent} mails were recorded when the process died, and none is sent twice",
            said=you_said(answer),
            sent=sent,
        )


def _deadline(log: Evidence, answer: Answer) -> Iterator[str]:
    run = log.newest("delivery")
    started = None if run is None else next((x for x in run.events if isinstance(x, e.PollStarted)), None)
    if run is None or started is None:
        yield say("run the cell with the delivery first")
    elif started.deadline is None:
        yield say('the log says that this poll has no deadline: give it timeout="2d"')
    elif started.deadline - started.at > _TWO_DAYS:
        yield say('the customer was promised two days: timeout="2d"')
    elif "apologise" not in run.state.finished:
        yield say("nobody apologised: is the wait over before the third day, when the parcel comes?")


def _approval(log: Evidence, answer: Answer) -> Iterator[str]:
    for run in log.runs("trip"):
        decisions = [event for event in run.events if isinstance(event, e.ApprovalReceived)]
        if decisions and decisions[0].by in (None, "", "nobody"):
            yield say("the log says that nobody approved it: start another trip, and let your neighbour write a name")
            return
        if decisions and run.is_completed:
            return
    yield say('the trip still waits: let your neighbour write a name in place of "nobody", and run that cell')


def _asleep(log: Evidence, answer: Answer) -> Iterator[str]:
    slept = ("WorkflowHibernated", None)
    run = next((run for run in log.runs("sleeper") if slept in run.pairs() and run.is_completed), None)
    if run is None:
        yield say("let a scheduler wake it first: run the cell below your answer")
    elif answer.value != 0:
        yield say("{said}: between WorkflowHibernated and WorkflowAwakened, who was at work?", said=you_said(answer))


EXERCISES = Exercises(
    "lesson-4",
    "Asleep for a month",
    (
        Exercise("day 17", _next_mail, asks="write your number in place of the `...` after `next_mail =`"),
        Exercise("deadline", _deadline),
        Exercise("neighbour", _approval),
        Exercise("nobody at home", _asleep, asks="write your number in place of the `...` after `processes =`"),
    ),
)
