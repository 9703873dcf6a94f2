"""Builders of the syntax nodes from which twins are made: hidden names, and calls of the cursor."""

from __future__ import annotations

import ast
from typing import Any

from .places import own_nodes

__all__ = [
    "assign_kept",
    "at",
    "bound_by",
    "cursor_attribute",
    "has_item",
    "is_kept",
    "is_not_entering",
    "load",
    "read_item",
    "store",
]


def load(name: str) -> ast.Name:
    """Read a variable."""
    return ast.Name(name, ast.Load())


def store(name: str) -> ast.Name:
    """Store a variable."""
    return ast.Name(name, ast.Store())


def cursor_attribute(attribute: str) -> ast.Attribute:
    """Read an attribute of the cursor."""
    return ast.Attribute(load(".c"), attribute, ast.Load())


def is_not_entering() -> ast.expr:
    """Ask whether the place was reached, so that statements run as written."""
    return ast.UnaryOp(ast.Not(), load(".r"))


def read_item(holder: str, name: str) -> ast.expr:
    """Read an item of a hidden dict."""
    return ast.Subscript(load(holder), ast.Constant(name), ast.Load())


def has_item(holder: str, name: str) -> ast.expr:
    """Ask whether a name is in a hidden dict."""
    return ast.Compare(ast.Constant(name), [ast.In()], [load(holder)])


def is_kept(name: str) -> ast.expr:
    """Ask whether a variable was kept."""
    return ast.Compare(ast.Constant(name), [ast.In()], [cursor_attribute("values")])


def assign_kept(name: str) -> ast.stmt:
    """Assign to a variable the value that was kept."""
    return ast.Assign([store(name)], ast.Subscript(cursor_attribute("values"), ast.Constant(name), ast.Load()))


def bound_by(statement: Any) -> list[str]:
    """Return the names that a `with` binds."""
    targets = [item.optional_vars for item in statement.items if item.optional_vars is not None]
    names = [node for target in targets for node in own_nodes(target) if isinstance(node, ast.Name)]
    return [node.id for node in names if isinstance(node.ctx, ast.Store)]


def at(node: Any, like: Any) -> Any:
    """Give a new node, and its children that have no position, the position at which another node begins."""
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
