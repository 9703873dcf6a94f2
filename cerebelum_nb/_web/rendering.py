"""Pages as HTML: the templates, their filters, and the documents made of pictures and lists."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from .._core.describe_steps import note_text
from .._core.state_name import ExecutionState
from .._core.value import Value
from .._text.duration import format_seconds
from .._text.json_text import indented
from .._text.style import MARKS, look_of
from .._text.terminal import clean
from .._text.text import cut, file_size
from .._text.times import clock, stamp
from .listing import SHORTCUTS, Entry
from .names import to_path
from .parts import Document

if TYPE_CHECKING:
    from .._text.html import Html
    from .logs import ShownLog
    from .reader import EventLine, Picture

__all__ = ["STATIC", "Settings", "execution_document", "list_document", "render"]

HERE = Path(__file__).parent
_MOST_ASKED = 50
"""How many approvals of an execution have a form; the others follow when these are decided."""
_LONGEST_NAME, _LONGEST_VALUE, _LONGEST_LINE = 200, 6_000, 240

NO_TROUBLE = '<div id="p-trouble" hidden></div>'
"""The placeholder of the message that the log cannot be read."""

STATES = tuple(state for state in ExecutionState if state is not ExecutionState.UNSPECIFIED)

WAITS = {
    ExecutionState.WAITING_FOR_APPROVAL: "waits for approval",
    ExecutionState.WAITING_FOR_SIGNAL: "waits for a signal",
    ExecutionState.WAITING_FOR_CHILD: "waits for a child",
    ExecutionState.QUEUED: "waits for its turn",
}
"""What a list shows instead of the current step, which need not be the one that waits."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of a dashboard.

    Attributes:
        read_only: whether pages have no forms, and nothing can be changed.
        allow_resume: whether pages offer start, resume, fork and rollback, which run a workflow's code in a process.
        user_header: the header in which a proxy passes the user's name; "" for none.
    """

    read_only: bool = False
    allow_resume: bool = False
    user_header: str = ""

    @property
    def who(self) -> str:
        """The user's name from JupyterHub; "" outside of it."""
        return os.environ.get("JUPYTERHUB_USER", "")


# -- filters of templates -------------------------------------------------------------------------------------


def _name(text: str | None) -> str:
    """Show a name; in an untrusted log it may have any length and contain control characters."""
    return clean(cut(text or "", _LONGEST_NAME))


def _utc(micros: int | None) -> Markup:
    """Write a time."""
    if not micros:
        return Markup()
    moment = _moment(micros)  # digits only, so that it needs no escaping, which takes five times as long
    return Markup(f'<time datetime="{moment.replace(" ", "T")}Z">{moment}</time>')


def _moment(micros: int) -> str:
    try:
        return stamp(micros)
    except (OverflowError, ValueError):
        return "?"


def _clock(micros: int) -> str:
    try:
        return clock(micros)
    except (OverflowError, ValueError):
        return "?"


def _since(micros: int) -> Markup:
    """Write the time since then, which the page's script keeps up to date."""
    lasted = format_seconds(max(0, round((time.time_ns() // 1000 - micros) / 1e6)))
    return Markup(f'<time data-since="{int(micros)}">{lasted}</time>')


def _until(micros: int) -> Markup:
    """Write the time until then, which the page's script keeps up to date."""
    left = round((micros - time.time_ns() // 1000) / 1e6)
    return Markup(f'<time data-until="{int(micros)}">{f"in {format_seconds(left)}" if left > 0 else "now"}</time>')


def _badge(look: str, words: str) -> Markup:
    """Write a state: its sign and its word, in its colours."""
    return Markup(f'<span class="badge s-{look}"><b aria-hidden="true">{MARKS[look].sign}</b>{escape(words)}</span>')


def _pretty(value: Value | None, most: int = _LONGEST_VALUE) -> str:
    """Write a value as a block: indented JSON, else its preview; only the beginning if it is long."""
    if value is None:
        return ""
    text = value.json if value.is_json else value.text
    if value.is_json and len(text) <= most:
        text = indented(text)
    return text if len(text) <= most else f"{text[:most]}\n… {len(text) - most:,} more characters"


def _line(value: Value | None) -> str:
    """Write a value in one line; "" for None and an empty object."""
    if value is None or value.json in ("null", "{}"):
        return ""
    return cut(" ".join(value.text[: 4 * _LONGEST_LINE].split()), _LONGEST_LINE)


def _noted(value: Value) -> str:
    """Write the value of a note in one line."""
    return cut(" ".join(note_text(value).split()), _LONGEST_LINE)


def _kind(value: Value | None) -> str:
    """Write the type and size of a value that is not JSON."""
    if value is None or value.is_json:
        return ""
    size = file_size(value.size) if value.size else "not kept"
    return f"{value.type.removeprefix('builtins.')}, {size}"


def _tail(text: str, lines: int = 5) -> str:
    return "\n".join(line[:400] for line in text.splitlines()[-lines:])


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        undefined=StrictUndefined,
    )
    made.globals.update(
        MARKS=MARKS, SHORTCUTS=SHORTCUTS, STATES=STATES, WAITS=WAITS, badge=_badge, static=STATIC, file_size=file_size
    )
    made.filters.update(
        name=_name,
        path=to_path,
        utc=_utc,
        moment=_moment,
        clock=_clock,
        since=_since,
        until=_until,
        seconds=format_seconds,
        pretty=_pretty,
        line=_line,
        noted=_noted,
        kind=_kind,
        tail=_tail,
        look=look_of,
        ours=_ours,
        cut=cut,
    )
    return made


def _ours(html: Html) -> Markup:
    """Mark this library's HTML as safe: its pictures escape every name."""
    return Markup(str(html))


# -- static files ---------------------------------------------------------------------------------------------


def _style() -> bytes:
    """Return the style sheet with the colours of the states from ``MARKS``."""
    marks = "".join(f".s-{look}{{--c:{mark.colour};--g:{mark.ground}}}\n" for look, mark in MARKS.items())
    return ((HERE / "static" / "look.css").read_text(encoding="utf-8") + marks).encode()


class _Static(dict[str, tuple[bytes, str]]):
    """Files by name, with their types; in a template, ``static.address(name)`` is an address with the file's hash."""

    def address(self, name: str) -> str:
        return f"static/{name}?{blake2b(self[name][0], digest_size=4).hexdigest()}"


STATIC = _Static(
    {
        "look.css": (_style(), "text/css"),
        "live.js": ((HERE / "static" / "live.js").read_bytes(), "text/javascript"),
        "mark.svg": ((HERE / "static" / "mark.svg").read_bytes(), "image/svg+xml"),
    }
)


# -- documents and pages --------------------------------------------------------------------------------------


def render(template: str, **given: Any) -> bytes:
    """Render a template."""
    return _template(template).render(**given).encode("utf-8", "backslashreplace")


def list_document(log: ShownLog, entries: tuple[Entry, ...], counted: Mapping[str, int], *, root: str) -> Document:
    """Draw the list."""
    parts, order = _rows("list_parts.html", "entry", [(f"x-{e.row.execution_id}", e) for e in entries], root=root)
    for name in SHORTCUTS:
        number = counted.get(name)
        parts[f"n-{name}"] = str(_module("list_parts.html").count(f"n-{name}", number))
    parts["p-trouble"] = NO_TROUBLE
    parts["p-none"] = str(_module("list_parts.html").empty(not entries))
    return Document(parts=parts, lists={"rows": order})


def execution_document(picture: Picture, settings: Settings, *, root: str, process: str = "") -> Document:
    """Draw an execution; ``process`` describes the process that a page started for it."""
    module, id_ = _module("execution_parts.html"), picture.row.execution_id
    given = {"p": picture, "root": root, "id": id_, "settings": settings}
    parts: dict[str, str] = {
        f"p-{name}": str(getattr(module, name)(**given))
        for name in ("head", "next", "graph", "axis", "values", "actions")
    }
    parts["p-process"] = str(module.process(process))
    parts["p-trouble"] = NO_TROUBLE
    lists = {}
    can_send = picture.is_now and not settings.read_only
    rows: dict[str, list[tuple[str, Any]]] = {
        "asks": [(f"a-{ask.step}-{ask.op}", ask) for ask in picture.approvals[:_MOST_ASKED]],
        "signals": [(f"g-{signal.name}", signal) for signal in picture.signals[:_MOST_ASKED]] if can_send else [],
        "steps": [(f"s-{number}", line) for number, line in enumerate(picture.lines)],
    }
    for name, found in rows.items():
        made, lists[name] = _rows("execution_parts.html", name, found, **given)
        parts |= made
    events = {f"e-{event.version}": _event_row(event, root, id_) for event in picture.events}
    parts, lists["events"] = parts | events, tuple(events)
    done = (ExecutionState.COMPLETED, ExecutionState.CANCELLED)
    return Document(parts=parts, lists=lists, over=picture.state.lifecycle in done and picture.is_now)


@lru_cache(maxsize=5_000)
def _event_row(event: EventLine, root: str, id_: str) -> str:
    """Draw an event, once: events never change, and are most of a page."""
    row = _module("execution_parts.html").events
    return str(row(f"e-{event.version}", event, None, root, id_, None))


def _rows(
    template: str, macro: str, rows: list[tuple[str, Any]], **given: Any
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Draw the rows of a list; return them by id, and the ids in order."""
    draw = getattr(_module(template), macro)
    made = {name: str(draw(name, row, **given)) for name, row in rows}
    return made, tuple(made)


@cache
def _template(name: str) -> Template:
    return _environment().get_template(name)


@cache
def _module(name: str) -> Any:
    """Return the macros of a template."""
    return _template(name).module
