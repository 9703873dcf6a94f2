"""Find out which statements of a notebook or script define something, and which run something.

Only the syntax is read: nothing runs here. load.py runs the definitions, and `cerebelum promote` writes them into a
module.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from pathlib import Path

from .._text.json_text import parse
from .._text.syntax import parse_python
from ..errors import WorkflowNotFoundError

__all__ = [
    "as_python",
    "asks_for_main",
    "bound",
    "defines",
    "is_assignment",
    "is_definition",
    "modified",
    "parse_cell",
    "read_cells",
    "runs_something",
    "used",
    "wanted_names",
]

_RUNS = {
    "begin",
    "cancel",
    "execute",
    "finish",
    "fork",
    "next",
    "resume",
    "rollback",
    "run",
    "run_sync",
    "run_to",
    "start",
    "sweep",
}
"""An assignment that calls a method with one of these names runs something, so it is not a definition."""


def read_cells(place: Path) -> list[str]:
    """Return the sources of the code cells of a notebook.

    Raises:
        WorkflowNotFoundError: it is not a notebook.
    """
    try:
        document = parse(place.read_text(encoding="utf-8"))
        return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]
    except OSError as error:
        raise WorkflowNotFoundError(f"the notebook {place} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise WorkflowNotFoundError(f"{place} is not a notebook (.ipynb, version 4)") from error


def parse_cell(source: str) -> ast.Module | None:
    """Parse a cell; None if it is not Python."""
    try:
        return parse_python(as_python(source))
    except SyntaxError:
        return None


def as_python(source: str) -> str:
    """Turn the magics of a cell into calls, which are not definitions."""
    if not any(line.lstrip()[:1] in ("%", "!", "?") or line.rstrip().endswith("?") for line in source.splitlines()):
        return source
    from IPython.core.inputtransformer2 import TransformerManager

    transformed: str = TransformerManager().transform_cell(source)  # type: ignore[no-untyped-call]
    return transformed


_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def is_definition(node: ast.stmt) -> bool:
    """Whether it defines something, or chooses between definitions, such as two imports."""
    match node:
        case ast.If(test=test, body=body, orelse=orelse) if not asks_for_main(test) and not runs_something(test):
            return all(_is_choice(child) for child in (*body, *orelse))
        case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=final):
            caught = [child for handler in handlers for child in handler.body]
            return all(_is_choice(child) for child in (*body, *caught, *orelse, *final))
        case _:
            return isinstance(node, _DEFINITIONS)


def _is_choice(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or is_definition(node) or (is_assignment(node) and not runs_something(node))


def asks_for_main(test: ast.expr) -> bool:
    return any(isinstance(child, ast.Name) and child.id == "__name__" for child in ast.walk(test))


def wanted_names(nodes: list[ast.stmt]) -> set[str]:
    """Return the names that definitions use, directly or indirectly."""
    wanted = {name for node in nodes if is_definition(node) for name in used(node)}
    while True:
        more = {name for node in nodes if (bound(node) | modified(node)) & wanted for name in used(node)} - wanted
        if not more:
            return wanted - set(dir(builtins))
        wanted |= more


def defines(node: ast.stmt, wanted: set[str], assigned: set[str]) -> bool:
    """Whether it defines something, or sets or changes a value that definitions use."""
    if is_definition(node):
        return True
    return bool((bound(node) | (modified(node) & assigned)) & wanted) and not runs_something(node)


def is_assignment(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Assign, ast.AugAssign)) or (isinstance(node, ast.AnnAssign) and node.value is not None)


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    """Walk the nodes that run when a statement runs, so not the bodies of functions and classes."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            yield from _outside_functions(child)


def bound(node: ast.AST) -> set[str]:
    """Return the names that a statement assigns to or deletes, even only an item or an attribute."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    targets = (n for n in _outside_functions(node) if isinstance(getattr(n, "ctx", None), (ast.Store, ast.Del)))
    return {name for target in targets if (name := _root(target)) is not None}


def modified(node: ast.AST) -> set[str]:
    """Return the names whose methods a statement calls for their effect: ``settings.update(...)``."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return set()  # its body does not run when it is defined
    calls = (
        n.value.func for n in _outside_functions(node) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call)
    )
    return {name for func in calls if isinstance(func, ast.Attribute) and (name := _root(func)) is not None}


def _root(node: ast.AST) -> str | None:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def used(node: ast.AST) -> Iterator[str]:
    return (child.id for child in ast.walk(node) if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load))


def runs_something(node: ast.AST) -> bool:
    """Whether a node runs something immediately; the body of a lambda does not count."""
    match node:
        case ast.Lambda():
            return False
        case ast.Await() | ast.Call(func=ast.Name(id="run_sync" | "scheduler")):
            return True
        case ast.Call(func=ast.Attribute(attr=name)) if name in _RUNS:
            return True
        case _:
            return any(runs_something(child) for child in ast.iter_child_nodes(node))
