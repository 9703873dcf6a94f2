"""Finding the code of a recorded execution: by the module it was started from, or in a notebook.

Only the workflow object is looked for here; nobody is told to run it. Importing a module runs the module, as it does
everywhere; of a notebook, only what defines something is run (see :func:`load_notebook`).
"""

from __future__ import annotations

import ast
import builtins
import importlib
import json
import linecache
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from ..core.events import WorkflowStarted
from ..errors import StoreError, WorkflowNotFoundError
from ..store.base import Store

__all__ = ["Origin", "Runnable", "find_workflow", "load_module", "load_notebook", "origin_of"]

Origin = WorkflowStarted
"""What the log says about where a workflow's code was: its ``module``, ``qualname`` and ``source``."""

_RUNS = {"begin", "execute", "finish", "fork", "next", "resume", "run", "run_sync", "run_to", "start"}
"""An assignment that calls a method of such a name runs something, so it defines nothing."""


class Runnable(Protocol):
    """What is needed of a workflow: its name, and how to go on with one of its executions."""

    name: str

    async def resume(
        self,
        execution_id: str | None = None,
        skip_completed_steps: bool = True,
        inputs: Any = None,
        **options: Any,
    ) -> Any:
        """Go on with an execution."""


def origin_of(store: Store, execution_id: str) -> Origin:
    """Read where the code of an execution was when it started; ``execution_id`` is a whole id."""
    for event in store.events(execution_id, upto=2):  # a fork's first event is its own
        if isinstance(event, WorkflowStarted):
            return event
    raise StoreError(f"The log does not say how execution {execution_id} started: it is damaged. Restore a copy.")


def find_workflow(
    origin: Origin,
    execution_id: str,
    *,
    module: str | None = None,
    notebook: str | os.PathLike[str] | None = None,
) -> Runnable:
    """Find the workflow of an execution, importing the module it was started from.

    Args:
        origin: what the log says of it, from :func:`origin_of`.
        execution_id: for messages.
        module: import this one instead of the recorded one.
        notebook: look in the definitions of this notebook instead.

    Raises:
        WorkflowNotFoundError: the module cannot be imported, or holds no such workflow.
    """
    if notebook is not None:
        found = _in(load_notebook(notebook), origin)
        where = f"the notebook {os.fspath(notebook)}"
    else:
        name = module or origin.module
        if name == "__main__":
            live = _in(sys.modules["__main__"], origin)
            if live is not None:
                return live
            raise WorkflowNotFoundError(_not_a_module(origin, execution_id))
        loaded = load_module(name)
        found = _in(loaded, origin)
        where = f"the module {name} ({getattr(loaded, '__file__', None) or 'no file'})"
    if found is None:
        raise WorkflowNotFoundError(
            f"execution {execution_id} belongs to workflow '{origin.workflow}', and {where} holds no workflow of that "
            f"name. If it has moved or was renamed, name the module that holds it: "
            f"cerebelum resume {execution_id} --module NAME"
        )
    return found


def load_module(name: str) -> ModuleType:
    """Import a module, with the working directory among the places where it is looked for.

    Raises:
        WorkflowNotFoundError: there is none, or it raised while it was imported; the message says where.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise WorkflowNotFoundError(
                f"the module {name!r} is not found from {here}. Run this in the folder it is imported from, "
                f"or name another one with --module"
            ) from error
        raise WorkflowNotFoundError(_raised(f"the module {name!r}", error)) from error
    except (Exception, SystemExit) as error:  # a module may raise anything
        raise WorkflowNotFoundError(_raised(f"the module {name!r}", error)) from error


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
    folder = str(place.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = ModuleType("__main__", f"The definitions of {place}.")  # as in a kernel: its classes pickle by value
    parsed = [(number, source, tree) for number, source in enumerate(cells, start=1) if (tree := _parse(source))]
    wanted = _wanted([node for _, _, tree in parsed for node in tree.body])
    for number, source, tree in parsed:
        body = [node for node in tree.body if _defines(node, wanted)]
        if not body:
            continue
        name = f"<cell {number} of {place.name}>"
        text = _python(source)
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        code = compile(ast.Module(body=body, type_ignores=[]), name, "exec")
        try:
            exec(code, module.__dict__)
        except (Exception, SystemExit) as error:  # a cell may raise anything
            raise WorkflowNotFoundError(_raised(f"code cell {number} of {place}", error)) from error
    return module


def _in(module: ModuleType, origin: Origin) -> Runnable | None:
    """Find a workflow by the function it was made of, else by its name."""
    from ..dsl.step import Step

    made = {
        id(value): value
        for value in vars(module).values()
        if not isinstance(value, (Step, ModuleType)) and hasattr(value, "max_jumps") and hasattr(value, "resume")
    }
    named = [value for value in made.values() if value.name == origin.workflow]
    exact = [value for value in named if value.fn.__qualname__ == origin.qualname]
    return next(iter(exact or named), None)


def _not_a_module(origin: Origin, execution_id: str) -> str:
    told = f"execution {execution_id} of workflow '{origin.workflow}' was started "
    source = Path(origin.source)
    if origin.source.startswith("<") or "ipykernel" in origin.source or source.suffix == ".ipynb":
        return (
            f"{told}in a notebook, which nothing here can import. Open the notebook, run the cells that define it, "
            f"then:\n\n    await {origin.qualname}.resume({_quoted(execution_id)})\n\n"
            f"Or let its definitions be run from here:\n\n"
            f"    cerebelum resume {execution_id} --notebook PATH.ipynb"
        )
    if source.suffix == ".py":
        return (
            f"{told}by running the script {source}, not from a module. Its folder holds it as a module, if it runs "
            f'nothing when it is imported (put what it runs under `if __name__ == "__main__":`). Then, in '
            f"{source.parent}:\n\n    cerebelum resume {execution_id} --module {source.stem}"
        )
    return (
        f"{told}at an interactive prompt, so its code is nowhere to be found. Define it again there, then:\n\n"
        f"    await {origin.qualname}.resume({_quoted(execution_id)})"
    )


def _quoted(text: str) -> str:
    return f'"{text}"'


def _raised(what: str, error: BaseException) -> str:
    """Say what was raised and at which line of the user's code."""
    machinery = {__file__, importlib.__file__}
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


def _wanted(nodes: list[ast.stmt]) -> set[str]:
    """Name what the definitions use, directly or through an assignment."""
    wanted = {name for node in nodes if isinstance(node, _DEFINITIONS) for name in _used(node)}
    while True:
        more = {
            name for node in nodes if _is_assignment(node) and _targets(node) & wanted for name in _used(node)
        } - wanted
        if not more:
            return wanted - set(dir(builtins))
        wanted |= more


def _defines(node: ast.stmt, wanted: set[str]) -> bool:
    if isinstance(node, _DEFINITIONS):
        return True
    return _is_assignment(node) and bool(_targets(node) & wanted) and not _runs(node)


def _is_assignment(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) or (isinstance(node, ast.AnnAssign) and node.value is not None)


def _targets(node: ast.stmt) -> set[str]:
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store)}


def _used(node: ast.AST) -> Iterator[str]:
    return (child.id for child in ast.walk(node) if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load))


def _runs(node: ast.stmt) -> bool:
    return any(
        isinstance(child, ast.Await)
        or (isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and child.func.attr in _RUNS)
        for child in ast.walk(node)
    )
