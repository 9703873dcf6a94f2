"""Place the parts of a plan's picture: steps from left to right in rows, routes in lanes below.

The plan's timeline is a sequence of stages. A stage is a column of steps; a large stage is a framed grid. The routes
of a stage's steps are lanes to its right, each with its own label and path. Stages that do not fit the width continue
in the next row, like text. This module does not know colours or SVG.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from .._core.graph import Action, ActionKind, Path, Plan, Target
from .._text.text import cut

__all__ = ["Edge", "Layout", "Node", "Point", "lay_out", "routes_of"]

Point = tuple[float, float]

WIDTH = 900.0
HEIGHT = 26.0
_LETTER = 7.25  # px of a monospaced letter at 12 px
_GAP_X, _GAP_Y = 28.0, 10.0
_ROW_GAP = 26.0
_MOST_STACKED = 6
_LONGEST = 26


@dataclass(slots=True)
class Node:
    """A step or the action of a route (``kind`` is ``step`` or ``action``); ``label`` is ``name``, cut to fit."""

    name: str
    label: str
    x: float
    y: float
    width: float
    kind: str = "step"
    target: str | None = None


@dataclass(slots=True)
class Edge:
    """A line through points, with a ``label`` at its end; a ``loop`` leads back, or skips steps."""

    points: tuple[Point, ...]
    label: str = ""
    loop: bool = False


@dataclass(slots=True)
class Layout:
    """A picture's parts and its size; ``frames`` are rectangles around large parallel stages."""

    width: float = 0.0
    height: float = 0.0
    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    frames: list[tuple[float, float, float, float]] = field(default_factory=list)
    entries: list[Point] = field(default_factory=list)
    exits: list[Point] = field(default_factory=list)

    def add(self, other: Layout, dx: float, dy: float) -> None:
        """Add the parts of another layout, moved, but not its entries and exits."""
        for node in other.nodes:
            node.x, node.y = node.x + dx, node.y + dy
        for edge in other.edges:
            edge.points = tuple((x + dx, y + dy) for x, y in edge.points)
        self.nodes += other.nodes
        self.edges += other.edges
        self.frames += [(x + dx, y + dy, w, h) for x, y, w, h in other.frames]
        self.width = max(self.width, other.width + dx)
        self.height = max(self.height, other.height + dy)


def lay_out(plan: Plan, width: float = WIDTH) -> Layout:
    """Place a plan.

    Args:
        plan: what to place.
        width: how wide it may be, in px; one stage may be wider.

    Example:
        >>> [node.name for node in lay_out(Plan(workflow="w", timeline=(("a",), ("b",)), steps={})).nodes]
        ['a', 'b']
    """
    made = _flow(plan, plan.timeline, width)
    _connect_far(made)
    return made


def routes_of(plan: Plan, step: str) -> Iterator[tuple[str, Target, bool]]:
    """Yield the routes of a step: label, target, and whether it leaves the timeline (a diverge does)."""
    if step in plan.diverges:
        for label, (_, target) in plan.diverges[step].choices.items():
            yield label, target, True
    if step in plan.branches:
        branch = plan.branches[step]
        yield "yes", branch.when_true, False
        yield "no", branch.when_false, False


def _flow(plan: Plan, path: Path, width: float) -> Layout:
    """Place stages one after another, in rows."""
    made = Layout()
    x = y = row_height = 0.0
    before: list[Point] = []
    for stage in path:
        part = _stage(plan, stage, width)
        if x > 0 and x + part.width > width:
            turn = y + row_height + _ROW_GAP / 2 - 2
            x, y, row_height = 14.0, y + row_height + _ROW_GAP, 0.0
            _turn(made, before, turn, [(px + x, py + y) for px, py in part.entries])
            before = []
        entries = [(px + x, py + y) for px, py in part.entries]
        made.add(part, x, y)
        made.edges += _join(before, entries) if before else []
        made.entries = made.entries or entries
        before = [(px + x, py + y) for px, py in part.exits]
        row_height = max(row_height, part.height)
        x += part.width + _GAP_X
    made.exits = before
    return made


def _turn(made: Layout, before: Sequence[Point], turn: float, entries: Sequence[Point]) -> None:
    """Draw the line from the end of a row to the beginning of the next."""
    if not before:
        return
    right = max(x for x, _ in before) + 12
    for x, y in before:
        made.edges.append(Edge(((x, y), (right, y), (right, turn), (2, turn), (2, entries[0][1]))))
    made.edges += [Edge(((2, entries[0][1]), entry)) for entry in entries]
    made.width = max(made.width, right + 4)


def _join(starts: Sequence[Point], ends: Sequence[Point]) -> list[Edge]:
    if len(starts) == 1 or len(ends) == 1:
        return [Edge((start, end)) for start in starts for end in ends]
    x = ends[0][0] - _GAP_X / 2
    y = sum(py for _, py in (*starts, *ends)) / (len(starts) + len(ends))
    return [Edge((point, (x, y))) for point in starts] + [Edge(((x, y), point)) for point in ends]


def _stage(plan: Plan, stage: tuple[str, ...], width: float) -> Layout:
    routes = [(name, *route) for name in stage for route in routes_of(plan, name)]
    made = _grid(stage, width) if len(stage) > _MOST_STACKED else _column(stage)
    if not routes:
        return made
    by_name = {node.name: node for node in made.nodes}
    straight = [name for name in stage if _goes_straight_on(plan, name)]
    routed = {name for name, *_ in routes}
    x = made.width + _GAP_X
    y = made.height + _GAP_Y if straight or len(routed) < len(stage) else 0.0
    ends = {by_name[n].y + HEIGHT / 2 for n in routed if n not in straight}
    made.exits = [p for p in made.exits if p[1] not in ends or made.frames]
    lane_x = x + max(len(cut(label, _LONGEST)) for _, label, _, _ in routes) * 6.2 + 22
    lanes_right = x
    new_exits: list[Point] = []
    for name, label, target, leaves in routes:
        source = by_name[name]
        start = (source.x + source.width, source.y + HEIGHT / 2)
        if _is_straight(target):
            continue
        shown = cut(label, _LONGEST)
        lane = _lane(plan, target, leaves, max(260.0, width - lane_x))
        made.add(lane, lane_x, y)
        for px, py in lane.entries[:1]:
            end = (lane_x + px, y + py)
            made.edges.append(Edge((start, (x, end[1]), end), label=shown))
        for px, py in lane.entries[1:]:
            made.edges.append(Edge(((lane_x - 6, y + lane.entries[0][1]), (lane_x + px, y + py))))
        new_exits += [(lane_x + px, y + py) for px, py in lane.exits]
        lanes_right = max(lanes_right, lane_x + lane.width)
        y += lane.height + _GAP_Y
    right = max(lanes_right, made.width)
    for px, py in (*made.exits, *new_exits) if new_exits else ():
        if px < right:
            made.edges.append(Edge(((px, py), (right, py))))
    made.exits = [(right, py) for _, py in (*made.exits, *new_exits)] if new_exits else made.exits
    made.width = right
    return made


def _is_straight(target: Target) -> bool:
    return target == () or (isinstance(target, Action) and target.kind is ActionKind.PROCEED)


def _goes_straight_on(plan: Plan, name: str) -> bool:
    """Whether the run may pass this step without taking a lane."""
    routes = list(routes_of(plan, name))
    return not any(not leaves for _, _, leaves in routes) or any(
        not leaves and _is_straight(target) for _, target, leaves in routes
    )


def _lane(plan: Plan, target: Target, leaves: bool, width: float) -> Layout:
    """Place a route's path; a small box at its end says where it leads."""
    if isinstance(target, Action):
        return _action_box(_action_text(target), target.step)
    inside: list[tuple[str, ...]] = []
    ending: Layout | None = None
    on_timeline = set(chain.from_iterable(plan.timeline))
    for stage in target:
        if leaves and stage[0] in on_timeline:
            ending = _action_box(f"on to {stage[0]}", stage[0])
            break
        inside.append(stage)
    if ending is None and leaves:
        ending = _action_box("end", None)
    if not inside:
        return ending or Layout()
    made = _flow(plan, tuple(inside), max(260.0, width - (ending.width + _GAP_X if ending else 0)))
    if ending is not None and made.exits:
        x, y = made.width + _GAP_X, made.exits[0][1] - HEIGHT / 2
        exits = made.exits
        made.add(ending, x, y)
        made.edges += _join(exits, [(x, y + HEIGHT / 2)])
        made.exits = []
    return made


def _action_text(action: Action) -> str:
    match action.kind:
        case ActionKind.BACK_TO:
            return f"back to {action.step}"
        case ActionKind.SKIP_TO:
            return f"on to {action.step}"
        case ActionKind.RETRY:
            return f"try {action.max_attempts} times"
        case ActionKind.FAIL:
            return f"fail: {action.reason}" if action.reason else "fail"
        case _:
            return str(action.kind.value)


def _action_box(text: str, target: str | None) -> Layout:
    label = cut(text, _LONGEST)
    width = len(label) * 5.9 + 20
    node = Node(text, label, 0, 0, width, kind="action", target=target)
    return Layout(width=width, height=HEIGHT, nodes=[node], entries=[(0, HEIGHT / 2)])


def _column(stage: tuple[str, ...]) -> Layout:
    made = Layout()
    made.width = max(_width(name) for name in stage)
    for number, name in enumerate(stage):
        y = number * (HEIGHT + _GAP_Y)
        made.nodes.append(Node(name, cut(name, _LONGEST), 0, y, made.width))
        made.entries.append((0, y + HEIGHT / 2))
        made.exits.append((made.width, y + HEIGHT / 2))
    made.height = len(stage) * (HEIGHT + _GAP_Y) - _GAP_Y
    return made


def _grid(stage: tuple[str, ...], width: float) -> Layout:
    """Place a large parallel stage as a grid in a frame."""
    cell = max(_width(name) for name in stage)
    columns = max(1, min(int((width - 20) // (cell + 8)), -(-len(stage) // 4)))
    made = Layout()
    for number, name in enumerate(stage):
        row, column = divmod(number, columns)
        made.nodes.append(Node(name, cut(name, _LONGEST), 8 + column * (cell + 8), 8 + row * (HEIGHT + 6), cell))
    made.width = columns * (cell + 8) + 8
    made.height = -(-len(stage) // columns) * (HEIGHT + 6) + 10
    made.frames = [(0, 0, made.width, made.height)]
    made.entries, made.exits = [(0, made.height / 2)], [(made.width, made.height / 2)]
    return made


def _width(name: str) -> float:
    return len(cut(name, _LONGEST)) * _LETTER + 34


def _connect_far(made: Layout) -> None:
    """Draw routes back or on to a step of the timeline as lines below the picture, if no box is in the way."""
    steps = {node.name: node for node in reversed(made.nodes) if node.kind == "step"}
    low = made.height + 8
    for node in made.nodes:
        target = steps.get(node.target or "")
        if target is None:
            continue
        start, end = node.x + node.width / 2, target.x + target.width / 2 + (6 if target.x > node.x else -6)
        if _is_free(made.nodes, start, node.y + HEIGHT, low, node) and _is_free(
            made.nodes, end, target.y + HEIGHT, low, target
        ):
            points = ((start, node.y + HEIGHT), (start, low), (end, low), (end, target.y + HEIGHT))
            made.edges.append(Edge(points, loop=True))
            made.height = max(made.height, low + 2)
            low += 7


def _is_free(nodes: Sequence[Node], x: float, top: float, bottom: float, own: Node) -> bool:
    return not any(
        node is not own and node.x - 4 <= x <= node.x + node.width + 4 and node.y < bottom and node.y + HEIGHT > top - 1
        for node in nodes
    )
