"""A log of an attacker who wants to run a script in the browser of its viewers."""

from __future__ import annotations

import json
from pathlib import Path

from cerebelum_nb._core import events as e
from cerebelum_nb._core.blueprint import dump
from cerebelum_nb._core.fold import fold
from cerebelum_nb._core.graph import Plan
from cerebelum_nb._core.summary import summarise
from cerebelum_nb._core.value import ErrorInfo, Value
from cerebelum_nb._store.base import Commit
from cerebelum_nb._store.sqlite import SqliteStore

WORDS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)' x='",
    "javascript:alert(1)",
    "</textarea></select></pre></title><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}<!--",
    "../../..",
    "a/b?c=d#e&f=g;h",
    "\u202egnp.exe\x00\x1b(B\r\n",
    "&lt;script&gt;&#60;b&#62;",
    "x" * 5_000,
)


def write(path: Path) -> list[str]:
    """Write an execution for each word, with the word in every field; return their ids."""
    with SqliteStore(path, durability="normal") as store:
        holder = store.register(0, 10**15)
        for number, word in enumerate(WORDS):
            events = _events(word, number)
            state = fold(events)
            plan = Plan(workflow=word, timeline=((word,), (f"{word}-2", f"{word}-3")), steps={})
            blueprint = Value("json", digest=f"plan-{number}", payload=dump(plan, _schema(word)).encode())
            commit = Commit(
                execution_id=word,
                after=0,
                events=events,
                summary=summarise(state),
                holder=holder,
                payloads=(blueprint,),
            )
            assert not store.commit([commit])
    return list(WORDS)


def _schema(word: str) -> dict[str, object]:
    told = {"description": word, "default": word, "enum": [word, {word: word}]}
    odd = {"anyOf": [{"$ref": "#/$defs/odd"}], "type": word, "format": word}
    fields = {word: told, "a": {"type": "string", "default": word}, "b": {"$ref": "#/$defs/odd"}, "c": word, "d": {}}
    return {"properties": fields, "required": [word, 1], "$defs": {"odd": odd}}


def _events(word: str, number: int) -> list[e.Event]:
    at = iter(range(1_800_000_000_000_000, 1_900_000_000_000_000, 1_000_000))
    value = Value("json", json=json.dumps({word: [word]}))
    error = ErrorInfo(type=word, message=word, traceback=word, mro=(word,))
    kept = Value("none", type=word, preview=word)
    opaque = Value("cloudpickle", type=word, preview=word, digest="0" * 64, size=9)
    op = f"approval:{word}:1"
    other = f"{word}-2"
    made: list[e.Event] = [
        e.WorkflowStarted(
            at=next(at),
            workflow=word,
            inputs=value,
            total_steps=2,
            module=word,
            qualname=word,
            source=word,
            origin=word,
            plan=f"plan-{number}",
            name=word,
            tags=(word,),
        ),
        e.StepStarted(at=next(at), step=word, code=word),
        e.StepPrinted(at=next(at), step=word, text=word),
        e.StepProgressed(at=next(at), step=word, percent=5.0, message=word),
        e.StepNoted(at=next(at), step=word, name=word, value=(value, kept, Value("json", json='"' + word))[number % 3]),
        e.WorkflowTagged(at=next(at), added=(f"{word}-t",), removed=(word,), by=word),
        e.StepRetried(at=next(at), step=word, error=error, due_at=next(at)),
        e.StepStarted(at=next(at), step=word, attempt=2),
        e.StepCompleted(
            at=next(at), step=word, attempt=2, output=(value, kept, opaque)[number % 3], key="0" * 32, source=word
        ),
        e.DivergeTaken(at=next(at), step=word, choice=word, target=word),
        e.StepStarted(at=next(at), step=other),
        e.StepPrinted(at=next(at), step=other, text=word),
        e.SleepStarted(at=next(at), step=other, op=f"sleep:{word}:1", duration_ms=5, due_at=next(at), data=value),
        e.ApprovalRequested(at=next(at), step=other, op=op, approval_type=word, data=value, due_at=next(at)),
    ]
    match number % 3:
        case 2:
            made += [
                e.SignalAwaited(at=next(at), step=other, op=f"signal:{word}:1", name=word),
                e.SignalAwaited(at=next(at), step=other, op="signal", name=word),
                e.SignalReceived(at=next(at), name=word, data=value, signal_id=word, by=word),
                e.ItemsListed(at=next(at), step=f"{word}-3", keys=(word, "b"), digests=()),
                e.StepStarted(at=next(at), step=f"{word}-3[{word}]"),
                e.StepPrinted(at=next(at), step=f"{word}-3[{word}]", text=word),
                e.StepFailed(at=next(at), step=f"{word}-3[{word}]", error=error),
            ]
        case 0:
            made += [
                e.ApprovalRejected(at=next(at), step=other, op=op, reason=word, by=word),
                e.StepFailed(at=next(at), step=other, error=error, output=value),
                e.WorkflowFailed(at=next(at), error=error, failed_step=other),
            ]
        case 1:
            made += [
                e.WorkflowForked(at=next(at), parent=word, parent_version=3, from_step=word, inputs=value),
                e.CancelRequested(at=next(at), reason=word, by=word),
            ]
    return made
