"""Find the workflows that a command line names: MODULE, FILE.py or NOTEBOOK.ipynb, and a workflow in it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import cast

from .._engine.code_location import is_interactive, place_of
from .._store.base import Store
from .._text.text import did_you_mean
from .._workflow.find import Runnable, find_workflow, origin_of
from .._workflow.load import load_module, load_notebook
from .._workflow.workflow import Workflow
from ..errors import WorkflowNotFoundError

__all__ = ["workflow_like", "workflow_named", "workflow_of", "workflows_in"]

_ADVICE = "Name a module that can be imported from here, a .py file or an .ipynb notebook"


def workflows_in(code: str) -> dict[str, Workflow]:
    """Load a module, a file or the definitions of a notebook; return its workflows by variable name.

    Raises:
        WorkflowNotFoundError: it cannot be loaded, or has none.
    """
    module = load_notebook(code) if code.endswith(".ipynb") else load_module(code, _ADVICE)
    found = {name: value for name, value in vars(module).items() if isinstance(value, Workflow)}
    if not found:
        raise WorkflowNotFoundError(f"{code} has no workflow: nothing in it is decorated with @workflow")
    return found


def workflow_named(given: str) -> Workflow:
    """Return the workflow that ``CODE:WORKFLOW`` names; without a name, the only one that the code defines.

    Raises:
        WorkflowNotFoundError: there is none, or there are several and none is named.
    """
    code, name = (given, "") if given.endswith((".py", ".ipynb")) else _split(given)
    found = workflows_in(code)
    if name:
        by_name = {made.name: made for made in found.values()} | found
        if name not in by_name:
            hint = did_you_mean(name, by_name, f"It has: {', '.join(found)}", most=1)
            raise WorkflowNotFoundError(f"{code} has no workflow {name!r}. {hint}")
        return by_name[name]
    own = {id(made): variable for variable, made in found.items() if made.fn.__module__ in (code, "__main__")}
    if len(own or found) > 1:
        choices = "\n".join(f"    {code}:{variable}" for variable in own.values() or found)
        raise WorkflowNotFoundError(f"{code} has several workflows: choose the one to run, such as\n{choices}")
    return found[next(iter(own.values()), next(iter(found)))]


def workflow_of(
    store: Store, execution_id: str, *, module: str | None, notebook: Path | None, trust_code: bool
) -> Runnable:
    """Return the workflow of an execution, from where it was started or from the given place.

    Raises:
        WorkflowNotFoundError: it is not there, or the code may not be run.
    """
    may_run = trust_code or store.may_run(execution_id)
    origin = origin_of(store, execution_id)
    return find_workflow(origin, execution_id, module=module, notebook=notebook, may_run=may_run)


def workflow_like(store: Store, execution_id: str) -> Workflow:
    """Return the workflow of an execution, to start another one of it.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        WorkflowNotFoundError: it is not there any more, was defined in a notebook, or may not be run.
    """
    execution_id = store.execution(execution_id).execution_id
    origin = origin_of(store, execution_id)
    reason = ""
    if is_interactive(origin):
        reason = "started in a notebook or at a prompt"
    elif origin.module == "__main__" and not Path(origin.source).is_file():
        reason = f"started by the script {origin.source}, which no longer exists"
    elif not store.may_run(execution_id):
        reason = "not started by you on this machine"
    if reason:
        raise WorkflowNotFoundError(
            f"execution {execution_id} of workflow '{origin.workflow}' was {reason}. To start another one, name the "
            f"code you mean:\n\n    cerebelum run {shlex.quote(place_of(origin) or 'CODE')}"
        )
    return cast(Workflow, find_workflow(origin, execution_id))


def _split(given: str) -> tuple[str, str]:
    code, colon, name = given.rpartition(":")
    return (code, name) if colon and name.isidentifier() else (given, "")
