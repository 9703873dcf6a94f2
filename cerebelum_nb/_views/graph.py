"""The picture of a workflow: inline SVG, text, and Mermaid on request. Pure; layout.py places the parts."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property

from .._core.graph import Action, ActionKind, Plan, Target, describe_target
from .._text.html import Html
from .._text.style import MARKS
from .layout import HEIGHT, Edge, Layout, Node, Point, lay_out, routes_of

__all__ = ["Graph"]

_LINE = "#8a8a8a"
_PLAIN = ("#3d6fa5", "#eaf1f8")  # edge and ground of a step that is drawn without a state
_FONT = Html("ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace")
_TEXT = Html('<text x="{:.0f}" y="{:.0f}">{}{}</text>')


class Graph:
    """A plan's picture. Parts that do not change during a run are drawn once.

    Args:
        plan: the workflow.

    Example:
        >>> print(Graph(Plan(workflow="w", timeline=(("a",), ("b", "c")), steps={})).to_text())
        w
          a
          ├ b
          └ c
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    @property
    def height(self) -> float:
        """How tall the picture is, in px."""
        return self._layout.height

    def bundle(self, states: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return it for a notebook: a picture and a text; ``states`` maps steps to keys of ``MARKS``."""
        return {"image/svg+xml": self.to_svg(states), "text/plain": self.to_text(states)}

    def to_svg(self, states: Mapping[str, str] | None = None) -> Html:
        """Draw it; ``states`` maps steps to keys of ``MARKS``."""
        return self._svg(self._title(states), self._boxes(states))

    def to_image(self, states: Mapping[str, str] | None = None) -> Html:
        """Draw it as an ``<img>`` with embedded picture, for pages that remove inline SVG.

        Untrusted notebooks and most sites that show notebooks do, and leave its texts, run together.
        """
        source = base64.b64encode(self.to_svg(states).encode()).decode()
        return Html('<img alt="{}" style="max-width:100%" src="data:image/svg+xml;base64,{}" />').format(
            self._title(states), source
        )

    def to_changing_svg(self, states: Mapping[str, Collection[str]]) -> Html:
        """Draw it with every step in each of its ``states``, hidden, for a script that shows one of them at a time.

        A step in a state is a ``<g data-step="build" data-state="running">``.
        """
        group = Html('<g data-step="{}" data-state="{}" style="display:none">{}</g>')
        groups = Html().join(
            group.format(node.name, state, _boxes_of(state, [node]))
            for node in self._layout.nodes
            if node.kind == "step"
            for state in states.get(node.name, ("waiting",))
        )
        actions = [node for node in self._layout.nodes if node.kind == "action"]
        return self._svg(self.plan.workflow, groups + (_boxes_of("action", actions) if actions else Html()))

    def to_text(self, states: Mapping[str, str] | None = None) -> str:
        """Write it as lines, the same in every run."""
        lines = [self.plan.workflow]
        for stage in self.plan.timeline:
            for number, name in enumerate(stage):
                edge = "" if len(stage) == 1 else "└ " if number == len(stage) - 1 else "├ "
                sign = "" if states is None else MARKS[states.get(name, "waiting")].sign + " "
                lines.append(f"  {edge}{sign}{name}")
                lines += self._route_lines(name, "    " if len(stage) == 1 else "      ", {name})
        return "\n".join(lines)

    def to_mermaid(self) -> str:
        """Write it as a Mermaid flowchart, for pages that render one.

        Example:
            >>> print(Graph(Plan(workflow="w", timeline=(("a",), ("b",)), steps={})).to_mermaid())
            flowchart LR
                n0["a"]
                n1["b"]
                n0 --> n1
        """
        return "\n".join(["flowchart LR", *(f"    {line}" for line in _Mermaid(self.plan).lines())])

    # -- the parts of the SVG -------------------------------------------------------------------------------

    def _svg(self, title: str, boxes: Html) -> Html:
        return Html(
            '<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            'viewBox="-2 -2 {width:.0f} {height:.0f}" role="img" style="max-width:100%;height:auto">'
            "<title>{title}</title>{lines}{boxes}{texts}</svg>"
        ).format(
            width=self._layout.width + 4,
            height=self._layout.height + 6,
            title=title,
            lines=self._lines,
            boxes=boxes,
            texts=self._texts,
        )

    @cached_property
    def _layout(self) -> Layout:
        return lay_out(self.plan)

    def _title(self, states: Mapping[str, str] | None) -> str:
        count = sum(map(len, self.plan.timeline))
        if states is None:
            return f"{self.plan.workflow}: {count} steps"
        counts: dict[str, int] = {}
        for state in states.values():
            counts[state] = counts.get(state, 0) + 1
        return f"{self.plan.workflow}: " + ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))

    @cached_property
    def _lines(self) -> Html:
        plain = "".join(_curve(edge) for edge in self._layout.edges if not edge.loop)
        loops = "".join(_corners(edge.points) for edge in self._layout.edges if edge.loop)
        boxes = _Boxes(self._layout.nodes)
        heads = "".join(_head(edge) for edge in self._layout.edges if _is_arrow(edge, boxes))
        frames = "".join(f"M{x:g} {y:g}h{w:g}v{h:g}h-{w:g}z" for x, y, w, h in self._layout.frames)
        labels = Html().join(
            _TEXT.format(edge.points[1][0] + 5, edge.points[-1][1] - 4, edge.label, "")
            for edge in self._layout.edges
            if edge.label
        )
        return Html(  # numbers, colours, and labels that are HTML already
            f'<g fill="none" stroke="{_LINE}" stroke-width="1.4">'
            + (f'<path d="{plain}"/>' if plain else "")
            + (f'<path d="{loops}" stroke-dasharray="4 3"/>' if loops else "")
            + (f'<path d="{frames}" stroke-dasharray="2 3" stroke-linejoin="round"/>' if frames else "")
            + "</g>"
            + (f'<path d="{heads}" fill="{_LINE}"/>' if heads else "")
            + (f'<g font-family="sans-serif" font-size="10.5" fill="{_LINE}">{labels}</g>' if labels else "")
        )

    def _boxes(self, states: Mapping[str, str] | None) -> Html:
        """Draw the boxes: one path for all boxes of a state and one for their signs, so that 200 steps stay small."""
        by_state: dict[str | None, list[Node]] = {}
        for node in self._layout.nodes:
            state = "action" if node.kind == "action" else None if states is None else states.get(node.name, "waiting")
            by_state.setdefault(state, []).append(node)
        return Html().join(_boxes_of(state, nodes) for state, nodes in by_state.items())

    @cached_property
    def _texts(self) -> Html:
        steps, actions = [], []
        for node in self._layout.nodes:
            y = node.y + HEIGHT / 2 + 4
            title = Html("<title>{}</title>").format(node.name) if node.label != node.name else ""
            if node.kind == "action":
                actions.append(_TEXT.format(node.x + 9, y, node.label, title))
            else:
                steps.append(_TEXT.format(node.x + 25, y, node.label, title))
        return Html(
            '<g font-family="{}" font-size="12" fill="#1c1c1c">{}</g>'
            '<g font-family="sans-serif" font-size="11" fill="#333">{}</g>'
        ).format(_FONT, Html().join(steps), Html().join(actions))

    def _route_lines(self, step: str, indent: str, seen: set[str]) -> Iterable[str]:
        for label, target, leaves in routes_of(self.plan, step):
            sign = "=>" if leaves else "->"
            yield f"{indent}{label} {sign} {_target_text(target)}"
            if isinstance(target, Action):
                continue
            for name in (name for stage in target for name in stage if self.plan.routed(name) and name not in seen):
                yield from self._route_lines(name, f"{indent}  {name}: ", {*seen, name})


def _target_text(target: Target) -> str:
    if isinstance(target, Action):
        return describe_target(target) if target.kind is not ActionKind.PROCEED else "continues"
    return describe_target(target) if target else "continues"


def _boxes_of(state: str | None, nodes: list[Node]) -> Html:
    """Draw boxes without their texts; numbers and colours need no escaping."""
    boxes = "".join(f"M{n.x:g} {n.y:g}h{n.width:g}v{HEIGHT:g}h-{n.width:g}z" for n in nodes)
    if state == "action":
        return Html(
            f'<path d="{boxes}" fill="#fff" fill-opacity=".92" stroke="{_LINE}" '
            f'stroke-dasharray="3 2" stroke-linejoin="round"/>'
        )
    if state is None:
        edge, ground = _PLAIN
        dots = "".join(f"M{n.x + 10:g} {n.y + 9:g}h8v8h-8z" for n in nodes)
        return Html(
            f'<path d="{boxes}" fill="{ground}" stroke="{edge}" stroke-width="1.3" stroke-linejoin="round"/>'
            f'<path d="{dots}" fill="none" stroke="{edge}" stroke-width="1.3"/>'
        )
    mark = MARKS[state]
    signs = "".join(f"M{n.x + 9:g} {n.y + 8:g}m{_relative(mark.shape)}" for n in nodes)
    look = f'fill="{mark.colour}"' if mark.filled else f'fill="none" stroke="{mark.colour}" stroke-width="1.9"'
    dashes = ' stroke-dasharray="3 3"' if state in ("skipped", "waiting") else ""
    wide = 2 if state in ("running", "failed") else 1.3
    return Html(
        f'<path d="{boxes}" fill="{mark.ground}" stroke="{mark.colour}" stroke-width="{wide:g}"{dashes} '
        f'stroke-linejoin="round"/><path d="{signs}" {look}/>'
    )


def _relative(shape: str) -> str:
    """Make a shape's path relative to the point before it: after the first, each part begins at the one before."""
    first, *more = shape.removeprefix("M").split("M")
    text = first
    x0, y0 = _start(first)
    for part in more:
        x, y = _start(part)
        rest = part[part.index("h") :] if "h" in part else ""
        text += f"m{x - x0:g} {y - y0:g}{rest}"
        x0, y0 = x, y
    return text


def _start(part: str) -> Point:
    numbers = ""
    for letter in part:
        if letter.isalpha():
            break
        numbers += letter
    x, y = numbers.split()
    return float(x), float(y)


def _curve(edge: Edge) -> str:
    points = edge.points
    if len(points) == 2:
        return _bend(points[0], points[1])
    if edge.label:
        return _bend(points[0], points[1]) + "".join(f"L{x:g} {y:g}" for x, y in points[2:])
    return _corners(points)


def _bend(start: Point, end: Point) -> str:
    (x1, y1), (x2, y2) = start, end
    if y1 == y2:
        return f"M{x1:g} {y1:g}H{x2:g}"
    middle = (x1 + x2) / 2
    return f"M{x1:g} {y1:g}C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}"


def _corners(points: Iterable[Point]) -> str:
    first, *rest = points
    return f"M{first[0]:g} {first[1]:g}" + "".join(f"L{x:g} {y:g}" for x, y in rest)


def _is_arrow(edge: Edge, boxes: _Boxes) -> bool:
    return edge.loop or (len(edge.points) < 5 and boxes.is_entered_at(edge.points[-1]))


class _Boxes:
    """The boxes in a grid, so that finding the box at the end of an edge does not search all of them."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._cells: dict[tuple[int, int], list[Node]] = {}
        for node in nodes:
            self._cells.setdefault(self._cell(node.x, node.y), []).append(node)

    def is_entered_at(self, point: Point) -> bool:
        x, y = point
        column, row = self._cell(x, y)
        near = [(i, j) for i in (column - 1, column, column + 1) for j in (row - 1, row)]
        return any(
            abs(node.x - x) < _NEAR and node.y <= y <= node.y + HEIGHT
            for cell in near
            for node in self._cells.get(cell, ())
        )

    @staticmethod
    def _cell(x: float, y: float) -> tuple[int, int]:
        return int(x // _NEAR), int(y // HEIGHT)


_NEAR = 9
"""How many px before a box its edges end."""


def _head(edge: Edge) -> str:
    x, y = edge.points[-1]
    if edge.loop:
        return f"M{x:g} {y:g}l-3.5 6h7z"
    return f"M{x:g} {y:g}l-6-3.5v7z"


class _Mermaid:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ids: dict[str, str] = {}
        self.edges: list[str] = []
        self.ends = 0
        self.extra: list[str] = []

    def lines(self) -> list[str]:
        self._path(self.plan.timeline, [])
        names = [f'{key}["{_quoted(name)}"]' for name, key in self.ids.items()]
        return [*names, *self.extra, *dict.fromkeys(self.edges)]

    def _id(self, name: str) -> str:
        return self.ids.setdefault(name, f"n{len(self.ids)}")

    def _path(self, path: Iterable[tuple[str, ...]], before: list[str]) -> list[str]:
        for stage in path:
            self.edges += [f"{start} --> {self._id(name)}" for start in before for name in stage]
            before = []
            for name in stage:
                key = self._id(name)
                before += self._routes(name, key)
        return before

    def _routes(self, name: str, key: str) -> list[str]:
        exits = [key]
        for label, target, leaves in routes_of(self.plan, name):
            if not leaves and key in exits:
                exits.remove(key)
            if isinstance(target, Action) and target.kind is not ActionKind.PROCEED:
                if target.step is not None:
                    self.edges.append(f'{key} -. "{_quoted(label)}" .-> {self._id(target.step)}')
                    continue
                end = f"e{self.ends}"
                self.ends += 1
                self.extra.append(f'{end}(["{_quoted(str(target))}"])')
                self.edges.append(f'{key} -- "{_quoted(label)}" --> {end}')
                continue
            if isinstance(target, Action) or not target:
                exits.append(key)
                continue
            new = list(target[0])
            known = all(n in self.ids for n in new)
            self.edges += [f'{key} -- "{_quoted(label)}" --> {self._id(n)}' for n in new]
            if not known:
                ends = self._path(target[1:], [e for n in new for e in self._routes(n, self._id(n))])
                exits += [] if leaves else ends
        return list(dict.fromkeys(exits))


def _quoted(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
