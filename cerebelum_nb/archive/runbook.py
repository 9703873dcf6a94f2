"""An execution as one self-contained HTML page: what ran, when, with what, how it ended, and every event.

Nothing is loaded from elsewhere; it reads in light and dark, on a phone and on paper. What it shows is what the log
holds, where secrets are masked already. Values are shown by their previews; nothing is unpickled.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..core import events as e
from ..core.duration import format_seconds
from ..core.model import ErrorInfo, ExecutionState, Value
from ..engine.code import Parts
from ..faces.card import Card
from ..faces.marks import MARKS
from ..result import at
from ..store.base import ExecutionRow
from ..store.rows import Row

__all__ = ["Source", "runbook"]

_LONGEST = 4_000
"""Characters of one value, traceback or output; what is longer is cut in the middle."""

_LOOKS = {
    ExecutionState.COMPLETED: "completed",
    ExecutionState.FAILED: "failed",
    ExecutionState.CANCELLED: "skipped",
    ExecutionState.PAUSED: "interrupted",
    ExecutionState.SLEEPING: "sleeping",
    ExecutionState.WAITING_FOR_APPROVAL: "approval",
}
_ENDS = {
    e.StepCompleted: "completed",
    e.StepFailed: "failed",
    e.StepRetried: "retrying",
    e.StepInterrupted: "interrupted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a page is made of; ``code`` holds the kept parts of each fingerprint, as far as the log has them."""

    row: ExecutionRow
    card: Card
    events: Sequence[e.Event]
    rows: Sequence[Row]
    code: dict[str, Parts]
    head: str
    made_at: datetime
    version: str


@dataclass(slots=True)
class _Attempt:
    step: str
    visit: int
    attempt: int
    started_at: int | None = None
    ended_at: int | None = None
    state: str = "running"
    output: Value | None = None
    error: ErrorInfo | None = None
    printed: str = ""
    notes: list[str] = field(default_factory=list)


def runbook(source: Source) -> str:
    """Write the page."""
    attempts = _attempts(source.events)
    parts = [
        _head(source),
        _section("Graph", f'<div class="wide graph">{source.card.graph.to_svg(source.card.states)}</div>'),
        _failure(source.events),
        _section("Steps", _steps(attempts)),
        _section("Inputs", _inputs(source.events)),
        _section("Results", _results(attempts)),
        _section("Printed", _printed(attempts)),
        _section("How it went", _course(source.events)),
        _section("Code", _code(attempts, source)),
        _events(source),
        _foot(source),
    ]
    title = html.escape(f"{source.row.summary.workflow} {source.row.execution_id}")
    return _PAGE.format(title=title, style=_STYLE, body="\n".join(filter(None, parts)))


# -- what happened ------------------------------------------------------------------------------------------


def _attempts(events: Iterable[e.Event]) -> list[_Attempt]:
    """Gather what happened in each attempt, in the order they began."""
    found: dict[tuple[str, int, int], _Attempt] = {}
    for event in events:
        if isinstance(event, e.WorkflowEvent):
            continue
        key = (event.step, event.visit, event.attempt)
        one = found.setdefault(key, _Attempt(*key))
        match event:
            case e.StepStarted():
                one.started_at, one.ended_at, one.state = event.at, None, "running"
            case e.StepCompleted() | e.StepFailed() | e.StepRetried() | e.StepInterrupted():
                one.ended_at, one.state = event.at, _ENDS[type(event)]
                one.output, one.error = getattr(event, "output", None), getattr(event, "error", None)
                if isinstance(event, e.StepInterrupted):
                    one.notes.append(event.reason)
                if isinstance(event, e.StepCompleted) and event.by_hand:
                    one.notes.append("done by hand")
            case e.StepPrinted():
                one.printed += event.text
            case _:
                one.notes += filter(None, [_note(event)])
    return list(found.values())


def _note(event: e.Event) -> str:
    """Say in a few words what happened inside a step, if a reader wants to know it."""
    match event:
        case e.DivergeTaken(choice=choice, target=target) if choice is not None:
            return f"route {choice} → {target}"
        case e.BranchTaken(choice=choice, target=target):
            return f"branch {'true' if choice else 'false'}{f' → {target}' if target else ''}"
        case e.Jumped(kind=kind, to=to):
            return f"{kind.replace('_', ' ')} {to}"
        case e.SleepStarted(duration_ms=ms):
            return f"sleep of {format_seconds(ms / 1000)}"
        case e.OperationCompleted(op=op, number=number) if number > 1:
            return f"{op.partition(':')[0]}: {number} tries"
        case e.OperationFailed(op=op, error=error):
            return f"{op.partition(':')[0]} failed: {error.type}"
        case e.ApprovalRequested(approval_type=kind):
            return f"asked for {kind} approval"
        case e.ApprovalReceived(by=by):
            return f"approved{f' by {by}' if by else ''}"
        case e.ApprovalRejected(by=by, reason=reason):
            return f"rejected{f' by {by}' if by else ''}: {reason}"
        case e.ApprovalTimedOut():
            return "nobody decided in time"
        case _:
            return ""


def _told(event: e.Event) -> tuple[str, str]:
    """Say what happened to the execution as a whole: a word, and more about it."""
    match event:
        case e.WorkflowStarted(module=module, qualname=qualname):
            return "started", f"{module}.{qualname}" if module else ""
        case e.WorkflowForked(parent=parent, parent_version=version, from_step=step):
            return "forked", f"from {parent}, event {version}{f', to run {step} again' if step else ''}"
        case e.WorkflowPaused(reason=reason):
            return "paused", reason
        case e.WorkflowResumed():
            again = [*event.retried, *event.revisited, *event.restored]
            parts = [f"runs again: {', '.join(again)}"] if again else []
            parts += ["with other inputs"] if event.inputs is not None else []
            return "resumed", "; ".join(parts)
        case e.WorkflowHibernated(wake_at=wake_at):
            return "left its process", "" if wake_at is None else f"until {_time(wake_at)}"
        case e.WorkflowAwakened(reason=reason, died=died):
            return "went on", reason or ("its process had died" if died else "")
        case e.CancelRequested(reason=reason, by=by):
            return "asked to cancel", _by(reason, by)
        case e.WorkflowCancelled(reason=reason, by=by):
            return "cancelled", _by(reason, by)
        case e.WorkflowFailed(error=error, failed_step=step):
            return "failed", f"{f'in {step}: ' if step else ''}{error.type}: {error.message}"
        case e.WorkflowCompleted():
            return "completed", ""
        case _:
            return "", ""


def _by(reason: str | None, by: str | None) -> str:
    return ", ".join(filter(None, [reason, f"by {by}" if by else ""]))


# -- the parts of the page ----------------------------------------------------------------------------------


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
    listed = "".join(f"<div><dt>{name}</dt><dd>{html.escape(told)}</dd></div>" for name, told in facts)
    badge = _badge(_LOOKS.get(shown.state, "running"), shown.state.lower().replace("_", " "))
    return (
        f"<header><h1>{html.escape(shown.workflow)} {badge}</h1><p><code>{html.escape(row.execution_id)}</code></p>"
        f"<dl>{listed}</dl></header>"
    )


def _failure(events: Sequence[e.Event]) -> str:
    last = events[-1]
    if not isinstance(last, e.WorkflowFailed):
        return ""
    where = f" in <code>{html.escape(last.failed_step)}</code>" if last.failed_step else ""
    told = html.escape(f"{last.error.type}: {last.error.message}")
    trace = f"<pre>{html.escape(_cut(last.error.traceback))}</pre>" if last.error.traceback else ""
    return f'<section class="failure"><h2>It failed{where}</h2><p>{told}</p>{trace}</section>'


def _steps(attempts: Sequence[_Attempt]) -> str:
    if not attempts:
        return ""
    several = any(one.visit > 1 or one.attempt > 1 for one in attempts)
    rows = [
        [
            _badge(one.state),
            f"<code>{html.escape(one.step)}</code>",
            *([_count(one)] if several else []),
            _clock(one.started_at),
            _took(one),
            _outcome(one),
        ]
        for one in attempts
    ]
    titles = ["", "step", *(["try"] if several else []), "started", "took", ""]
    return _table(titles, rows)


def _count(one: _Attempt) -> str:
    return f"{one.attempt}" if one.visit == 1 else f"{one.attempt} <small>of visit {one.visit}</small>"


def _outcome(one: _Attempt) -> str:
    lines = [f"<div>{html.escape(note)}</div>" for note in one.notes]
    if one.error is not None:
        told = one.error.reason if one.error.reason is not None else f"{one.error.type}: {one.error.message}"
        lines.append(f'<div class="bad">{html.escape(_cut(told, 400))}</div>')
        if one.error.traceback:
            lines.append(_fold("traceback", f"<pre>{html.escape(_cut(one.error.traceback))}</pre>"))
    elif one.output is not None:
        lines.append(f"<code>{html.escape(_line(one.output))}</code>")
    return "".join(lines)


def _inputs(events: Iterable[e.Event]) -> str:
    given = [event.inputs for event in events if isinstance(event, (e.WorkflowStarted, e.WorkflowResumed))]
    shown = [_value(value) for value in given if value is not None and value.json != "{}"]
    return "<p>and after a resume:</p>".join(shown)


def _results(attempts: Iterable[_Attempt]) -> str:
    last = {one.step: one for one in attempts if one.state == "completed"}
    return "".join(
        f"<h3><code>{html.escape(step)}</code>{_kind(one.output)}</h3>{_value(one.output)}"
        for step, one in last.items()
        if one.output is not None and one.output.json != "null"
    )


def _kind(value: Value | None) -> str:
    if value is None or value.codec == "json":
        return ""
    size = f", {value.size:,} bytes" if value.size else ", not kept"
    return f" <small>{html.escape(value.type.removeprefix('builtins.'))}{size}</small>"


def _printed(attempts: Iterable[_Attempt]) -> str:
    return "".join(
        f"<h3><code>{html.escape(one.step)}</code>{f' <small>try {_count(one)}</small>' if one.attempt > 1 else ''}</h3>"
        f"<pre>{html.escape(_cut(one.printed.rstrip()))}</pre>"
        for one in attempts
        if one.printed.strip()
    )


def _course(events: Iterable[e.Event]) -> str:
    rows = [
        [_clock(event.at), html.escape(word), html.escape(more)]
        for event in events
        if isinstance(event, e.WorkflowEvent) and (told := _told(event)) and (word := told[0]) is not None
        for more in [told[1]]
        if word
    ]
    return _table(["at", "", ""], rows) if rows else ""


def _code(attempts: Iterable[_Attempt], source: Source) -> str:
    used = {
        (event.step, event.code): None
        for event in source.events
        if isinstance(event, e.StepStarted) and event.code is not None
    }
    folds = []
    for step, digest in used:
        parts = "".join(
            f"<p><small>{html.escape(f'{kind} {name}')}</small></p><pre>{html.escape(_cut(text))}</pre>"
            for kind, name, _, text in source.code.get(str(digest), ())
            if text.strip()
        )
        name = f"<code>{html.escape(step)}</code> <small>{html.escape(str(digest))}</small>"
        folds.append(_fold(name, parts) if parts else f"<p>{name}</p>")
    return "".join(folds)


def _events(source: Source) -> str:
    rows = [
        [
            str(version),
            _clock(row[4]),
            html.escape(row[0]),
            html.escape(row[1] or ""),
            f"<code>{html.escape(_cut(row[5] or '', 1_000))}</code>",
        ]
        for version, row in enumerate(source.rows, start=1)
    ]
    table = _table(["#", "at", "event", "step", "data"], rows)
    return f'<section><details class="events"><summary><h2>All {len(rows)} events</h2></summary>{table}</details></section>'


def _foot(source: Source) -> str:
    return (
        f"<footer>Written by cerebelum_nb {html.escape(source.version)} at {_time_of(source.made_at)}. Times are UTC. "
        f"The chain of {len(source.rows)} events ends in <code>{html.escape(source.head)}</code>.</footer>"
    )


# -- small pieces -------------------------------------------------------------------------------------------


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def _table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _fold(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>{body}</details>"


def _badge(state: str, word: str = "") -> str:
    mark = MARKS[state]
    style = f"color:{mark.colour};background:{mark.ground}"
    sign = f'<span class="sign" style="{style}" title="{state}">{mark.sign}</span>'
    return sign if not word else f'<span class="badge" style="{style}">{mark.sign} {html.escape(word)}</span>'


def _value(value: Value | None) -> str:
    if value is None:
        return ""
    text = _pretty(value.json) if value.codec == "json" else value.preview
    return f"<pre>{html.escape(_cut(text))}</pre>"


def _pretty(text: str) -> str:
    shown: Any = json.loads(text)
    return shown if isinstance(shown, str) else json.dumps(shown, indent=2, ensure_ascii=False)


def _line(value: Value) -> str:
    text = value.json if value.codec == "json" else value.preview.partition("\n")[0]
    return "" if text == "null" else _cut(text, 160)


def _cut(text: str, most: int = _LONGEST) -> str:
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} characters … {text[-half:]}"


def _took(one: _Attempt) -> str:
    if one.started_at is None or one.ended_at is None:
        return ""
    return format_seconds((one.ended_at - one.started_at) / 1e6)


def _time(micros: int) -> str:
    return _time_of(at(micros))


def _time_of(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _clock(micros: int | None) -> str:
    return "" if micros is None else f'<time title="{_time(micros)}">{at(micros):%H:%M:%S.%f}'[:-3] + "</time>"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
<script>addEventListener("beforeprint", () => document.querySelectorAll("details:not(.events)").forEach(d => d.open = true))</script>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --dim: #666; --line: #ddd; --ground: #fff; --block: #f6f6f4; --bad: #b84a00 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --dim: #a0a0a0; --line: #3c3c3c; --ground: #181818; --block: #232323; --bad: #ff9d66 }
}
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 62rem;
  margin: 0 auto; padding: 1.5rem 1rem 3rem }
h1 { font-size: 1.6rem; margin: 0; line-height: 1.3 }
h2 { font-size: 1.1rem; margin: 0 0 .5rem }
h3 { font-size: .95rem; margin: .9rem 0 .3rem; font-weight: 600 }
section { margin-top: 1.8rem }
p { margin: .3rem 0 }
small, dt, th, footer { color: var(--dim) }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .86em }
code { overflow-wrap: anywhere }
pre { background: var(--block); padding: .6rem .8rem; margin: .3rem 0; border-radius: 4px; white-space: pre-wrap;
  overflow-wrap: anywhere }
dl { display: flex; flex-wrap: wrap; gap: .4rem 2rem; margin: .8rem 0 0 }
dt { font-size: .8rem } dd { margin: 0; font-variant-numeric: tabular-nums }
.badge { font-size: .8rem; font-weight: 600; padding: .15rem .55rem; border-radius: 1rem; white-space: nowrap;
  vertical-align: .2rem }
.sign { display: inline-block; width: 1.5em; text-align: center; border-radius: 4px; font-weight: 600 }
.wide { overflow-x: auto }
.graph svg { max-width: none !important; display: block }
table { border-collapse: collapse; width: 100% }
th { text-align: left; font-weight: normal; font-size: .8rem }
th, td { padding: .3rem .8rem .3rem 0; vertical-align: top; border-bottom: 1px solid var(--line) }
td { font-variant-numeric: tabular-nums }
td:last-child { width: 100%; padding-right: 0; min-width: 12rem }
td:not(:last-child) { white-space: nowrap }
.bad { color: var(--bad) }
.failure { border-left: 4px solid var(--bad); padding-left: 1rem }
details > summary { cursor: pointer } summary > h2 { display: inline }
footer { margin-top: 2.5rem; font-size: .8rem; border-top: 1px solid var(--line); padding-top: .6rem }
@media print {
  :root { --ink: #000; --dim: #555; --line: #ccc; --ground: #fff; --block: #f6f6f4; --bad: #b84a00; color-scheme: light }
  body { font-size: 11px; max-width: none; padding: 0 } pre, tr, h2, h3 { break-inside: avoid } h2, h3 { break-after: avoid }
  .wide { overflow: visible } .graph svg { max-width: 100% !important; height: auto }
}
"""
