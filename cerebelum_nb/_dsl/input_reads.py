"""Find out which inputs a step's function reads, as far as its source shows.

``inputs["size"]``, ``inputs.get("size")`` and the same of ``context.inputs`` are recognised; any other use counts as
reading every input.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

from .._text.syntax import parse_python
from .fingerprint import function_of
from .source import source_of

__all__ = ["inputs_read"]


def inputs_read(fn: Callable[..., Any], *, takes_inputs: bool, takes_context: bool) -> frozenset[str] | None:
    """Return the names of the inputs that a step reads.

    Args:
        fn: the step's function.
        takes_inputs: whether it has a parameter ``inputs``.
        takes_context: whether it has a parameter ``context``.

    Returns:
        The names; None if it may read any input.

    Example:
        >>> inputs_read(len, takes_inputs=False, takes_context=False)
        frozenset()
    """
    if not takes_inputs and not takes_context:
        return frozenset()
    root = function_of(fn)
    source = None if root is None else source_of(root.__code__, root.__globals__)
    if source is None or not source.text:
        return None
    tree = parse_python(source.plain)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    names: set[str] = set()
    for read in _reads(tree, parents, takes_inputs, takes_context):
        if read is None:
            return None
        names.add(read)
    return frozenset(names)


def _reads(tree: ast.AST, parents: dict[ast.AST, ast.AST], inputs: bool, context: bool) -> Iterator[str | None]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name):
            continue
        if node.id == "inputs" and inputs:
            yield _key(node, parents)
        elif node.id == "context" and context:
            attribute = parents.get(node)
            if not isinstance(attribute, ast.Attribute):
                yield None
            elif attribute.attr == "inputs":
                yield _key(attribute, parents)


def _key(node: ast.expr, parents: dict[ast.AST, ast.AST]) -> str | None:
    """Return the input that is read from ``node``; None if it may be any."""
    parent = parents.get(node)
    if isinstance(parent, ast.Subscript) and parent.value is node:
        return _text(parent.slice)
    if isinstance(parent, ast.Compare) and node in parent.comparators and len(parent.ops) == 1:
        return _text(parent.left) if isinstance(parent.ops[0], (ast.In, ast.NotIn)) else None
    if isinstance(parent, ast.Attribute) and parent.attr == "get":
        call = parents.get(parent)
        if isinstance(call, ast.Call) and call.func is parent and call.args:
            return _text(call.args[0])
    return None


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
