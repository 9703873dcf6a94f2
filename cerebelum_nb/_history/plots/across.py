"""Draw the plots of many runs: durations, failures, where the time goes, and the trend of durations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import sqrt

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

from ..._text.duration import format_seconds
from ..._text.text import one_line
from .axes import head, kinds_of, legend, name_rows, note, paper, style, time_axis, unit_of

__all__ = ["durations", "failures", "shares", "trend", "wilson"]

_FEW = 5
"""With fewer runs each is drawn as a point, without a box."""
_LINES = (("#0072b2", "-", "o"), ("#d55e00", "--", "s"), ("#009e73", "-.", "^"), ("#cc79a7", ":", "D"),
          ("#e69f00", (0, (5, 1)), "v"), ("#56b4e9", (0, (3, 1, 1, 1)), "P"))  # fmt: skip


def durations(taken: Mapping[str, Sequence[float]], title: str, ax: Axes | None = None) -> Axes:
    """Draw a box with outliers per step; ``taken`` holds seconds by step."""
    ax = paper(ax, len(taken))
    head(ax, title)
    everything = np.concatenate([np.asarray(values, dtype=float) for values in taken.values()])
    positive = everything[everything > 0]
    size = time_axis(ax, float(positive.min()) if len(positive) else 0.0, float(everything.max()))
    name_rows(ax, [f"{one_line(step, 24)} (n={len(values)})" for step, values in taken.items()])
    floor = ax.get_xlim()[0]
    points: list[tuple[float, int]] = []
    for place, values in enumerate(taken.values()):
        found = np.maximum(np.sort(np.asarray(values, dtype=float)) / size, floor)
        if len(found) < _FEW:
            points += [(value, place) for value in found]
            continue
        low, middle, high = np.percentile(found, (25, 50, 75))
        reach = 1.5 * (high - low)
        inside = found[(found >= low - reach) & (found <= high + reach)]
        points += [(value, place) for value in found if value < inside[0] or value > inside[-1]]
        ax.hlines(place, inside[0], inside[-1], color="#333333", linewidth=0.9, zorder=2)
        ax.barh(place, high - low, left=low, height=0.6, facecolor="#b9dcf2", edgecolor="#333333", lw=0.7, zorder=3)
        ax.vlines(middle, place - 0.3, place + 0.3, color="#d55e00", linewidth=1.8, zorder=4)
    if points:
        ax.plot(*zip(*points, strict=True), "o", color="#333333", markersize=3.2, alpha=0.6, zorder=5, label="runs")
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def failures(counts: Mapping[str, tuple[int, int]], title: str, ax: Axes | None = None) -> Axes:
    """Draw a bar with its interval per step; ``counts`` holds, by step, how many attempts failed and how many ended."""
    ax = paper(ax, len(counts))
    head(ax, title)
    every = name_rows(ax, list(counts))
    rates = np.array([failed / total for failed, total in counts.values()])
    bounds = np.array([wilson(failed, total) for failed, total in counts.values()])
    places = np.arange(len(counts))
    ax.barh(places, 100 * rates, height=0.6, facecolor="#f0b48a", edgecolor="#333333", linewidth=0.6)
    ax.errorbar(
        100 * rates, places, xerr=100 * np.abs(bounds.T - rates), fmt="none", ecolor="#333333", elinewidth=1, capsize=3
    )  # fmt: skip
    for place, (failed, total) in enumerate(counts.values()) if every == 1 else ():
        note(ax, f"{failed} of {total}", 100 * bounds[place][1], place)
    ax.set_xlim(0, max(1.0, 100 * float(bounds.max())) * 1.18)
    ax.set_xlabel("failed attempts [%], with the 95 % Wilson interval")
    return ax


def wilson(failed: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate.

    From E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the American
    Statistical Association 22 (1927), 209-212. Unlike the rate ± 1.96 standard errors, it also makes sense for 0 of 5.

    Example:
        >>> [round(bound, 3) for bound in wilson(0, 5)]
        [0.0, 0.434]
    """
    z = 1.959964
    rate = failed / total
    middle = rate + z * z / (2 * total)
    spread = z * sqrt(rate * (1 - rate) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def shares(seconds: Mapping[str, Mapping[str, float]], title: str, ax: Axes | None = None) -> Axes:
    """Draw a bar per step, split by kind of time; ``seconds`` holds the seconds per run by step and kind."""
    ax = paper(ax, len(seconds))
    head(ax, title)
    total = sum(sum(parts.values()) for parts in seconds.values())
    longest = max((sum(parts.values()) for parts in seconds.values()), default=0.0)
    name, size = unit_of(longest)
    kinds = {"work": "completed", "waiting": "sleep", "failed attempts and delays": "retried"}
    ax.set_xlabel(f"time per run [{name}], and its share of the whole")
    used = {kind: looks for kind, looks in kinds.items() if any(parts.get(kind) for parts in seconds.values())}
    legend(ax, kinds_of(used))
    every = name_rows(ax, list(seconds))
    left = np.zeros(len(seconds))
    for kind, looks in kinds.items():
        widths = np.array([parts.get(kind, 0.0) / size for parts in seconds.values()])
        ax.barh(np.arange(len(seconds)), widths, left=left, height=0.66, label=kind, **style(looks))
        left += widths
    for place, parts in enumerate(seconds.values()) if every == 1 else ():
        took = sum(parts.values())
        share = f"{took / total:.0%}" if took > total / 100 else "<1%"
        note(ax, f"{format_seconds(took)}, {share}", left[place], place)
    ax.set_xlim(0, max(longest / size, 1e-9) * 1.16)
    return ax


def trend(
    taken: Mapping[str, tuple[Sequence[datetime], Sequence[float], Sequence[float]]],
    title: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw the duration of each run and the rolling median; ``taken`` holds times, seconds and medians by step."""
    ax = paper(ax)
    head(ax, title)
    everything = np.concatenate([np.asarray(values, dtype=float) for _, values, _ in taken.values()])
    positive = everything[everything > 0]
    size = time_axis(ax, float(positive.min()) if len(positive) else 0.0, float(everything.max()), "y")
    floor = ax.get_ylim()[0]
    for (step, (times, values, medians)), (color, line, mark) in zip(taken.items(), _LINES, strict=False):
        when = np.array([time.replace(tzinfo=None) for time in times], dtype="datetime64[us]")
        ax.plot(when, np.maximum(np.asarray(values) / size, floor), mark, color=color, markersize=3, alpha=0.3)
        ax.plot(when, np.maximum(np.asarray(medians) / size, floor), color=color, linestyle=line, linewidth=2,
                label=f"{step}, now {format_seconds(medians[-1])}")  # fmt: skip
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]  # matplotlib's stubs
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]  # matplotlib's stubs
    ax.set_xlabel("when it started, UTC", loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    legend(ax, [line for line in ax.lines if not str(line.get_label()).startswith("_")], wide=170)
    return ax
