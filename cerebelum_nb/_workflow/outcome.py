"""Make the outcome of a run: its result, or the error to raise, which says what is kept and how to resume."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from .._core.describe_steps import describe_rollback
from .._core.events import Event, RollbackStarted
from .._core.graph import undone_by
from .._core.state import State
from .._core.state_name import ExecutionState
from .._engine.crash import Crashed
from .._engine.hints import advise_on, execute_call, rerun_stale, resume_call
from .._engine.ports import ExecutionView
from .._engine.user_errors import error_info, without_secrets
from .._host.caller import is_library_frame
from ..errors import (
    CerebelumError,
    ExecutionBusyError,
    ExecutionCancelledError,
    ExecutionStoppedError,
    StoreError,
    WorkflowError,
)
from .result import Result

__all__ = ["cause_of", "is_rollback", "outcome_of", "result_of", "warn_of_stale"]

log = logging.getLogger("cerebelum_nb")


def result_of(execution: ExecutionView) -> Result:
    """Return the result of an execution as it is now."""
    hint, advice = "", None
    if not execution.state.status.is_final:
        hint = execution.handle(None) if execution.handle else resume_call(execution.variable, execution.id)
        advice = advise_on(execution)
    return Result.of(
        execution.id,
        execution.state,
        execution.result_of,
        lambda: execution.store.events(execution.id),
        resume_hint=hint,
        advice=advice,
    )


def outcome_of(execution: ExecutionView, *, undoes: bool) -> Result:
    """Return the result of a run that is over, or raise its error.

    Args:
        execution: the execution.
        undoes: whether the run was a rollback, for which ROLLED_BACK is success.
    """
    __tracebackhide__ = True
    state = execution.state
    error = execution.done.exception() if execution.done.done() else None
    where = f"execution {execution.id} of workflow '{state.workflow}'"
    steps = "step is" if state.total_steps == 1 else "steps are"
    unrecorded = execution.unrecorded
    kept = f"{len(state.finished) - len(unrecorded)} of {state.total_steps} {steps} finished and kept"
    if error is not None:
        raise _ended_by(execution, error, where, kept, unrecorded)
    match state.lifecycle:
        case ExecutionState.FAILED:
            raise _failure(execution, where, describe_rollback(state) or kept) from cause_of(execution)
        case ExecutionState.ROLLED_BACK if not undoes:
            raise _failure(execution, where, f"It is rolled back: {describe_rollback(state)}") from cause_of(execution)
        case ExecutionState.PAUSED:
            advice = advise_on(execution)
            assert advice is not None  # a paused execution always has one
            raise ExecutionStoppedError(
                f"{where} is paused: {state.reason}. {kept}. {advice}",
                execution_id=execution.id,
                resume_hint=advice.call,
            )
        case ExecutionState.CANCELLED:
            because = f": {state.reason}" if state.reason else ""
            raise ExecutionCancelledError(
                f"{where} was cancelled{because}. {kept}; start a new one with {execute_call(execution.variable)}",
                execution_id=execution.id,
            )
        case _:
            return result_of(execution)


def cause_of(execution: ExecutionView) -> BaseException | None:
    """Return the exception with which a step failed the execution in this process, from the first frame of the user."""
    if execution.cause is None:
        return None
    error = without_secrets(execution.cause, execution.redactor)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and is_library_frame(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return BaseException.with_traceback(error, trace)  # the user's class may override it with a method that raises


def is_rollback(state: State, events: Iterable[Event]) -> bool:
    """Whether a run that begins with these events is a rollback."""
    return state.is_rolling_back or any(isinstance(event, RollbackStarted) for event in events)


def warn_of_stale(execution: ExecutionView, stale: Sequence[str]) -> None:
    """Warn of the results that a resume keeps although their code or inputs have changed."""
    if stale:
        log.warning(
            "kept the results of %s, although their code or inputs have changed; to run them again: %s",
            ", ".join(stale),
            rerun_stale(resume_call(execution.variable, execution.id), execution.store, execution.id),
        )


def _ended_by(
    execution: ExecutionView, error: BaseException, where: str, kept: str, unrecorded: Sequence[str]
) -> BaseException:
    """Make the error for a run that could not record its end: what ended it, and how to resume."""
    if not isinstance(error, Exception) or isinstance(error, (ExecutionBusyError, Crashed)):
        return error
    lost = ""
    if unrecorded:
        names = ", ".join(f"'{name}'" for name in unrecorded)
        lost = f" {names} finished too, but could not be recorded: a resume runs {names} again."
    advice = advise_on(execution, what="To resume it:")
    assert advice is not None  # it can be resumed
    message = f"{where} ended: {_sentence(error)}\n{kept}.{lost} {advice}"
    ended: CerebelumError
    if isinstance(error, StoreError):
        ended = StoreError(message, transient=error.transient)
    else:
        ended = WorkflowError(message, execution_id=execution.id, resume_hint=advice.call)
    ended.__cause__ = error
    return ended


def _failure(execution: ExecutionView, where: str, kept: str) -> WorkflowError:
    state = execution.state
    assert state.error is not None
    step = state.failed_step
    advice = advise_on(execution)
    assert advice is not None  # a failed execution always has one
    what = f"step '{step}' of {where} failed" if step else f"{where} failed"
    if step and undone_by(step):
        what = f"undoing step '{undone_by(step)}' of {where} failed"
    message = (
        state.error.message
        if state.error.type in ("flow.fail", "flow.retry", "JumpLimit")
        else f"{state.error.type}: {state.error.message}"
    )
    failure = WorkflowError(
        f"{what}: {message}\n{kept}. {advice}",
        execution_id=execution.id,
        failed_step=step,
        resume_hint=advice.call,
    )
    failure.details = "" if execution.traceback_shown else state.error.traceback
    return failure


def _sentence(error: BaseException) -> str:
    """Return the text of an error, after its class unless it is one of ours."""
    info = error_info(error)  # str(error) of a user's class may raise, which would hide the outcome
    return info.message if isinstance(error, CerebelumError) else f"{info.type}: {info.message}"
