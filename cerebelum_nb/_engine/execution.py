"""The local shell around the driver: outcomes become messages, commands become attempts, timers and commits.

What an execution does next is decided in :mod:`.._core.drive`, never here. Nothing here writes to the store either:
events collect in the driver's batch, the engine (loop.py) commits them, and only then ``committed`` starts what was
decided and answers those who wait. Everything runs on the engine's loop, one message after another.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, assert_never

from .._core import events as e
from .._core.drive import Driver
from .._core.events import Event
from .._core.graph import Plan, StepSpec
from .._core.limits import Limit
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
    Leave,
    Recorded,
    Released,
    Routed,
    SetTimer,
    Settled,
    Start,
    Stop,
)
from .._core.settle import Returned, ReturnedError, settle, tries_again
from .._core.state import State, fold
from .._core.state_name import ExecutionState
from .._core.step_state import StepState
from .._core.summary import summarise
from .._core.value import Value
from .._core.waits import AttemptWaits, may_leave, ripe_at, wake_at
from .._store.base import Commit, Store
from .._text.duration import format_seconds
from .._values import Redactor
from ..errors import CerebelumError, ExecutionBusyError, ExecutionTimeoutError, StoreError
from . import observers
from .attempt import Attempt, Interruption
from .call_step import at_failure
from .cancel import cancel_children
from .children import tell_caller
from .clock import Deadline, Timer
from .entry import kept_bytes
from .foreach import join_items, list_items
from .leases import leases_of
from .patience import short_try
from .ports import Outcome, RunLoop, Waiter
from .queue import Turn, slot_after
from .remembered import note_end
from .routing import take_route
from .scope import Scope, Suspension
from .settling import verdict_of
from .staleness import parts_written
from .values import ExecutionValues, MakeContext

__all__ = ["Execution", "running_here"]

log = logging.getLogger("cerebelum_nb")

_INTERRUPTED = (Suspension, Interruption, KeyboardInterrupt)
"""What a step raises when a stop interrupted it, or refused it an operation."""


class Execution(ExecutionValues):
    """A run of a workflow in this process."""

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
        self.handle: Callable[[str | None], str] | None = None  # writes the call that continues it through a handle
        self.traceback_shown = False  # by its view, so that the exception below does not show it again
        self.attempts: dict[str, Attempt] = {}
        self.log_state = State()  # what the log alone says, as far as it had to be read again (see _rebase in loop.py)
        self._awake: dict[str, Attempt] = {}  # those that may be at work; one found waiting is removed
        self._looks = False
        self.written = state.version
        self.over = False
        self.heard_at: int | None = None  # the last heartbeat of the process that ran it before
        self.superseded = False  # another process is running it now
        self.stays = False
        self.watchers: set[Callable[[], None]] = set()
        self.children: dict[str, Execution] = {}  # that run here for its steps, by id
        self.attended_by: Execution | None = None  # its caller, if a step of that waits for it in this process
        self.cause: BaseException | None = None
        self.payloads: tuple[Value, ...] = ()
        self.begun = False
        self.stopped_at: float | None = None  # when somebody stopped or cancelled it, by the loop's clock
        self.stop_requested: str | None = None  # why; from then on no step, effect or attempt starts
        self.done: asyncio.Future[None] = engine.loop.create_future()
        self.context = contextvars.copy_context()
        self._ahead = self.clock.now() - self.clock.monotonic()
        self._starts: list[Start] = []  # decided on, but not committed yet
        self._ready: deque[Start] = deque()  # committed, but not launched yet
        self._answers: list[Waiter] = []
        self._timers: dict[str, Timer] = {}
        self._retries: dict[str, Deadline] = {}  # of steps that failed in this turn
        self._zombies: dict[str, Attempt] = {}
        self._keys: dict[str, str] = {}  # of what attempts of cached steps compute
        self._ripening: Timer | None = None
        self._expiry: Timer | None = None
        rule = plan.concurrency
        self.turn = Turn(engine.store, execution_id, "queue" if rule is None else rule.on_conflict)
        self.when_queued: Callable[[], None] | None = None  # called when that is recorded
        self._looks_at_queue = False
        self._beginning: Sequence[Event] = ()  # the events that start or resume it, until it has its slot

    @property
    def queued(self) -> bool:
        """Whether it waits for its slot."""
        return self.state.lifecycle is ExecutionState.QUEUED

    @property
    def limit(self) -> Limit | None:
        """How far it goes before it pauses."""
        return self.driver.limit

    @limit.setter
    def limit(self, limit: Limit | None) -> None:
        self.driver.limit = limit

    @property
    def limited(self) -> bool:
        """Whether its limit is what ended it."""
        return self.driver.limited

    @property
    def finishing(self) -> bool:
        """Whether nothing more happens to it in this process."""
        return self.driver.finishing

    @property
    def batch(self) -> list[Event]:
        """Events that are not committed yet."""
        return self.driver.batch

    # -- what steps and operations ask ----------------------------------------------------------------------

    def now(self) -> int:
        """Return the time of what happens now; never before the last event.

        It follows the monotonic clock, so two events of this process are as far apart in the log as they were in fact,
        even if the wall clock was changed between them. When nothing is at work it is set to the wall clock again.
        """
        at, last = self.engine.turn_at, self.state.updated_at
        now = self._ahead + (self.clock.monotonic() if at is None else at)
        return now if now > last else last

    def payload(self, value: Value) -> bytes:
        """Return the bytes of a recorded value that this process may unpickle.

        Raises:
            UntrustedValueError: somebody else may have made them.
            StoreError: the log no longer holds them.
        """
        return kept_bytes(self.store, value)

    def post_record(self, event: Event, waiter: Waiter) -> None:
        """Take an operation's event; ``waiter`` is answered when it is committed."""
        self.engine.post(self, self._record, (event, waiter))

    def ride(self, make: Callable[[], Event | None]) -> None:
        """Record something with the next commit that is not worth a commit of its own; ``make`` is called then."""
        if not self.over and not self.finishing and self.driver.ride(make):
            self.engine.flush_later(self)

    def waits_changed(self) -> None:
        """Hear that a step began to wait, or has waited for long; many at once cause one check."""
        if not self._looks:
            self._looks = True
            self.loop.call_soon(self.engine.on_behalf_of, self, self._look_at_waits)

    def wait_ended(self, step: str) -> None:
        """Hear that a step no longer waits."""
        if step in self.attempts:
            self._awake[step] = self.attempts[step]
        self.engine.stirs(self)

    def note_blocking(self, step: str, seconds: float) -> None:
        """Note how long an async step has blocked the loop."""
        self.engine.note_blocking(step, seconds)

    def note_own(self, seconds: float) -> None:
        """Note how long the loop was busy with work that is not the step's."""
        self.engine.note_own(seconds)

    @property
    def all_wait(self) -> bool:
        """Whether everything in flight waits for the clock; each attempt that begins to wait is checked once."""
        if self.queued:
            return not self._looks_at_queue
        while self._awake:
            if not next(iter(self._awake.values())).scope.waits:
                return False
            del self._awake[next(iter(self._awake))]
        return not (self._ready or self._looks) and bool(self.attempts or self._timers)

    # -- messages -------------------------------------------------------------------------------------------

    def begin(self, events: Sequence[Event]) -> None:
        """Take the events that start or resume it; the engine then decides what to start."""
        why = "it hibernated" if self.state.hibernated else "its process ended"
        if self.state.slot or slot_after(events, self.state):
            self._beginning = events
            events = self.turn.enter(events, self.state, self.now())
        self.driver.take(Begin(events, why, self.heard_at), self.now())
        self._limit_time()

    def _limit_time(self) -> None:
        """Fail it when its time is over; that begins when it has its slot."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if (ends := self._ends_at) is not None:
            deadline = Deadline(self.clock, ends)
            if deadline.rest() <= 0:  # while it had no process: nothing starts any more
                self._expire(None)
            else:
                self._expiry = self.clock.call_at(deadline, partial(self.engine.post, self, self._expire, None))

    @property
    def _ends_at(self) -> int | None:
        """When its time is over, µs since the epoch; a rollback takes the time it takes."""
        timeout = self.plan.timeout
        if timeout is None or self.state.is_rolling_back or self.queued:
            return None
        return self.state.resumed_at + round(timeout * 1e6)

    def _expire(self, _: None) -> None:
        if self.finishing:
            return
        limit = format_seconds(self.plan.timeout or 0)
        error = ExecutionTimeoutError(f"it took longer than the timeout of its workflow, {limit}, waits included")
        self._ride_all_printed()
        if self.driver.take(Expire(self.describe(error)), self.now()):
            self.cause = error

    def look_at_queue_soon(self) -> None:
        """Ask, from any thread, to check whether the slot is free."""
        if not self.loop.is_closed():
            self._looks_at_queue = True
            self.engine.stirs(self)
            self.loop.call_soon_threadsafe(self.engine.post, self, self.look_at_queue, None)

    def look_at_queue(self, _: None = None) -> None:
        """Try to get the slot, if it is this one's turn."""
        self._looks_at_queue = False
        if not self.queued or self.finishing:
            return
        try:
            has_come = self.turn.has_come(self.state, self.clock.monotonic(), self.clock.now())
        except StoreError as error:
            if not error.transient:
                raise
            has_come = False  # the log is locked: it is looked again soon
        if has_come:
            self.driver.take(Admitted(), self.now())
            self._limit_time()

    def lost_turn(self) -> None:
        """Go back to what is recorded, and queue: another execution got the slot first."""
        before, state = self.driver, fold(self.store.events(self.id))
        self.driver = Driver(self.plan, state, before.limit)
        self.driver.draining = before.draining
        self.state = state
        self._starts.clear()
        if self._beginning:
            self.begin(self._beginning)
            self.advance()

    def ended(self, outcome: Outcome) -> None:
        """Take the outcome of an attempt into the inbox."""
        self.engine.post_outcome(self, outcome)

    def settle(self, outcome: Outcome) -> None:
        """Take the outcome of an attempt."""
        attempt = self.attempts.get(outcome.step)
        if attempt is None or (attempt.scope.visit, attempt.scope.attempt) != (outcome.visit, outcome.attempt):
            return
        del self.attempts[outcome.step]
        self._awake.pop(outcome.step, None)
        scope = attempt.scope
        if scope.closed:
            return
        if self.attempts and next(iter(self.attempts.values())).scope.waits:
            self.engine.post(self, self._look_at_waits, None)
        if scope.checkpoints is not None:
            self.driver.take_riders()
        scope.close()
        at_work = scope.thread is not None and attempt.alive
        if at_work:
            self._zombies[scope.step] = attempt
            self._when_over(attempt, partial(self._on_end_of_thread, scope.step))
        now = self.now()
        printed = None if scope.printed is None else scope.take_printed(now, all_of_it=True)
        if self.stop_requested is not None and isinstance(outcome.error, _INTERRUPTED):
            self.driver.ride(lambda: printed)
            return  # for the log it is still in flight: the stop interrupts it
        verdict = verdict_of(self, attempt.spec, outcome)
        due_at, policy, failures = None, attempt.spec.policy, self._known(scope.step).failures
        if tries_again(policy, failures, verdict):
            deadline = self._retries[scope.step] = Deadline.after(self.clock, policy.delay(failures, random.random()))
            due_at = deadline.at
        event = settle(verdict, due_at=due_at, at=now, step=scope.step, visit=scope.visit, attempt=scope.attempt)
        if self._keys and isinstance(event, e.StepCompleted) and scope.step in self._keys:
            event = self._with_key(event, attempt.spec)
        events: list[Event] = [event] if printed is None else [printed, event]
        if isinstance(event, e.StepFailed):
            self.cause = outcome.error
            if outcome.error is not None:
                events[:0] = at_failure(attempt.spec, scope, outcome.error)
        self.driver.take(Settled(scope.step, scope.visit, scope.attempt, events, at_work), now)
        if isinstance(verdict, Returned):
            self.keep_live(scope.step, scope.visit, verdict.value, outcome.live)
        if self._given and not isinstance(verdict, ReturnedError):
            self.warn_of_changes(scope.step)

    def ask_to_stop(self, reason: str) -> None:
        """Stop it, from any thread or a signal handler: nothing more starts, and it pauses soon."""
        self.stop_requested = reason
        for child in list(self.children.values()):
            child.ask_to_stop(reason)
        if not self.over and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.engine.post, self, _only_decide, None)

    def stop(self, reason: str) -> None:
        """Pause it: whatever is in flight is interrupted, everything finished is kept."""
        self._note_stop()
        self._ride_all_printed()
        self.driver.take(Stop(reason), self.now())

    def cancel(self, request: e.CancelRequested) -> None:
        """End it for good."""
        self._note_stop()
        self._ride_all_printed()
        self.driver.take(Cancel(request.reason, request.by), self.now())

    def cancel_soon(self, request: e.CancelRequested) -> None:
        """End it for good, from any thread."""
        self.loop.call_soon_threadsafe(self.engine.post, self, self.cancel, request)

    def drain(self) -> None:
        """Start nothing more, and hibernate as soon as no step is at work: another process resumes it."""
        for child in list(self.children.values()):
            child.drain()
        if not self.over:
            self.driver.take(Drain(), self.now())
            self.engine.post(self, self._hibernate, None)

    @property
    def draining(self) -> bool:
        """Whether it starts nothing more, because another process will resume it."""
        return self.driver.draining

    def look_again(self) -> None:
        """Ask those that wait whether what they wait for has happened; on its loop."""
        if not self.over:
            self.engine.post(self, _only_decide, None)

    def consider_hibernation(self) -> None:
        """End the run in this process if it only waits, and will for long."""
        if self.engine.hibernate_after is None or self.stays or self.over or self.finishing or self.queued:
            return
        if not self.all_wait:
            return
        now = self.clock.now()
        ripe = self._ripe_at(self.engine.hibernate_after, now)
        if ripe is None:
            return
        if ripe <= now:
            self.engine.post(self, self._hibernate, None)
        else:
            if self._ripening is not None:
                self._ripening.cancel()
            look = partial(self.engine.on_behalf_of, self, self._look_at_waits)
            self._ripening = self.clock.call_at(Deadline(self.clock, ripe), look)

    def cancelled_from_outside(self, step: str) -> None:
        """Record at once that something else cancelled a step's task, such as the end of ``asyncio.run``."""
        if not self.over:
            self.engine.post(self, self.stop, f"step '{step}' was cancelled from outside")
            self.engine.flush()

    def look_soon(self) -> None:
        """Ask, from any thread, to check for events that others have appended."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.engine.look, self)

    def advance(self) -> None:
        """Carry out what follows from the messages, until there is nothing left to decide."""
        if self.state.cancel is not None:
            self._note_stop()
            self._ride_all_printed()
        elif self.stop_requested is not None:  # after what arrived with it: that is finished, and is kept
            self.stop(self.stop_requested)
        else:
            for is_due in list(self.watchers) if self.watchers else ():
                is_due()
        if not (self.attempts or self._starts or self._ready):  # nothing is being measured: back to the wall clock
            self._ahead = self.clock.now() - (self.engine.turn_at or self.clock.monotonic())
        answered = True
        while answered:
            answered = False
            for command in self.driver.advance(self.now()):
                match command:
                    case Start():
                        self._starts.append(command)
                    case AskRoute():
                        self.driver.take(Routed(self._choose(command.step)), self.now())
                        answered = True
                    case AskItems():
                        self.driver.take(Items(self._list(command.step)), self.now())
                        answered = True
                    case JoinItems():
                        self.driver.take(Items(join_items(self, command.step, self.now())), self.now())
                        answered = True
                    case SetTimer():
                        answered = self._set_timer(command) or answered
                    case CancelAttempts():
                        self._cancel_attempts()
                        if not self.driver.finishing:  # a rollback follows: nothing waits for what was given up
                            self._zombies |= self.attempts
                            self.attempts.clear()
                            self._awake.clear()
                    case End():
                        pass  # the commit gives the lease back, and `committed` ends the run
                    case _:
                        assert_never(command)
        if self.driver.draining and not self.driver.finishing:
            self._hibernate(None)

    def take_progress(self) -> None:
        """Commit the waiting progress events by themselves."""
        self.driver.take_riders()

    # -- around the commit ----------------------------------------------------------------------------------

    def commit(self) -> Commit:
        """Return what must be written."""
        if not self.holder:
            self.holder = leases_of(self.store).holder(self.clock.now())
        driver = self.driver
        return Commit(
            self.id, self.written, driver.batch, summarise(self.state), self.holder, driver.finishing, self.payloads
        )

    def rebase(self, state: State) -> None:
        """Put the batch after events that others have appended since."""
        self.written = state.version
        self.driver.rebase(state)
        self.state = state

    def was_written(self, state: State) -> None:
        """Hear that the batch was written although the store raised; ``state`` is what is recorded."""
        self.driver.state = self.state = state
        self.committed()

    def committed(self) -> None:
        """Hear that the batch is in the log: answer those who wait, start what was decided, tell the observers."""
        driver = self.driver
        if driver.forgotten:
            self.forget(driver.forgotten)
        events = driver.committed()
        if self.payloads:
            parts_written(self.store, self.payloads)
            self.payloads = ()
        first, self.written = self.written + 1, self.state.version
        if self._beginning:
            self._beginning = ()
            if self.queued and self.when_queued is not None:
                self.when_queued()
        if self._answers:
            answers, self._answers = self._answers, []
            for waiter in answers:
                if not waiter.done():
                    waiter.set_result(None)
        if self.state.cancel is not None and not driver.finishing:  # it was among what others appended
            self._starts.clear()
            self._ready.clear()
            self.engine.post(self, _only_decide, None)
        if self._starts and self.stop_requested is None:
            if len(self._starts) > 1:  # threads first: an async step that blocks the loop must not hold them back
                self._starts.sort(key=self._is_async)
            self._ready += self._starts
            self._starts = []
            self.engine.launch_soon(self)
        observers.tell(self, first, events)
        if driver.finishing:
            self._cancel_attempts()
            self._end()

    def launch(self, until: float, *, at_once: bool) -> bool:
        """Launch what is recorded as started, but not beyond a time; return whether that was all.

        Args:
            until: by `time.monotonic`.
            at_once: whether async steps begin now, and not at the loop's next turn.
        """
        ready = self._ready
        while ready and not (self.over or self.driver.finishing) and self.stop_requested is None:
            self._launch(ready.popleft(), at_once=at_once)
            if ready and time.monotonic() > until:
                return False
        return True

    def confirm(self) -> None:
        """Check, from any thread, that this process may still act for the execution; if not, end it here.

        Raises:
            ExecutionBusyError: another process has taken it over.
        """
        try:
            leases_of(self.store).check(self)
        except ExecutionBusyError as error:
            self.loop.call_soon_threadsafe(self.abort, error)
            raise

    def disown(self) -> None:
        """Let go of it in a forked child: it runs in the parent process, and this copy does nothing more."""
        self.over = True
        for attempt in self.attempts.values():
            attempt.scope.closed = True

    def abort(self, error: BaseException) -> None:
        """End it without writing, and give the lease back; it is over afterwards, whatever is raised in between."""
        if self.over:
            return
        self.superseded = isinstance(error, ExecutionBusyError)
        for attempt in self.attempts.values():
            with suppress(Exception):
                attempt.abandon()
        for timer in self._timers.values():
            with suppress(Exception):
                timer.cancel()
        for waiter in self._answers:
            with suppress(Exception):
                if not waiter.done():
                    waiter.set_exception(error)
        self._end(error)

    def end_with_loop(self) -> None:
        """End it, from any thread, if its event loop was closed: it can never continue."""
        if self.loop.is_closed():
            self.abort(CerebelumError(f"the event loop of execution {self.id} was closed before it ended"))

    @property
    def unrecorded(self) -> list[str]:
        """The steps that finished, but whose results are not in the log."""
        return [event.step for event in self.batch if isinstance(event, e.StepCompleted)]

    # -- private --------------------------------------------------------------------------------------------

    def _record(self, message: tuple[Event, Any]) -> None:
        event, waiter = message
        if self.driver.take(Recorded(event), self.now()):
            self._answers.append(waiter)
        elif not waiter.done():
            waiter.set_exception(Suspension(f"execution {self.id} has ended here; nothing it does now is recorded"))

    def _set_timer(self, command: SetTimer) -> bool:
        """Wait until the next attempt is due; return whether it already is."""
        name = command.step
        deadline = self._retries.pop(name, None) or Deadline(self.clock, command.due_at)
        if deadline.rest() <= 0:
            return self.driver.take(Due(name), self.now())
        self._timers[name] = self.clock.call_at(deadline, partial(self.engine.post, self, self._due, name))
        self.consider_hibernation()
        self.engine.check_idle()
        return False

    def _due(self, step: str) -> None:
        self._timers.pop(step, None)
        if self.stop_requested is None:  # else the pending stop interrupts it before it starts
            self.driver.take(Due(step), self.now())

    def _on_end_of_thread(self, step: str) -> None:
        if not self.over:
            self.engine.post(self, self._released, step)

    def _released(self, step: str) -> None:
        self._zombies.pop(step, None)
        self.driver.take(Released(step), self.now())

    def _is_async(self, command: Start) -> bool:
        spec = self.plan.spec(command.step)
        return spec is None or spec.is_async

    def _launch(self, command: Start, *, at_once: bool) -> None:
        name = command.step
        scope = Scope(self, name, command.visit, command.attempt)
        spec = self.plan.spec(name)
        assert spec is not None, f"nothing is known of step {name}"
        attempt = Attempt(spec, scope)
        self.attempts[name] = self._awake[name] = attempt
        if spec.policy.cache is not None and self._has_result(spec, command):
            return
        try:
            context = self.context.copy()
            observers.prepare(scope, context)
            attempt.start(context, at_once=at_once)
        except Exception as error:  # noqa: BLE001 - the system may refuse a thread: that is then the attempt's outcome
            self.engine.post(self, self.settle, attempt.outcome(error))

    def _has_result(self, spec: StepSpec, command: Start) -> bool:
        """Look for a result that is taken instead of running an attempt; if there is one, it will be its outcome."""
        from . import cache  # it imports ast and tokenize, which other steps do not need

        name = command.step
        key = cache.key_of_result(self, spec, name)
        if key is None:
            return False
        event = cache.find(self, spec, name, command.visit, key, self.now())
        if event is None:
            self._keys[name] = key
            return False
        self.engine.post(self, self._take, event)
        return True

    def _take(self, event: e.StepCompleted) -> None:
        """Take a recorded result as the outcome of an attempt."""
        attempt = self.attempts.get(event.step)
        if attempt is None or attempt.scope.closed or attempt.scope.visit != event.visit:
            return
        del self.attempts[event.step]
        self._awake.pop(event.step, None)
        scope = attempt.scope
        scope.close()
        now = self.now()
        made = replace(event, at=now, attempt=scope.attempt)
        self.driver.take(Settled(scope.step, scope.visit, scope.attempt, [made]), now)
        self.live.pop(scope.step, None)

    def _with_key(self, event: e.StepCompleted, spec: StepSpec) -> e.StepCompleted:
        """Note the key by which later executions find this result, unless it is not what the key says."""
        from . import cache

        key = self._keys.pop(event.step)
        same = event.output.restorable and cache.still_same(spec, key, self, event.step)
        return replace(event, key=key) if same else event

    def _choose(self, name: str) -> e.DivergeTaken | e.BranchTaken | e.WorkflowFailed:
        """Match the outcome of a step against its routes."""
        event, error = take_route(self, name, self.now())
        if error is not None:
            self.cause = error
        return event

    def _list(self, name: str) -> e.ItemsListed | e.StepFailed:
        """Name the items of a foreach."""
        event, error = list_items(self, name, self.now())
        if error is not None:
            self.cause = error
        return event

    def _known(self, name: str) -> StepState:
        step = self.state.step(name)
        assert step is not None, f"step {name} has begun"
        return step

    def _look_at_waits(self, _: None = None) -> None:
        self._looks = False
        if self.driver.draining and not (self.over or self.finishing):
            self.engine.post(self, self._hibernate, None)
        self.consider_hibernation()
        self.engine.check_idle()

    def _hibernate(self, _: None) -> None:
        """Stop waiting in this process, if waiting is still all there is to do."""
        after, now = self.engine.hibernate_after, self.clock.now()
        if self.finishing:
            return
        if self.driver.draining:
            if self._starts or self._ready or not all(map(may_leave, self._waits())):
                return
        else:
            ripe = None if after is None else self._ripe_at(after, now)
            if ripe is None or ripe > now or self._starts or self._ready:
                return
        self._ride_all_printed()
        now = self.now()
        wake = now if self.driver.held_back else wake_at(self._waits(), self._retry_times(), now)
        if (ends := self._ends_at) is not None:
            wake = ends if wake is None else min(wake, ends)
        self.driver.take(Leave(wake), now)

    def _ripe_at(self, after: int, now: int) -> int | None:
        return ripe_at(self._waits(), self._retry_times(), len(self.state.in_flight), after, now)

    def _waits(self) -> list[AttemptWaits]:
        return [
            AttemptWaits(attempt.scope.waits, self._known(name).operations, attempt.spec.policy.effect == "external")
            for name, attempt in self.attempts.items()
        ]

    def _retry_times(self) -> list[int]:
        """When the next attempts of failed steps start, µs since the epoch."""
        known = map(self.state.step, self._timers)
        return [step.due_at for step in known if step is not None and step.due_at is not None]

    def _note_stop(self) -> None:
        if self.stopped_at is None:
            self.stopped_at = self.loop.time()

    def _cancel_attempts(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._starts.clear()
        self._ready.clear()
        for attempt in self.attempts.values():
            attempt.abandon()

    def _ride_all_printed(self) -> None:
        """Record what was printed so far, before the event that ends the attempts."""
        for attempt in self.attempts.values():
            if attempt.scope.printed is not None and not self.finishing:
                self.driver.ride(partial(attempt.scope.take_printed, self.now(), all_of_it=True))

    def _when_over(self, attempt: Attempt, action: Callable[[], None]) -> None:
        attempt.when_over(partial(self.engine.on_behalf_of, self, action))

    def _end(self, error: BaseException | None = None) -> None:
        self.over = True
        self.watchers.clear()
        if self.children and error is None and self.state.lifecycle is not ExecutionState.CANCELLED:
            for child in list(self.children.values()):  # a cancelled one cancels them, below
                self.engine.post(child, child.stop, self.stop_requested or f"its caller {self.id} has ended")
        for timer in (self._ripening, self._expiry):
            if timer is not None:
                timer.cancel()
        left = [a for a in (*self.attempts.values(), *self._zombies.values()) if a.alive]
        try:
            note_end(self)
            self.engine.forget(self, [partial(getattr, a, "alive") for a in left])
            for attempt in left:
                self._when_over(attempt, partial(leases_of(self.store).forget_ended, self.id))
            if (caller := self.attended_by) is not None and not self.loop.is_closed():
                caller.look_again()
        except Exception as trouble:  # noqa: BLE001 - whoever waits for this run must learn that it ended
            error = error or trouble
        if error is not None:
            self.engine.release(self)
        elif self.state.lifecycle.is_final:
            self._tell_of_end()
        if self.done.done() or self.loop.is_closed():
            return
        if error is None:
            self.done.set_result(None)
        else:  # a future refuses StopIteration
            self.done.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)

    def _tell_of_end(self) -> None:
        """Tell those that this concerns, after the last commit: children, and the caller."""
        state = self.state
        if state.lifecycle is ExecutionState.CANCELLED:
            cancel_children(self.store, self.id, state)
        if state.caller and self.attended_by is None:
            try:
                with short_try():
                    tell_caller(self.store, self.id, state.caller, state.caller_step)
            except CerebelumError as error:  # the scheduler finds it
                log.warning("execution %s could not be told that its child %s ended: %s", state.caller, self.id, error)


def running_here(store: Store, execution_id: str) -> Execution | None:
    """Return the execution if it runs in this process."""
    held = leases_of(store).running(execution_id)
    return held if isinstance(held, Execution) else None


def _only_decide(_: None) -> None:
    """Handle a message that only asks for a decision."""
