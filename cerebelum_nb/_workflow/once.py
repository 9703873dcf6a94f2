"""``execution_id=..., resume=True``: run an execution once, however often the call is made.

When a notebook or script runs again from its top, it asks for the same id with the same inputs. Then it gets the
recorded outcome, resumes the unfinished execution, or starts a new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from .._core.graph import Plan
from .._core.labels import NO_LABELS, Labels
from .._core.state_name import ExecutionState
from .._core.value import Value
from .._engine.hints import execute_call
from .._engine.inputs import Inputs, check_inputs
from .._engine.leases import leases_of, running_here
from .._engine.remembered import read_ahead, recorded
from .._store.base import Store
from .._store.connect import resolve_store
from .._text.text import cut
from .._values import Redactor, Secret, decode, encode
from ..errors import (
    CerebelumError,
    ExecutionNotFoundError,
    ResumeError,
    UntrustedValueError,
)
from .definition import Definition
from .execution_id import check_id, id_in_workflow
from .run import Run
from .start import ended, launch, prepare_resume, refuse_in_step

__all__ = ["Resume", "launch_once", "watch_holder"]

Resume = bool | Literal["replace_inputs"]
"""False starts a new execution; True resumes the execution with that id; the text also replaces its inputs."""

_MOST_SHOWN = 60


def launch_once(
    workflow: Definition,
    inputs: Inputs | None,
    store: Store | None,
    execution_id: str | None,
    plan: Plan | None = None,
    *,
    resume: Resume,
    wait: bool = False,
    labels: Labels = NO_LABELS,
    refresh: Any = (),
) -> Run:
    """Prepare the execution with an id: start it, resume it, or return it if it has ended.

    ``plan`` is the workflow's plan if it was just read; the others are those of
    :meth:`~cerebelum_nb.Workflow.execute`.

    Raises:
        ResumeError: the id belongs to another workflow, or its execution has other inputs.
        ExecutionBusyError: it is running, here or elsewhere.
    """
    if resume not in (True, False, "replace_inputs"):
        raise ValueError(f"resume must be True, False or 'replace_inputs', not {resume!r}")
    if not resume:
        return launch(workflow, inputs, store, execution_id, plan, wait=wait, labels=labels, refresh=refresh)
    refuse_in_step(workflow)
    if execution_id is None:
        raise CerebelumError(
            "resume=True resumes the execution with an id of your choice: give it, as in "
            'execution_id="2026-05-report"; without an id, resume() takes the newest'
        )
    log = resolve_store(store)
    if leases_of(log).running(check_id(execution_id)) is not None:  # perhaps not in the log yet
        raise running_here(execution_id)
    if not _is_known(log, execution_id):
        try:
            return launch(workflow, inputs, log, execution_id, plan, wait=wait, labels=labels, refresh=refresh)
        except ResumeError:
            if not _is_known(log, execution_id):
                raise  # otherwise another process has just started it
    id_in_workflow(workflow, execution_id, log, "resume")
    state = recorded(log, execution_id)
    has_ended = state.lifecycle in (ExecutionState.COMPLETED, ExecutionState.CANCELLED)
    if inputs is not None:
        differing = _differences(log, execution_id, state.inputs, check_inputs(inputs, workflow.shape))
        if differing and (has_ended or resume != "replace_inputs"):
            raise _different_inputs(workflow, execution_id, differing, has_ended=has_ended)
    if not has_ended:
        return prepare_resume(workflow, execution_id, plan, inputs=inputs, wait=wait, store=log)
    return ended(workflow, execution_id, log, state, plan)


async def watch_holder(execution_id: str | None, resume: Resume, store: Store | None) -> None:
    """Watch the holder of an execution until it is known whether it is alive, then read it ahead, as ``resume()``."""
    if resume and execution_id is not None and _is_known(log := resolve_store(store), check_id(execution_id)):
        await leases_of(log).wait_until_seen(execution_id)
        await read_ahead(log, execution_id)


def _is_known(log: Store, execution_id: str) -> bool:
    """Whether an execution has exactly this id, not only as a prefix."""
    try:
        return log.execution(execution_id).execution_id == execution_id
    except ExecutionNotFoundError:
        return False


def _differences(log: Store, execution_id: str, recorded: Value | None, given: dict[str, Any]) -> dict[str, str]:
    """Describe how each input differs from the recorded one; secrets, which are never in the log, are not compared."""
    redactor = Redactor(log.redact)
    value = encode(given, redactor=redactor, path="inputs")
    if recorded is None or (value.codec, value.json, value.digest) == (recorded.codec, recorded.json, recorded.digest):
        return {}
    missing = partial(Secret.missing, execution_id=execution_id)
    where = f"the inputs of execution {execution_id}"
    try:
        known: Mapping[str, Any] = decode(recorded, log.payload, trusted=log.trusted, where=where, missing=missing)
    except UntrustedValueError:
        return {"inputs": "are not the recorded ones"}
    found = {}
    for name in dict.fromkeys((*known, *given)):
        if name in recorded.masked:
            continue
        if name not in given:
            found[name] = f"was {_preview(known[name], redactor)} and is not given"
        elif name not in known:
            found[name] = f"is {_preview(given[name], redactor)} and was not given"
        elif _encoded(known[name], redactor) != _encoded(given[name], redactor):
            found[name] = f"was {_preview(known[name], redactor)} and is {_preview(given[name], redactor)}"
    return found


def _encoded(value: Any, redactor: Redactor) -> tuple[str, str, str]:
    encoded = encode({"": value}, redactor=redactor, path="inputs")
    return encoded.codec, encoded.json, encoded.digest


def _preview(value: Any, redactor: Redactor) -> str:
    return cut(encode(value, redactor=redactor, path="inputs").text.partition("\n")[0], _MOST_SHOWN)


def _different_inputs(
    workflow: Definition, execution_id: str, differing: Mapping[str, str], *, has_ended: bool
) -> ResumeError:
    listed = "\n".join(f"  - {name} {how}" for name, how in differing.items())
    replace = "" if has_ended else 'resume="replace_inputs" to resume with these inputs; '
    return ResumeError(
        f"execution {execution_id} of workflow '{workflow.name}' was started with other inputs:\n{listed}\n"
        f"Use another execution_id to start a new one; {replace}or leave out the inputs to "
        f"{'get its recorded result' if has_ended else 'keep the recorded ones'}: "
        f"{execute_call(workflow.variable, execution_id)}"
    )
