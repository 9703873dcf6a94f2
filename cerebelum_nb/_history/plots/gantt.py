"""Draw the timeline of one run, with long idle times shortened."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes

from ..._text.duration import format_seconds
from ..._text.times import utc
from ..spans import Interval, Span, Timeline, covered, outside
from .axes import STYLES, head, kinds_of, legend, name_rows, note, paper, points_wide, style, unit_of

__all__ = ["draw"]

_BUSY_ENOUGH = 0.3
"""The longest idle times are shortened until work takes at least this part of the width."""
_BREAK = 0.1
"""The width of a shortened idle time, as a part of the rest; idle times shorter than that are not shortened."""
_TICK_POINTS = 58
_DENSE = 60
"""With more rows, hatches and edges would hide the bars; a cross then marks a failed attempt."""


def draw(run: Timeline, title: str, ax: Axes | None = None) -> Axes:
    """Draw a timeline; a bar is an attempt, and its colour and hatch show how it ended."""
    steps = run.steps
    ax = paper(ax, len(steps))
    row = {step: place for place, step in enumerate(steps)}
    breaks = _breaks(run)
    shown = (run.end - run.start - sum(end - start for start, end in breaks)) / 1e6
    name, size = unit_of(shown)

    def x(micros: int) -> float:
        return (micros - run.start) / 1e6 / size

    scale = _Scale(x(run.end), [(x(start), x(end)) for start, end in breaks])
    if breaks:
        ax.set_xscale("function", functions=(scale.forward, scale.back))
    started = utc(run.start)
    ax.set_xlabel(f"time since {started}{'; idle time is shortened' if breaks else f' [{name}]'}", wrap=True)
    head(ax, title, pad=16 if breaks else 6)
    used = {span.kind for span in (*run.attempts, *run.waits)}
    legend(ax, kinds_of({kind: kind for kind in STYLES if kind in used}))
    labelled = name_rows(ax, steps) == 1
    _bars(ax, run, row, x)
    _mark_breaks(ax, run, scale, breaks, size)
    room = (0.1 if labelled else 0.02) * scale.width
    ax.set_xlim(-0.01 * scale.width, float(scale.back(np.array([scale.width + room]))[0]))
    if labelled:
        _label_ends(ax, run, row, x)
    _ticks(ax, scale, name, size)
    return ax


def _bars(ax: Axes, run: Timeline, row: dict[str, int], x: Callable[[int], float]) -> None:
    kinds: dict[str, list[tuple[Span, Interval]]] = {}
    for span in run.attempts:
        for piece in run.pieces(span):
            kinds.setdefault(span.kind, []).append((span, piece))
    for span in run.waits:
        kinds.setdefault(span.kind, []).append((span, (span.start, span.end)))
    for kind in STYLES:
        found = kinds.get(kind, [])
        if not found:
            continue
        inner = kind in ("sleep", "approval", "signal", "child", "poll")
        looks = style(kind)
        if len(row) > _DENSE:
            looks |= {"hatch": "", "edgecolor": looks["facecolor"] if kind != "delay" else "#888888"}
        ax.barh(
            [row[span.step] for span, _ in found],
            [x(end) - x(start) for _, (start, end) in found],
            left=[x(start) for _, (start, _) in found],
            height=0.3 if inner else 0.16 if kind == "delay" else 0.66,
            label=kind,
            zorder=3 if inner else 2,
            **looks,
        )
        if len(row) > _DENSE and kind in ("failed", "retried"):
            ax.plot([x(end) for _, (_, end) in found], [row[span.step] for span, _ in found], "x", color="#d55e00",
                    markersize=5, zorder=5)  # fmt: skip
    tries = [(x(when), row[step]) for step, when in run.tries if step in row]
    if tries and len(row) <= _DENSE:
        ax.plot(*zip(*tries, strict=True), "|", color="black", markersize=5, markeredgewidth=0.8, zorder=4, label="try")


def _breaks(run: Timeline) -> list[Interval]:
    """Find the idle times to shorten: no process was running it, or every running step waited."""
    waits: dict[str, list[Interval]] = {}
    for span in run.waits:
        waits.setdefault(span.step, []).append((span.start, span.end))
    work = covered(
        part for span in run.attempts for piece in run.pieces(span) for part in outside(piece, waits.get(span.step, ()))
    )
    starts = sorted({span.start for span in run.attempts})
    busy, drawn = sum(end - start for start, end in work), run.end - run.start
    found: list[Interval] = []
    idle = [part for whole in outside((run.start, run.end), work) for part in _cut(whole, starts)] if busy else []
    for start, end in sorted(idle, key=lambda interval: interval[0] - interval[1]):
        if busy >= _BUSY_ENOUGH * drawn or end - start < _BREAK * drawn:
            break
        found.append((start, end))
        drawn -= end - start
    return sorted(found)


def _cut(interval: Interval, places: Sequence[int]) -> Iterator[Interval]:
    """Cut an interval where another attempt begins: what follows is another wait."""
    edges = [interval[0], *(place for place in places if interval[0] < place < interval[1]), interval[1]]
    return itertools.pairwise(edges)


class _Scale:
    """The scale of the time axis, on which every break is narrow."""

    def __init__(self, end: float, breaks: Sequence[tuple[float, float]]) -> None:
        rest = end - sum(b - a for a, b in breaks)
        wide = rest * _BREAK or 1.0
        points = [(0.0, 0.0)]
        for start, stop in breaks:
            drawn = points[-1][1] + start - points[-1][0]
            points += [(start, drawn), (stop, drawn + wide)]
        points.append((end, points[-1][1] + end - points[-1][0]))
        self.width = points[-1][1] or 1.0
        unique = dict(points)
        self._real, self._drawn = np.array(list(unique)), np.array(list(unique.values()))
        self.open = [(0.0, breaks[0][0])] if breaks else [(0.0, end)]
        self.open += [(a[1], b[0]) for a, b in itertools.pairwise(breaks)]
        self.open += [(breaks[-1][1], end)] if breaks else []

    def forward(self, real: np.ndarray) -> np.ndarray:
        return self._through(real, self._real, self._drawn)

    def back(self, drawn: np.ndarray) -> np.ndarray:
        return self._through(drawn, self._drawn, self._real)

    @staticmethod
    def _through(values: np.ndarray, old: np.ndarray, new: np.ndarray) -> np.ndarray:
        """Interpolate, and continue with slope one beyond both ends."""
        values = np.asarray(values, dtype=float)
        inside = np.interp(values, old, new)
        outside_too: np.ndarray = inside + np.minimum(values - old[0], 0) + np.maximum(values - old[-1], 0)
        return outside_too


def _mark_breaks(ax: Axes, run: Timeline, scale: _Scale, breaks: Sequence[Interval], size: float) -> None:
    for start, end in run.gaps:
        ax.axvspan((start - run.start) / 1e6 / size, (end - run.start) / 1e6 / size, color="#000000", alpha=0.08, lw=0)
    last = -math.inf
    for start, end in breaks:
        left, right = ((t - run.start) / 1e6 / size for t in (start, end))
        for edge in (left, right):
            ax.axvline(edge, color="#888888", linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        middle = float(np.mean(scale.forward(np.array([left, right]))))
        if middle - last > scale.width * _TICK_POINTS / points_wide(ax):
            last = middle
            ax.text(
                float(scale.back(np.array([middle]))[0]), 1.0, f"{format_seconds((end - start) / 1e6)}",
                transform=ax.get_xaxis_transform(), ha="center", va="bottom", fontsize=8, color="#555555",
            )  # fmt: skip


def _label_ends(ax: Axes, run: Timeline, row: dict[str, int], x: Callable[[int], float]) -> None:
    for step, place in row.items():
        own = [span for span in run.attempts if span.step == step]
        waited = [(span.start, span.end) for span in run.waits if span.step == step and span.kind != "delay"]
        took = covered([*waited, *(piece for span in own for piece in run.pieces(span))])
        text = format_seconds(sum(end - start for start, end in took) / 1e6)
        note(ax, text, x(max(span.end for span in own)), place)


def _ticks(ax: Axes, scale: _Scale, name: str, size: float) -> None:
    need = scale.width * _TICK_POINTS / points_wide(ax)
    step = _nice(max(scale.width / 8, need))
    if len(scale.open) == 1:
        places = np.arange(0, scale.width + step / 2, step)
        ax.set_xticks(places, [f"{place:g}" for place in places])
        return
    ticks: list[tuple[float, str]] = []
    last = -math.inf
    for start, end in scale.open:
        for number in range(int((end - start) / step) + 1):
            place = start + number * step
            drawn = float(scale.forward(np.array([place]))[0])
            if drawn - last >= need:
                last = drawn
                first = format_seconds(place * size) if place else "0"
                ticks.append((place, first if number == 0 else f"+{number * step:g} {name}"))
    ax.set_xticks([place for place, _ in ticks], [text for _, text in ticks])


def _nice(rough: float) -> float:
    """Return 1, 2 or 5 times a power of ten, at least as large."""
    power = 10.0 ** math.floor(math.log10(rough or 1.0))
    return next(power * by for by in (1, 2, 5, 10) if power * by >= rough)
