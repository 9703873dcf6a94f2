"""HTML, escaped by default: anything that is not `Html` is text, and is escaped when inserted.

HTML is written by filling a template (`Html.format`), so a name, a value or an error never becomes markup. This module
also has the parts of a self-contained page: sections, tables, folds, badges, and its style. A page loads nothing.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from .style import MARKS

__all__ = ["GENERATOR", "Html", "badge", "escape", "fold", "page", "quoted", "section", "small_table", "table"]


class Html(str):
    """Text that is already HTML.

    ``format``, ``join`` and ``+`` escape everything else. An f-string turns it back into plain text, which is escaped
    when inserted: a mistake shows as tags on the screen, never as a page that runs a step's output.

    Example:
        >>> Html("<b>{}</b>").format("a < b")
        '<b>a &lt; b</b>'
        >>> Html("<br>").join(["one", Html("<i>two</i>")])
        'one<br><i>two</i>'
    """

    __slots__ = ()

    def __add__(self, other: str, /) -> Html:
        return Html(str.__add__(self, escape(other)))

    def format(self, *args: object, **kwargs: object) -> Html:
        """Fill in the places of the template."""
        return Html(str.format(self, *map(_fill, args), **{name: _fill(value) for name, value in kwargs.items()}))

    def join(self, parts: Iterable[str], /) -> Html:
        """Put parts together with this between them."""
        return Html(str.join(self, map(escape, parts)))


_CONTROLS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n\r"} | {127: "\u2421"}
"""Control characters are shown as symbols: a page must not contain them, and a terminal would obey them."""


def escape(text: str) -> Html:
    r"""Return a text as HTML, also for use in an attribute.

    Example:
        >>> escape("<b>\x1b[2J")
        '&lt;b&gt;␛[2J'
    """
    return text if isinstance(text, Html) else Html(html.escape(text).translate(_CONTROLS))


def quoted(text: str) -> Html:
    """Return a text as HTML with unescaped quotes, for readable code and JSON; not for attributes.

    Example:
        >>> quoted('{"a": "<"}')
        '{"a": "&lt;"}'
    """
    return Html(html.escape(text, quote=False).translate(_CONTROLS))


def _fill(value: Any) -> Any:
    return escape(value) if isinstance(value, str) else value if isinstance(value, (int, float)) else escape(str(value))


GENERATOR = Html('<meta name="generator" content="cerebelum_nb">')
"""Identifies a page as ours."""


def page(title: str, parts: Iterable[Html]) -> Html:
    """Assemble a page."""
    return _PAGE.format(generator=GENERATOR, title=title, style=_STYLE, body=Html("\n").join(filter(None, parts)))


def section(title: str, body: Html) -> Html:
    """Return a part with its title; an empty one is left out."""
    return Html("<section><h2>{}</h2>{}</section>").format(title, body) if body else Html()


def table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> Html:
    """Write a table; if it is too wide, it scrolls.

    Example:
        >>> "<td>&lt;none&gt;</td>" in table(["value"], [["<none>"]])
        True
    """
    head = _cells("th", titles)
    body = Html().join(Html("<tr>{}</tr>").format(_cells("td", row)) for row in rows)
    return Html('<div class="wide"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>').format(head, body)


def small_table(rows: Sequence[Sequence[str]]) -> Html:
    """Write a small table for a notebook, aligned to the left, a header row first."""
    head, *body = (
        _cells(tag, row, Html(" style='text-align:left'"))
        for tag, row in zip(["th", *["td"] * len(rows)], rows, strict=False)
    )
    listed = Html().join(Html("<tr>{}</tr>").format(row) for row in body)
    return Html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(head, listed)


def _cells(tag: str, row: Iterable[str], style: Html = Html()) -> Html:  # noqa: B008 - it is immutable
    return Html().join(Html("<{0}{2}>{1}</{0}>").format(tag, cell, style) for cell in row)


def fold(title: str, body: Html) -> Html:
    """Return a title that expands."""
    return Html("<details><summary>{}</summary>{}</details>").format(title, body)


def badge(state: str, word: str = "") -> Html:
    """Show a state (a key of ``MARKS``) as its sign, with a word if one is given."""
    mark = MARKS[state]
    style = f"color:{mark.colour};background:{mark.ground}"
    if word:
        return Html('<span class="badge" style="{}">{} {}</span>').format(style, mark.sign, word)
    return Html('<span class="sign" style="{}" title="{}">{}</span>').format(style, state, mark.sign)


_PAGE = Html("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{generator}
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
<script>
addEventListener("beforeprint", () => document.querySelectorAll("details:not(.events)").forEach(d => d.open = true))
</script>
</body>
</html>
""")

_STYLE = Html("""
:root { --ink: #1c1c1c; --dim: #666; --line: #ddd; --ground: #fff; --block: #f6f6f4; --bad: #b84a00;
  color-scheme: light dark }
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
code, pre { font: .86em ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace }
pre { line-height: 1.45 }
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
.bad { color: var(--bad); white-space: pre-line }
.failure { border-left: 4px solid var(--bad); padding-left: 1rem }
details > summary { cursor: pointer } summary > h2 { display: inline }
footer { margin-top: 2.5rem; font-size: .8rem; border-top: 1px solid var(--line); padding-top: .6rem }
@media (max-width: 40rem) {
  thead { display: none } tr { display: block; border-bottom: 1px solid var(--line); padding: .4rem 0 }
  td { display: inline-block; border: 0; padding: 0 .6rem 0 0 } td:last-child { display: block }
}
@media print {
  :root { --ink: #000; --dim: #555; --line: #ccc; --ground: #fff; --block: #f6f6f4; color-scheme: light }
  body { font-size: 11px; max-width: none; padding: 0 }
  pre, tr, h2, h3 { break-inside: avoid } h2, h3 { break-after: avoid }
  .wide { overflow: visible } .graph svg { max-width: 100% !important; height: auto }
}
""")
