"""The local shell around the driver: outcomes become messages, commands become attempts, timers and commits.

What an execution does next is decided in :mod:`.._core.drive`, never here. Nothing here writes to the store either:
events collect in the driver's batch, the engine commits them (commits.py), and only then ``committed`` starts the
decided attempts and answers waiting operations. Everything runs on the engine's loop, one message after another.

Each part is in a module: attempts.py (the attempts in this process), retries.py (when failed steps are retried),
hibernation.py (when it leaves its process), time_limit.py, queue.py (its place in the queue for a slot), cache.py (the
results it takes from other executions) and values.py (its inputs and results).
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

from .._core import events as e
from .._core.drive import Driver
from .._core.events import Event
from .._core.fold import fold
from .._core.graph import Plan, StepSpec
from .._core.limits import Before
from .._core.messages import (
    Admitted,
    AskItems,
    AskRoute,
    Begin,
    Cancel,
    CancelAttempts,
    Drain,
    Due,
    End,
    Expire,
    Items,
    JoinItems,
    Message,
    Recorded,
    Released,
    Routed,
    SetTimer,
    Settled,
    Start,
    Stop,
)
from .._core.settle import Raised, ReturnedError, settle
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.summary import Summary, is_move, summarise
from .._core.value import Value
from .._store.base import Commit, Store
from .._values import Redactor
from ..errors import CerebelumError, ExecutionBusyError
from . import observers
from .attempt import Attempt, Interruption
from .attempts import Attempts
from .call_step import at_failure
from .cancel import notify_of_end
from .classify_outcome import classify_outcome
from .foreach import ItemsAnswer, join_items, list_items
from .hibernation import Hibernation
from .leases import leases_of
from .plan_payloads import parts_written
from .ports import Outcome, RunLoop, Waiter
from .queue import QueuePlace
from .remembered import note_end
from .resume_points import kept_bytes
from .retries import Retries
from .routing import take_route
from .scope import Scope, Suspension
from .time_limit import TimeLimit
from .values import ExecutionValues, MakeContext

if TYPE_CHECKING:
    from .cache import CachedResults

__all__ = ["Execution", "only_decide", "running_here"]

AT_ONCE = 128
"""How many members of a parallel group, or items of a foreach, are started or interrupted in one commit. The event loop
runs between two commits: to record and launch ten thousand starts in one go would block it for half a second."""

_INTERRUPTED = (Suspension, Interruption, KeyboardInterrupt)
"""What a step raises when it is interrupted by a stop, or refused an operation."""

_NOT_LISTED = -2
"""In place of a number of steps: the next commit is no move, whatever it holds."""


class Execution(ExecutionValues):
    """A run of a workflow in this process."""

    __slots__ = (
        "_ahead",
        "_answers",
        "_awaited_by",
        "_cached",
        "_done_listed",
        "_summary",
        "attempts",
        "attended_by",
        "begun",
        "cause",
        "children",
        "clock",
        "context",
        "done",
        "driver",
        "engine",
        "handle",
        "hibernation",
        "holder",
        "last_heartbeat",
        "log_state",
        "loop",
        "over",
        "payloads",
        "queue_place",
        "retries",
        "stays",
        "stop_requested",
        "stopped_at",
        "superseded",
        "time_limit",
        "traceback_shown",
        "variable",
        "watchers",
        "written",
    )

    on_cluster = False

    def __init__(
        self,
        engine: RunLoop[Execution],
        execution_id: str,
        plan: Plan,
        state: State,
        holder: int,
        redactor: Redactor,
        make_context: MakeContext,
    ) -> None:
        super().__init__(engine.store, execution_id, plan, state, redactor, make_context)
        self.engine = engine
        self.loop, self.clock, self.holder = engine.loop, engine.clock, holder
        self.driver = Driver(plan, state)
        self.variable = ""  # the name of its workflow in the caller's code
        self.handle: Callable[[str | None], str] | None = None  # returns the call that continues it through a handle
        self.traceback_shown = False  # its view has shown it, so the exception must not
        self.attempts = Attempts()
        self.retries = Retries(self.clock)
        self.hibernation = Hibernation()
        self.time_limit = TimeLimit(plan.timeout, self.clock)
        self.queue_place = QueuePlace(engine.store, execution_id, plan.concurrency)
        self._cached: CachedResults | None = None  # created by the first step with cache=
        self.log_state: State | None = None  # the state according to the log alone, as of the last rebase (commits.py)
        self.written = state.version
        self._done_listed = _NOT_LISTED  # how many steps are listed as done, while it is listed as running
        self._summary: Summary | None = None  # what the commit that is being written lists
        self.over = False
        self.last_heartbeat: int | None = None  # the last heartbeat of the process that ran it before
        self.superseded = False  # another process is running it now
        self.stays = False
        self.watchers: dict[Callable[[], None], None] = {}
        self.children: dict[str, Execution] = {}  # its children that run here, by id
        self.attended_by: Execution | None = None  # its caller, if that waits for it in this process
        self.cause: BaseException | None = None
        self.payloads: tuple[Value, ...] = ()
        self.begun = False
        self.stopped_at: float | None = None  # when it was stopped or cancelled, by the loop's clock
        self.stop_requested: str | None = None  # the reason; no step, effect or attempt starts any more
        self.done: asyncio.Future[None] = engine.loop.create_future()
        self.context = contextvars.copy_context()
        self._ahead = self.clock.now() - self.clock.monotonic()
        self._answers: list[Waiter] = []
        self._awaited_by: list[asyncio.Future[None]] = []  # done once it is over

    @property
    def queued(self) -> bool:
        """Whether it waits for its slot."""
        return self.state.lifecycle is ExecutionState.QUEUED

    @property
    def stops_before(self) -> bool:
        """Whether it has paused where the variants of a sweep begin."""
        return self.driver.limited and isinstance(self.driver.limit, Before)

    # -- requests of steps and operations -------------------------------------------------------------------

    def now(self) -> int:
        """Return the time for new events, µs since the epoch; never before the last event.

        It follows the monotonic clock, so that the difference between two events of this process is the time that
        passed, even if the wall clock was set between them. When nothing is at work, it returns to the wall clock.
        """
        at, last = self.engine.turn_at, self.state.updated_at
        now = self._ahead + (self.clock.monotonic() if at is None else at)
        return now if now > last else last

    def payload(self, value: Value) -> bytes:
        """Return the bytes of a recorded value, which this process may unpickle.

        Raises:
            UntrustedValueError: somebody else may have made them.
            StoreError: the log no longer holds them.
        """
        return kept_bytes(self.store, value)

    def post_record(self, event: Event, waiter: Waiter) -> None:
        """Record an operation's event; ``waiter`` is done when it is committed."""
        self.engine.post(self, self._record, (event, waiter))

    def _record(self, message: tuple[Event, Any]) -> None:
        event, waiter = message
        if self.driver.take(Recorded(event), self.now()):
            self._answers.append(waiter)
        elif not waiter.done():
            waiter.set_exception(Suspension(f"execution {self.id} has ended here; nothing it does now is recorded"))

    def defer_event(self, make: Callable[[], Event | None]) -> None:
        """Record an event that needs no separate commit with the next one; ``make`` is called then."""
        if not self.over and not self.driver.finishing and self.driver.defer_event(make):
            self.engine.flush_later(self)

    def waits_changed(self) -> None:
        """Check for hibernation: a step began to wait, or has waited for long; many calls cause one check."""
        self.hibernation.look_soon(self)

    def wait_ended(self, step: str) -> None:
        """Note that a step no longer waits."""
        self.attempts.wait_ended(step)
        self.engine.stirs(self)

    def note_blocking(self, step: str, seconds: float) -> None:
        """Note how long an async step has blocked the loop."""
        self.engine.note_blocking(step, seconds)

    def at_work(self) -> dict[str, Scope]:
        """Return the scopes of the steps at work, by step."""
        return {step: attempt.scope for step, attempt in self.attempts.running.items()}

    @property
    def all_wait(self) -> bool:
        """Whether everything in flight waits for the clock."""
        return not self.queue_place.will_look if self.queued else self.hibernation.all_wait(self)

    # -- messages -------------------------------------------------------------------------------------------

    def begin(self, events: Sequence[Event]) -> None:
        """Begin with the events that start or resume it; the engine then decides what to start."""
        why = "it hibernated" if self.state.hibernated else "its process ended"
        events = self.queue_place.begin(events, self.state, self.now())
        self.driver.take(Begin(events, why, self.last_heartbeat), self.now())
        if self.queued:
            leases_of(self.store).note_queued(self)
        self._limit_time()

    def _limit_time(self) -> None:
        """Start its time limit, which counts from when it has its slot."""
        if self.time_limit.start(self.state, partial(self.engine.post, self, self._expire, None)):
            self._expire(None)  # it ended while no process ran it: nothing starts

    def _expire(self, _: None) -> None:
        if self.driver.finishing:
            return
        error = self.time_limit.error()
        self.defer_printed()
        if self.driver.take(Expire(self.describe(error)), self.now()):
            self.cause = error

    def look_at_queue_soon(self) -> None:
        """Check soon whether the slot is free; from any thread."""
        if not self.loop.is_closed():
            self.queue_place.will_look = True
            self.engine.stirs(self)
            self.loop.call_soon_threadsafe(self.engine.post, self, self.look_at_queue, None)

    def look_at_queue(self, _: None = None) -> None:
        """Try to get the slot, if no other execution is ahead."""
        self.queue_place.will_look = False
        if self.queued and not self.driver.finishing and self.queue_place.may_try(self.state, self.clock):
            self.driver.take(Admitted(), self.now())
            self._limit_time()

    def lost_slot(self) -> None:
        """Return to the recorded state, and queue: another execution got the slot first."""
        before, state = self.driver, fold(self.store.events(self.id))
        self.driver = Driver(self.plan, state, before.limit)
        self.driver.draining = before.draining
        self.state = state
        self.attempts.drop_starts()
        if self.queue_place.beginning:
            self.begin(self.queue_place.beginning)
            self.advance()

    def ended(self, outcome: Outcome) -> None:
        """Put the outcome of an attempt into the inbox."""
        self.engine.post_outcome(self, outcome)

    def settle(self, outcome: Outcome) -> None:
        """Record the outcome of an attempt."""
        attempt = self.attempts.end(outcome.step, outcome.visit, outcome.attempt)
        if attempt is None or attempt.scope.closed:
            return
        scope, spec = attempt.scope, attempt.spec
        if self.attempts.running and next(iter(self.attempts.running.values())).scope.waits:
            self.engine.post(self, self.hibernation.look, self)
        if scope.checkpoints is not None:
            self.driver.take_deferred()
        scope.close()
        at_work = scope.thread is not None and attempt.alive
        if at_work:
            self.attempts.leave(attempt)
            self._when_over(attempt, partial(self._on_end_of_thread, scope.step))
        now = self.now()
        printed = None if scope.printed is None else scope.take_printed(now, all_of_it=True)
        if self.stop_requested is not None and isinstance(outcome.error, _INTERRUPTED):
            self.driver.defer_event(lambda: printed)
            return  # in the log it is still in flight: the stop interrupts it
        verdict = classify_outcome(self, spec, outcome)
        due_at = None
        if isinstance(verdict, Raised):
            due_at = self.retries.schedule(scope.step, spec.policy, scope.known.failures, verdict)
        event = settle(verdict, due_at=due_at, at=now, step=scope.step, visit=scope.visit, attempt=scope.attempt)
        if self._cached is not None and isinstance(event, e.StepCompleted):
            event = self._cached.with_key(self, spec, event)
        events: list[Event] = [event] if printed is None else [printed, event]
        if isinstance(event, e.StepFailed):
            self.cause = outcome.error
            if outcome.error is not None:
                events[:0] = at_failure(spec, scope, outcome.error)
        self.driver.take(Settled(scope.step, scope.visit, scope.attempt, events, at_work), now)
        if isinstance(verdict, Value):
            self.keep_live(scope.step, scope.visit, verdict, outcome.live)
        if self._given and not isinstance(verdict, ReturnedError):
            self.warn_of_changes(scope.step)

    def _take(self, event: e.StepCompleted) -> None:
        """Record a cached result as the outcome of an attempt."""
        attempt = self.attempts.end(event.step, event.visit, event.attempt)
        if attempt is None or attempt.scope.closed:
            return
        attempt.scope.close()
        now = self.now()
        self.driver.take(Settled(event.step, event.visit, event.attempt, [replace(event, at=now)]), now)
        self.live.pop(event.step, None)

    def _on_end_of_thread(self, step: str) -> None:
        if not self.over:
            self.engine.post(self, self._released, step)

    def _released(self, step: str) -> None:
        self.driver.take(Released(step), self.now())

    def _due(self, step: str) -> None:
        self.retries.end(step)
        if self.stop_requested is None:  # a pending stop interrupts it before it starts
            self.driver.take(Due(step), self.now())

    def ask_to_stop(self, reason: str) -> None:
        """Stop the execution, from any thread or a signal handler: nothing more starts, and it pauses soon."""
        self.stop_requested = reason
        for child in list(self.children.values()):
            child.ask_to_stop(reason)
        if not self.over and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.engine.post, self, only_decide, None)

    def stop(self, reason: str) -> None:
        """Pause the execution: steps in flight are interrupted, finished ones are kept."""
        self._note_stop()
        self.defer_printed()
        self.driver.take(Stop(reason), self.now())

    def cancel(self, request: e.CancelRequested) -> None:
        """Cancel the execution."""
        self._note_cancel()
        self.defer_printed()
        self.driver.take(Cancel(request.reason, request.by), self.now())

    def cancel_soon(self, request: e.CancelRequested) -> None:
        """Cancel the execution, from any thread."""
        self.loop.call_soon_threadsafe(self.engine.post, self, self.cancel, request)

    def _note_stop(self) -> None:
        if self.stopped_at is None:
            self.stopped_at = self.loop.time()

    def _note_cancel(self) -> None:
        self._note_stop()
        if self.stop_requested is None:  # what is interrupted in a later portion starts nothing more until then
            self.stop_requested = "cancelled"

    def drain(self) -> None:
        """Start nothing more, and hibernate once no step is at work: another process will resume it."""
        for child in list(self.children.values()):
            child.drain()
        if not self.over:
            self.driver.take(Drain(), self.now())
            self.engine.post(self, self.hibernation.leave, self)

    def look_again(self) -> None:
        """Make waiting operations check again whether their wait is over; on its loop."""
        if not self.over:
            self.engine.post(self, only_decide, None)

    def cancelled_from_outside(self, step: str) -> None:
        """Pause at once: something else cancelled a step's task, such as the end of ``asyncio.run``."""
        if not self.over:
            self.engine.post(self, self.stop, f"step '{step}' was cancelled from outside")
            self.engine.flush()

    def look_soon(self) -> None:
        """Check soon for events that other processes have appended; from any thread."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.engine.look, self)

    def advance(self) -> None:
        """Carry out the driver's commands after the messages, until there is nothing left to decide."""
        if self.state.cancel is not None:
            self._note_cancel()
            self.defer_printed()
        elif self.stop_requested is not None:  # after the outcomes that arrived with it, which are kept
            self.stop(self.stop_requested)
        else:
            for is_due in list(self.watchers) if self.watchers else ():
                is_due()
        if not (self.attempts.running or self.attempts.starting):  # no duration is measured: return to the wall clock
            self._ahead = self.clock.now() - self.clock.monotonic()
        had_more, answered = self.driver.has_more, True
        while answered:
            answered = False
            most = 0 if self.attempts.starting and not self.driver.closing else AT_ONCE
            for command in self.driver.advance(self.now(), most):
                match command:
                    case Start():
                        self.attempts.decided.append(command)
                    case AskRoute():
                        answered |= self._answer(Routed, *take_route(self, command.step, self.now()))
                    case AskItems():
                        answered |= self._answer_items(list_items(self, command.step, self.now))
                    case JoinItems():
                        answered |= self._answer_items(join_items(self, command.step, self.now()))
                    case SetTimer():
                        answered |= self._set_timer(command)
                    case CancelAttempts():
                        self._cancel_attempts()
                    case End():
                        pass  # the commit releases the lease, and `committed` ends the run
                    case _:
                        assert_never(command)
        if had_more and not self.driver.has_more:
            self.hibernation.look_soon(self)
        if self.driver.draining and not self.driver.finishing:
            self.hibernation.leave(self)

    def defer_printed(self) -> None:
        """Record what its steps have printed with the next event; called before the event that ends the attempts."""
        if self.driver.finishing or self.driver.closing:
            return
        for attempt in self.attempts.running.values():
            if attempt.scope.printed is not None:
                self.driver.defer_event(partial(attempt.scope.take_printed, self.now(), all_of_it=True))

    def _answer(self, make: Callable[[Any], Message], event: Event, error: BaseException | None = None) -> bool:
        """Send the answer to a request of the driver; ``error`` is what the user's code raised, if anything."""
        if error is not None:
            self.cause = error
        return self.driver.take(make(event), self.now())

    def _answer_items(self, answer: ItemsAnswer) -> bool:
        """Make the answer for a foreach, of many items the rest in later iterations; return whether it is sent."""
        try:
            next(answer)
        except StopIteration as end:
            return self._answer(Items, *end.value)
        self.loop.call_soon(self.engine.post, self, self._answer_more, answer)
        return False

    def _answer_more(self, answer: ItemsAnswer) -> None:
        if self.driver.routing:  # otherwise it has been stopped, for example
            self._answer_items(answer)

    def _set_timer(self, command: SetTimer) -> bool:
        """Start the timer of a step's next attempt; return whether it is already due."""
        step = command.step
        if self.retries.wait(step, command.due_at, partial(self.engine.post, self, self._due, step)):
            return self.driver.take(Due(step), self.now())
        self.hibernation.consider(self)
        self.engine.check_idle()
        return False

    def _cancel_attempts(self) -> None:
        self.retries.cancel()
        self.attempts.drop_starts()
        interrupted = list(self.attempts.running)
        if not self.driver.finishing:  # only what this portion interrupts; others stop, or a rollback follows
            interrupted = [event.step for event in self.driver.batch if isinstance(event, e.StepInterrupted)]
        for step in interrupted:
            self.attempts.abandon(step)

    # -- around the commit ----------------------------------------------------------------------------------

    def commit(self) -> Commit:
        """Return the commit of the batch."""
        if not self.holder:
            self.holder = leases_of(self.store).holder(self.clock.now())
        driver, state = self.driver, self.state
        if (
            self._done_listed + 1 == len(state.finished) <= state.total_steps
            and not (state.waiting or driver.finishing)
            and is_move(driver.batch)
        ):
            self._summary = None
        else:
            self._summary = summarise(state)
        return Commit(self.id, self.written, driver.batch, self._summary, self.holder, driver.finishing, self.payloads)

    def rebase(self, state: State) -> None:
        """Put the batch after events that others have appended since."""
        self.written, self._done_listed, self._summary = state.version, _NOT_LISTED, None
        self.driver.rebase(state)
        self.state = state

    def was_written(self, state: State) -> None:
        """Called if the batch was written although the store raised; ``state`` is the recorded state."""
        self.driver.state = self.state = state
        self.committed()

    def committed(self) -> None:
        """Called when the batch is in the log: answer operations, start the decided attempts, call the observers."""
        driver = self.driver
        if driver.forgotten:
            self.forget(driver.forgotten)
        events = driver.committed()
        if self.payloads:
            parts_written(self.store, self.payloads)
            self.payloads = ()
        first, self.written = self.written + 1, self.state.version
        if self._summary is not None:
            runs = self._summary.state is ExecutionState.RUNNING
            self._done_listed = self._summary.done_steps if runs else _NOT_LISTED
        elif self._done_listed >= 0:
            self._done_listed += 1
        if self.queue_place.beginning:
            self.queue_place.begun(self.state)
        if self._answers:
            answers, self._answers = self._answers, []
            for waiter in answers:
                if not waiter.done():
                    waiter.set_result(None)
        if self.state.cancel is not None and not driver.finishing:  # another process appended the request
            self.attempts.drop_starts()
            self.engine.post(self, only_decide, None)
        self._start_decided()
        observers.notify(self, first, events)
        if driver.finishing:
            self._cancel_attempts()
            self._end()

    def run_ahead(self) -> bool:
        """Start the decided attempts before the commit (run_ahead.py); return False if that must come first."""
        if self._answers or self.driver.finishing or self.driver.closing or self.driver.draining:
            return False
        self._start_decided()
        return True

    def _start_decided(self) -> None:
        if self.attempts.decided and self.stop_requested is None:
            self.attempts.make_ready(self.plan)
            self.engine.launch_soon(self)
        elif self.driver.closing:  # the next portion in the loop's next iteration, after the tasks of this one
            self.loop.call_soon(self.engine.post, self, only_decide, None)
        elif self.driver.has_more and not self.attempts.starting:
            self.engine.post(self, only_decide, None)

    def launch(self, until: float, *, at_once: bool) -> bool:
        """Launch the attempts whose starts are recorded, until a time; return whether all were launched.

        Args:
            until: by `time.monotonic`.
            at_once: whether async steps begin now, not in the loop's next iteration.
        """
        ready = self.attempts.ready
        while ready and not (self.over or self.driver.finishing) and self.stop_requested is None:
            self._launch(ready.pop(), at_once=at_once)
            if ready and time.monotonic() > until:
                return False
        if self.driver.has_more:  # the next portion, now that this one is under way
            self.engine.post(self, only_decide, None)
        return True

    def _launch(self, command: Start, *, at_once: bool) -> None:
        name = command.step
        scope = Scope(self, name, command.visit, command.attempt)
        spec = self.plan.spec(name)
        assert spec is not None, f"the plan has no step {name}"
        attempt = Attempt(spec, scope)
        self.attempts.begin(attempt)
        if spec.policy.cache is not None and (found := self._cached_result(spec, command)) is not None:
            self.engine.post(self, self._take, found)
            return
        try:
            context = self.context.copy()
            observers.prepare(scope, context)
            attempt.start(context, at_once=at_once)
        except Exception as error:  # noqa: BLE001 - the system may refuse a thread: the attempt's outcome
            self.engine.post(self, self.settle, attempt.outcome(error))

    def _cached_result(self, spec: StepSpec, command: Start) -> e.StepCompleted | None:
        """Return the event that takes a cached result instead of running an attempt, if there is one."""
        if self._cached is None:
            from .cache import CachedResults  # here: it imports ast and tokenize, for steps with cache= only

            self._cached = CachedResults()
        return self._cached.take(self, spec, command, self.now())

    # -- the end ----------------------------------------------------------------------------------------------

    @property
    def unrecorded(self) -> list[str]:
        """The finished steps whose results are not in the log."""
        return [event.step for event in self.driver.batch if isinstance(event, e.StepCompleted)]

    async def until_over(self) -> None:
        """Wait until it no longer runs here; cancelling this wait does not touch ``done``, which others may await."""
        if not self.done.done():
            over = self.loop.create_future()  # set together with `done`: a callback of that is an iteration later
            self._awaited_by.append(over)
            try:
                await over
            finally:
                self._awaited_by.remove(over)

    def confirm(self) -> None:
        """Check, from any thread, that this process still has the lease; if not, end the execution here.

        Raises:
            ExecutionBusyError: another process has taken it over.
        """
        try:
            leases_of(self.store).check(self)
        except ExecutionBusyError as error:
            self.loop.call_soon_threadsafe(self.abort, error)
            raise

    def disown(self) -> None:
        """End this copy in a forked child, without writing: the parent process runs the execution."""
        self.over = True
        for attempt in self.attempts.running.values():
            attempt.scope.closed = True

    def end_with_loop(self) -> None:
        """End the execution, from any thread, if its event loop was closed: it can never continue."""
        if self.loop.is_closed():
            self.abort(CerebelumError(f"the event loop of execution {self.id} was closed before it ended"))

    def abort(self, error: BaseException) -> None:
        """End the execution without writing, and release its lease; errors on the way do not prevent that."""
        if self.over:
            return
        self.superseded = isinstance(error, ExecutionBusyError)
        for attempt in self.attempts.running.values():
            with suppress(Exception):
                attempt.abandon()
        with suppress(Exception):
            self.retries.cancel()
        for waiter in self._answers:
            with suppress(Exception):
                if not waiter.done():
                    waiter.set_exception(error)
        self._end(error)

    def _end(self, error: BaseException | None = None) -> None:
        self.over = True
        self.watchers.clear()
        if self.children and error is None and self.state.lifecycle is not ExecutionState.CANCELLED:
            for child in list(self.children.values()):  # `notify_of_end`, below, cancels those of a cancelled one
                self.engine.post(child, child.stop, self.stop_requested or f"its caller {self.id} has ended")
        self.hibernation.stop()
        self.time_limit.stop()
        left = self.attempts.alive()
        if error is not None:
            self.engine.release(self)  # before another thread takes it up, with the same lease
        try:
            note_end(self, is_recorded=error is None and not self.driver.batch)
            self.engine.forget(self, [partial(getattr, a, "alive") for a in left])
            for attempt in left:
                self._when_over(attempt, partial(leases_of(self.store).forget_ended, self.id))
            if (caller := self.attended_by) is not None and not self.loop.is_closed():
                caller.look_again()
        except Exception as trouble:  # noqa: BLE001 - its `done` must be set in any case
            if error is None:
                error = trouble
                self.engine.release(self)
        if error is None and self.state.lifecycle.is_final:
            notify_of_end(self.store, self.id, self.state, caller_waits=self.attended_by is not None)
        if self.done.done() or self.loop.is_closed():
            return
        if error is None:
            self.done.set_result(None)
        else:  # a future refuses StopIteration
            self.done.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)
        for waiter in self._awaited_by:
            if not waiter.done():
                waiter.set_result(None)

    def _when_over(self, attempt: Attempt, action: Callable[[], None]) -> None:
        attempt.when_over(partial(self.engine.on_behalf_of, self, action))


def running_here(store: Store, execution_id: str) -> Execution | None:
    """Return an execution if it runs in this process."""
    held = leases_of(store).running(execution_id)
    return held if isinstance(held, Execution) else None


def only_decide(_: None) -> None:
    """Handle a message that only asks for a decision."""
