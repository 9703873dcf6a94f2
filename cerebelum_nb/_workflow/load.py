"""Load code that the log names: a module, a script, the definitions of a notebook.

A module is imported, which runs it. A script runs from its top, as Python runs it for a process pool: without the block
under ``if __name__ == "__main__":``; it ends where it would start a run. Of a notebook, only the definitions are run.
"""

from __future__ import annotations

import ast
import asyncio
import contextvars
import importlib
import linecache
import os
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple, NoReturn

from .._engine.load_guard import RunStartedError, loading
from .._host.caller import is_library_frame
from .._text.syntax import parse_python
from ..errors import WorkflowNotFoundError
from .statements import (
    as_python,
    asks_for_main,
    bound,
    defines,
    is_assignment,
    modified,
    parse_cell,
    read_cells,
    wanted_names,
)

__all__ = ["ELSEWHERE", "load_module", "load_notebook", "load_script"]

ELSEWHERE = "Run this in the folder it is imported from, or name another one with --module"
"""What to do if the module of an execution is not found."""


def load_module(name: str, advice: str = ELSEWHERE, *, source: str = "") -> ModuleType:
    """Import a module; the working directory is on the search path.

    Args:
        name: its name, or the path of a Python file.
        advice: what to do if it is not found, for the message.
        source: the recorded file: while it exists, the module is found from any directory.

    Raises:
        WorkflowNotFoundError: it does not exist, or raised when it was imported; the message says where.
    """
    if name.endswith(".py"):
        return load_script(name)
    here = str(Path.cwd())
    for folder in (here, _root_of(name, source)):
        if folder and folder not in sys.path and not (folder == here and "" in sys.path):
            sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        with loading():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise WorkflowNotFoundError(f"the module {name!r} is not found from {here}. {advice}") from error
        raise WorkflowNotFoundError(_describe_error(f"the module {name!r}", error)) from error
    except RunStartedError as error:
        message = f"the module {name!r} starts a run when it is imported{_location(error)}"
        raise WorkflowNotFoundError(f"{message}\nMove it under `if __name__ == '__main__':`, then try again") from error
    except (Exception, SystemExit) as error:  # a module may raise anything
        raise WorkflowNotFoundError(_describe_error(f"the module {name!r}", error)) from error


def _root_of(name: str, source: str) -> str:
    """Return the folder from which a module was imported; "" if its file no longer exists."""
    path = Path(source)
    parts = name.split(".")
    inside = [*parts, "__init__"] if path.stem == "__init__" else parts
    if not path.is_absolute() or not path.is_file() or list(path.with_suffix("").parts[-len(inside) :]) != inside:
        return ""
    return str(path.parents[len(inside) - 1])


def load_script(path: str | os.PathLike[str]) -> ModuleType:
    """Run a script up to where it would start a run, and return it as a module.

    Its top level runs, as Python runs it for a process pool, without the block under ``if __name__ == "__main__":``. So
    its definitions see the same settings as when it was run. A file in a package can import from that package, as with
    ``python -m``.

    Raises:
        WorkflowNotFoundError: it cannot be read, is not valid Python, raised, or reads its command line.
    """
    place = Path(path).absolute()
    what = f"the script {place}"
    try:
        tree = parse_python(place.read_bytes(), str(place))
    except OSError as error:
        raise WorkflowNotFoundError(f"{what} cannot be read ({error.strerror})") from error
    except (SyntaxError, ValueError) as error:
        raise WorkflowNotFoundError(_describe_error(what, error)) from error
    module = _make_main_module(place)
    vars(module)["__package__"] = _add_package_to_path(place)
    stopped_at: int | None = None
    try:
        with loading(), _unknown_arguments(place):
            _run(compile(_NotMain().visit(tree), str(place), "exec", dont_inherit=True), module)
    except RunStartedError as error:
        stopped_at = _line_of(error, str(place))
    except (Exception, SystemExit) as error:  # a script may raise anything
        raise WorkflowNotFoundError(_describe_error(what, error)) from error
    _refuse_other_settings(what, place, module, stopped_at)
    return module


def _line_of(error: BaseException, file: str) -> int | None:
    """Return the line of the top level at which a script ended."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file and f.name == "<module>"]
    return lines[0] if lines else None


def _refuse_other_settings(what: str, place: Path, module: ModuleType, stopped_at: int | None) -> None:
    """Raise WorkflowNotFoundError if the part that did not run changes something that steps read.

    Otherwise a step would silently run with other settings than in the recorded run.
    """
    body = parse_python(place.read_bytes(), str(place)).body
    wanted = wanted_names(body)
    for node in body:
        left_out: list[ast.stmt] = []
        if isinstance(node, ast.If) and asks_for_main(node.test):
            left_out = [*node.body, *node.orelse]
        elif stopped_at is not None and node.lineno > stopped_at:
            left_out = [node]
        for statement in left_out:
            changed = {
                name
                for name in (bound(statement) | modified(statement)) & wanted & vars(module).keys()
                if name in bound(statement) or isinstance(vars(module)[name], (dict, list, set))
            }
            if changed and not isinstance(statement, (ast.Import, ast.ImportFrom)):
                how = "under `if __name__ == '__main__':`" if node is not statement else "after it starts a run"
                raise WorkflowNotFoundError(
                    f"{what} sets {', '.join(map(repr, sorted(changed)))} at line {statement.lineno}, {how}: its steps "
                    f"read it, and the value in the recorded run is unknown here. Set it at the top of the "
                    f"script, or pass it as an input; or resume in the script itself"
                )


def _run(code: CodeType, module: ModuleType) -> None:
    """Run code in a thread without an event loop, because it may start one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        exec(code, module.__dict__)
        return
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(context.run, exec, code, module.__dict__).result()


class _NotMain(ast.NodeTransformer):
    """Make a script's test of ``__name__`` false, although it is executed as ``__main__``.

    Its classes must belong to ``__main__``, as in the recorded run: then values of these classes can be restored, and
    fingerprints stay the same.
    """

    def visit_FunctionDef(self, node: ast.AST) -> ast.AST:  # ast requires this name
        return node

    visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = visit_FunctionDef  # noqa: N815

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        if not any(isinstance(side, ast.Name) and side.id == "__name__" for side in (node.left, *node.comparators)):
            return node
        swap = ast.Constant("__mp_main__")
        sides = [
            ast.copy_location(swap, side) if isinstance(side, ast.Name) and side.id == "__name__" else side
            for side in (node.left, *node.comparators)
        ]
        return ast.copy_location(ast.Compare(sides[0], node.ops, sides[1:]), node)


class _UnknownArguments(list[str]):
    """The ``sys.argv`` of a loaded script: only the script's name is known, and reading more raises an error."""

    def __init__(self, name: str) -> None:
        super().__init__([name])

    def __getitem__(self, index: Any) -> Any:
        if index == 0:
            return super().__getitem__(0)
        return self._refuse()

    def __len__(self) -> int:
        self._refuse()

    def __iter__(self) -> Iterator[str]:
        self._refuse()

    @staticmethod
    def _refuse() -> NoReturn:
        raise WorkflowNotFoundError(
            "it reads its command line (sys.argv), which is not recorded, so it cannot be run again with the same "
            "settings. Read it under `if __name__ == '__main__':` and pass it as inputs"
        )


@contextmanager
def _unknown_arguments(place: Path) -> Iterator[None]:
    before, sys.argv = sys.argv, _UnknownArguments(str(place))
    try:
        yield
    finally:
        sys.argv = before


def _make_main_module(place: Path) -> ModuleType:
    module = ModuleType("__main__", f"The definitions of {place}.")
    vars(module)["__file__"] = str(place)
    return module


def _add_folder_to_path(path: Path) -> None:
    """Let a file import modules of its folder."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _add_package_to_path(path: Path) -> str | None:
    """Let a file import modules of its folder and of its package; return the package's name, "" if it has none."""
    _add_folder_to_path(path)
    folder, parts = path.parent, list[str]()
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    if parts and str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return ".".join(parts) or None


def load_notebook(path: str | os.PathLike[str]) -> ModuleType:
    """Run only the definitions of a notebook and return them as a module.

    Definitions are imports, functions (and with them steps and workflows), classes, and the assignments of names that
    these use, unless they await or start something (``result = deploy.run()``). They run in the notebook's order;
    everything else (calls, magics, loops) is left out.

    Raises:
        WorkflowNotFoundError: it is not a notebook, or a definition raised.
    """
    place = Path(path)
    cells = read_cells(place)
    parts = []
    for number, source in enumerate(cells, start=1):
        tree = parse_cell(source)
        if tree is not None:
            name, text = f"<cell {number} of {place.name}>", as_python(source)
            linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
            parts.append(_Part(name, f"code cell {number} of {place}", tree))
    return _define(place, parts)


class _Part(NamedTuple):
    """A cell: the name of its file in tracebacks, its name in messages, and its code."""

    file: str
    what: str
    tree: ast.Module


def _define(place: Path, parts: list[_Part]) -> ModuleType:
    """Run the definitions in a module of their own."""
    _add_folder_to_path(place)
    module = _make_main_module(place)
    nodes = [node for part in parts for node in part.tree.body]
    wanted, assigned = wanted_names(nodes), {name for node in nodes if is_assignment(node) for name in bound(node)}
    for part in parts:
        for node in part.tree.body:
            if not defines(node, wanted, assigned):
                for name in bound(node) & wanted:  # unknown values must raise NameError when used
                    vars(module).pop(name, None)
                continue
            try:
                exec(_compiled(node, part), module.__dict__)
            except (Exception, SystemExit) as error:  # a definition may raise anything
                raise WorkflowNotFoundError(_describe_error(part.what, error)) from error
    return module


def _compiled(node: ast.stmt, part: _Part) -> CodeType:
    """Compile a definition of a cell, without the ``__future__`` imports of this module."""
    return compile(ast.Module(body=[node], type_ignores=[]), part.file, "exec", dont_inherit=True)


def _describe_error(what: str, error: BaseException) -> str:
    """Describe an error, with the line of the user's code that raised it."""
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    if isinstance(error, WorkflowNotFoundError):
        return f"{what} was not run: {message}{_location(error)}"
    return f"{what} raised {type(error).__name__}: {message}{_location(error)}\nFix it, then try again"


def _location(error: BaseException) -> str:
    """Return the line of the user's code that raised an error, as another line of the message."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"\n  at {error.filename}, line {error.lineno}"
    machinery = {importlib.__file__, ast.__file__}
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in machinery
        and not frame.filename.startswith("<frozen")
        and not is_library_frame(frame.filename)
    ]
    return (
        f"\n  at {frames[-1].filename}, line {frames[-1].lineno}: {frames[-1].line or ''}".rstrip(": ")
        if frames
        else ""
    )
