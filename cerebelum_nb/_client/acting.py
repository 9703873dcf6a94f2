"""Resume an execution for the client, and wait from sync code. The engine does the work."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from .._engine.leases import leases_of
from .._engine.load_guard import stop_when_loading
from .._engine.threads import block_on
from .._store.base import Store
from .._store.holder import CLUSTER
from .._workflow.find import find_workflow, origin_of
from ..errors import CerebelumError, ExecutionBusyError, ExecutionNotFoundError, StoreError

__all__ = ["ResumeOutcome", "resume_execution", "run_sync"]

T = TypeVar("T")

_POLL_SECONDS = 0.05

_in_background: set[asyncio.Task[Any]] = set()
"""The runs that this process has resumed: an event loop does not keep its tasks alive."""


class ResumeOutcome(str):
    """``"resumed"``, ``"already_running"`` or ``"failed_to_resume"``.

    Attributes:
        reason: why it was not resumed, and what to do; empty if it was.
    """

    reason: str

    def __new__(cls, word: str, reason: str = "") -> Self:
        """Make an outcome from its word."""
        made = super().__new__(cls, word)
        made.reason = reason
        return made

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]  # str's takes the text alone
        return str(self), self.reason


async def resume_execution(store: Store, execution_id: str, *, skip_completed_steps: bool) -> ResumeOutcome:
    """Resume an execution in this process; return when the resume is recorded or refused."""
    row = store.execution(execution_id)
    execution_id = row.execution_id
    leases = leases_of(store)
    if leases.running(execution_id) is not None:
        return ResumeOutcome("already_running", f"execution {execution_id} is running in this process")
    try:
        workflow = find_workflow(origin_of(store, execution_id), execution_id, may_run=store.may_run(execution_id))
    except (ExecutionNotFoundError, StoreError):
        raise
    except CerebelumError as error:
        return ResumeOutcome("failed_to_resume", str(error))
    on_cluster = store.location.startswith(CLUSTER)
    where: dict[str, Any] = {"core_url": store.location} if on_cluster else {"store": store}
    run = asyncio.ensure_future(workflow.resume(execution_id, skip_completed_steps, **where))
    _in_background.add(run)
    run.add_done_callback(_discard)
    while on_cluster and not run.done():
        if (await asyncio.to_thread(store.execution, execution_id)).version > row.version:
            return ResumeOutcome("resumed")
        await asyncio.sleep(_POLL_SECONDS)
    while not run.done():
        if leases.running(execution_id) is not None and store.execution(execution_id).version > row.version:
            return ResumeOutcome("resumed")
        await asyncio.sleep(0.001)
    return _outcome(run, store.execution(execution_id).version > row.version)


def run_sync(work: Coroutine[Any, Any, T]) -> T:
    """Wait for a coroutine from sync code, even where a loop is running, and for the runs that it resumed."""
    try:
        stop_when_loading()
    except BaseException:
        work.close()
        raise
    try:
        return block_on(
            lambda: _wait_for_runs(work),
            what="this call",
            instead="Write await: await client.list_executions()",
            thread="cerebelum-client",
        )
    except CerebelumError:
        work.close()
        raise


async def _wait_for_runs(work: Coroutine[Any, Any, T]) -> T:
    result = await work
    here = asyncio.get_running_loop()
    runs = [run for run in _in_background if run.get_loop() is here]
    if runs:
        await asyncio.wait(runs)
    return result


def _outcome(run: asyncio.Future[Any], moved: bool) -> ResumeOutcome:
    """Turn the end of a run that has already ended into a word; the log has the details."""
    error = run.exception()
    if isinstance(error, StoreError):
        raise error
    if isinstance(error, ExecutionBusyError):
        return ResumeOutcome("already_running", str(error))
    if error is None or moved:
        return ResumeOutcome("resumed")
    return ResumeOutcome("failed_to_resume", str(error))


def _discard(run: asyncio.Task[Any]) -> None:
    _in_background.discard(run)
    if not run.cancelled():
        run.exception()  # marks it as retrieved: the log has the error
