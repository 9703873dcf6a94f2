"""Axes that a notebook shows, rows with names, the axis of time, legends, colours and hatches.

pyplot is not used: it keeps every figure in a global list, and a notebook would draw each again when the cell ends.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from ..._text.duration import format_seconds
from ..._text.text import one_line

__all__ = [
    "STYLES",
    "Plot",
    "head",
    "kinds_of",
    "legend",
    "name_rows",
    "note",
    "paper",
    "points_wide",
    "style",
    "time_axis",
    "unit_of",
]

_WIDTH = 10.0  # inches
_ROW, _REST = 0.3, 1.5
_TALLEST = 15.0
_LONGEST_NAME = 34
_NAME_POINTS = 9.0
_BELOW = 46.0  # points from the axis to a legend below its label

STYLES: dict[str, dict[str, Any]] = {
    "completed": {"facecolor": "#009e73"},
    "failed": {"facecolor": "#d55e00", "hatch": "xxx"},
    "retried": {"facecolor": "#e69f00", "hatch": "///"},
    "interrupted": {"facecolor": "#cc79a7", "hatch": "|||"},
    "hibernated": {"facecolor": "#999999", "hatch": "..."},
    "running": {"facecolor": "#56b4e9", "hatch": "---"},
    "sleep": {"facecolor": "#c9d3f0", "hatch": "...."},
    "approval": {"facecolor": "#f0e442", "hatch": "ooo"},
    "signal": {"facecolor": "#d9c9ee", "hatch": "..o"},
    "child": {"facecolor": "#c4e3d7", "hatch": "++"},
    "poll": {"facecolor": "#ffffff", "hatch": "\\\\\\\\"},
    "delay": {"facecolor": "none", "linestyle": "--"},
}
"""The colours are Okabe and Ito's, which colour-blind people can distinguish; the hatch works without colour."""


class Plot(Axes):
    """Axes that a notebook shows as a picture, with or without ``%matplotlib inline``."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return _png(self.get_figure(root=True))


class Paper(Figure):
    """A figure that a notebook shows even if no backend was chosen."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return _png(self)


def _png(figure: Figure | None) -> tuple[bytes, dict[str, int]]:
    """Render with twice the resolution; the size in px is the size to show it in."""
    assert figure is not None
    made = io.BytesIO()
    figure.savefig(made, format="png", dpi=2 * figure.dpi)
    return made.getvalue(), {
        "width": round(figure.get_figwidth() * figure.dpi),
        "height": round(figure.get_figheight() * figure.dpi),
    }


def paper(ax: Axes | None, rows: int | None = None) -> Axes:
    """Return the axes to draw on: the caller's, or new axes that are tall enough for this many rows."""
    if ax is not None:
        return ax
    height = 4.5 if rows is None else min(_TALLEST, max(2.2, _ROW * rows + _REST))
    return Paper(figsize=(_WIDTH, height), layout="constrained").add_subplot(axes_class=Plot)


def style(kind: str) -> dict[str, Any]:
    """Return how bars of a kind are drawn; all have an edge, so that even the shortest is visible."""
    return {"edgecolor": "#333333", "linewidth": 0.6, **STYLES[kind]}


def head(ax: Axes, title: str, pad: float = 6) -> None:
    """Write the title; it wraps where the figure is too narrow."""
    ax.set_title(title, loc="left", fontsize=11, pad=pad, wrap=True)


def note(ax: Axes, text: str, x: float, y: float) -> None:
    """Write next to the end of a bar."""
    ax.annotate(text, (x, y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8, color="#333333")


def points_wide(ax: Axes) -> float:
    """Return the width of the axes in points, the unit of font sizes."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return float(ax.get_window_extent().width) / figure.dpi * 72


def kinds_of(kinds: Mapping[str, str]) -> list[Patch]:
    """Make a legend's handles for bars; ``kinds`` maps the label of each to its style."""
    return [Patch(label=name, **style(kind)) for name, kind in kinds.items()]


def legend(ax: Axes, handles: Sequence[Any], wide: float = 85) -> None:
    """Put a legend below the axes; each entry is ``wide`` points wide."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    how: dict[str, Any] = {"handles": handles, "handlelength": 2.2, "columnspacing": 1.4, "frameon": False}
    if isinstance(figure, Paper):
        columns = max(1, min(len(handles), int(figure.get_figwidth() * 72 // wide)))
        figure.legend(loc="outside lower center", ncols=columns, fontsize=9, **how)
        return
    columns = max(1, min(len(handles), int(points_wide(ax) // (0.8 * wide))))
    below = ax.transAxes + ScaledTranslation(0, -_BELOW / 72, figure.dpi_scale_trans)
    how |= {"bbox_to_anchor": (0.5, 0), "bbox_transform": below, "loc": "upper center"}
    ax.legend(ncols=columns, fontsize=7, **how)


def name_rows(ax: Axes, names: Sequence[str]) -> int:
    """Label the rows at the left, the first on top.

    If not all labels fit, only every second, third ... row has one; the step is returned.
    """
    ax.set_ylim(len(names) - 0.4, -0.6)
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    points = ax.get_window_extent().height / figure.dpi * 72
    every = max(1, math.ceil(len(names) * (_NAME_POINTS + 1) / points))
    places = range(0, len(names), every)
    ax.set_yticks(list(places), [one_line(names[place], _LONGEST_NAME) for place in places], fontsize=_NAME_POINTS)
    ax.tick_params(axis="y", length=0)
    figure.draw_without_rendering()  # the labels take room, so only now is the width of the axes known
    ax.spines[["top", "right"]].set_visible(False)
    return every


def unit_of(seconds: float) -> tuple[str, float]:
    """Choose a unit for durations of up to this many seconds; return its name and its length in seconds.

    Example:
        >>> unit_of(600)
        ('min', 60.0)
    """
    for name, size, upto in (("ms", 0.001, 1.0), ("s", 1.0, 180.0), ("min", 60.0, 10800.0), ("h", 3600.0, 259200.0)):
        if seconds < upto:
            return name, size
    return "d", 86400.0


_DECADES = (1e-4, 1e-3, 0.01, 0.1, 1, 10, 60, 600, 3600, 36000, 86400, 864000, 8640000)
_BETWEEN = (2e-4, 5e-4, 2e-3, 5e-3, 0.02, 0.05, 0.2, 0.5, 2, 5, 20, 30, 120, 300, 1200, 1800, 7200, 18000, 172800)
_WIDE = 500.0
"""From this ratio on, a tick at about every power of ten is enough."""
_LOG_FROM = 50.0
"""From this ratio of the longest to the shortest on, the axis is logarithmic."""


def _tick(value: float) -> str:
    return f"{value * 1000:g}ms" if value < 0.001 else format_seconds(value)


def time_axis(ax: Axes, shortest: float, longest: float, which: str = "x") -> float:
    """Set up an axis of durations, logarithmic if the range is wide; return how many seconds its unit has."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    if longest > _LOG_FROM * max(shortest, 1e-4):
        low = max(shortest, 1e-4)
        (ax.set_xscale if which == "x" else ax.set_yscale)("log")
        ticks = _DECADES if longest > _WIDE * low else sorted(_DECADES + _BETWEEN)
        axis.set_major_locator(FixedLocator([tick for tick in ticks if low / 2 <= tick <= longest * 2]))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
        (ax.set_xlim if which == "x" else ax.set_ylim)(low / 2, longest * 2)
        axis.set_label_text("duration, logarithmic")
        return 1.0
    name, size = unit_of(longest)
    axis.set_label_text(f"duration [{name}]")
    (ax.set_xlim if which == "x" else ax.set_ylim)(0, max(longest, 1e-6) / size * 1.08)
    return size
