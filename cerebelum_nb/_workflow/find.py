"""Find the workflow of a recorded execution: in the module it was started from, or where the caller says.

Nothing here runs the workflow. load.py loads the code.
"""

from __future__ import annotations

import inspect
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar, cast

from .._core.events import WorkflowStarted
from .._engine.code_location import is_cell, is_script
from .._engine.hints import ways
from .._store.base import Store
from ..errors import WorkflowNotFoundError
from .load import load_module, load_notebook, load_script

__all__ = ["Origin", "Runnable", "WorkflowFinder", "find_workflow", "origin_of"]

W = TypeVar("W")

Origin = WorkflowStarted
"""The event that says where a workflow's code was: its ``module``, ``qualname`` and ``source``."""


class Runnable(Protocol):
    """What callers need of a workflow: its name, and methods to resume and roll back its executions."""

    name: str

    async def resume(
        self,
        execution_id: str | None = None,
        skip_completed_steps: bool = True,
        inputs: Any = None,
        **options: Any,
    ) -> Any:
        """Resume an execution."""

    async def rollback(self, execution_id: str, to: Any = None, **options: Any) -> Any:
        """Undo what an execution has done."""

    def plan_rollback(self, execution_id: str, to: Any = None, **options: Any) -> Any:
        """Show what a rollback would undo."""


def origin_of(store: Store, execution_id: str) -> Origin:
    """Read where the code of an execution was when it started; ``execution_id`` is a full id.

    Raises:
        WorkflowNotFoundError: the log does not say, so it is damaged.
    """
    for event in store.events(execution_id, upto=2):  # the first event of a fork is not the start
        if isinstance(event, WorkflowStarted):
            return event
    raise WorkflowNotFoundError(
        f"the log does not say how execution {execution_id} started: it is damaged. Restore a copy of it"
    )


def find_workflow(
    origin: Origin,
    execution_id: str,
    *,
    module: str | None = None,
    notebook: str | os.PathLike[str] | None = None,
    may_run: bool = True,
) -> Runnable:
    """Find the workflow of an execution in the module or script it was started from.

    Args:
        origin: where its code was, from :func:`origin_of`.
        execution_id: the execution, for messages.
        module: import this module instead of the recorded one.
        notebook: look in the definitions of this notebook instead.
        may_run: whether the code that the log names may be run (``Store.may_run``); code that the caller names always
            may.

    Raises:
        WorkflowNotFoundError: the module cannot or must not be imported, or has no such workflow.
    """
    if notebook is not None:
        found = _workflow_in(load_notebook(notebook), origin)
        where = f"the notebook {os.fspath(notebook)}"
    else:
        name = module or origin.module
        if name == "__main__":
            live = _workflow_in(sys.modules["__main__"], origin)
            if live is not None:
                return live
            if not is_script(origin.source) or not Path(origin.source).is_file():
                raise WorkflowNotFoundError(_not_a_module(origin, execution_id))
            if not may_run:
                raise WorkflowNotFoundError(_not_trusted(origin, execution_id))
            found, where = _workflow_in(load_script(origin.source), origin), f"the script {origin.source}"
        else:
            if module is None and not may_run and name not in sys.modules:
                raise WorkflowNotFoundError(_not_trusted(origin, execution_id))
            loaded = load_module(name, source="" if module else origin.source)
            found = _workflow_in(loaded, origin)
            where = f"the module {name} ({getattr(loaded, '__file__', None) or 'no file'})"
    if found is None:
        raise WorkflowNotFoundError(
            f"execution {execution_id} belongs to workflow '{origin.workflow}', and {where} holds no workflow of that "
            f"name. If it has moved or was renamed, name its module: "
            f"cerebelum resume {shlex.quote(execution_id)} --module NAME"
        )
    return found


class WorkflowFinder(Generic[W]):
    """Finds workflows for a scheduler.

    Args:
        known: returns the workflows defined in this process, by module and name.
        modules: names of modules, or paths of Python files, imported now.
        notebook: a notebook whose definitions are run now.

    Raises:
        WorkflowNotFoundError: one of them cannot be loaded.
    """

    def __init__(
        self,
        known: Callable[[], Mapping[tuple[str, str], W]],
        modules: Sequence[str] = (),
        notebook: str | os.PathLike[str] | None = None,
    ) -> None:
        self._known = known
        self._named = [load_module(name, _REACHABLE) for name in modules]
        if notebook is not None:
            self._named.append(load_notebook(notebook))
        self._loaded: dict[str, ModuleType] = {}
        self._failed: dict[str, str] = {}

    def find(self, origin: Origin, execution_id: str = "ID", *, may_run: bool = True) -> W:
        """Return the workflow of an execution: from this process, the given modules and notebook, or its origin.

        Args:
            origin: where its code was.
            execution_id: the execution, for messages.
            may_run: whether the code that the log names may be run.

        Raises:
            WorkflowNotFoundError: it cannot be found or must not be run; the message says what to do.
        """
        module = origin.module
        live = self._known().get((module, origin.workflow))
        if live is not None and _is_recorded_workflow(live, origin):
            return live
        found = next((made for named in self._named if (made := _workflow_in(named, origin)) is not None), None)
        if found is None and not may_run and module not in {"__main__", *sys.modules}:
            raise WorkflowNotFoundError(_not_trusted(origin, execution_id))
        if found is None and module and module != "__main__":
            loaded = self._load(module, lambda: load_module(module, _REACHABLE, source=origin.source))
            found = _workflow_in(loaded, origin)
        elif found is None and is_script(origin.source) and Path(origin.source).is_file():
            if not may_run:
                raise WorkflowNotFoundError(_not_trusted(origin, execution_id))
            found = _workflow_in(self._load(origin.source, lambda: load_script(origin.source)), origin)
        if found is None:
            raise WorkflowNotFoundError(_not_found(origin))
        return cast(W, found)

    def _load(self, name: str, load: Callable[[], ModuleType]) -> ModuleType:
        """Load code once; after a failure it is not tried again for other executions."""
        if name in self._failed:
            raise WorkflowNotFoundError(self._failed[name])
        try:
            self._loaded[name] = self._loaded.get(name) or load()
        except WorkflowNotFoundError as error:
            self._failed[name] = str(error)
            raise
        return self._loaded[name]


_REACHABLE = (
    "Start the scheduler where it can be imported: in its folder, with PYTHONPATH, or with its package installed"
)


def _not_found(origin: Origin) -> str:
    """Make the message for a workflow that a scheduler does not find."""
    what = f"workflow '{origin.workflow}'"
    if origin.module and origin.module != "__main__":
        return (
            f"{what} is no longer in the module {origin.module!r}. Put it back under its name, or resume the execution "
            f"with the workflow that replaced it"
        )
    if is_script(origin.source):
        script = Path(origin.source)
        return (
            f"{what} was started from the script {script}, which no longer has it: name the file that does, "
            f"`cerebelum scheduler FILE.py`. Code that runs in it must be under `if __name__ == '__main__':`"
        )
    return (
        f"{what} was defined in a notebook: name it, `cerebelum scheduler --notebook NOTEBOOK.ipynb`, or call "
        f"cerebelum_nb.scheduler() in the notebook's kernel, or put the workflow into a module and import it there"
    )


def _is_recorded_workflow(workflow: Any, origin: Origin) -> bool:
    """Whether a workflow of this process is the recorded one: two scripts are both modules named ``__main__``."""
    if origin.module != "__main__" or not is_script(origin.source):
        return True
    return bool(Path(inspect.unwrap(workflow.fn).__code__.co_filename).absolute() == Path(origin.source).absolute())


def _workflow_in(module: ModuleType, origin: Origin) -> Runnable | None:
    """Find a workflow in a module by its name; of several, the one made of the recorded function."""
    from .._dsl.step import Step

    made = {
        id(value): value
        for value in vars(module).values()
        if not isinstance(value, (Step, ModuleType)) and hasattr(value, "max_jumps") and hasattr(value, "resume")
    }
    named = [value for value in made.values() if value.name == origin.workflow]
    exact = [value for value in named if value.fn.__qualname__ == origin.qualname]
    return next(iter(exact or named), None)


def _not_trusted(origin: Origin, execution_id: str) -> str:
    """Make the message for code that only the log names, with the command that names it."""
    file = origin.source if origin.module == "__main__" else origin.module
    return (
        f"execution {execution_id} of workflow '{origin.workflow}' was not started by you on this machine, and it "
        f"names {file!r} as its code. A log from elsewhere cannot choose which code runs here: nothing was run. If you "
        f"want this code, name it:\n\n"
        f"    cerebelum resume {shlex.quote(execution_id)} --module {shlex.quote(file)}\n\n"
        f"With --trust-code it runs without this check"
    )


def _not_a_module(origin: Origin, execution_id: str) -> str:
    beginning = f"execution {execution_id} of workflow '{origin.workflow}' was started "
    if is_script(origin.source):
        return (
            f"{beginning}by the script {origin.source}, which no longer exists. Name the file that has it now:\n\n"
            f"    cerebelum resume {shlex.quote(execution_id)} --module PATH.py"
        )
    *command, call = ways(origin, execution_id)
    if not is_cell(origin.source):
        return f"{beginning}at a prompt, so its code is not in a file. Define it there again, then:\n\n    {call}"
    here = f":\n\n    {command[0]}" if command else ", by adding --notebook and the notebook's path to the command."
    return (
        f"{beginning}in a notebook, which nothing here can import. Open the notebook, run the cells that define it, "
        f"then:\n\n    {call}\n\nOr run only its definitions from here{here}"
    )
