"""Running code that was recorded: a module, a script's file, the definitions of a notebook.

Importing a module runs the module, as it does everywhere; of a notebook, and of a script that was run as one, only
what defines something is run.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import json
import linecache
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ..errors import WorkflowNotFoundError

__all__ = ["ELSEWHERE", "load_module", "load_notebook", "load_script"]

_RUNS = {
    "begin",
    "cancel",
    "execute",
    "finish",
    "fork",
    "next",
    "resume",
    "run",
    "run_sync",
    "run_to",
    "start",
    "sweep",
}
"""An assignment that calls a method of such a name runs something, so it defines nothing."""

ELSEWHERE = "Run this in the folder it is imported from, or name another one with --module"
"""What to do about a module that is not found, for who resumes one execution."""


def load_module(name: str, advice: str = ELSEWHERE) -> ModuleType:
    """Import a module, with the working directory among the places where it is looked for.

    Args:
        name: its name, or the path of a Python file.
        advice: what to do when there is none.

    Raises:
        WorkflowNotFoundError: there is none, or it raised while it was imported; the message says where.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return _load_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise WorkflowNotFoundError(f"the module {name!r} is not found from {here}. {advice}") from error
        raise WorkflowNotFoundError(_raised(f"the module {name!r}", error)) from error
    except (Exception, SystemExit) as error:  # a module may raise anything
        raise WorkflowNotFoundError(_raised(f"the module {name!r}", error)) from error


def _load_file(path: Path) -> ModuleType:
    """Import a file as the module of its name; what stands beside it can be imported, as when it is run."""
    if not path.is_file():
        raise WorkflowNotFoundError(f"the file {path} is not there, seen from {Path.cwd()}")
    _look_beside(path)
    taken = path.stem in sys.modules or path.stem in sys.stdlib_module_names  # a file may be called queue.py
    name = f"{path.stem}_py" if taken else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # it is the path of a .py
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _look_beside(path: Path) -> None:
    """Let a file import what stands beside it."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)


def load_script(path: str | os.PathLike[str]) -> ModuleType:
    """Run the definitions of a script, as :func:`load_notebook` does; what it runs when it is run is left out.

    Raises:
        WorkflowNotFoundError: it cannot be read, is no Python, or a definition raised.
    """
    place = Path(path)
    try:
        source = place.read_text(encoding="utf-8")
        parsed = [_Part(str(place), f"the script {place}", ast.parse(source, str(place)))]
    except OSError as error:
        raise WorkflowNotFoundError(f"the script {place} cannot be read ({error.strerror})") from error
    except (SyntaxError, ValueError) as error:
        raise WorkflowNotFoundError(_raised(f"the script {place}", error)) from error
    return _define(place, parsed)


def load_notebook(path: str | os.PathLike[str]) -> ModuleType:
    """Run the definitions of a notebook and return them as a module; what runs something is left out.

    Run, in the notebook's order: imports, functions (so steps and workflows), classes, and the assignments of names
    that these use, unless they await or start something (``result = deploy.run()``). Calls, magics, loops and
    whatever else stands in a cell are left out.

    Raises:
        WorkflowNotFoundError: it is no notebook, or a definition raised.
    """
    place = Path(path)
    try:
        document = json.loads(place.read_text(encoding="utf-8"))
        cells = ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]
    except OSError as error:
        raise WorkflowNotFoundError(f"the notebook {place} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise WorkflowNotFoundError(f"{place} is not a notebook (.ipynb, version 4)") from error
    parts = []
    for number, source in enumerate(cells, start=1):
        tree = _parse(source)
        if tree is not None:
            name, text = f"<cell {number} of {place.name}>", _python(source)
            linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
            parts.append(_Part(name, f"code cell {number} of {place}", tree))
    return _define(place, parts)


class _Part(NamedTuple):
    """A cell, or a whole script: the name of its file in tracebacks, and what it is called in a message."""

    file: str
    what: str
    tree: ast.Module


def _define(place: Path, parts: list[_Part]) -> ModuleType:
    """Run what defines something."""
    _look_beside(place)
    module = ModuleType("__main__", f"The definitions of {place}.")  # as when it ran: its classes pickle by value
    vars(module)["__file__"] = str(place)
    wanted = _wanted([node for part in parts for node in part.tree.body])
    for part in parts:
        body = [node for node in part.tree.body if _defines(node, wanted)]
        code = compile(ast.Module(body=body, type_ignores=[]), part.file, "exec")
        try:
            exec(code, module.__dict__)
        except (Exception, SystemExit) as error:  # it may raise anything
            raise WorkflowNotFoundError(_raised(part.what, error)) from error
    return module


def _raised(what: str, error: BaseException) -> str:
    """Say what was raised and at which line of the user's code."""
    machinery = {__file__, importlib.__file__, ast.__file__}
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in machinery and not frame.filename.startswith("<frozen")
    ]
    at = ""
    if isinstance(error, SyntaxError) and error.filename:
        at = f"\n  at {error.filename}, line {error.lineno}"
    elif frames:
        at = f"\n  at {frames[-1].filename}, line {frames[-1].lineno}: {frames[-1].line or ''}".rstrip(": ")
    told = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{what} raised {type(error).__name__}: {told}{at}\nMend it, then try again"


def _parse(source: str) -> ast.Module | None:
    """Parse a cell; one that is no Python defines nothing here."""
    try:
        return ast.parse(_python(source))
    except SyntaxError:
        return None


def _python(source: str) -> str:
    """Turn magics into calls, which then are left out."""
    if not any(line.lstrip()[:1] in ("%", "!", "?") or line.rstrip().endswith("?") for line in source.splitlines()):
        return source
    from IPython.core.inputtransformer2 import TransformerManager

    transformed: str = TransformerManager().transform_cell(source)  # type: ignore[no-untyped-call]
    return transformed


_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _is_definition(node: ast.stmt) -> bool:
    """Whether it defines something, or chooses between definitions, such as between two imports."""
    match node:
        case ast.If(test=test, body=body, orelse=orelse) if not _asks_for_main(test) and not _runs(test):
            return all(_is_choice(child) for child in (*body, *orelse))
        case ast.Try(body=body, handlers=handlers, orelse=orelse, finalbody=final):
            caught = [child for handler in handlers for child in handler.body]
            return all(_is_choice(child) for child in (*body, *caught, *orelse, *final))
        case _:
            return isinstance(node, _DEFINITIONS)


def _is_choice(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or _is_definition(node) or (_is_assignment(node) and not _runs(node))


def _asks_for_main(test: ast.expr) -> bool:
    return any(isinstance(child, ast.Name) and child.id == "__name__" for child in ast.walk(test))


def _wanted(nodes: list[ast.stmt]) -> set[str]:
    """Name what the definitions use, directly or through an assignment."""
    wanted = {name for node in nodes if _is_definition(node) for name in _used(node)}
    while True:
        more = {
            name for node in nodes if _is_assignment(node) and _targets(node) & wanted for name in _used(node)
        } - wanted
        if not more:
            return wanted - set(dir(builtins))
        wanted |= more


def _defines(node: ast.stmt, wanted: set[str]) -> bool:
    if _is_definition(node):
        return True
    return _is_assignment(node) and bool(_targets(node) & wanted) and not _runs(node)


def _is_assignment(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Assign, ast.AugAssign)) or (isinstance(node, ast.AnnAssign) and node.value is not None)


def _targets(node: ast.stmt) -> set[str]:
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store)}


def _used(node: ast.AST) -> Iterator[str]:
    return (child.id for child in ast.walk(node) if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load))


def _runs(node: ast.AST) -> bool:
    """Whether it runs something at once; what stands in a lambda is only defined."""
    match node:
        case ast.Lambda():
            return False
        case ast.Await() | ast.Call(func=ast.Name(id="run_sync" | "scheduler")):
            return True
        case ast.Call(func=ast.Attribute(attr=name)) if name in _RUNS:
            return True
        case _:
            return any(_runs(child) for child in ast.iter_child_nodes(node))
