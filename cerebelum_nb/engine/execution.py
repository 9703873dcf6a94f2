"""One execution at work: outcomes become events, decisions become attempts.

Nothing here touches the store: events gather in ``batch``, the engine commits them, and only then ``committed``
starts what was decided and answers who waited. Everything runs on the engine's loop, one message after another.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

from ..core import events as e
from ..core.decide import ChooseRoute, Command, Complete, Fail, Jump, Position, StartStep, decide
from ..core.events import Event
from ..core.model import ErrorInfo, Plan, Value
from ..core.state import Phase, State, evolve
from ..core.stepping import Limit, permits, standing_before
from ..errors import CerebelumError, DependencyError, ExecutionBusyError, OperationError
from ..store.base import Commit
from ..values import Vault
from . import hibernation, observers, routes
from .attempt import Attempt, Interruption, Outcome
from .clock import Deadline, Timer
from .code import parts_written
from .lease import keeper_of
from .remembered import note_end
from .scope import Scope, Suspension
from .summary import summarise
from .values import ExecutionValues

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Execution"]

_BROKEN_OFF = (Suspension, Interruption, KeyboardInterrupt)
"""What a step raises that a stop broke into, or refused an operation."""


class Execution(ExecutionValues):
    """A run of a workflow in this process."""

    def __init__(self, engine: Engine, execution_id: str, plan: Plan, state: State, holder: int, vault: Vault) -> None:
        super().__init__(engine, execution_id, plan, state, vault)
        self.loop, self.clock, self.holder = engine.loop, engine.clock, holder
        self.variable = ""  # how its workflow is called here
        self.handle: Callable[[str | None], str] | None = None  # writes the call of a handle that goes on with it
        self.attempts: dict[str, Attempt] = {}
        self._busy: Attempt | None = None  # one of them that was found at work
        self._looks = False
        self.batch: list[Event] = []
        self.written = state.version
        self.over = False
        self.superseded = False  # another process runs it now
        self.finishing = False
        self.stays = False
        self.draining = False
        self._held_back = False
        self.watchers: set[Callable[[], None]] = set()
        self.cause: BaseException | None = None
        self.limit: Limit | None = None
        self.limited = False
        self.payloads: tuple[Value, ...] = ()
        self.begun = False
        self.stopped_at: float | None = None  # when somebody stopped or cancelled it, by the loop's clock
        self.stop_requested: str | None = None  # why; from then on no step, effect or attempt starts
        self.done: asyncio.Future[None] = engine.loop.create_future()
        self.context = contextvars.copy_context()
        self._ahead = self.clock.now() - self.clock.monotonic()
        self._position = Position.at_start(plan)
        self._changed: list[str] | None = None
        self._starts: list[StartStep] = []
        self._answers: list[Any] = []
        self._timers: dict[str, Timer] = {}
        self._retries: dict[str, Deadline] = {}  # of steps that failed in this turn
        self._zombies: dict[str, Attempt] = {}
        self._progress: list[Callable[[], Event | None]] = []
        self._ripening: Timer | None = None

    # -- what steps and operations ask ----------------------------------------------------------------------

    def now(self) -> int:
        """Return the time of what happens now; never before the last event.

        It runs with the monotonic clock, so that the times of two events of this process are as far apart as they were,
        whatever the wall clock was set to between them. When nothing is at work it is set by the wall clock again.
        """
        at, last = self.engine.turn_at, self.state.updated_at
        now = self._ahead + (self.clock.monotonic() if at is None else at)
        return now if now > last else last

    def post_record(self, event: Event, waiter: Any) -> None:
        """Take an operation's event; ``waiter`` is answered when it is committed."""
        self.engine.post(self, self._record, (event, waiter))

    def note_progress(self, scope: Scope) -> None:
        """Keep a progress event, which rides on the next commit."""
        if self.over or scope.closed or scope.percent is None:
            return
        event = e.StepProgressed(
            at=self.now(),
            step=scope.step,
            visit=scope.visit,
            attempt=scope.attempt,
            percent=scope.percent,
            message=self.vault.mask(scope.message) if self.vault else scope.message,
        )
        if not self._progress:
            self.engine.flush_later(self)
        self._progress.append(lambda: event)

    def note_printed(self, scope: Scope) -> None:
        """Keep an event of what a step printed, which rides on the next commit."""
        if self.over or self.finishing or scope.closed or scope.printed is None:
            return
        if not self._progress:
            self.engine.flush_later(self)
        self._progress.append(partial(self._printed_event, scope, self.now()))  # until then views find it in the scope

    def waits_changed(self) -> None:
        """Hear that a step began to wait, or has waited for long; many that begin together are looked at once."""
        if not self._looks:
            self._looks = True
            self.loop.call_soon(self.engine.on_behalf_of, self, self._look_at_waits)

    @property
    def all_wait(self) -> bool:
        """Whether everything in flight waits for the clock. Who was at work last is asked first: it mostly still is."""
        busy = self._busy
        if busy is None or busy.scope.waits or self.attempts.get(busy.spec.name) is not busy:
            self._busy = next((attempt for attempt in self.attempts.values() if not attempt.scope.waits), None)
        return self._busy is None and bool(self.attempts or self._timers)

    def retry_times(self) -> list[int]:
        """When the next attempts of failed steps start, µs since the epoch."""
        steps = self.state.steps
        return [due for name in self._timers if name in steps and (due := steps[name].due_at) is not None]

    # -- messages -------------------------------------------------------------------------------------------

    def begin(self, events: Sequence[Event]) -> None:
        """Take the events that start or resume it; the engine then decides what to start."""
        why = "it hibernated" if self.state.hibernated else "its process ended"
        for name in list(self.state.in_flight):
            self._interrupt(name, why)
        for event in events:
            self.append(event)

    def settle(self, outcome: Outcome) -> None:
        """Take the outcome of an attempt."""
        scope = outcome.scope
        attempt = self.attempts.pop(scope.step, None)
        if scope.closed or attempt is None:
            return
        if self.attempts and next(iter(self.attempts.values())).scope.waits:
            self.engine.post(self, self._look_at_waits, None)
        scope.close()
        if attempt.alive and attempt.thread is not None:
            self._zombies[scope.step] = attempt
        self._touch(scope.step)
        self._take_printed(scope)
        if self.stop_requested is not None and isinstance(outcome.error, _BROKEN_OFF):
            return  # still in flight as far as the log knows: the stop interrupts it
        if outcome.error is not None:
            self._failed(attempt, outcome.error)
            return
        value, live = outcome.value, outcome.live
        assert value is not None
        if type(live) is dict and len(live) == 1 and "error" in live:
            text = str(live["error"])
            reason = self.vault.mask(text) if self.vault else text
            info = ErrorInfo(type="returned error", message=reason, reason=reason)
            self.cause = None
            self.append(e.StepFailed(**_header(self.now(), scope), error=info, output=value))
            return
        self.keep_live(scope.step, scope.visit, value, live)
        self.append(
            e.StepCompleted(at=self.now(), step=scope.step, visit=scope.visit, attempt=scope.attempt, output=value)
        )
        self.warn_of_changes(scope.step)

    def start_due(self, command: StartStep) -> None:
        """Start an attempt whose time has come."""
        self._timers.pop(command.step, None)
        step = self.state.steps.get(command.step)
        if step is None or step.phase is Phase.RETRYING or step.phase is Phase.PENDING:
            self._start(StartStep(command.step, command.visit, command.attempt))

    def ask_to_stop(self, reason: str) -> None:
        """Stop it, from any thread and from a signal handler: nothing starts any more, and it pauses soon."""
        self.stop_requested = reason
        if not self.over and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.engine.post, self, _decide_anew, None)

    def stop(self, reason: str) -> None:
        """Pause it: whatever is in flight is interrupted, everything finished is kept."""
        if self.stopped_at is None:
            self.stopped_at = self.loop.time()
        if self.finishing:
            return
        self._interrupt_all(reason)
        self.append(e.WorkflowPaused(at=self.now(), reason=reason))
        self.finishing = True

    def cancel(self, request: e.CancelRequested) -> None:
        """End it for good."""
        if self.stopped_at is None:
            self.stopped_at = self.loop.time()
        if self.finishing:
            return
        self._interrupt_all("cancelled")
        self.append(e.WorkflowCancelled(at=self.now(), reason=request.reason, by=request.by))
        self.finishing = True

    def drain(self) -> None:
        """Start nothing more, and hibernate as soon as no step is at work: others go on with it."""
        if not self.over:
            self.draining = True
            self.engine.post(self, self._hibernate, None)

    def consider_hibernation(self) -> None:
        """End the run in this process if all it does is wait, and for long."""
        if self.engine.hibernate_after is None or self.stays or self.over or self.finishing:
            return
        if not self.all_wait:
            return
        now = self.clock.now()
        ripe_at = hibernation.ripe_at(self, self.engine.hibernate_after, now)
        if ripe_at is None:
            return
        if ripe_at <= now:
            self.engine.post(self, self._hibernate, None)
        else:
            if self._ripening is not None:
                self._ripening.cancel()
            look = partial(self.engine.on_behalf_of, self, self._look_at_waits)
            self._ripening = self.clock.call_at(Deadline(self.clock, ripe_at), look)

    def cancelled_from_outside(self, step: str) -> None:
        """A step's task was cancelled by somebody else, as at the end of ``asyncio.run``: record it at once."""
        if not self.over:
            self.engine.post(self, self.stop, f"step '{step}' was cancelled from outside")
            self.engine.flush()

    def look_soon(self) -> None:
        """Ask, from any thread, to look for events that others appended."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.engine.look, self)

    def advance(self) -> None:
        """Decide, and turn decisions into events, until all that can start has started."""
        if self.state.cancel is not None and not self.finishing:
            self.cancel(self.state.cancel)
        if self.stop_requested is not None:  # after what came in together with it: that is done, and is kept
            self.stop(self.stop_requested)
        for is_due in list(self.watchers):
            is_due()
        while not self.finishing:
            commands = decide(self.plan, self.state, self._position, self._changed)
            self._changed = []
            if self.limit is not None and not self._permitted(self.limit, commands):
                return
            more = False
            for command in commands:
                if type(command) is StartStep:
                    if self.draining:
                        self._held_back = True
                    else:
                        self._start(command)
                else:
                    more = self._follow(command)
            if not more:
                break
        if self.draining and not self.finishing:
            self._hibernate(None)

    def append(self, event: Event) -> None:
        """Fold an event and have it committed."""
        if self._progress:
            self.take_progress()
        evolve(self.state, event)
        self.batch.append(event)

    def take_progress(self) -> None:
        """Let the waiting progress events ride on this commit."""
        waiting, self._progress = self._progress, []
        for make in waiting:
            if (event := make()) is not None:
                evolve(self.state, event)
                self.batch.append(event)

    # -- around the commit ----------------------------------------------------------------------------------

    def commit(self) -> Commit:
        """Describe what is to be written."""
        return Commit(
            execution_id=self.id,
            after=self.written,
            events=self.batch,
            summary=summarise(self.state),
            holder=self.holder,
            release=self.finishing,
            payloads=self.payloads,
        )

    def rebase(self, state: State) -> None:
        """Put the batch behind events that others appended meanwhile."""
        self.written = state.version
        kept = hibernation.still_true(self.batch, state)
        if len(kept) < len(self.batch) and self.finishing:
            self.finishing = False
        self.batch = kept
        for event in self.batch:
            evolve(state, event)
        self.state = state

    def committed(self) -> None:
        """The batch is in the log: it counts now."""
        events, self.batch = self.batch, []
        if self.payloads:
            parts_written(self.engine.store, self.payloads)
            self.payloads = ()
        first, self.written = self.written + 1, self.state.version
        if self._answers:
            answers, self._answers = self._answers, []
            for waiter in answers:
                if not waiter.done():
                    waiter.set_result(None)
        if self.state.cancel is not None and not self.finishing:  # it came with what others appended
            self._starts.clear()
            self.engine.post(self, self.cancel, self.state.cancel)
        if self._starts and self.stop_requested is None:
            starts, self._starts = self._starts, []
            for command in starts:
                self._launch(command)
        observers.tell(self, first, events)
        if self.finishing:
            for attempt in self.attempts.values():
                attempt.abandon()
            for timer in self._timers.values():
                timer.cancel()
            self._end()

    def confirm(self) -> None:
        """Make sure, from any thread, that this process may still act for the execution; if not, end it here.

        Raises:
            ExecutionBusyError: another process has taken it over.
        """
        try:
            keeper_of(self.engine.store).check(self)
        except ExecutionBusyError as error:
            self.loop.call_soon_threadsafe(self.abort, error)
            raise

    def disown(self) -> None:
        """Let go of it in a forked child: it runs in the parent process, and this copy does nothing more."""
        self.over = True
        for attempt in self.attempts.values():
            attempt.scope.closed = True

    def abort(self, error: BaseException) -> None:
        """Give up without writing, and give the lease back; whatever is raised meanwhile, it is over afterwards."""
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
        """Be over if the event loop was closed under it, from any thread: it can never go on."""
        if self.loop.is_closed():
            self.abort(CerebelumError(f"the event loop of execution {self.id} was closed before it was over"))

    @property
    def unrecorded(self) -> list[str]:
        """The steps that finished and whose results the log does not hold."""
        return [event.step for event in self.batch if isinstance(event, e.StepCompleted)]

    # -- private --------------------------------------------------------------------------------------------

    def _record(self, message: tuple[Event, Any]) -> None:
        event, waiter = message
        scope_is_over = not isinstance(event, e.OperationEvent) or event.step not in self.attempts
        if scope_is_over or self.finishing:
            if not waiter.done():
                waiter.set_exception(Suspension(f"execution {self.id} has ended here; nothing it does now is recorded"))
            return
        self.append(event)
        self._answers.append(waiter)

    def _permitted(self, limit: Limit, commands: list[Command]) -> bool:
        """Whether a run step by step goes on; when it does not, it pauses here."""
        stage = self._position.stage if commands and type(commands[0]) is StartStep else ()
        if permits(limit, self.state, stage, commands):
            return True
        self.append(e.WorkflowPaused(at=self.now(), reason=standing_before(stage, limit)))
        self.finishing = self.limited = True
        return False

    def _follow(self, command: Command) -> bool:
        """Carry out one command; return whether there is more to decide at once."""
        match command:
            case StartStep():
                self._start(command)
                return False
            case ChooseRoute():
                self._choose(command.step)
                return True
            case Jump():
                step = self.state.steps[command.step]
                self.append(
                    e.Jumped(
                        at=self.now(),
                        step=command.step,
                        visit=step.visit,
                        attempt=max(1, step.attempt),
                        kind=command.kind,
                        to=command.to,
                        reset=command.reset,
                    )
                )
                for name in command.reset:
                    self.live.pop(name, None)
                self._changed = None
                return True
            case Complete():
                self.append(e.WorkflowCompleted(at=self.now(), last_step=command.last_step))
            case Fail():
                self.append(e.WorkflowFailed(at=self.now(), error=command.error, failed_step=command.step))
            case _:
                assert_never(command)
        self.finishing = True
        return False

    def _start(self, command: StartStep) -> None:
        name = command.step
        if name in self._timers or name in self.attempts or self.stop_requested is not None:
            return
        zombie = self._zombies.get(name)
        if zombie is not None and zombie.alive:
            zombie.when_over(lambda: None if self.over else self.engine.post(self, self.start_due, command))
            return
        due = self._retries.pop(name, None)
        if due is None and command.due_at is not None:
            due = Deadline(self.clock, command.due_at)
        if due is not None and due.rest() > 0:
            start = partial(self.engine.post, self, self.start_due, command)
            self._timers[name] = self.clock.call_at(due, start)
            self.consider_hibernation()
            self.engine.check_idle()
            return
        spec = self.plan.steps[name]
        if not self.attempts and not self._starts:  # nothing is being measured
            self._ahead = self.clock.now() - (self.engine.turn_at or self.clock.monotonic())
        self.append(
            e.StepStarted(at=self.now(), step=name, visit=command.visit, attempt=command.attempt, code=spec.code)
        )
        self._starts.append(command)

    def _launch(self, command: StartStep) -> None:
        name = command.step
        scope = Scope(self, name, command.visit, command.attempt)
        attempt = Attempt(self.plan.steps[name], scope)
        self.attempts[name] = attempt
        try:
            attempt.start()
        except Exception as error:  # noqa: BLE001 - the system may refuse a thread: then that is how the attempt ended
            self.engine.post(self, self.settle, Outcome(scope, error=error))

    def _failed(self, attempt: Attempt, error: BaseException) -> None:
        policy, name = attempt.spec.policy, attempt.spec.name
        header = _header(self.now(), attempt.scope)
        info = self.describe(error)
        step = self.state.steps[name]
        self.warn_of_changes(name)
        can_retry = isinstance(error, policy.retry_on) and not isinstance(error, (DependencyError, OperationError))
        if can_retry and step.failures < policy.retries:
            due = Deadline.after(self.clock, policy.delay(step.failures, random.random()))
            self._retries[name] = due
            self.append(e.StepRetried(**header, error=info, due_at=due.at))
            return
        self.cause = error
        self.append(e.StepFailed(**header, error=info))

    def _choose(self, name: str) -> None:
        step = self.state.steps[name]
        header: dict[str, Any] = {
            "at": self.now(),
            "step": name,
            "visit": step.visit,
            "attempt": max(1, step.attempt),
        }
        try:
            if name in self.plan.diverges and not step.diverge_chosen:
                diverge = self.plan.diverges[name]
                error = step.error if step.phase is Phase.FAILED else None
                choice = routes.choose(diverge, error, self._routed_result(name))
                target = "" if choice is None else routes.describe_target(diverge.choices[choice][1])
                self.append(e.DivergeTaken(**header, choice=choice, target=target))
            else:
                branch = self.plan.branches[name]
                truth = bool(branch.predicate(self.result_of(name)))
                target = routes.describe_target(branch.when_true if truth else branch.when_false)
                self.append(e.BranchTaken(**header, choice=truth, target=target))
        except BaseException as error:  # noqa: BLE001 - a route is user code: what it raises fails the run
            self.cause = error
            self.append(e.WorkflowFailed(at=self.now(), error=self.describe(error), failed_step=name))
            self.finishing = True

    def _routed_result(self, name: str) -> Any:
        step = self.state.steps[name]
        if step.phase is Phase.COMPLETED:
            return self.result_of(name)
        return None if step.output is None else self.decode(step.output, f"the result of step '{name}'", name)

    def _look_at_waits(self, _: None = None) -> None:
        self._looks = False
        self.consider_hibernation()
        self.engine.check_idle()

    def _hibernate(self, _: None) -> None:
        """Stop waiting in this process, if that is still all there is to do."""
        after, now = self.engine.hibernate_after, self.clock.now()
        if self.finishing:
            return
        if self.draining:
            if self._starts or not all(map(hibernation.may_leave, self.attempts.values())):
                return
        else:
            ripe_at = None if after is None else hibernation.ripe_at(self, after, now)
            if ripe_at is None or ripe_at > now or self._starts:
                return
        self._take_all_printed()
        failed = hibernation.unroutable_failure(self.plan, self.state)
        if failed is not None:
            self._interrupt_all("a step beside it failed")
            error = self.state.steps[failed].error
            assert error is not None
            self.append(e.WorkflowFailed(at=self.now(), error=error, failed_step=failed))
        else:
            wake_at = self.now() if self._held_back else hibernation.wake_at(self)
            self.append(e.WorkflowHibernated(at=self.now(), wake_at=wake_at))
        self.finishing = True

    def _interrupt_all(self, reason: str) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._take_all_printed()
        for name in list(self.state.in_flight):
            self._interrupt(name, reason)
        for attempt in self.attempts.values():
            attempt.abandon()
        self._starts.clear()

    def _printed_event(self, scope: Scope, at: int, *, last: bool = False) -> Event | None:
        assert scope.printed is not None
        scope.printed.asked = False
        text, dropped = scope.printed.take(self.vault.mask, all_of_it=last)
        if not text:
            return None
        return e.StepPrinted(
            at=at, step=scope.step, visit=scope.visit, attempt=scope.attempt, text=text, dropped=dropped
        )

    def _take_printed(self, scope: Scope) -> None:
        """What an attempt printed last is recorded with its outcome."""
        if scope.printed is not None and (event := self._printed_event(scope, self.now(), last=True)) is not None:
            self.append(event)

    def _take_all_printed(self) -> None:
        for attempt in self.attempts.values():
            self._take_printed(attempt.scope)

    def _interrupt(self, name: str, reason: str) -> None:
        step = self.state.steps[name]
        self.append(
            e.StepInterrupted(at=self.now(), step=name, visit=step.visit, attempt=max(1, step.attempt), reason=reason)
        )

    def _touch(self, name: str) -> None:
        if self._changed is not None:
            self._changed.append(name)

    def _end(self, error: BaseException | None = None) -> None:
        self.over = True
        self.watchers.clear()
        if self._ripening is not None:
            self._ripening.cancel()
        left = [a for a in (*self.attempts.values(), *self._zombies.values()) if a.alive]
        try:
            note_end(self)
            self.engine.forget(self, [partial(getattr, a, "alive") for a in left])
            for attempt in left:
                attempt.when_over(partial(keeper_of(self.engine.store).forget_ended, self.id))
        except Exception as trouble:  # noqa: BLE001 - whoever waits for this run is told its end in any case
            error = error or trouble
        if error is not None:
            self.engine.release(self)
        if self.done.done() or self.loop.is_closed():
            return
        if error is None:
            self.done.set_result(None)
        else:  # a future refuses StopIteration
            self.done.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)


def _header(now: int, scope: Scope) -> dict[str, Any]:
    return {"at": now, "step": scope.step, "visit": scope.visit, "attempt": scope.attempt}


def _decide_anew(_: None) -> None:
    """A message that only asks for a decision."""
