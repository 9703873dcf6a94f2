"""How to go on with an execution, in the words of who is told: a notebook's cell, async code, or a script."""

from __future__ import annotations

import json
import shlex
from contextvars import ContextVar
from pathlib import Path

from ..callers import in_cells
from ..store.base import Store
from ..store.default import default_path

__all__ = [
    "asks_again",
    "both_ways",
    "execute_call",
    "from_sync",
    "in_terminal",
    "mend",
    "rerun_stale",
    "resume_call",
    "resume_command",
    "sweep_call",
]

from_sync: ContextVar[bool] = ContextVar("from_sync", default=False)
"""Set while sync code waits: what it is told to call is sync too."""

in_terminal: ContextVar[bool] = ContextVar("in_terminal", default=False)
"""Set while a command runs something: what it is told to do are commands."""


def resume_call(variable: str, execution_id: str, *, rerun: str | None = None) -> str:
    """Write the call that goes on with an execution.

    Example:
        >>> resume_call("deploy", "k1")
        'await deploy.resume("k1")'
    """
    again = "" if rerun is None else f', rerun=["{rerun}"]'
    call = "{}.resume_sync" if _is_sync() else "await {}.resume"
    return f'{call.format(variable)}("{execution_id}"{again})'


def execute_call(variable: str, execution_id: str | None = None) -> str:
    """Write the call that starts a new execution; with an id, the one that goes on with it or returns its result.

    Example:
        >>> execute_call("deploy"), execute_call("deploy", "v42")
        ('await deploy.execute()', 'await deploy.execute(execution_id="v42", resume=True)')
    """
    given = "" if execution_id is None else f"execution_id={json.dumps(execution_id)}, resume=True"
    return f"{variable}.run({given})" if _is_sync() else f"await {variable}.execute({given})"


def sweep_call(variable: str, step: str, prefix: str) -> str:
    """Write the call that goes on with a sweep.

    Example:
        >>> sweep_call("fit", "rate", "k1")
        'await fit.sweep("rate", ..., execution_id="k1")'
    """
    call = "{}.sweep_sync" if _is_sync() else "await {}.sweep"
    return f'{call.format(variable)}("{step}", ..., execution_id="{prefix}")'


def resume_command(store: Store, execution_id: str, *, rerun: str | None = None) -> str | None:
    """Write the command that does the same in a terminal; None for a log that no other process can read."""
    if store.location == ":memory:":
        return None
    log = Path(store.location)
    elsewhere = "" if log.resolve() == default_path().resolve() else f" --db {shlex.quote(str(log))}"
    again = "" if rerun is None else f" --rerun {shlex.quote(rerun)}"
    return f"cerebelum resume {shlex.quote(execution_id)}{again}{elsewhere}"


def both_ways(call: str, store: Store, execution_id: str, *, rerun: str | None = None) -> str:
    """Write the call as the last line, indented; in a script after the command, which needs no other script."""
    command = None if in_cells() else resume_command(store, execution_id, rerun=rerun)
    first = "" if command is None else f"    {command}    # in a terminal; the same in Python:\n"
    return f"{first}    {call}"


def rerun_stale(call: str, store: Store, execution_id: str) -> str:
    """Write what runs stale steps again; ``call`` is what goes on with the execution otherwise."""
    command = resume_command(store, execution_id, rerun="stale") if in_terminal.get() else None
    return command or f"{call[:-1]}, rerun='stale')"


def asks_again(error_type: str) -> bool:
    """Whether a step failed because of a decision: nothing is to be mended, a resume asks for another one."""
    return error_type in ("ApprovalRejectedError", "ApprovalTimeoutError")


def mend(step: str | None, error_type: str = "") -> str:
    """Say what to do before that with a step that failed."""
    if step is None:
        return "Fix it, then:"
    if asks_again(error_type):
        return f"To let '{step}' ask again:"
    return f"Fix '{step}' and run its cell again, then:" if in_cells() else f"Fix '{step}', then:"


def _is_sync() -> bool:
    return from_sync.get() and not in_cells()
