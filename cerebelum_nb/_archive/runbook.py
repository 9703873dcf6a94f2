"""An execution as a self-contained HTML page: what ran, when, with which inputs, how it ended, and every event.

Nothing is loaded from elsewhere. The page works in light and dark mode, on a phone and on paper. It shows what the log
holds, where secrets are already masked; values that are not JSON are shown as previews, so nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from .._core import events as e
from .._core.describe_events import detail, headline
from .._core.fold import fold as fold_events
from .._core.graph import step_of
from .._core.state import State
from .._core.value import Value
from .._engine.hints import Reader, advise
from .._engine.plan_payloads import Parts
from .._store.base import ExecutionRow
from .._store.rows import Row
from .._text.duration import format_seconds
from .._text.html import Html, badge, fold, page, section, table
from .._text.json_text import indented, parse
from .._text.style import look_of
from .._text.text import counted, cut_middle
from .._text.times import clock, stamp
from .._views.card import Card
from .attempts import Attempt, attempts

__all__ = ["Source", "runbook"]

_SHORT = 160
"""How many characters of a value are in the table of steps."""

_LONGEST = 4_000
"""A longer text is cut in the middle."""


_MOST_ITEMS = 50
"""How many items of foreach steps are in the table of steps, failed items first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The data of a page.

    ``rows`` are the events as stored, ``code`` the parts of the code by fingerprint, as far as the log has them, and
    ``head`` is the hash of the last event.
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


def runbook(source: Source) -> Html:
    """Write the page."""
    tries = attempts(source.events)
    parts = [
        _head(source),
        section("Graph", Html('<div class="wide graph">{}</div>').format(source.card.graph.to_svg(source.card.states))),
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


def _head(source: Source) -> Html:
    shown, row = source.row.summary, source.row
    ended = shown.completed_at
    until = ended or shown.updated_at
    facts = [
        ("started", stamp(shown.started_at)),
        ("ended" if ended else "last event", stamp(until)),
        ("took", format_seconds((until - shown.started_at) / 1e6)),
        ("steps", f"{shown.done_steps} of {shown.total_steps}"),
    ]
    started = source.events[0]
    if isinstance(started, e.WorkflowStarted) and started.module:
        facts.append(("code", f"{started.module}.{started.qualname}"))
    if shown.parent:
        facts.append(("forked from", shown.parent))
    listed = Html().join(Html("<div><dt>{}</dt><dd>{}</dd></div>").format(name, text) for name, text in facts)
    look, word = look_of(shown.state), shown.state.words
    if source.interrupted:
        look, word = "interrupted", "interrupted: its process ended"
    return Html("<header><h1>{} {}</h1><p><code>{}</code></p><dl>{}</dl></header>").format(
        shown.workflow, badge(look, word), row.execution_id, listed
    )


def _failure(events: Sequence[e.Event]) -> Html:
    last = events[-1]
    if not isinstance(last, e.WorkflowFailed):
        return Html()
    where = Html(" in <code>{}</code>").format(last.failed_step) if last.failed_step else ""
    trace = _block(last.error.traceback) if last.error.traceback else ""
    return Html('<section class="failure"><h2>It failed{}</h2><p>{}: {}</p>{}</section>').format(
        where, last.error.type, last.error.message, trace
    )


def _next(source: Source) -> Html:
    """Say how to resume it."""
    advice = advise(
        fold_events(source.events), source.row.execution_id, interrupted=source.interrupted, reader=Reader.TERMINAL
    )
    if advice is None:
        return Html()
    return section("What to do next", Html("<p>{}</p><pre>{}</pre>").format(advice.what, "\n".join(advice.ways)))


def _steps(everything: Sequence[Attempt]) -> Html:
    if not everything:
        return Html()
    tries, left_out = _limit_items(everything)
    several = any(one.visit > 1 or one.attempt > 1 for one in tries)
    rows = [
        [
            badge(one.state),
            _code_of(one.step),
            *([_count(one)] if several else []),
            _clock(one.started_at),
            _took(one),
            _outcome(one),
        ]
        for one in tries
    ]
    titles = ["", "step", *(["try"] if several else []), "started", "took", ""]
    text = f"{counted(left_out, 'attempt')} of items not listed: history.steps() has them all"
    return table(titles, rows) + (Html("<p>{}</p>").format(text) if left_out else Html())


def _limit_items(tries: Sequence[Attempt]) -> tuple[list[Attempt], int]:
    """Leave out items of foreach steps beyond the limit, completed items first; return how many as well."""
    items = [one for one in tries if "[" in one.step]
    items.sort(key=lambda one: one.state == "completed")
    shown = {id(one) for one in items[:_MOST_ITEMS]}
    return [one for one in tries if "[" not in one.step or id(one) in shown], max(0, len(items) - _MOST_ITEMS)


def _count(one: Attempt) -> Html:
    visit = "" if one.visit == 1 else Html(" <small>of visit {}</small>").format(one.visit)
    return Html("{}{}").format(one.attempt, visit)


def _outcome(one: Attempt) -> Html:
    lines = [Html("<div>{}</div>").format(note) for note in one.notes]
    if one.error is not None:
        lines.append(Html('<div class="bad">{}</div>').format(cut_middle(str(one.error), 400)))
        if one.error.traceback:
            lines.append(fold("traceback", _block(one.error.traceback)))
    elif one.output is not None:
        lines.append(_code_of(_line(one.output)))
    return Html().join(lines)


def _inputs(events: Iterable[e.Event]) -> Html:
    given = [event.inputs for event in events if isinstance(event, (e.WorkflowStarted, e.WorkflowResumed))]
    shown = [_value(value) for value in given if value is not None and value.json != "{}"]
    return Html("<p>and after a resume:</p>").join(shown)


def _results(tries: Iterable[Attempt]) -> Html:
    """Show the values that are too long for the table of steps."""
    last = {one.step: one for one in tries if one.state == "completed" and "[" not in one.step}
    return Html().join(
        Html("<h3><code>{}</code>{}</h3>{}").format(step, _kind(one.output), _value(one.output))
        for step, one in last.items()
        if one.output is not None and (not one.output.is_json or len(one.output.json) > _SHORT)
    )


def _kind(value: Value | None) -> Html:
    if value is None or value.is_json:
        return Html()
    size = f", {value.size:,} bytes" if value.size else ", not kept"
    return Html(" <small>{}{}</small>").format(value.type.removeprefix("builtins."), size)


def _printed(tries: Iterable[Attempt]) -> Html:
    def heading(one: Attempt) -> Html:
        number = "" if one.attempt == 1 else Html(" <small>try {}</small>").format(_count(one))
        return Html("<h3><code>{}</code>{}</h3>").format(one.step, number)

    shown, _ = _limit_items([one for one in tries if one.printed.strip()])
    return Html().join(heading(one) + _block(one.printed.rstrip()) for one in shown)


def _course(events: Iterable[e.Event]) -> Html:
    rows: list[list[str]] = []
    state = State()
    for event in events:
        state = fold_events((event,), state)
        if isinstance(event, e.WorkflowEvent):
            rows.append([_clock(event.at), headline(event), detail(event, state)])
    return table(["at", "", ""], rows)


def _code(source: Source) -> Html:
    used = {
        (step_of(event.step), event.code): None
        for event in source.events
        if isinstance(event, e.StepStarted) and event.code is not None
    }
    folds = []
    for step, digest in used:
        parts = Html().join(_part(*part) for part in source.code.get(str(digest), ()))
        name = Html("<code>{}</code> <small>{}</small>").format(step, str(digest))
        folds.append(fold(name, parts) if parts else Html("<p>{}</p>").format(name))
    return Html().join(folds)


def _part(kind: str, name: str, digest: str, text: str) -> Html:
    """Show a part of the code or a value it uses, but no modules and classes of libraries."""
    if not text.strip() or text.startswith("<"):
        return Html()
    if kind != "constant" or "\n" in text:
        return Html("<p><small>{} {}</small></p>{}").format(kind, name, _block(text))
    return Html("<p><small>{}</small> <code>{} = {}</code></p>").format(kind, name, cut_middle(text, _LONGEST))


def _events(source: Source) -> Html:
    rows = [
        [
            str(version),
            _clock(row[4]),
            row[0],
            row[1] or "",
            _code_of(cut_middle(row[5] or "", 1_000)),
        ]
        for version, row in enumerate(source.rows, start=1)
    ]
    listed = table(["#", "at", "event", "step", "data"], rows)
    return Html(
        '<section><details class="events"><summary><h2>All {} events</h2></summary>{}</details></section>'
    ).format(len(rows), listed)


def _foot(source: Source) -> Html:
    return Html(
        "<footer>Written by cerebelum_nb {} at {}. Times are UTC. "
        "The chain of {} events ends in <code>{}</code>.</footer>"
    ).format(source.version, stamp(source.made_at), len(source.rows), source.head)


def _value(value: Value | None) -> Html:
    if value is None:
        return Html()
    return _block(_pretty(value.json) if value.is_json else value.preview)


def _block(text: str) -> Html:
    return Html("<pre>{}</pre>").format(cut_middle(text, _LONGEST))


def _code_of(text: str) -> Html:
    return Html("<code>{}</code>").format(text)


def _pretty(text: str) -> str:
    return str(parse(text)) if text.startswith('"') else indented(text)


def _line(value: Value) -> str:
    text = value.json if value.is_json else value.preview.partition("\n")[0]
    return "" if text == "null" else cut_middle(text, _SHORT)


def _took(one: Attempt) -> str:
    if one.started_at is None or one.ended_at is None:
        return ""
    return format_seconds((one.ended_at - one.started_at) / 1e6)


def _clock(micros: int | None) -> Html:
    if micros is None:
        return Html()
    return Html('<time title="{}">{}</time>').format(stamp(micros), clock(micros))
