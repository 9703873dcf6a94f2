"""The engine: one inbox per event loop and log, and the pump that empties it.

The pump is a plain function that the loop calls when a message has come. It takes every message that is there,
lets each execution turn them into events and decisions, commits all of them in one transaction on the loop's own
thread, and only then starts what was decided. So outcomes that arrive together are committed together, and the
end of a step and the start of the next share one commit.
"""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from ..core.events import Event
from ..core.model import Plan
from ..core.state import State, fold
from ..errors import CerebelumError, ExecutionBusyError, ResumeError, StoreError
from ..store.base import Rejection, Store
from ..values import Vault
from .attempt import Outcome
from .blocking import BlockWatch
from .clock import Clock, current_clock
from .execution import Execution
from .lease import keeper_of
from .printing import listen
from .scope import hear

__all__ = ["Engine", "engine_of", "engines_on"]

_FLUSH_SECONDS = 1.0
"""The longest that a progress event waits for a commit to ride on."""

_engines: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[Store, Clock], Engine]] = (
    weakref.WeakKeyDictionary()
)


def engine_of(store: Store) -> Engine:
    """Return the running loop's engine for ``store`` under the current clock."""
    loop, clock = asyncio.get_running_loop(), current_clock.get()
    engines = _engines.setdefault(loop, {})
    engine = engines.get((store, clock))
    if engine is None:
        engine = engines[store, clock] = Engine(loop, store, clock)
    return engine


def engines_on(loop: asyncio.AbstractEventLoop) -> list[Engine]:
    """Return the engines of a loop."""
    return list(_engines.get(loop, {}).values())


class Engine:
    """Runs executions of one log on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, store: Store, clock: Clock) -> None:
        self.loop, self.store, self.clock = loop, store, clock
        self._inbox: list[tuple[Execution, Callable[[Any], None], Any]] = []
        self._executions: dict[str, Execution] = {}
        self._pump_handle: asyncio.Handle | None = None
        self._pumping = False
        self.turn_at = 0  # what is worked off together happened at one time
        self._context = contextvars.copy_context()
        self._watch = BlockWatch(loop, self._async_steps)
        self._listening: dict[str, Callable[[], None]] = {}

    def create(self, execution_id: str, plan: Plan, vault: Vault) -> Execution:
        """Make an execution that has no history yet.

        Raises:
            ResumeError: the log has one of that id.
        """
        keeper = keeper_of(self.store)
        if keeper.running(execution_id) is not None or self.store.events(execution_id, upto=1):
            raise ResumeError(
                f"execution {execution_id} exists already: add resume=True to go on with it or get its "
                f"recorded result, or choose another execution_id (without one, each gets its own)"
            )
        holder = keeper.holder(self.clock.now())
        return self._enter(Execution(self, execution_id, plan, State(), holder, vault))

    def claim(self, execution_id: str, plan: Plan, vault: Vault) -> Execution:
        """Take up a recorded execution.

        Raises:
            ExecutionBusyError: somebody else runs it.
        """
        holder = keeper_of(self.store).claim(execution_id, self.clock.now())
        try:
            state = fold(self.store.events(execution_id))
        except BaseException:
            self.store.release(execution_id, holder)
            raise
        execution = self._enter(Execution(self, execution_id, plan, state, holder, vault))
        execution.recall(execution_id, state)
        return execution

    def start(self, execution: Execution, *events: Event) -> None:
        """Append what starts or resumes an execution, and let it run; starts that come together share a commit."""
        self.post(execution, execution.begin, events)

    @property
    def hibernate_after(self) -> int | None:
        """How long a wait may be before it ends the run in this process, µs; None: as long as it likes."""
        limit = self.store.hibernate_after
        return None if limit == timedelta.max else limit // timedelta(microseconds=1)

    def post(self, execution: Execution, handler: Callable[[Any], None], argument: Any) -> None:
        """Put a message into the inbox; on the engine's loop only."""
        self._inbox.append((execution, handler, argument))
        if self._pump_handle is None and not self._pumping:
            self._pump_handle = self.loop.call_soon(self._pump, context=self._context)

    def post_outcome(self, execution: Execution, outcome: Outcome) -> None:
        """Put an attempt's outcome into the inbox; work it off at once when nothing can arrive together with it."""
        if len(self._executions) == 1 and len(execution.attempts) == 1 and self._pump_handle is None:
            self._inbox.append((execution, execution.settle, outcome))
            self.flush()
        else:
            self.post(execution, execution.settle, outcome)

    def flush(self) -> None:
        """Work off the inbox now."""
        if not self._pumping:
            if self._pump_handle is not None:
                self._pump_handle.cancel()
            self._context.run(self._pump)

    def flush_later(self, execution: Execution) -> None:
        """Commit waiting progress by itself if nothing else comes."""
        self.loop.call_later(_FLUSH_SECONDS, self._flush_progress, execution)

    def forget(self, execution: Execution, leftovers: list[Callable[[], bool]]) -> None:
        """An execution no longer runs here."""
        self._executions.pop(execution.id, None)
        if not self._executions:
            self._watch.stop()
        if (end := self._listening.pop(execution.id, None)) is not None:
            end()
        keeper_of(self.store).leave(execution, leftovers)

    def give_back(self, execution: Execution) -> None:
        """Let go of a claimed execution that was not started after all."""
        execution.over = True
        self.forget(execution, [])
        self.store.release(execution.id, execution.holder)

    def stop_all(self, reason: str) -> bool:
        """Pause everything that runs here; return whether anything does."""
        for execution in list(self._executions.values()):
            self.post(execution, execution.stop, reason)
        return bool(self._executions)

    def check_idle(self) -> None:
        """Tell the clock when everything in flight waits for it."""
        if not self.clock.jumps or self._inbox or not self._executions:
            return
        if all(execution.all_wait for execution in self._executions.values()):
            self.clock.idle()

    def look(self, execution: Execution) -> None:
        """Take in what other processes appended to an execution."""
        if execution.over or self._pumping:
            return
        try:
            behind = self.store.execution(execution.id).version > execution.written
        except CerebelumError:
            return  # its own commits meet and report it
        if behind:
            self._rebase(execution)
            self.post(execution, _nothing, None)

    def _async_steps(self) -> list[str]:
        attempts = [attempt for execution in self._executions.values() for attempt in execution.attempts.values()]
        return [attempt.spec.name for attempt in attempts if attempt.task is not None]

    def _enter(self, execution: Execution) -> Execution:
        self._executions[execution.id] = execution
        self._watch.start()
        self._listening[execution.id] = listen(hear)
        keeper_of(self.store).enter(execution)
        return execution

    def _flush_progress(self, execution: Execution) -> None:
        if not execution.over:
            self.post(execution, lambda _: execution.take_progress(), None)

    def _pump(self) -> None:
        self._pump_handle = None
        self._pumping = True
        try:
            while self._inbox:
                self._turn()
        finally:
            self._pumping = False
            self.turn_at = 0
        if self.clock.jumps:
            self.check_idle()

    def _turn(self) -> None:
        inbox, self._inbox = self._inbox, []
        self.turn_at = self.clock.now()
        touched: dict[Execution, None] = {}
        for execution, handler, argument in inbox:
            if execution.over:
                continue
            touched[execution] = None
            try:
                handler(argument)
            except Exception as error:  # noqa: BLE001 - as below
                execution.abort(error)
        ready = []
        for execution in touched:
            if execution.over:
                continue
            try:
                execution.advance()
            except Exception as error:  # noqa: BLE001 - a defect of ours ends the run with its error, never hangs it
                execution.abort(error)
            else:
                if execution.batch:
                    ready.append(execution)
        if ready:
            self._commit(ready)

    def _commit(self, executions: list[Execution]) -> None:
        try:
            rejected = self.store.commit([execution.commit() for execution in executions])
        except StoreError as error:
            for execution in executions:
                execution.abort(error)
            return
        again = []
        for execution in executions:
            reason = rejected.get(execution.id) if rejected else None
            if reason is None:
                execution.committed()
            elif reason == Rejection.STALE:
                self._rebase(execution)
                if execution.batch:
                    again.append(execution)
                else:  # it wanted to hibernate, and something has happened
                    execution.committed()
                    self.post(execution, _nothing, None)
            else:
                execution.abort(_lost(execution.id))
        if again:
            self._commit(again)

    def _rebase(self, execution: Execution) -> None:
        execution.rebase(fold(self.store.events(execution.id)))


def _nothing(_: Any) -> None:
    """A message that only asks for a decision."""


def _lost(execution_id: str) -> ExecutionBusyError:
    return ExecutionBusyError(
        f"another process took over execution {execution_id} (this one was not heard of for too long, as after a "
        f"laptop's sleep). What was committed stands; watch it with its status, or resume it when it is free",
        execution_id=execution_id,
        holder="another process",
    )
