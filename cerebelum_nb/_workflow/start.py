"""Prepare an execution: make the events that a start, a resume or a wake-up records first. Nothing runs here.

Each takes the workflow as it is now, claims the execution, and returns a :class:`.run.Run` that has not begun. Errors
are raised before anything is written.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import field
from typing import Any, NamedTuple

from .._core.arguments import ExecutionLike
from .._core.events import (
    CancelRequested,
    Event,
    WorkflowAdmitted,
    WorkflowAwakened,
    WorkflowResumed,
    WorkflowStarted,
)
from .._core.graph import Plan
from .._core.labels import NO_LABELS, Labels, check_tags
from .._core.portions import MOST, Portions
from .._core.record import frozen
from .._core.resume import decide_resume
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.value import Value
from .._engine.cache import check_refresh
from .._engine.execution import Execution
from .._engine.hints import in_terminal
from .._engine.inputs import Inputs, check_inputs, keep_inputs, merge_inputs
from .._engine.leases import leases_of
from .._engine.load_guard import stop_when_loading
from .._engine.loop import engine_of
from .._engine.manual_result import manual_result
from .._engine.origin import file_of, origin, resolved
from .._engine.plan_payloads import blueprint_of, keep_parts, laying_out
from .._engine.queue import slot_after
from .._engine.remembered import read_ahead
from .._engine.scope import Scope, current_scope
from .._engine.staleness import only_relists, why_stale
from .._engine.values import ExecutionValues
from .._operations.context import Context
from .._store.base import Store
from .._store.connect import resolve_store
from .._values import Redactor, encode
from ..errors import CerebelumError, ExecutionNotFoundError
from .concurrency import SCHEDULE_SLOT, refuse_if_busy, refuse_if_caller_has, slot_of
from .definition import Definition
from .execution_id import check_id, find_execution, new_id, warn_of_unfinished
from .run import Run

__all__ = [
    "Caller",
    "Resuming",
    "calling_step",
    "ended",
    "launch",
    "prepare_resume",
    "reading",
    "refuse_in_step",
    "replaced_inputs",
    "resume_events",
    "start_event",
    "wait_until_seen",
    "wake",
]

messages = logging.getLogger("cerebelum_nb")


class Caller(NamedTuple):
    """The caller of a child: the execution, its step, and how many callers the child has above it."""

    execution_id: str
    step: str
    depth: int


class StartOptions(NamedTuple):
    """Options of a start: name and tags, and the steps that take no cached result.

    ``redactor`` knows the secrets, which may be in neither name nor tags.
    """

    labels: Labels
    redactor: Redactor | None
    refresh: tuple[str, ...]


def launch(
    workflow: Definition,
    inputs: Inputs | None,
    store: Store | None,
    execution_id: str | None,
    plan: Plan | None = None,
    *,
    wait: bool = False,
    caller: Caller | None = None,
    labels: Labels = NO_LABELS,
    refresh: Any = (),
) -> Run:
    """Prepare a new execution; the other arguments are those of :meth:`~cerebelum_nb.Workflow.execute`.

    ``plan`` is the workflow's plan if it was just read. ``caller`` is the caller of a child; ``labels`` has the name,
    and the tags besides those of the workflow.
    """
    refuse_in_step(workflow)
    plan = plan or workflow.plan()
    refreshed = check_refresh(plan, refresh) if refresh else ()
    log = resolve_store(store)
    redactor = Redactor(log.redact)
    given = check_inputs(inputs, plan.shape)
    value = encode(given, redactor=redactor, path="inputs")
    made_id = new_id() if execution_id is None else check_id(execution_id)
    slot = slot_of(plan, given)
    if caller is not None:
        refuse_if_caller_has(plan, log, slot, caller.execution_id)
    refuse_if_busy(plan, log, made_id, slot)
    with engine_of(log).create(made_id, plan, redactor, Context, is_new=execution_id is None) as execution:
        execution.stays = wait
        keep_inputs(execution, given, value)
        blueprint = blueprint_of(plan, redactor)
        options = StartOptions(labels, redactor, refreshed)
        event = start_event(workflow, plan, value, execution.clock.now(), blueprint.digest, caller, slot, options)
        if caller is None:
            warn_of_unfinished(workflow, log, value)
        execution.payloads = keep_parts(plan, log, redactor, blueprint)
        return Run(execution, workflow.variable, event)


def start_event(
    workflow: Definition,
    plan: Plan,
    inputs: Value,
    now: int,
    blueprint: str,
    caller: Caller | None = None,
    slot: str = "",
    options: StartOptions | None = None,
) -> WorkflowStarted:
    """Make the event that starts an execution.

    Args:
        workflow: the workflow.
        plan: its plan as it is now.
        inputs: the encoded inputs.
        now: the time, µs since the epoch.
        blueprint: the digest of the plan's blueprint.
        caller: the caller of a child.
        slot: its slot, which only one execution may have at a time.
        options: name, tags and refreshed steps.
    """
    by = caller or Caller("", "", 0)
    labels, redactor, refresh = options or StartOptions(NO_LABELS, None, ())
    name, tags = labels.name, workflow.tags
    if labels.tags:
        tags = check_tags({*tags, *labels.tags})
    if redactor is not None:
        name = redactor.mask(name)
        if any(redactor.mask(tag) != tag for tag in tags):
            raise ValueError("a tag contains the text of a secret, and tags are stored unmasked: choose another tag")
    fn = workflow.fn
    code = inspect.unwrap(fn)
    loaded = _loaded_from(code.__globals__)
    return WorkflowStarted(
        at=now,
        workflow=workflow.name,
        inputs=inputs,
        total_steps=sum(map(len, plan.timeline)),
        module=fn.__module__,
        qualname=fn.__qualname__,
        source=loaded if loaded.endswith(".ipynb") else file_of(code.__code__.co_filename),
        origin=loaded or ("" if in_terminal.get() else origin()),  # a command starts what it loads
        name=name,
        tags=tags,
        refresh=refresh,
        plan=blueprint,
        caller=by.execution_id,
        caller_step=by.step,
        depth=by.depth,
        slot=slot,
    )


def ended(workflow: Definition, execution_id: str, log: Store, state: State, plan: Plan | None = None) -> Run:
    """Make the handle of an execution that has ended; its outcome is the recorded one."""
    execution = Execution(
        engine_of(log), execution_id, plan or workflow.plan(), state, 0, Redactor(log.redact), Context
    )
    execution.over = True
    execution.done.set_result(None)
    return Run(execution, workflow.variable)


def _loaded_from(space: dict[str, Any]) -> str:
    """Return the script or notebook that was loaded for its definitions; "" for one that runs, and for a module."""
    file = space.get("__file__")
    if not file or space.get("__name__") != "__main__" or space is vars(sys.modules["__main__"]):
        return ""
    return resolved(file)


def prepare_resume(
    workflow: Definition,
    execution_id: ExecutionLike | None,
    plan: Plan | None = None,
    *,
    skip_completed_steps: bool = True,
    inputs: Inputs | None = None,
    rerun: str | Collection[str] = (),
    repeat: Collection[str] = (),
    mark_done: Mapping[str, Any] | None = None,
    wait: bool = False,
    live: Collection[str] = (),
    store: Store | None = None,
) -> Run:
    """Prepare to resume a recorded execution; the arguments are those of :meth:`~cerebelum_nb.Workflow.resume`.

    ``plan`` is the workflow's plan if it was just read. ``live`` has the completed steps whose value cannot be stored
    and is still in the caller's memory.
    """
    refuse_in_step(workflow)
    plan = plan or workflow.plan()
    log = resolve_store(store)
    found = find_execution(workflow, execution_id, log)
    with engine_of(log).claim(found, plan, Redactor(log.redact), Context) as execution:
        execution.stays = wait
        given = Resuming(skip_completed_steps, inputs, rerun, repeat, mark_done or {}, live)
        blueprint = blueprint_of(plan, execution.redactor)
        events, stale = resume_events(execution, given, execution.now(), blueprint.digest)
        if execution.state.lifecycle is not ExecutionState.RUNNING:
            refuse_if_busy(plan, log, found, slot_after(events, execution.state))
        execution.payloads = keep_parts(plan, log, execution.redactor, blueprint)
        return Run(execution, workflow.variable, *events, stale=stale)


@frozen
class Resuming:
    """How to resume an execution: the arguments of :meth:`~cerebelum_nb.Workflow.resume`."""

    skip_completed_steps: bool = True
    inputs: Inputs | None = None
    rerun: str | Collection[str] = ()
    repeat: Collection[str] = ()
    mark_done: Mapping[str, Any] = field(default_factory=dict)
    live: Collection[str] = ()


def resume_events(
    execution: ExecutionValues, given: Resuming, now: int, blueprint: str
) -> tuple[list[Event], tuple[str, ...]]:
    """Make the events that a resume begins with.

    Args:
        execution: what is recorded, and the current plan.
        given: the arguments of the resume.
        now: the time, µs since the epoch; never before the last event.
        blueprint: the digest of the plan's blueprint.

    Returns:
        The events, and the steps whose results are kept although they are stale.

    Raises:
        ResumeError: it cannot be resumed as asked.
    """
    state, plan = execution.state, execution.plan
    merged, value = merged_inputs(execution, given.inputs)
    slot = slot_of(plan, merged) or (state.slot if state.slot.startswith(SCHEDULE_SLOT) else "")
    chosen = decide_resume(
        plan,
        state,
        execution.id,
        skip_completed_steps=given.skip_completed_steps,
        rerun=given.rerun,
        live={*execution.live, *given.live},
        outdated=why_stale(plan, state, execution.store, execution.redactor, value),
        repeat=given.repeat,
        mark_done=tuple(given.mark_done),
        relisted=only_relists(plan, state, value or state.inputs),
    )
    marks = [
        manual_result(execution, now, state, name, result, f"mark_done[{name!r}]")
        for name, result in given.mark_done.items()
    ]
    events: list[Event] = []
    if state.hibernated:
        events.append(WorkflowAwakened(at=now, reason="resumed by hand"))
    event = WorkflowResumed(
        at=now,
        plan="" if blueprint == state.plan else blueprint,
        retried=chosen.retried,
        revisited=chosen.revisited,
        rerouted=chosen.rerouted,
        restored=chosen.restored,
        relisted=chosen.relisted,
        inputs=value,
        total_steps=sum(map(len, plan.timeline)),
        slot=None if slot == state.slot else slot,
    )
    if not state.hibernated or not chosen.is_nothing or value is not None or event.slot is not None:
        events.append(event)
    return [*events, *marks], chosen.stale


def reading(workflow: Definition, store: Store | None) -> Portions[Plan]:
    """Read the plan of a workflow in portions, and lay out what the log keeps of it, which a start then finds."""
    plan = yield from workflow._planning()
    if len(plan.steps) > MOST and not resolve_store(store).redact:  # to ask the log costs a small plan a statement
        yield from laying_out(plan, Redactor())
    return plan


async def wait_until_seen(workflow: Definition, execution_id: ExecutionLike | None, store: Store | None) -> str:
    """Return the full id of an execution to resume, once it is known whether its holder is alive, and read it ahead.

    A holder on another machine is watched for the length of its lease; the claim that follows decides whether the
    execution may be taken over.
    """
    refuse_in_step(workflow)
    log = resolve_store(store)
    found = find_execution(workflow, execution_id, log)
    await leases_of(log).wait_until_seen(found)
    await read_ahead(log, found)
    return found


def wake(workflow: Definition, execution_id: str, store: Store, reason: str, *, died: bool) -> Run | None:
    """Prepare an execution that is due or was left by a dead process, for :meth:`~cerebelum_nb.Workflow.wake`.

    The holder is not watched here: the scheduler, which calls this, has watched it.
    """
    plan = workflow.plan()
    engine = engine_of(store)
    with engine.claim(execution_id, plan, Redactor(store.redact), Context) as execution:
        state = execution.state
        if state.lifecycle is ExecutionState.QUEUED:
            return Run(execution, workflow.variable, WorkflowAdmitted(at=execution.now()))
        due = state.hibernated and state.wake_at is not None and state.wake_at <= execution.clock.now()
        if state.lifecycle is not ExecutionState.RUNNING or (state.hibernated and not due):
            engine.give_back(execution)
            return None
        chosen = decide_resume(plan, state, execution_id)
        replaced_inputs(execution, None)
        events: list[Event] = [WorkflowAwakened(at=execution.now(), reason=reason, died=died)]
        if state.caller and _is_cancelled(store, state.caller):  # its process died before it could cancel this one
            why = f"its caller {state.caller} was cancelled"
            return Run(execution, workflow.variable, *events, CancelRequested(at=execution.now(), reason=why))
        if chosen.restored:
            events.append(WorkflowResumed(at=execution.now(), restored=chosen.restored))
        return Run(execution, workflow.variable, *events)


def _is_cancelled(store: Store, execution_id: str) -> bool:
    with suppress(ExecutionNotFoundError):
        return store.execution(execution_id).summary.state is ExecutionState.CANCELLED
    return False


def replaced_inputs(execution: ExecutionValues, inputs: Inputs | None) -> Value | None:
    """Merge new inputs into the recorded ones; return the result if it differs."""
    return merged_inputs(execution, inputs)[1]


def merged_inputs(execution: ExecutionValues, inputs: Inputs | None) -> tuple[dict[str, Any], Value | None]:
    """Merge new inputs into the recorded ones; return the result, and its encoded value if it differs."""
    store, recorded = execution.store, execution.state.inputs
    merged, value = merge_inputs(store, execution.redactor, execution.id, recorded, inputs, shape=execution.plan.shape)
    keep_inputs(execution, merged, value)
    return merged, value if inputs is not None and value != recorded else None


def calling_step() -> Scope | None:
    """Return the calling step, if any; a process that was forked in a step is not in the step."""
    stop_when_loading()
    scope = current_scope.get()
    return scope if scope is not None and scope.is_here() else None


def refuse_in_step(workflow: Definition, verb: str = "") -> None:
    """Raise CerebelumError inside a step; ``verb`` is the called method, if it is known."""
    if (scope := calling_step()) is not None:
        variable = workflow.variable
        called = f"calls {variable}.{verb}(...)" if verb else f"starts, resumes or changes workflow '{variable}'"
        raise CerebelumError(
            f"step '{scope.step}' {called} inside a step, where nothing would wait for it. To run it as a child of "
            f"this execution write await {variable}.execute({{...}}), or {variable}.run({{...}}) in a plain def step"
        )
