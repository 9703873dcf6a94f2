"""The loop of a scheduler: start scheduled executions, resume those that are due or left, sleep until the next wake-up.

While it sleeps, it checks twice a second whether another process has written to the log (a number then changes), and
once a second whether the processes that hold executions are alive. It keeps nothing in memory about executions that are
not running.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from .._core.fold import fold
from .._core.state_name import ExecutionState
from .._engine.children import notify_caller
from .._engine.clock import current_clock
from .._engine.leases import leases_of
from .._engine.orphans import pause_orphan
from .._engine.patience import short_try
from .._store.base import ExecutionRow, Store
from .._text.times import utc
from .._workflow.find import WorkflowFinder, origin_of
from .._workflow.result import Result
from .._workflow.run import Run
from .._workflow.workflow import Workflow
from ..errors import CerebelumError, ExecutionBusyError, OutcomeUnknownError, StoreError, WorkflowNotFoundError
from .places import Places
from .schedules import Schedules

__all__ = ["SchedulerLoop"]

log = logging.getLogger("cerebelum_nb.scheduler")

_CHECK_SECONDS = 0.5
_LEFT_SECONDS = 1.0
_PAGE = 100
_AT_ONCE = 100
_LONGEST_BACKOFF = 300.0
_KEPT = 10_000


class SchedulerLoop:
    """The loop of one scheduler over one log."""

    def __init__(
        self,
        store: Store,
        code: WorkflowFinder[Workflow],
        *,
        max_deaths: int = 5,
        trust_code: bool = False,
        tell: Callable[[str], object] | None = None,
    ) -> None:
        self.store, self.taken = store, 0
        self._code, self._max_deaths, self._trust_code = code, max_deaths, trust_code
        self._tell = log.info if tell is None else tell
        self._schedules = Schedules(store, code, self._say, trust_code=trust_code)
        self._places = Places(store)
        self._runs: dict[str, Run] = {}
        self._waiting: set[asyncio.Task[None]] = set()
        self._not_before: dict[str, int] = {}  # executions that cannot be resumed now, and until when
        self._said_once: set[str] = set()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._nudged = asyncio.Event()

    async def run(self) -> None:
        """Run until :meth:`stop`; then wait for running steps."""
        self._loop = asyncio.get_running_loop()
        leases = leases_of(self.store)
        leases.listeners.add(self.nudge)
        try:
            seen: int | None = None
            left_at = 0.0
            while not self._stopping:
                self._nudged.clear()
                next_at = 0
                try:
                    version, moment = self.store.data_version(), self._loop.time()
                    if moment - left_at >= _LEFT_SECONDS:
                        left_at = moment
                        self._resume_left()
                    schedule_at = self._schedules.start_due(self._now())
                    self._run_queued()
                    next_at = min(filter(None, (schedule_at, self._resume_due())), default=0)
                    seen = version
                except StoreError as error:
                    self._say(f"the log cannot be used at the moment: {error}", once=True)
                await self._sleep(next_at, seen, left_at)
            self._places.give_up()
            for run in list(self._runs.values()):
                run.drain()
            while self._waiting:
                await asyncio.wait(set(self._waiting))
        finally:
            leases.listeners.discard(self.nudge)

    def stop(self) -> None:
        """Resume nothing more; running steps finish."""
        self._stopping = True
        self._nudged.set()

    def nudge(self) -> None:
        """Check the log again soon; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._nudged.set)

    async def _sleep(self, next_at: int, seen: int | None, left_at: float) -> None:
        """Sleep until the next wake-up, a change in the log, or the next liveness check."""
        assert self._loop is not None
        while not self._stopping and not self._nudged.is_set():
            rest = _LEFT_SECONDS - (self._loop.time() - left_at)
            if next_at:
                rest = min(rest, (next_at - self._now()) / 1e6)
            if rest <= 0:
                return
            try:
                async with asyncio.timeout(min(rest, _CHECK_SECONDS)):
                    await self._nudged.wait()
            except TimeoutError:
                if self.store.data_version() != seen:
                    return

    # -- what is due ----------------------------------------------------------------------------------------

    def _resume_due(self) -> int:
        """Resume the executions that are due; return when the next one is, µs, or 0 if none is coming."""
        offset, now = 0, self._now()
        while len(self._runs) < _AT_ONCE:
            rows = self.store.due(now, limit=_PAGE, offset=offset)
            taken = sum(self._resume(row, died=False) for row in rows)
            if len(rows) < _PAGE:
                break
            offset += len(rows) - taken
        later = [at for at in self._not_before.values() if at > now]
        following = self.store.next_wake()
        if following is not None and following > now:
            later.append(following)
        return min(later, default=0)

    def _resume_left(self) -> None:
        if len(self._runs) >= _AT_ONCE:
            return
        for row in self.store.abandoned(limit=_PAGE):
            self._resume(row, died=True)
        for caller, child in self.store.answered(limit=_PAGE):  # its process died before it told the caller
            with short_try():
                notify_caller(self.store, child, caller, fold(self.store.events(child, upto=1)).caller_step)

    def _run_queued(self) -> None:
        """Run the queued executions that get their slot; one that cannot run here gives up its place."""
        now = self._now()
        for row in self._places.turns(now, lambda name: self._not_before.get(name, 0) <= now):
            if not self._resume(row, died=False) and row.execution_id in self._not_before:
                self._places.give_up(row.execution_id)

    def _resume(self, row: ExecutionRow, *, died: bool) -> bool:
        """Resume an execution, if possible; return whether it was."""
        execution_id, now = row.execution_id, self._now()
        if (
            self._not_before.get(execution_id, 0) > now
            or len(self._runs) >= _AT_ONCE
            or leases_of(self.store).running(execution_id) is not None
        ):
            return False
        self._not_before.pop(execution_id, None)
        try:
            workflow = self._code.find(
                origin_of(self.store, execution_id),
                execution_id,
                may_run=self._trust_code or self.store.may_run(execution_id),
            )
            if died and not self._may_try_again(row):
                return False
            run = workflow.wake(execution_id, store=self.store, reason=_why(died=died), died=died)
        except ExecutionBusyError:
            self._postpone(execution_id, _LEFT_SECONDS)
            return False
        except OutcomeUnknownError as error:
            self._pause(execution_id, str(error))
            return False
        except StoreError as error:  # if only this execution cannot be read, the next round skips it
            self._postpone(execution_id, _LEFT_SECONDS if error.transient else 10.0)
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code may raise anything, and the other executions continue
            kind = row.summary.workflow if isinstance(error, WorkflowNotFoundError) else execution_id
            problem = error if isinstance(error, CerebelumError) else f"{type(error).__name__}: {error}"
            self._say(f"{execution_id} of {row.summary.workflow} is not resumed: {problem}", once=True, about=kind)
            self._postpone(execution_id, 60.0)
            return False
        if run is None:
            return False
        self.taken += 1
        why = "its turn has come" if row.summary.state is ExecutionState.QUEUED else _why(died=died)
        self._say(f"{execution_id} of {row.summary.workflow}: {why}")
        self._runs[execution_id] = run.background()
        task = asyncio.get_running_loop().create_task(self._finish(run))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        return True

    async def _finish(self, run: Run) -> None:
        """Wait until a run ends, report how, and let the next one begin."""
        try:
            outcome = _outcome(await run)
        except ExecutionBusyError as error:
            outcome = f"no longer run here: {str(error).splitlines()[0]}"
        except CerebelumError as error:
            outcome = f"{run.status}: {str(error).splitlines()[0]}"
        except Exception as error:  # noqa: BLE001 - a defect of this library; the other executions continue
            outcome = f"ended with {type(error).__name__}: {error}"
        finally:
            self._runs.pop(run.execution_id, None)
            self._nudged.set()
        self._say(f"{run.execution_id}: {outcome}")

    # -- executions whose processes die ----------------------------------------------------------------------

    def _may_try_again(self, row: ExecutionRow) -> bool:
        """Whether to resume an execution of a dead process now; pause it after too many deaths."""
        state = fold(self.store.events(row.execution_id))
        if not state.deaths:
            return True
        if state.deaths >= self._max_deaths:
            step = next(iter(state.in_flight), state.current_step)
            self._pause(
                row.execution_id,
                f"its process died {state.deaths + 1} times in a row in step '{step}', without finishing anything: fix "
                f"the step, then resume",
            )
            return False
        wait = min(2.0 ** (state.deaths - 1), _LONGEST_BACKOFF)
        due = state.updated_at + round(wait * 1e6)
        if due <= self._now():
            return True
        self._postpone(row.execution_id, (due - self._now()) / 1e6)
        return False

    def _pause(self, execution_id: str, reason: str) -> None:
        """Pause an execution, for a person to decide."""
        with short_try():
            if pause_orphan(self.store, execution_id, reason, self._now()):
                self._say(f"{execution_id} is paused: {reason}")

    def _postpone(self, execution_id: str, seconds: float) -> None:
        if len(self._not_before) >= _KEPT:
            self._not_before.clear()
        self._not_before[execution_id] = self._now() + round(seconds * 1e6)

    def _say(self, text: str, *, once: bool = False, about: str = "") -> None:
        if once:
            key = about or text
            if key in self._said_once:
                return
            if len(self._said_once) >= _KEPT:
                self._said_once.clear()
            self._said_once.add(key)
        self._tell(text)

    @staticmethod
    def _now() -> int:
        return current_clock.get().now()


def _outcome(result: Result) -> str:
    until = "" if result.wake_at is None else f" until {utc(result.wake_at)}"
    return f"{result.status}{until}"


def _why(*, died: bool) -> str:
    return "resumed, as its process has died" if died else "resumed, as it is due"
