"""Where the code of a recorded execution is: the module it was started in, a named module, or a notebook."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import linecache
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import CerebelumError
from ..workflows import Workflow, registered

__all__ = ["Code", "CodeNotFoundError"]

_RUNNING = frozenset({"execute", "run", "start", "begin", "resume", "fork", "cancel", "scheduler", "connect"})
"""Calls that do something with a workflow instead of defining one."""


class CodeNotFoundError(CerebelumError):
    """The code of a workflow cannot be loaded here; the message says how to name it."""


class Code:
    """The workflows a scheduler knows, and how it finds others.

    Args:
        modules: names of modules, or paths of Python files, imported now.
        notebook: a notebook whose definitions are run now.

    Raises:
        CodeNotFoundError: one of them cannot be loaded.
    """

    def __init__(self, modules: Sequence[str] = (), notebook: Path | None = None) -> None:
        self._named = tuple(_import(name) for name in modules)
        self._failed: dict[str, str] = {}
        if notebook is not None:
            run_definitions(notebook)
            self._named += ("__main__",)

    def find(self, module: str, workflow: str, source: str) -> Workflow:
        """Return a workflow by what its execution recorded when it started.

        Args:
            module: the module it was defined in.
            workflow: its name.
            source: the file it was defined in.

        Raises:
            CodeNotFoundError: it is not to be found; the message says what to do.
        """
        found = registered().get((module, workflow))
        if found is not None:
            return found
        for named in self._named:
            found = registered().get((named, workflow))
            if found is not None:
                return found
        if module and module != "__main__":
            if module in self._failed:
                raise CodeNotFoundError(self._failed[module])
            try:
                _import(module)
            except CodeNotFoundError as error:
                self._failed[module] = str(error)
                raise
            found = registered().get((module, workflow))
            if found is not None:
                return found
        raise CodeNotFoundError(_where(module, workflow, source))


def run_definitions(notebook: Path) -> None:
    """Run what a notebook defines: its imports, functions, classes and plain assignments; nothing that runs a workflow.

    They run in a module named ``__main__``, as they did in the kernel.

    Raises:
        CodeNotFoundError: the file is no notebook, or a definition raises.
    """
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CodeNotFoundError(f"{notebook} cannot be read as a notebook: {error}") from error
    namespace = sys.modules["__main__"].__dict__
    for number, cell in enumerate(cells, 1):
        if cell.get("cell_type") != "code":
            continue
        source = "".join(cell.get("source", ""))
        name = f"{notebook}#cell-{number}"
        try:
            tree = ast.parse(_without_magics(source), name)
        except SyntaxError:
            continue  # a cell of another language (%%bash)
        body = [node for node in tree.body if _is_definition(node)]
        if not body:
            continue
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        try:
            exec(compile(ast.Module(body, []), name, "exec"), namespace)
        except Exception as error:  # whatever the user's definitions raise
            raise CodeNotFoundError(
                f"cell {number} of {notebook} raised {type(error).__name__}: {error}. Only definitions are run ("
                f"imports, functions, classes, assignments): one of them needs something that another cell makes"
            ) from error


def _import(name: str) -> str:
    """Import a module, or a file by its path; return the module's name."""
    try:
        if name.endswith(".py"):
            return _import_file(Path(name))
        importlib.import_module(name)
    except BaseException as error:  # whatever the user's module raises, SystemExit too
        if isinstance(error, KeyboardInterrupt):
            raise
        raise CodeNotFoundError(
            f"the module {name!r} cannot be imported ({type(error).__name__}: {error}). Start the scheduler where it "
            f"can be: in its folder, with PYTHONPATH, or with its package installed"
        ) from error
    return name


def _import_file(path: Path) -> str:
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return name


def _where(module: str, workflow: str, source: str) -> str:
    what = f"workflow '{workflow}'"
    if module and module != "__main__":
        return (
            f"{what} is not in the module {module!r} any more. Put it back under its name, or resume the execution "
            f"with the workflow that follows it"
        )
    if source.endswith(".py") and not source.startswith("<") and "ipykernel" not in source:
        stem = Path(source).stem
        return (
            f"{what} was started from the script {Path(source).name}: name it, `cerebelum scheduler {stem}`, in its "
            f"folder. What the script runs must stand under `if __name__ == '__main__':`"
        )
    return (
        f"{what} was defined in a notebook: name it, `cerebelum scheduler --notebook NOTEBOOK.ipynb`, or call "
        f"cerebelum_nb.scheduler() in the notebook's kernel, or put the workflow into a module and import it there"
    )


def _without_magics(source: str) -> str:
    if source.lstrip().startswith("%%"):
        return ""
    lines = source.splitlines()
    return "\n".join("" if line.lstrip().startswith(("%", "!", "?")) else line for line in lines)


def _is_definition(node: ast.stmt) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return True
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
            return not any(_does_something(part) for part in _outside_functions(node))
        case _:
            return False


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    if not isinstance(node, ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _outside_functions(child)


def _does_something(node: Any) -> bool:
    match node:
        case ast.Await():
            return True
        case ast.Call(func=ast.Attribute(attr=name)) | ast.Call(func=ast.Name(id=name)):
            return name in _RUNNING
        case _:
            return False
