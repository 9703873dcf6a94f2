"""``here()``: inspect the step that failed."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, MutableMapping
from types import FrameType, TracebackType
from typing import Any

from .._core.fold import fold
from .._core.graph import StepSpec
from .._core.state import State
from .._core.state_name import ExecutionState
from .._dsl.step import Step
from .._engine import resume_points
from .._host.caller import is_library_frame
from .._store.base import Store
from .._store.connect import resolve_store
from .._values import Redactor, Secret, decode
from .._values.gather_secrets import gather
from .._workflow.decorator import registered
from .._workflow.workflow import Workflow
from ..errors import CerebelumError, WorkflowError

__all__ = ["Here", "here"]


class Here:
    """The failing step's arguments and local variables, each an attribute.

    Attributes:
        names: all names, with their values.
        step: the step that failed.
        error: what it raised; None if it is only in the log.
    """

    def __init__(
        self, step: str, names: Mapping[str, Any], error: BaseException | None, source: str, message: str = ""
    ) -> None:
        self.__dict__.update(names)
        self.__dict__["_here"] = (step, dict(names), error, source, message)

    @property
    def step(self) -> str:
        """The step that failed."""
        return str(self.__dict__["_here"][0])

    @property
    def names(self) -> dict[str, Any]:
        """All names, with their values."""
        return dict(self.__dict__["_here"][1])

    @property
    def error(self) -> BaseException | None:
        """What it raised; None if it is only in the log."""
        error: BaseException | None = self.__dict__["_here"][2]
        return error

    def __getattr__(self, name: str) -> Any:
        step, names, _, source, _ = self.__dict__["_here"]
        raise AttributeError(f"step '{step}' has no {source} {name!r}; available: {', '.join(names) or 'none'}")

    def __dir__(self) -> list[str]:
        return [*self.names, "names", "step", "error"]

    def __repr__(self) -> str:
        step, names, _, source, message = self.__dict__["_here"]
        head = f"<here: in step '{step}'" + (f", {message}" if message else "")
        return "\n".join([f"{head}; its {source}s>", *(f"  {name} = {_short(value)}" for name, value in names.items())])


def here(
    failure: WorkflowError | str | None = None,
    *,
    into: MutableMapping[str, Any] | None = None,
    store: Store | None = None,
) -> Here:
    """Show the arguments and local variables of the step that failed.

    Right after a failure they come from the live exception. Otherwise, for example in a new kernel, they come from the
    log: the variables at the statement that raised, if the step continues there, else its arguments.

    Args:
        failure: the error of a run, or the id of an execution; by default the last failure.
        into: where to copy the names: ``here(into=globals())`` puts them into the notebook, except over steps and
            workflows. A variable that contains a secret is a `Secret`.
        store: the log; by default the session's.

    Raises:
        CerebelumError: nothing has failed.

    Example:
        >>> here("nowhere")
        Traceback (most recent call last):
        ...
        cerebelum_nb.errors.ExecutionNotFoundError: There is no execution 'nowhere' in this log. ...
    """
    error = _last_error() if failure is None else failure
    if isinstance(error, WorkflowError) and error.failed_step and error.__cause__ is not None:
        frame = _frame_of(error.__cause__)
        if frame is not None:
            names, redactor = _locals_without_secrets(frame)
            message = redactor.mask(f"{type(error.__cause__).__name__}: {error.__cause__}")
            return _copy_into(Here(error.failed_step, names, error.__cause__, "variable", message), into)
    log = resolve_store(store)
    if isinstance(error, WorkflowError):
        error = error.execution_id
    if error is not None and not isinstance(error, str):
        raise TypeError(f"here() takes the error of a run or the id of an execution, not {error!r}")
    return _copy_into(_recorded(log, error), into)


def _copy_into(found: Here, into: MutableMapping[str, Any] | None) -> Here:
    """Copy the names, but not over steps and workflows, which the notebook would lose."""
    if into is not None:
        into.update({n: v for n, v in found.names.items() if not isinstance(into.get(n), (Step, Workflow))})
    return found


def _locals_without_secrets(frame: FrameType) -> tuple[dict[str, Any], Redactor]:
    """Return the local variables; one that shows a secret becomes a `Secret`, as a notebook stores what it displays."""
    names = {name: value for name, value in frame.f_locals.items() if name[0] != "."}  # a twin's own begin with a dot
    redactor = Redactor()
    secrets = {name: value for name, value in frame.f_globals.items() if isinstance(value, Secret)}
    gather([names, secrets], redactor, set(), 0)
    if not redactor:
        return names, redactor
    return {name: Secret(value) if _reveals(value, redactor) else value for name, value in names.items()}, redactor


def _reveals(value: object, redactor: Redactor) -> bool:
    if isinstance(value, Secret):
        return False
    if isinstance(value, bytes):
        return redactor.reveals(value)
    text = value if isinstance(value, str) else repr(value)
    return redactor.mask(text) != text


def _last_error() -> WorkflowError | None:
    """Return the last error shown in this kernel, if it is the failure of a workflow."""
    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return error if isinstance(error, WorkflowError) else None


def _frame_of(error: BaseException) -> FrameType | None:
    """Return the frame of the step: the outermost frame of the user's code."""
    return next((t.tb_frame for t in _traces(error.__traceback__) if not _is_ours(t)), None)


def _traces(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _is_ours(trace: TracebackType) -> bool:
    return is_library_frame(trace.tb_frame.f_code.co_filename)


def _recorded(log: Store, execution_id: str | None) -> Here:
    if execution_id is None:
        rows, _ = log.executions(states=(ExecutionState.FAILED,), limit=1, exact=False)
        if not rows:
            raise CerebelumError("no execution of this log has failed: here() inspects a failed step")
        execution_id = rows[0].execution_id
    found = log.execution(execution_id).execution_id
    state = fold(log.events(found))
    if state.failed_step is None:
        raise CerebelumError(
            f"execution {found} is {state.status}, and none of its steps failed: there is nothing to inspect"
        )
    names = _arguments(log, found, state, state.failed_step)
    spec, checkpoints = _spec_of(state, state.failed_step), state.steps[state.failed_step].checkpoints
    if spec is None or not checkpoints or not checkpoints[-1].event.raised:
        return Here(state.failed_step, names, None, "argument")
    recorded = resume_points.variables_of(spec, checkpoints[-1].event, log)
    given = {name: value for name, value in names.items() if name in checkpoints[-1].event.given}
    return Here(state.failed_step, {**given, **recorded}, None, "variable")


def _spec_of(state: State, step: str) -> StepSpec | None:
    return next((w.plan().steps.get(step) for w in reversed(registered().values()) if w.name == state.workflow), None)


def _arguments(log: Store, execution_id: str, state: State, step: str) -> dict[str, Any]:
    """Return the arguments of the step; if the workflow is not defined here, all that could be arguments."""
    spec = _spec_of(state, step)
    wanted = [n for n in state.finished if spec is None or spec.takes_rest or n in (*spec.requires, *spec.optional)]
    arguments = {}
    for name in wanted:
        output = state.steps[name].output
        if output is not None and output.codec != "none":
            where = f"the result of step '{name}' of execution {execution_id}"
            arguments[name] = decode(output, log.payload, trusted=log.trusted, where=where)
    if state.inputs is not None and (spec is None or spec.takes_inputs or spec.takes_context):
        arguments["inputs"] = decode(state.inputs, log.payload, trusted=log.trusted, where="the inputs")
    return arguments


def _short(value: object) -> str:
    text = repr(value).splitlines()
    first = text[0] if text else ""
    return first if len(text) < 2 and len(first) <= 100 else f"{first[:99]}…"
