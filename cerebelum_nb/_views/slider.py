"""The slider through a run's events: HTML with its data and its script, and a text.

It needs no kernel once it is shown: widgets die with their kernel, and a saved notebook would show none. Where scripts
do not run (GitHub, an untrusted notebook), it shows the state after the last event and the list of events.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from importlib.resources import files
from typing import Any

from .._core.describe_events import detail, title
from .._core.events import Event
from .._core.fold import fold
from .._core.graph import Plan
from .._core.state import State
from .._engine.hints import advise
from .._history.facts import changes, operation_of
from .._history.replay import Transition, transitions
from .._text.duration import format_seconds
from .._text.html import Html
from .._text.text import counted, one_line
from .._text.times import utc
from .card import SMALL, STYLE, Card, html_row, last_printed
from .graph import Graph
from .watch import RecordedPlan, plan_of

__all__ = ["Slider"]

_MOST_LINES = 40
"""How many events are listed as text."""

_MOST_MOMENTS = 2_000
"""How many events the slider has: a page with more is slow to open."""


class Slider:
    """A run's events and the state after each of them, for display.

    Args:
        execution_id: the execution.
        events: all its events, in order.
        plan: its plan, if the log holds it.
    """

    def __init__(self, execution_id: str, events: Sequence[Event], plan: Plan | None = None) -> None:
        self._id, self._events, self._plan = execution_id, events, plan

    def __repr__(self) -> str:
        lines = [f"  {number:>3} {title(event)}" for number, event in enumerate(self._events, start=1)]
        if len(lines) > _MOST_LINES:
            lines = [*lines[: _MOST_LINES - 1], f"  ... {len(lines) - _MOST_LINES + 1} more"]
        head = f"{self._transitions[-1].state.workflow}: {counted(len(self._events), 'event')}"
        return "\n".join([head, *lines, "to step through them: cerebelum debug"])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": self.to_html()}

    def to_html(self) -> Html:
        """Write the whole slider; it loads nothing from elsewhere."""
        script = files(__package__).joinpath("slider.js").read_text(encoding="utf-8")
        data = self._data()
        seen: dict[str, dict[str, None]] = {}
        for slot, state in (pair for event in data["events"] for pair in event["set"]):
            if slot.startswith("box:"):
                seen.setdefault(slot.removeprefix("box:"), {})[state] = None
        parts = {
            "graph": self._graph.to_changing_svg(seen),
            "rows": Html().join(
                Html('<tbody data-step="{}"></tbody>').format(name)
                for name in dict.fromkeys(
                    [
                        *(row.name for row in self._cards[-1].rows),
                        *(row.name for card in self._cards for row in card.rows if row.undoes),
                    ]
                )
            ),
        }
        data["page"] = _live(parts, len(self._transitions))
        text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
        return Html('<div style="{}">{}{}<script>(() => {{\nconst data = {};\n{}}})();</script></div>').format(
            STYLE, self._omitted_note(), _still(self._cards[-1], self._transitions), Html(text), Html(script)
        )

    @cached_property
    def _transitions(self) -> list[Transition]:
        """The events of the slider and the state after each; of a long history, the last ones."""
        first = max(0, len(self._events) - _MOST_MOMENTS)
        return list(transitions(self._events[first:], fold(self._events[:first])))

    def _omitted_note(self) -> Html:
        first = len(self._events) - len(self._transitions)
        if not first:
            return Html()
        note = f"The first {first:,} of {len(self._events):,} events are not shown here"
        return Html("<div>{}; history.events({}) has them all.</div>").format(note, repr(self._id))

    @cached_property
    def _graph(self) -> Graph:
        recorded = RecordedPlan()
        for event in self._events:
            recorded.take(event)
        last = self._transitions[-1].state
        return Graph(plan_of(last) or self._plan or recorded.plan(last.workflow))

    @cached_property
    def _cards(self) -> list[Card]:
        """The card after each event; it shares unchanged rows with the card before."""
        cards: list[Card] = []
        before = State()
        for event, state in self._transitions:
            same = {
                row.name: row
                for row in (cards[-1].rows if cards else ())
                if not (row.active or row.undoes) and state.steps.get(row.name) is before.steps.get(row.name)
            }
            known = same if state.lifecycle is before.lifecycle else None
            advice = advise(state, self._id) if event is self._events[-1] else None
            cards.append(Card.at(self._id, state, event.at, self._graph, advice=advice, known=known))
            before = state
        return cards

    def _data(self) -> dict[str, Any]:
        slots_shown: dict[str, str | None] = {}
        listed, before, shown = [], State(), None
        for (event, state), card in zip(self._transitions, self._cards, strict=True):
            op = operation_of(event) if before.version else None
            slots = (*_card_slots(card, shown, state), *_fact_slots(before, state, op))
            changed = [(slot, text) for slot, text in slots if slots_shown.get(slot) != text]
            slots_shown.update(changed)
            listed.append(
                {
                    "title": title(event),
                    "detail": detail(event, state),
                    "time": f"{_since(event, state)}, {utc(event.at)}",
                    "set": changed,
                }
            )
            before, shown = state, card
        return {"names": _fact_names(slots_shown), "first": len(self._events) - len(listed), "events": listed}


def _card_slots(card: Card, before: Card | None, state: State) -> Iterator[tuple[str, str | None]]:
    """Yield the slots of a card that may differ from the card before."""
    yield "part:head", card.head_html()
    yield "part:failure", card.failure.to_html() if card.failure is not None else ""
    if before is None or card.state is not before.state:
        for name, shown in card.states.items():
            yield f"box:{name}", shown
    old = before.rows if before is not None else ()
    for place, row in enumerate(card.rows):
        if place < len(old) and row is old[place]:
            continue
        yield f"box:{row.name}", row.state
        yield f"row:{row.name}", html_row(row, last_printed(row), _value(state, row.name))


def _value(state: State, name: str) -> str:
    """Write the value that a step has returned, on one line."""
    value = state.steps[name].output if name in state.finished else None
    return "" if value is None else one_line(value.text, 100)


def _fact_slots(before: State, after: State, op: str | None) -> Iterator[tuple[str, str | None]]:
    for name, _, new in changes(before, after, op):
        yield f"fact:{name}", new


def _fact_names(slots: Iterable[str]) -> list[str]:
    """Order the names of facts: first those of the run, then step by step."""
    by_owner: dict[str, list[str]] = {"": []}
    for slot in slots:
        if slot.startswith("fact:"):
            name = slot.removeprefix("fact:")
            by_owner.setdefault(name.partition("]")[0] if name.startswith("steps[") else "", []).append(name)
    return [name for names in by_owner.values() for name in names]


def _since(event: Event, state: State) -> str:
    return f"{format_seconds(max(0, event.at - state.started_at) / 1e6)} after the start"


_BUTTON = (
    "font:inherit;color:inherit;background:rgba(128,128,128,.14);border:1px solid rgba(128,128,128,.5);"
    "border-radius:3px;padding:1px 10px;cursor:pointer"
)
_TABLE = "font-size:12px;margin:4px 0;color:inherit"
_SCROLLED = "height:12em;overflow:auto;border-top:1px solid rgba(128,128,128,.3)"


def _live(parts: dict[str, Html], count: int) -> Html:
    """Write the part with the controls; the script inserts it, so without scripts there is nothing to press."""

    def button(name: str, text: str) -> Html:
        return Html('<button type="button" data-part="{}" style="{}">{}</button>').format(name, _BUTTON, text)

    controls = Html(
        '{} {} {} <input type="range" data-part="range" min="1" max="{}" step="1" aria-label="event" '
        'style="flex:1;min-width:8em;margin:0 6px"> <span data-part="count" style="white-space:nowrap"></span>'
    ).format(button("previous", "prev"), button("play", "play"), button("next", "next"), count)
    return Html(
        '<div data-part="live"><div data-part="head"></div>'
        '<div style="display:flex;gap:6px;align-items:center;margin:4px 0">{controls}</div>'
        '<div style="min-height:4em" aria-live="polite"><b data-part="title"></b> <span data-part="time" '
        'style="opacity:.7"></span><div data-part="detail" style="overflow-wrap:anywhere"></div></div>'
        "{graph}"
        '<div style="margin-top:6px">Changes in the state</div><div style="{scrolled}">'
        '<table style="{table}"><tbody data-part="changed"></tbody></table></div>'
        '<details open><summary>steps</summary><table style="{table}">{rows}</table></details>'
        '<details><summary>the whole state</summary><table style="{table}"><tbody data-part="state"></tbody></table>'
        '</details><div data-part="failure"></div></div>'
    ).format(controls=controls, scrolled=_SCROLLED, table=_TABLE, **parts)


def _still(card: Card, shown: Sequence[Transition]) -> Html:
    """Write the part that needs no script: the card and the list of events."""
    lines = (f"{state.version:>4} {title(event)}  {detail(event, state)}".rstrip() for event, state in shown)
    return Html(
        "<div data-part=\"still\">{}<details><summary>{}</summary><pre style='{}'>{}</pre></details></div>"
    ).format(card.to_html(), counted(len(shown), "event"), SMALL, "\n".join(lines))
