"""Find the execution of a workflow by its id, or the newest that can be resumed; check and make ids.

Two notebooks or scripts may use the same log and each have a workflow of the same name. So the newest execution is
searched for among those that this notebook or script has started.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from .._core.arguments import ExecutionLike, id_of
from .._core.events import Event, WorkflowStarted, WorkflowTagged
from .._core.fold import fold
from .._core.limits import is_shared_prefix
from .._core.state_name import ACTIVE, ExecutionState
from .._core.value import Value
from .._engine.code_location import is_script
from .._engine.hints import advise, execute_call, resume_call
from .._engine.leases import leases_of
from .._engine.origin import origin
from .._host.caller import in_cells
from .._store.base import ExecutionRow, Store
from .._text.text import cut
from ..errors import ResumeError
from .definition import Definition

__all__ = ["RESUMABLE", "check_id", "find_execution", "id_in_workflow", "new_id", "warn_of_unfinished"]

messages = logging.getLogger("cerebelum_nb")

_PAGE = 20
_MOST_SEARCHED = 1000
"""How many unfinished executions are searched for one of this notebook."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_BY_BYTE = _ALPHABET.encode() * 8
"""For each byte, the character of its last five bits."""
RESUMABLE = (ExecutionState.FAILED, ExecutionState.PAUSED, *ACTIVE, ExecutionState.ROLLED_BACK, ExecutionState.QUEUED)
"""The states in which a resume without an id finds an execution."""


def find_execution(workflow: Definition, execution_id: ExecutionLike | None, log: Store) -> str:
    """Return the full id of an execution of this workflow; None means the newest that can be resumed.

    Raises:
        ResumeError: it belongs to another workflow, or there is nothing to resume.
        ExecutionNotFoundError: there is no such execution.
    """
    if execution_id is None:
        return _newest(workflow, log)
    return id_in_workflow(workflow, execution_id, log, "resume")


def id_in_workflow(workflow: Definition, execution_id: ExecutionLike, log: Store, verb: str) -> str:
    """Return the full id of an execution of this workflow; ``verb`` says in messages what it is for.

    Raises:
        ResumeError: it belongs to another workflow.
        ExecutionNotFoundError: there is no such execution.
    """
    row = log.execution(check_id(id_of(execution_id)))
    if row.summary.workflow != workflow.name:
        raise ResumeError(
            f"execution {row.execution_id} belongs to workflow '{row.summary.workflow}', not to '{workflow.name}': "
            f"{verb} it there"
        )
    return row.execution_id


def _newest(workflow: Definition, log: Store) -> str:
    """Return the id of the newest execution that can be resumed; the paused prefix of a sweep does not count."""
    here, newest = origin(), None
    for row in islice(_resumable(workflow, log), _MOST_SEARCHED):
        started_from = _origin_of(row, log)
        if not here or not started_from or started_from == here:
            return row.execution_id
        newest = newest or (row.execution_id, started_from)
    if newest is not None:
        return _accept_other_origin(workflow, *newest)
    done, total = log.executions(workflow=workflow.name, limit=1)
    last = ""
    if done:
        is_now = "the shared prefix of a sweep" if _is_prefix(done[0], log) else done[0].summary.state
        last = f": the last of its {total} executions, {done[0].execution_id}, is {is_now}"
    raise ResumeError(
        f"workflow '{workflow.name}' has nothing to resume{last}. "
        f"Start a new one with {execute_call(workflow.variable)}"
    )


def _resumable(workflow: Definition, log: Store) -> Iterator[ExecutionRow]:
    leases = leases_of(log)
    seen, total = 0, 1
    while seen < total:
        rows, total = log.executions(workflow=workflow.name, states=RESUMABLE, limit=_PAGE, offset=seen, exact=False)
        for row in rows:
            if leases.running(row.execution_id) is None and not _is_prefix(row, log):
                yield row
        seen += _PAGE


def _origin_of(row: ExecutionRow, log: Store) -> str:
    """Return the notebook or script that started an execution; "" if the log does not say."""
    for event in log.events(row.execution_id, upto=2):  # the first event of a fork is not the start
        if isinstance(event, WorkflowStarted):
            is_own = event.module == "__main__" and is_script(event.source)
            return event.origin or (str(Path(event.source).resolve()) if is_own else "")
    return ""


def _accept_other_origin(workflow: Definition, execution_id: str, started_from: str) -> str:
    """Return an execution that another notebook or script has started, if its workflow is surely the same.

    Two scripts may each define a workflow 'report': resumed with the code of the other one, an execution would complete
    as something it never was.

    Raises:
        ResumeError: the workflow may be another one.
    """
    if workflow.fn.__module__ == "__main__" and Path(started_from).exists():
        raise ResumeError(
            f"workflow '{workflow.name}' has nothing to resume that was started here. The newest that can be resumed, "
            f"execution {execution_id}, was started from {started_from}, which has its own workflow of that name. To "
            f"resume it with the code of this one, give its id: {resume_call(workflow.variable, execution_id)}"
        )
    messages.warning("resuming execution %s, which was started from %s", execution_id, started_from)
    return execution_id


def _is_prefix(row: ExecutionRow, log: Store) -> bool:
    if row.summary.state is not ExecutionState.PAUSED:
        return False
    last: list[Event] = []
    version = row.version
    while version and (not last or isinstance(last[0], WorkflowTagged)):
        last, version = log.events(row.execution_id, after=version - 1, upto=version), version - 1
    return any(map(is_shared_prefix, last))


_searched: set[tuple[str, str]] = set()
"""The logs and workflows whose unfinished executions were searched, which is done once per process: it may be slow."""


def warn_of_unfinished(workflow: Definition, log: Store, inputs: Value) -> None:
    """Warn, when a notebook is run again from its top, that an earlier execution with these inputs can be resumed."""
    if not in_cells() or (log.location, workflow.name) in _searched:
        return
    _searched.add((log.location, workflow.name))
    here = origin()
    for row in islice(_resumable(workflow, log), _PAGE):
        is_alive = row.holder is not None and log.lease_left(row.holder)
        if is_alive or (here and _origin_of(row, log) not in ("", here)):
            continue
        state = fold(log.events(row.execution_id))
        advice = advise(state, row.execution_id, variable=workflow.variable, interrupted=not state.lifecycle.is_final)
        if state.inputs == inputs and advice is not None:
            how = f"failed at '{state.failed_step}'" if state.failed_step else "is unfinished"
            messages.warning(
                "this starts a new execution of '%s'; %s had the same inputs and %s. To resume that one: %s",
                *(workflow.name, row.execution_id, how, advice.call),
            )
            return


def check_id(execution_id: Any, of: str = "an execution") -> str:
    """Return an id.

    Raises:
        TypeError: it is not text.
        ValueError: it begins with '-', is not printable, or is longer than 200 characters.
    """
    if not isinstance(execution_id, str) or not execution_id.strip():
        raise TypeError(f"{of} id must be text, such as 'k3v9x2ma4t', not {execution_id!r}")
    if execution_id.startswith("-"):
        raise ValueError(f"{of} id must not begin with '-', like an option: {execution_id!r}")
    if not execution_id.isprintable() or len(execution_id) > 200:
        raise ValueError(f"{of} id must have at most 200 characters, all printable: {cut(repr(execution_id), 80)}")
    return execution_id


def new_id(seed: str | None = None) -> str:
    """Make an id that is short, easy to read aloud, and starts with a letter; the same for the same seed.

    Example:
        >>> new_id("of this seed")
        'khj92fbkth'
    """
    drawn = os.urandom(10) if seed is None else hashlib.sha256(seed.encode()).digest()[:10]
    letters = _ALPHABET[10:]
    return letters[drawn[0] % len(letters)] + drawn[1:].translate(_BY_BYTE).decode()
