"""An execution as one self-contained HTML page: what ran, when, with what, how it ended, and every event.

Nothing is loaded from elsewhere; it reads in light and dark, on a phone and on paper. What it shows is what the log
holds, where secrets are masked already. Values are shown by their previews; nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any

from .._core import events as e
from .._core.state import fold as fold_events
from .._core.state_name import ExecutionState
from .._core.value import Value
from .._engine.hints import Reader, advise
from .._engine.staleness import Parts
from .._store.base import ExecutionRow
from .._store.rows import Row
from .._text.duration import format_seconds
from .._text.html import badge, cut, fold, page, section, table
from .._text.times import at
from .._views.card import Card
from .attempts import Attempt, attempts, to_the_whole

__all__ = ["Source", "runbook"]

_SHORT = 160
"""Characters of a value that stand in the table of steps."""

_LOOKS = {
    ExecutionState.COMPLETED: "completed",
    ExecutionState.FAILED: "failed",
    ExecutionState.CANCELLED: "skipped",
    ExecutionState.PAUSED: "interrupted",
    ExecutionState.SLEEPING: "sleeping",
    ExecutionState.WAITING_FOR_APPROVAL: "approval",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a page is made of.

    ``rows`` are the events as they are stored, ``code`` the kept parts of each fingerprint as far as the log has them,
    ``head`` the hash of the last event.
    """

    row: ExecutionRow
    card: Card
    events: Sequence[e.Event]
    rows: Sequence[Row]
    code: dict[str, Parts]
    head: str
    interrupted: bool
    made_at: datetime
    version: str


def runbook(source: Source) -> str:
    """Write the page."""
    tries = attempts(source.events)
    parts = [
        _head(source),
        section("Graph", f'<div class="wide graph">{source.card.graph.to_svg(source.card.states)}</div>'),
        _failure(source.events),
        _next(source),
        section("Steps", _steps(tries)),
        section("Inputs", _inputs(source.events)),
        section("Results in full", _results(tries)),
        section("Printed", _printed(tries)),
        section("How it went", _course(source.events)),
        section("Code", _code(source)),
        _events(source),
        _foot(source),
    ]
    return page(f"{source.row.summary.workflow} {source.row.execution_id}", parts)


def _head(source: Source) -> str:
    shown, row = source.row.summary, source.row
    ended = shown.completed_at
    until = ended or shown.updated_at
    facts = [
        ("started", _time(shown.started_at)),
        ("ended" if ended else "last event", _time(until)),
        ("took", format_seconds((until - shown.started_at) / 1e6)),
        ("steps", f"{shown.done_steps} of {shown.total_steps}"),
    ]
    if shown.parent:
        facts.append(("forked from", shown.parent))
    listed = "".join(f"<div><dt>{name}</dt><dd>{escape(told)}</dd></div>" for name, told in facts)
    look, word = _LOOKS.get(shown.state, "running"), shown.state.words
    if source.interrupted:
        look, word = "interrupted", "interrupted: its process ended"
    state = badge(look, word)
    return (
        f"<header><h1>{escape(shown.workflow)} {state}</h1><p><code>{escape(row.execution_id)}</code></p>"
        f"<dl>{listed}</dl></header>"
    )


def _failure(events: Sequence[e.Event]) -> str:
    last = events[-1]
    if not isinstance(last, e.WorkflowFailed):
        return ""
    where = f" in <code>{escape(last.failed_step)}</code>" if last.failed_step else ""
    told = escape(f"{last.error.type}: {last.error.message}")
    trace = f"<pre>{escape(cut(last.error.traceback))}</pre>" if last.error.traceback else ""
    return f'<section class="failure"><h2>It failed{where}</h2><p>{told}</p>{trace}</section>'


def _next(source: Source) -> str:
    """Say how to go on with it."""
    advice = advise(
        fold_events(source.events), source.row.execution_id, interrupted=source.interrupted, reader=Reader.TERMINAL
    )
    if advice is None:
        return ""
    ways = escape("\n".join(advice.ways))
    return section("What to do next", f"<p>{escape(advice.what)}</p><pre>{ways}</pre>")


def _steps(tries: Sequence[Attempt]) -> str:
    if not tries:
        return ""
    several = any(one.visit > 1 or one.attempt > 1 for one in tries)
    rows = [
        [
            badge(one.state),
            f"<code>{escape(one.step)}</code>",
            *([_count(one)] if several else []),
            _clock(one.started_at),
            _took(one),
            _outcome(one),
        ]
        for one in tries
    ]
    titles = ["", "step", *(["try"] if several else []), "started", "took", ""]
    return table(titles, rows)


def _count(one: Attempt) -> str:
    return f"{one.attempt}" if one.visit == 1 else f"{one.attempt} <small>of visit {one.visit}</small>"


def _outcome(one: Attempt) -> str:
    lines = [f"<div>{escape(note)}</div>" for note in one.notes]
    if one.error is not None:
        lines.append(f'<div class="bad">{escape(cut(str(one.error), 400))}</div>')
        if one.error.traceback:
            lines.append(fold("traceback", f"<pre>{escape(cut(one.error.traceback))}</pre>"))
    elif one.output is not None:
        lines.append(f"<code>{escape(_line(one.output))}</code>")
    return "".join(lines)


def _inputs(events: Iterable[e.Event]) -> str:
    given = [event.inputs for event in events if isinstance(event, (e.WorkflowStarted, e.WorkflowResumed))]
    shown = [_value(value) for value in given if value is not None and value.json != "{}"]
    return "<p>and after a resume:</p>".join(shown)


def _results(tries: Iterable[Attempt]) -> str:
    """Show the values that the table of steps had no room for."""
    last = {one.step: one for one in tries if one.state == "completed"}
    return "".join(
        f"<h3><code>{escape(step)}</code>{_kind(one.output)}</h3>{_value(one.output)}"
        for step, one in last.items()
        if one.output is not None and (not one.output.is_json or len(one.output.json) > _SHORT)
    )


def _kind(value: Value | None) -> str:
    if value is None or value.is_json:
        return ""
    size = f", {value.size:,} bytes" if value.size else ", not kept"
    return f" <small>{escape(value.type.removeprefix('builtins.'))}{size}</small>"


def _printed(tries: Iterable[Attempt]) -> str:
    return "".join(
        f"<h3><code>{escape(one.step)}</code>{'' if one.attempt == 1 else f' <small>try {_count(one)}</small>'}</h3>"
        f"<pre>{escape(cut(one.printed.rstrip()))}</pre>"
        for one in tries
        if one.printed.strip()
    )


def _course(events: Iterable[e.Event]) -> str:
    happened = [(event.at, to_the_whole(event)) for event in events if isinstance(event, e.WorkflowEvent)]
    return table(["at", "", ""], ([_clock(when), escape(word), escape(more)] for when, (word, more) in happened))


def _code(source: Source) -> str:
    used = {
        (event.step, event.code): None
        for event in source.events
        if isinstance(event, e.StepStarted) and event.code is not None
    }
    folds = []
    for step, digest in used:
        parts = "".join(_part(*part) for part in source.code.get(str(digest), ()))
        name = f"<code>{escape(step)}</code> <small>{escape(str(digest))}</small>"
        folds.append(fold(name, parts) if parts else f"<p>{name}</p>")
    return "".join(folds)


def _part(kind: str, name: str, digest: str, text: str) -> str:
    """Show a piece of code, or a value it uses; of a module or a class of a library there is nothing to show."""
    if not text.strip() or text.startswith("<"):
        return ""
    told = escape(cut(text))
    if kind != "constant" or "\n" in text:
        return f"<p><small>{escape(f'{kind} {name}')}</small></p><pre>{told}</pre>"
    return f"<p><small>{escape(kind)}</small> <code>{escape(name)} = {told}</code></p>"


def _events(source: Source) -> str:
    rows = [
        [
            str(version),
            _clock(row[4]),
            escape(row[0]),
            escape(row[1] or ""),
            f"<code>{escape(cut(row[5] or '', 1_000))}</code>",
        ]
        for version, row in enumerate(source.rows, start=1)
    ]
    listed = table(["#", "at", "event", "step", "data"], rows)
    head = f"<summary><h2>All {len(rows)} events</h2></summary>"
    return f'<section><details class="events">{head}{listed}</details></section>'


def _foot(source: Source) -> str:
    return (
        f"<footer>Written by cerebelum_nb {escape(source.version)} at {_time_of(source.made_at)}. Times are UTC. "
        f"The chain of {len(source.rows)} events ends in <code>{escape(source.head)}</code>.</footer>"
    )


def _value(value: Value | None) -> str:
    if value is None:
        return ""
    text = _pretty(value.json) if value.is_json else value.preview
    return f"<pre>{escape(cut(text))}</pre>"


def _pretty(text: str) -> str:
    shown: Any = json.loads(text)
    return shown if isinstance(shown, str) else json.dumps(shown, indent=2, ensure_ascii=False)


def _line(value: Value) -> str:
    text = value.json if value.is_json else value.preview.partition("\n")[0]
    return "" if text == "null" else cut(text, _SHORT)


def _took(one: Attempt) -> str:
    if one.started_at is None or one.ended_at is None:
        return ""
    return format_seconds((one.ended_at - one.started_at) / 1e6)


def _time(micros: int) -> str:
    return _time_of(at(micros))


def _time_of(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _clock(micros: int | None) -> str:
    return "" if micros is None else f'<time title="{_time(micros)}">{at(micros):%H:%M:%S.%f}'[:-3] + "</time>"
