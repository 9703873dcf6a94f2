"""The small nodes of which twins are made: hidden names, and what asks the cursor."""

from __future__ import annotations

import ast
from typing import Any

from .places import own_nodes

__all__ = [
    "at",
    "bound_by",
    "given_back",
    "is_among",
    "is_kept",
    "is_not_entering",
    "member",
    "name_of",
    "of_cursor",
    "stored",
]


def name_of(name: str) -> ast.Name:
    """Read a variable."""
    return ast.Name(name, ast.Load())


def stored(name: str) -> ast.Name:
    """Store a variable."""
    return ast.Name(name, ast.Store())


def of_cursor(attribute: str) -> ast.Attribute:
    """Read an attribute of the cursor."""
    return ast.Attribute(name_of(".c"), attribute, ast.Load())


def is_not_entering() -> ast.expr:
    """Whether the place is reached, so that statements run as they are written."""
    return ast.UnaryOp(ast.Not(), name_of(".r"))


def member(holder: str, name: str) -> ast.expr:
    """Read an item of a hidden dict."""
    return ast.Subscript(name_of(holder), ast.Constant(name), ast.Load())


def is_among(holder: str, name: str) -> ast.expr:
    """Whether a name is in a hidden dict."""
    return ast.Compare(ast.Constant(name), [ast.In()], [name_of(holder)])


def is_kept(name: str) -> ast.expr:
    """Whether a variable was kept."""
    return ast.Compare(ast.Constant(name), [ast.In()], [of_cursor("values")])


def given_back(name: str) -> ast.stmt:
    """Give a variable the value that was kept."""
    return ast.Assign([stored(name)], ast.Subscript(of_cursor("values"), ast.Constant(name), ast.Load()))


def bound_by(statement: Any) -> list[str]:
    """Return the names that a `with` binds."""
    targets = [item.optional_vars for item in statement.items if item.optional_vars is not None]
    names = [node for target in targets for node in own_nodes(target) if isinstance(node, ast.Name)]
    return [node.id for node in names if isinstance(node.ctx, ast.Store)]


def at(node: Any, like: Any) -> Any:
    """Give a new node, and what hangs on it without a position, the position at which another one begins."""
    todo = [node]
    while todo:
        inner = todo.pop()
        if "lineno" not in inner._attributes:
            todo += ast.iter_child_nodes(inner)
        elif not hasattr(inner, "lineno"):
            inner.lineno = inner.end_lineno = like.lineno
            inner.col_offset = inner.end_col_offset = like.col_offset
            todo += ast.iter_child_nodes(inner)
    return node
