"""The pieces of a self-contained HTML page: sections, tables, folds, badges, and its style. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from .style import MARKS

__all__ = ["GENERATOR", "badge", "cut", "fold", "page", "section", "table"]

GENERATOR = '<meta name="generator" content="cerebelum_nb">'
"""By this a page is known for one of ours."""

LONGEST = 4_000
"""Characters of one text; what is longer is cut in the middle."""


def page(title: str, parts: Iterable[str]) -> str:
    """Put a page together."""
    return _PAGE.format(generator=GENERATOR, title=escape(title), style=_STYLE, body="\n".join(filter(None, parts)))


def section(title: str, body: str) -> str:
    """Head a part with its title; an empty one is left out."""
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a table of cells that are HTML already; where it is too wide, it scrolls by itself."""
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def fold(title: str, body: str) -> str:
    """Show a title that opens."""
    return f"<details><summary>{title}</summary>{body}</details>"


def badge(state: str, word: str = "") -> str:
    """Show a state (a key of ``MARKS``) as its sign, with a word if one is given."""
    mark = MARKS[state]
    style = f"color:{mark.colour};background:{mark.ground}"
    sign = f'<span class="sign" style="{style}" title="{state}">{mark.sign}</span>'
    return sign if not word else f'<span class="badge" style="{style}">{mark.sign} {escape(word)}</span>'


def cut(text: str, most: int = LONGEST) -> str:
    """Keep the beginning and the end of a long text."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} characters … {text[-half:]}"


_PAGE = """<!doctype html>
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
"""

_STYLE = """
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
"""
