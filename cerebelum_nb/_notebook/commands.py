"""The commands of ``%cerebelum``: functions of the command's words that return an object to show."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from .._engine.cancel import cancel_execution
from .._engine.run_sync import run_sync
from .._store.connect import resolve_store
from .._text.duration import format_seconds
from .._text.json_text import parse
from .._workflow.decorator import registered
from .._workflow.workflow import Workflow
from ..errors import CerebelumError
from .notes import Note

if TYPE_CHECKING:
    from .._client.client import ExecutionClient

__all__ = ["complete", "run_command"]

_SHOWN = 20
_WIDEST = 36
"""The most characters of a result in a table, which must fit a cell."""
_OF_THE_NOTEBOOK = ("notebook", "fresh")


def run_command(words: list[str]) -> Any:
    """Run one line of ``%cerebelum`` and return what it shows.

    Raises:
        CerebelumError: there is no such command, or its arguments are wrong.
    """
    name, *arguments = words or ["help"]
    command = _COMMANDS.get(name)
    if command is None:
        near = difflib.get_close_matches(name, [*_COMMANDS, *_OF_THE_NOTEBOOK], n=1)
        hint = (
            f"did you mean %cerebelum {near[0]}?"
            if near
            else f"available: {', '.join([*_COMMANDS, *_OF_THE_NOTEBOOK])}"
        )
        raise CerebelumError(f"%cerebelum has no command '{name}': {hint}")
    try:
        inspect.signature(command).bind(*arguments)
    except TypeError as error:
        raise CerebelumError(f"%cerebelum {name}: {error}. Write %cerebelum {_usage(name)}") from None
    return command(*arguments)


def complete(shell: Any, event: Any) -> list[str]:
    """Complete a command, the id of an execution, a workflow or a step."""
    words = event.line.split()
    given = words[1:] if event.line.endswith(" ") else words[1:-1]
    if not given:
        return [*_COMMANDS, *_OF_THE_NOTEBOOK]
    parameters = list(inspect.signature(_COMMANDS[given[0]]).parameters) if given[0] in _COMMANDS else []
    if len(given) > len(parameters):
        return []
    match parameters[len(given) - 1]:
        case "execution_id":
            return [row.execution_id for row in resolve_store(None).executions(limit=_SHOWN, exact=False)[0]]
        case "workflow":
            return sorted({made.name for made in registered().values()} | _recorded())
        case "step":
            return _steps_of(given)
    return []


def _recorded() -> set[str]:
    return {row.summary.workflow for row in resolve_store(None).executions(limit=500, exact=False)[0]}


def _steps_of(given: list[str]) -> list[str]:
    known = [made for made in registered().values() if made.name == _workflow_of(given[1])]
    return list(known[-1].plan().steps) if known else []


def _list(workflow: str | None = None) -> Any:
    """The newest executions, of one workflow or of all."""
    found = _frame("executions", workflow=workflow, limit=_SHOWN)
    return found[["execution_id", "workflow", "state"]].assign(
        steps=found["done_steps"].astype(str) + "/" + found["total_steps"].astype(str),
        **{"started (UTC)": found["started_at"].dt.strftime("%Y-%m-%d %H:%M")},
    )


def _status(execution_id: str | None = None) -> Any:
    """One execution: its state and its steps."""
    from .._client.client import ExecutionClient

    async def read() -> Any:
        return await ExecutionClient().get_execution_status(_full_id(execution_id))

    return run_sync(read)


def _plan(execution_id: str | None = None) -> Any:
    """What a resume would run, and why."""
    found = _full_id(execution_id)
    return _find_workflow(found).plan_resume(found)


def _resume(execution_id: str | None = None, step: str | None = None) -> Any:
    """Resume an execution; with a step, or the word stale, run that again."""
    found = _full_id(execution_id)
    workflow = _find_workflow(found)
    return run_sync(lambda: workflow.resume(found, rerun=() if step is None else step))


def _history(execution_id: str | None = None) -> Any:
    """The steps of one execution, one row per attempt; history.steps() has all of it."""
    found = _frame("steps", execution_id=_full_id(execution_id))
    return found[["step", "attempt", "state"]].assign(
        took=[format_seconds(took.total_seconds()) if took == took else "" for took in found["duration"]],
        result=found["error"].fillna(found["output"]).fillna("").str.slice(0, _WIDEST),
    )


def _watch(execution_id: str | None = None) -> Any:
    """The live picture of one execution."""
    return sys.modules["cerebelum_nb"].watch(_full_id(execution_id))


def _approve(execution_id: str, *response: str) -> Any:
    """Approve what an execution is waiting for; the response is JSON."""
    found, given = _full_id(execution_id), _json(" ".join(response))
    return _decide(found, lambda client: client.approve(found, given), "approved")


def _reject(execution_id: str, *reason: str) -> Any:
    """Reject it, with a reason."""
    found = _full_id(execution_id)
    if not reason:
        raise CerebelumError(f"give a reason, for the step and the log: %cerebelum reject {found} too dear")
    return _decide(found, lambda client: client.reject(found, " ".join(reason)), "rejected")


def _decide(execution_id: str, decide: Callable[[ExecutionClient], Coroutine[Any, Any, None]], word: str) -> Note:
    from .._client.client import ExecutionClient

    run_sync(lambda: decide(ExecutionClient()))
    if resolve_store(None).execution(execution_id).holder is not None:
        return Note(execution_id, word)
    return Note(execution_id, f"{word}; a scheduler resumes it, or %cerebelum resume {execution_id}")


def _json(text: str) -> Any:
    try:
        return parse(text) if text else None
    except ValueError as error:
        raise CerebelumError(
            f"a response must be JSON ({error}): {text}\n"
            f'Text needs its own quotes, as in %cerebelum approve ID "yes", and %cerebelum approve ID {{"ok": true}}'
        ) from None


def _cancel(execution_id: str, *reason: str) -> Any:
    """End an execution for good."""
    found, why = _full_id(execution_id), " ".join(reason) or None
    return Note(found, run_sync(lambda: cancel_execution(resolve_store(None), found, reason=why, by=None)))


def _help() -> Any:
    """This list."""
    width = max(len(_usage(name)) for name in _COMMANDS)
    lines = [f"%cerebelum {_usage(name):<{width}}  {inspect.getdoc(command)}" for name, command in _COMMANDS.items()]
    lines.append(f"%cerebelum {'notebook [NAME]':<{width}}  The name of this notebook's own run, or another one.")
    lines.append(f"%cerebelum {'fresh':<{width}}  Start the notebook's own run over: every %%step runs.")
    return Text("\n".join(lines))


class Text(str):
    """Text whose repr is the text itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


_COMMANDS: dict[str, Callable[..., Any]] = {
    "list": _list,
    "status": _status,
    "plan": _plan,
    "resume": _resume,
    "history": _history,
    "watch": _watch,
    "approve": _approve,
    "reject": _reject,
    "cancel": _cancel,
    "help": _help,
}


def _usage(name: str) -> str:
    parameters = inspect.signature(_COMMANDS[name]).parameters.values()
    words = (p.name.removesuffix("_id").upper() for p in parameters)
    asked = (
        f"[{w} ...]" if p.kind is p.VAR_POSITIONAL else f"[{w}]" if p.default is None else w
        for w, p in zip(words, parameters, strict=True)
    )
    return " ".join([name, *asked])


def _frame(what: str, **how: Any) -> Any:
    from .. import history

    return getattr(history, what)(**how)


def _full_id(execution_id: str | None) -> str:
    """Return the full id; without an id, that of the newest execution."""
    log = resolve_store(None)
    if execution_id is not None:
        return log.execution(execution_id).execution_id
    rows, _ = log.executions(limit=1, exact=False)
    if not rows:
        raise CerebelumError("this log holds no execution yet: run a workflow with execute() first")
    return rows[0].execution_id


def _workflow_of(execution_id: str) -> str:
    return resolve_store(None).execution(execution_id).summary.workflow


def _find_workflow(execution_id: str) -> Workflow:
    """Return the workflow of an execution, as it is defined in this kernel now."""
    name = _workflow_of(execution_id)
    made = [workflow for workflow in registered().values() if workflow.name == name]
    if not made:
        raise CerebelumError(
            f"workflow '{name}' is not defined in this kernel: run the cells that define it, then try again"
        )
    return made[-1]
