"""The engine: one inbox per event loop and log, and the pump that empties it.

The event loop calls the pump, a plain function, when a message has arrived. In one *turn* the pump takes the waiting
messages, lets each execution turn them into events and decisions, and commits all events in one transaction on the
loop's thread; only then it starts what was decided. Outcomes that arrive together are committed together, and the end
of a step and the start of the next share one commit. Only pure steps start before the commit (run_ahead.py).

An exception raised on behalf of an execution ends that execution and no other: every call into one goes through
``on_behalf_of``, and a commit that fails is tried for each execution alone (commits.py).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

from .._core.events import Event
from .._core.graph import Plan
from .._core.state import State
from .._store.base import Store, patience
from .._values import Redactor
from ..errors import CerebelumError, ResumeError
from .clock import Clock, current_clock
from .commits import Commits, rebase
from .execution import Execution, only_decide
from .leases import leases_of, superseded
from .pacing import when_none_waits
from .patience import LOCKED_SECONDS, RETRY_SECONDS, TRY_SECONDS, short_try
from .ports import Outcome
from .remembered import forget, recorded, remembered
from .run_ahead import RunAhead
from .scope_lookup import capture_print
from .stdout import capture_output
from .threads import can_start_threads
from .values import MakeContext
from .watchdog import BlockWatch

__all__ = ["Engine", "engine_of", "engines_on"]

_TURN_MOST = 128
"""The most messages in a turn. Ten thousand outcomes at once would block the loop for a second."""

_TURN_LEAST = 16
"""The fewest messages in a turn, if that many wait, however slow the machine is."""

_TURN_SECONDS = 0.0015
"""The CPU time after which a turn takes no more messages. Deciding what follows from them, and the commit, take twice
as much again. Time of other programs on the processor does not count: that would only make more and smaller commits.
"""

_PUMP_SECONDS = 0.005
"""After this time the pump returns to the loop. Until then, steps that never wait run one after the other within it."""

_FLUSH_SECONDS = 1.0
"""The longest time that a deferred event waits for another commit."""

log = logging.getLogger("cerebelum_nb")

_engines: weakref.WeakValueDictionary[tuple[int, int, int], Engine] = weakref.WeakValueDictionary()
"""All engines that are not collected, by the ids of the loop, the log and the clock that each keeps alive; only its
executions keep an engine alive."""
_engines_lock = threading.Lock()


def engine_of(store: Store) -> Engine:
    """Return the running loop's engine for ``store`` under the current clock."""
    loop, clock = asyncio.get_running_loop(), current_clock.get()
    with _engines_lock:
        engine = _engines.get(key := (id(loop), id(store), id(clock)))
        if engine is None:
            engine = _engines[key] = Engine(loop, store, clock)
        return engine


def engines_on(loop: asyncio.AbstractEventLoop) -> list[Engine]:
    """Return the engines of a loop."""
    with _engines_lock:
        return [engine for engine in _engines.values() if engine.loop is loop]


class Engine:
    """Runs executions of one log on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, store: Store, clock: Clock) -> None:
        self.loop, self.store, self.clock = loop, store, clock
        self._inbox: list[tuple[Execution, Callable[[Any], None], Any]] = []
        self._executions: dict[str, Execution] = {}
        self._flushing: set[Execution] = set()  # with a timer that commits their deferred events
        self._stirring: dict[Execution, None] = {}  # those that may not all wait for the clock
        self._launching: deque[Execution] = deque()  # with attempts that are ready
        self._looking: dict[Execution, None] = {}  # to which others may have appended events
        self._pump_handle: asyncio.Handle | None = None
        self._pumping = False
        self.turn_at: int | None = None  # monotonic: all messages of a turn have one time
        self._commits, self._run_ahead = Commits(), RunAhead()
        self.context = contextvars.copy_context()
        self.context.run(patience.set, TRY_SECONDS)
        self._watch = BlockWatch(loop, self._async_steps)
        self._listening: dict[str, Callable[[], None]] = {}

    @contextmanager
    def create(
        self, execution_id: str, plan: Plan, redactor: Redactor, make_context: MakeContext, *, is_new: bool = False
    ) -> Iterator[Execution]:
        """Create an execution without a history; it is discarded if the block raises.

        Nothing is written, so it waits for no lock: the holder is registered when the first events are committed. That
        commit is rejected if the log has the id, so a newly drawn id (``is_new``) is not looked up.

        Raises:
            ResumeError: the log already has an execution with that id.
        """
        if not is_new and (
            leases_of(self.store).running(execution_id) is not None or self.store.events(execution_id, upto=1)
        ):
            raise ResumeError(
                f"execution {execution_id} already exists: add resume=True to resume it or get its "
                f"recorded result, or choose another execution_id (without one, each gets its own)"
            )
        execution = Execution(self, execution_id, plan, State(), 0, redactor, make_context)
        with self.made_ready(execution):
            self._enter(execution)
            yield execution

    @contextmanager
    def claim(
        self, execution_id: str, plan: Plan, redactor: Redactor, make_context: MakeContext
    ) -> Iterator[Execution]:
        """Claim a recorded execution; its lease is released if the block raises.

        Raises:
            ExecutionBusyError: another process is running it.
            StoreError: the log is locked (transient): try again, see patience.py.
        """
        with short_try():
            lease = leases_of(self.store).claim(execution_id, self.clock.now())
        execution = Execution(self, execution_id, plan, State(), lease.holder, redactor, make_context)
        execution.last_heartbeat = lease.last_heartbeat
        with self.made_ready(execution):
            execution.rebase(recorded(self.store, execution_id))
            known = remembered(self.store, execution_id)
            execution.live_inputs = known.inputs
            execution.recall(known.results, execution.state)
            self._enter(execution)
            yield execution

    @contextmanager
    def made_ready(self, execution: Execution) -> Iterator[None]:
        """Release an execution if the block raises before it was started."""
        try:
            yield
        except BaseException:
            if not execution.begun and not execution.over:
                self.give_back(execution)
            raise

    def start(self, execution: Execution, *events: Event) -> None:
        """Append the events that start or resume an execution, and run it; simultaneous starts share a commit."""
        self.post(execution, execution.begin, events)
        execution.begun = True

    @property
    def hibernate_after(self) -> int | None:
        """The longest wait without hibernating, µs; None: unlimited."""
        limit = self.store.hibernate_after
        return None if limit == timedelta.max else limit // timedelta(microseconds=1)

    def post(self, execution: Execution, handler: Callable[[Any], None], argument: Any) -> None:
        """Put a message for an execution into the inbox; on the engine's loop only."""
        self._inbox.append((execution, handler, argument))
        if self._pump_handle is None and not self._pumping:
            self._pump_soon()

    def post_outcome(self, execution: Execution, outcome: Outcome) -> None:
        """Put an attempt's outcome into the inbox, or handle it at once if no other message can arrive with it."""
        if len(self._executions) == 1 and len(execution.attempts.running) == 1 and self._pump_handle is None:
            self._inbox.append((execution, execution.settle, outcome))
            if not self._pumping:
                self.context.run(self._pump)
        else:
            self.post(execution, execution.settle, outcome)

    def flush(self) -> None:
        """Handle the whole inbox now. Steps begin in the loop's next iteration, so they do not delay the caller."""
        if not self._pumping:
            if self._pump_handle is not None:
                self._pump_handle.cancel()
            self.context.run(self._pump, whole=True)

    def launch_soon(self, execution: Execution) -> None:
        """Launch the ready attempts of an execution, once the commits of this turn are done."""
        self._launching.append(execution)
        if self._pump_handle is None and not self._pumping:
            self._pump_soon()

    def _pump_soon(self) -> None:
        self._pump_handle = self.loop.call_soon(self._pump, context=self.context)

    def flush_later(self, execution: Execution) -> None:
        """Commit the deferred events of an execution if no other commit comes first."""
        if execution not in self._flushing:
            self._flushing.add(execution)
            self.loop.call_later(_FLUSH_SECONDS, self._flush_progress, execution)

    def forget(self, execution: Execution, leftovers: list[Callable[[], bool]]) -> None:
        """Remove an execution that no longer runs here."""
        self._executions.pop(execution.id, None)
        self._stirring.pop(execution, None)
        self._looking.pop(execution, None)
        self._commits.forget(execution)
        if not self._executions:
            self._watch.stop()
        if (end := self._listening.pop(execution.id, None)) is not None:
            end()
        leases_of(self.store).leave(execution, leftovers)

    def give_back(self, execution: Execution) -> None:
        """Release a claimed execution that was never started."""
        execution.over = True
        self.release(execution)
        self.forget(execution, [])

    def release(self, execution: Execution, until: float | None = None) -> None:
        """Release the lease of an execution that ended without its last commit; never raises.

        While the log is locked it is retried. A lease that cannot be released stays with this process, which can still
        resume the execution; other processes can when this process has ended.
        """
        if not execution.holder:
            return  # it never had a lease
        if leases_of(self.store).runs_another(execution):
            return  # the lease belongs to that run
        here = contextvars.copy_context() if self.loop.is_closed() else self.context.copy()
        try:
            here.run(self.store.release, execution.id, execution.holder)
        except Exception as error:  # noqa: BLE001 - the run ended with another error, to be reported
            until = until or self.loop.time() + LOCKED_SECONDS
            if getattr(error, "transient", False) and not self.loop.is_closed() and self.loop.time() < until:
                self.loop.call_later(RETRY_SECONDS, self.release, execution, until)
            else:
                _warn("the lease of execution %s could not be released: %s", execution.id, error)

    def stop_all(self, reason: str) -> bool:
        """Pause all executions here, from any thread; return whether there were any."""
        for execution in list(self._executions.values()):
            execution.ask_to_stop(reason)
        return bool(self._executions)

    def abandon(self, error: BaseException) -> None:
        """Drop all executions here, as if the process had died: nothing more is written, and no observer is called.

        The leases are released, so that the executions can be resumed; code that awaits one gets the error.
        """
        for execution in list(self._executions.values()):
            execution.abort(error)
            forget(self.store, execution.id)

    def check_idle(self) -> None:
        """Tell the clock when everything in flight waits for it."""
        if not self.clock.jumps or self._has_work or self._commits.wait or not self._executions:
            return
        if when_none_waits(self.loop, self.check_idle):  # these tasks may start executions
            return
        while self._stirring:  # a waiting execution is checked once per message
            execution = next(iter(self._stirring))
            if not (execution.over or execution.all_wait):
                return
            del self._stirring[execution]
        if self._executions:
            try:
                self.clock.idle()
            except Exception as error:  # noqa: BLE001 - with a broken clock they would wait forever
                for execution in list(self._executions.values()):
                    execution.abort(error)

    def look(self, execution: Execution) -> None:
        """Read soon the events that other processes have appended to an execution."""
        if execution.written and not execution.over:  # its start is in the log, and it has not ended
            self._looking[execution] = None
            if self._pump_handle is None and not self._pumping:
                self._pump_soon()

    def on_behalf_of(self, execution: Execution, action: Callable[..., object], *arguments: Any) -> None:
        """Call an action for an execution; an exception in it ends that execution."""
        try:
            action(*arguments)
        except BaseException as error:  # noqa: BLE001 - any exception may end a run, but must never hang it
            self.failed(execution, error)

    def failed(self, execution: Execution, error: BaseException) -> None:
        """End an execution with an exception that was raised on its behalf."""
        execution.abort(error)
        if not isinstance(error, Exception):
            raise error

    def _look(self, execution: Execution) -> None:
        try:
            row = self.store.execution(execution.id)
        except CerebelumError:
            return  # the execution's commits will report it
        if row.holder is None or row.holder.key != execution.holder:
            execution.abort(superseded(execution.id))
        elif row.version > execution.written:
            rebase(execution)
            self.post(execution, only_decide, None)
        if execution.queued:
            self.post(execution, execution.look_at_queue, None)

    def note_blocking(self, step: str, seconds: float) -> None:
        """Note how long an async step has blocked the loop."""
        self._watch.note(step, seconds)

    def stirs(self, execution: Execution) -> None:
        """Note that an execution is doing something, so that a fake clock must not jump."""
        if self.clock.jumps:
            self._stirring[execution] = None

    def _async_steps(self) -> list[str]:
        attempts = [
            attempt for execution in self._executions.values() for attempt in execution.attempts.running.values()
        ]
        at_work = [attempt for attempt in attempts if attempt.scope.task is not None and not attempt.scope.waits]
        return [attempt.spec.name for attempt in at_work if attempt.spec.is_async or can_start_threads()]

    def _enter(self, execution: Execution) -> None:
        leases_of(self.store).enter(execution)
        self._executions[execution.id] = execution
        self.stirs(execution)
        self._watch.start()
        self._listening[execution.id] = capture_output(capture_print)

    def _flush_progress(self, execution: Execution) -> None:
        self._flushing.discard(execution)
        if not execution.over and execution.driver.has_deferred:  # usually another commit has included them
            self.post(execution, lambda _: execution.driver.take_deferred(), None)

    @property
    def _has_work(self) -> bool:
        return bool(self._inbox or self._launching or self._looking)

    def _pump(self, *, whole: bool = False) -> None:
        self._pump_handle = None
        self._pumping = True
        own = -time.monotonic()
        until = _PUMP_SECONDS - own
        try:
            while self._has_work:
                while self._looking:
                    execution = next(iter(self._looking))
                    del self._looking[execution]
                    self.on_behalf_of(execution, self._look, execution)
                    if time.monotonic() > until:
                        break
                if self._inbox:
                    self._turn()
                now = time.monotonic()
                if self._launching:  # at least one, as their starts are recorded
                    own += now  # the work of steps up to their first wait is not the engine's own
                    try:  # even after a slow commit, launch some together
                        self._launch(max(until, now + _PUMP_SECONDS / 2), at_once=not whole)
                    finally:
                        now = time.monotonic()
                        own -= now
                if now > until and not (whole and self._inbox):
                    break
        finally:
            self._pumping = False
            self.turn_at = None
            self._watch.own += own + time.monotonic()
            if self._has_work and not self.loop.is_closed():  # too much for once, or Ctrl-C: the rest next
                self._pump_soon()
        if self.clock.jumps:
            self.check_idle()

    def _launch(self, until: float, *, at_once: bool) -> None:
        while self._launching:
            execution = self._launching.popleft()
            try:  # as `on_behalf_of`
                is_all = execution.launch(until, at_once=at_once)
            except BaseException as error:  # noqa: BLE001
                self.failed(execution, error)
            else:
                if not is_all:
                    self._launching.append(execution)
            if time.monotonic() > until:
                break

    def commit_again(self) -> None:
        """Commit again the batches that wait for the log's write lock, then handle the messages since."""
        self._commit_first(partial(self._commits.try_again, self))

    def commit_waiting(self) -> None:
        """Commit the batches of pure steps that wait for more, then handle the messages since."""
        self._commit_first(lambda: self._commits.commit(self, self._run_ahead.take()))

    def _commit_first(self, commit: Callable[[], None]) -> None:
        self._pumping = True
        self._watch.own -= time.monotonic()
        try:
            commit()
        finally:
            self._pumping = False
            self._watch.own += time.monotonic()
        if self._pump_handle is not None:
            self._pump_handle.cancel()
        self._pump()

    def _turn(self) -> None:
        inbox = self._inbox[:_TURN_MOST]
        del self._inbox[:_TURN_MOST]
        few = len(inbox) - _TURN_LEAST
        until = 0.0 if few <= 0 else time.thread_time() + _TURN_SECONDS
        try:
            self.turn_at = self.clock.monotonic()
        except Exception:  # noqa: BLE001 - each execution then reads the clock and fails alone
            self.turn_at = None
        touched: dict[Execution, None] = {}
        inbox.reverse()
        try:
            while inbox and not (len(inbox) < few and len(inbox) % 8 == 0 and time.thread_time() > until):
                execution, handler, argument = inbox.pop()
                if not execution.over:
                    touched[execution] = None
                    try:  # `on_behalf_of` inlined: one message per step
                        handler(argument)
                    except BaseException as error:  # noqa: BLE001
                        self.failed(execution, error)
            if self.clock.jumps:
                self._stirring.update(touched)
            for execution in touched:
                if not execution.over:
                    try:
                        execution.advance()
                    except BaseException as error:  # noqa: BLE001
                        self.failed(execution, error)
        finally:  # after Ctrl-C too: the rest is handled in the next turn
            self._inbox[:0] = reversed(inbox)
            is_locked, waits = self._commits.wait, self._run_ahead.waits
            ready = [
                execution
                for execution in touched
                if execution.driver.batch and not execution.over and (is_locked or not waits(self, execution))
            ]
            if ready:
                self._commits.commit(self, ready)
            self.turn_at = None


def _warn(text: str, *arguments: object) -> None:
    with suppress(Exception):  # the user's logging handler or filter may raise
        log.warning(text, *arguments)
