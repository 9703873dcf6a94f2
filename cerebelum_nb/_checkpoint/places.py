"""The statements of a step's function: which of them wait, and where the function can be entered again.

A *place* is a statement, named by a digest of the code before it: the statements before it on every level, the heads
around it, the signature. So a place survives comments, formatting, later edits and another version of Python; an edit
before it makes it another place. Nothing here runs or compiles anything.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator
from typing import Any, cast

from .._dsl import source

__all__ = ["COMPREHENSIONS", "Block", "IsOperation", "Place", "Statements", "blocks", "is_text", "own_nodes"]

Block = list[ast.stmt]
IsOperation = Callable[[ast.Call], bool]
PathPart = tuple[ast.AST, str, int]
"""Part of the path to a statement: (owner, field, index) for a block, (statement, "", position) for a statement."""

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_LEFT = (ast.Try, ast.TryStar, ast.With, ast.AsyncWith, ast.AsyncFor)
"""Statements that run code of their own when an exception leaves them."""
_PURE = (
    *(ast.Name, ast.Constant, ast.Attribute, ast.Subscript, ast.Slice, ast.BinOp, ast.UnaryOp, ast.Compare),
    *(ast.BoolOp, ast.IfExp, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.JoinedStr, ast.FormattedValue, ast.Lambda),
    *(ast.Starred, ast.keyword, ast.expr_context, ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.arguments),
    *(ast.arg, ast.stmt, ast.withitem),
)


class Place:
    """A statement of the function.

    ``number`` counts the statements in source order, ``level`` the blocks around it. ``refusal`` is the reason why it
    cannot be entered, or "". ``waits`` is whether its head may wait, ``marked`` whether the twin reports that it
    begins. ``impure`` is whether it could run differently from its beginning after part of it has run. ``loops``,
    ``handlers`` and ``withs`` are the statements of these kinds around it.
    """

    __slots__ = (
        "digest",
        "handlers",
        "impure",
        "level",
        "loops",
        "marked",
        "node",
        "number",
        "path",
        "refusal",
        "waits",
        "withs",
    )

    def __init__(self, number: int, node: ast.stmt, path: tuple[PathPart, ...]) -> None:
        self.number, self.node, self.path = number, node, path
        # It names hidden variables. `number` would not do: a docstring added before the statement changes it.
        self.level = len(path) // 2
        self.digest = self.refusal = ""
        self.waits = self.marked = self.impure = False
        self.loops: tuple[Place, ...] = ()
        self.handlers: tuple[Place, ...] = ()
        self.withs: tuple[Place, ...] = ()

    @property
    def line(self) -> int:
        """The statement's first line in the file."""
        return self.node.lineno


class Statements:
    """The statements of one function, numbered in source order.

    Args:
        node: the function.
        is_operation: tells which calls of a plain function may wait.
        every: whether all statements are marked, not only those that may wait.
    """

    def __init__(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, is_operation: IsOperation, *, every: bool = False
    ) -> None:
        self.node, self.is_operation, self.every = node, is_operation, every
        self.is_async = isinstance(node, ast.AsyncFunctionDef)
        self.places: list[Place] = []
        self.holds: dict[int, bool] = {}  # by id of a statement: whether a statement *in* it is marked
        self._numbers: dict[int, int] = {}
        self._number(node, ())
        self.any_marked = any(place.marked for place in self.places)
        self._name_places()

    def of(self, statement: ast.AST) -> Place:
        """Return the place of a statement of this function."""
        return self.places[self._numbers[id(statement)]]

    def marks_in(self, block: Block) -> bool:
        """Whether a statement of a block, or a statement inside one, is marked."""
        return any(self.holds[id(statement)] or self.of(statement).marked for statement in block)

    def inside(self, around: Place) -> list[Place]:
        """Return the statements inside a statement."""
        return [one for one in self.places if one is not around and any(node is around.node for node, *_ in one.path)]

    def find(self, digest: str) -> Place | None:
        """Find the place with this digest."""
        return next((one for one in self.places if one.digest == digest and _is_run(one.node)), None)

    def at(self, start: tuple[int, int], stop: tuple[int, int]) -> Place | None:
        """Find the innermost statement whose head contains this range of the source, given as (line, column)."""
        found = None
        for place in self.places:
            for head in heads(place.node):
                span = cast(Any, head.context_expr if isinstance(head, ast.withitem) else head)
                begin, end = (span.lineno, span.col_offset), (span.end_lineno, span.end_col_offset)
                if begin <= start and stop <= end:
                    found = place
        return found

    def _number(self, owner: ast.AST, path: tuple[PathPart, ...]) -> None:
        for field, index, block in blocks(owner) if owner is not self.node else [("body", 0, self.node.body)]:
            for position, statement in enumerate(block):
                here = (*path, (owner, field, index), (statement, "", position))
                place = Place(len(self.places), statement, here)
                self._numbers[id(statement)] = place.number
                self.places.append(place)
                waits = self._waits(heads(statement))
                place.waits = bool(waits)
                place.marked = place.waits or (self.every and _is_run(statement))
                if place.marked:
                    place.impure = place.waits and self._is_impure(statement, waits)
                    place.refusal = self._refusal(place)
                around = [(self.of(node), field) for node, field, _ in here if field and node is not self.node]
                place.loops = tuple(o for o, f in around if isinstance(o.node, ast.For) and f == "body")
                place.handlers = tuple(o for o, f in around if isinstance(o.node, ast.Try) and f == "handlers")
                place.withs = tuple(o for o, _ in around if isinstance(o.node, (ast.With, ast.AsyncWith)))
                before = len(self.places)
                self._number(statement, here)
                self.holds[id(statement)] = any(inner.marked for inner in self.places[before:])

    def _waits(self, nodes: list[ast.AST]) -> list[ast.AST]:
        """Return the awaits of an async step, or the calls of operations in a plain one."""
        kind = ast.Await if self.is_async else ast.Call
        found = [inner for node in nodes for inner in own_nodes(node) if isinstance(inner, kind)]
        return list(found) if self.is_async else [call for call in found if self.is_operation(cast(ast.Call, call))]

    def _is_impure(self, statement: ast.stmt, waits: list[ast.AST]) -> bool:
        if len(waits) > 1:
            return True
        calls = {id(wait.value) if isinstance(wait, ast.Await) else id(wait) for wait in waits}
        for inner in (node for head in heads(statement) for node in own_nodes(head)):
            if isinstance(inner, COMPREHENSIONS):
                return True
            is_the_wait = isinstance(inner, ast.Await) or (
                isinstance(inner, ast.Call) and id(inner) in calls and self.is_operation(inner)
            )
            if not is_the_wait and not isinstance(inner, _PURE):
                return True
        return False

    def _refusal(self, place: Place) -> str:
        it = "it waits" if place.waits else "it is"
        for owner, field, _ in place.path:
            if field == "finalbody":
                return f"{it} in a `finally`"
            if isinstance(owner, ast.TryStar) and field == "handlers":
                return f"{it} in an `except*`"
            if isinstance(owner, (ast.With, ast.AsyncWith)) and field:
                if self._waits(heads(owner)):
                    return f"{it} in a `with` whose head waits"
                if any(_truncates(node) for head in heads(owner) for node in own_nodes(head)):
                    return f"{it} in a `with` that opens a file for writing, which would empty it again"
            if isinstance(owner, ast.AsyncFor) and field == "body":
                return f"{it} in an `async for`"
        return ""

    def before(self, place: Place) -> Iterator[ast.AST | str]:
        """Yield the code before a place, from the signature on: heads, statements, and a text for each block."""
        yield ast.Lambda(self.node.args, ast.Constant(None))
        on_the_way = {id(node) for node, field, _ in place.path if not field}
        for owner, field, index in place.path:
            if not field:
                continue
            if owner is self.node:
                block = self.node.body
            else:
                block = next(b for f, i, b in blocks(owner) if (f, i) == (field, index))
                yield f"<{type(owner).__name__} {field} {index}>"
                yield from heads(cast(ast.stmt, owner))
                if isinstance(owner, (ast.For, ast.AsyncFor)):
                    yield owner.target
                if isinstance(owner, (ast.Try, ast.TryStar)) and field == "handlers":
                    yield owner.handlers[index].type or ""
                if isinstance(owner, ast.Match):
                    yield owner.cases[index].pattern
            here = next(i for i, statement in enumerate(block) if id(statement) in on_the_way)
            yield from (statement for statement in block[:here] if not is_text(statement))

    def back_from(self, place: Place) -> Place:
        """Return the statement where a function that raised in ``place`` is entered, if every statement is recorded.

        A `try` or a `with` around the place begins again. A ``raise`` that is first in an `if` or `match` is decided
        again.
        """
        for owner, field, _ in place.path:
            if field and isinstance(owner, _LEFT):
                return self.of(owner)
        if isinstance(place.node, ast.Raise):
            while (around := self._decides(place)) is not None:
                place = around
        return place

    def after_raise(self, place: Place) -> Place | None:
        """Return where to enter a function that raised in ``place``; None if it must not be entered near there.

        A ``raise`` would only raise again, so the `if` or `match` in which it is first is evaluated again. None if a
        `try` or a `with` around the place was left, if the head of a loop may have begun, or if a call such as
        ``orders.pop()`` may have been done.
        """
        ran = heads(place.node)
        if isinstance(place.node, ast.Raise):
            ran = []
            while (around := self._decides(place)) is not None:
                place = around
                ran += heads(place.node)
        if isinstance(place.node, (ast.Raise, ast.For, ast.AsyncFor)) or any(
            field and isinstance(owner, _LEFT) for owner, field, _ in place.path
        ):
            return None
        return None if any(_changes_a_name(inner) for head in ran for inner in own_nodes(head)) else place

    def _decides(self, place: Place) -> Place | None:
        """Return the `if` or `match` in which a statement is the first one."""
        (owner, field, index), (_, _, position) = place.path[-2:]
        if not isinstance(owner, (ast.If, ast.Match)):
            return None
        block = next(b for f, i, b in blocks(owner) if (f, i) == (field, index))
        return self.of(owner) if all(map(is_text, block[:position])) else None

    def _name_places(self) -> None:
        texts: dict[int, str] = {}

        def text(node: ast.AST | str) -> str:
            if isinstance(node, str):
                return node
            if id(node) not in texts:
                texts[id(node)] = source.plain_text(node)
            return texts[id(node)]

        for place in self.places:
            joined = "\0".join(part for part in map(text, self.before(place)) if part)
            place.digest = hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a statement or an expression, except those of functions and classes inside it."""
    todo = [node]
    while todo:
        inner = todo.pop()
        yield inner
        if not isinstance(inner, SCOPES):
            todo += ast.iter_child_nodes(inner)


def heads(statement: ast.stmt) -> list[ast.AST]:
    """Return what runs of a statement before the statements inside it."""
    match statement:
        case ast.If() | ast.While():
            return [statement.test]
        case ast.For() | ast.AsyncFor():
            return [statement.iter]
        case ast.With() | ast.AsyncWith():
            return list(statement.items)
        case ast.Match():
            return [statement.subject]
        case ast.Try() | ast.TryStar() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return []
    return [statement]


def blocks(statement: ast.AST) -> Iterator[tuple[str, int, Block]]:
    """Yield the blocks of a statement: the field, the index of a handler or a case, and the statements."""
    if isinstance(statement, SCOPES):
        return
    for field in ("body", "orelse", "finalbody"):
        block = getattr(statement, field, None)
        if isinstance(block, list) and block:
            yield field, 0, block
    for field in ("handlers", "cases"):
        for index, inner in enumerate(getattr(statement, field, ())):
            yield field, index, inner.body


def is_text(statement: ast.stmt) -> bool:
    """Whether a statement is only a text or another constant, such as a docstring."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _truncates(node: ast.AST) -> bool:
    """Whether this is ``open(..., "w")`` or the like, which would lose what was written before the wait."""
    match node:
        case ast.Call(func=ast.Name(id="open") | ast.Attribute(attr="open")):
            modes = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
            texts = [mode.value for mode in modes if isinstance(mode, ast.Constant) and isinstance(mode.value, str)]
            return any(len(text) < 4 and ("w" in text or "x" in text) for text in texts)
    return False


def _changes_a_name(node: ast.AST) -> bool:
    """Whether this is ``next(numbers)``, ``orders.pop()`` or the like, which does something else the second time."""
    match node:
        case ast.Call(func=ast.Name(id="next")):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(), attr=method)):
            return method in source.CHANGING or method in ("send", "read", "readline", "write")
    return False


def _is_run(statement: ast.stmt) -> bool:
    return not isinstance(statement, (ast.Global, ast.Nonlocal)) and not is_text(statement)
