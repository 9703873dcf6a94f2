"""The driver: one execution as a pure state machine. Messages in, events and commands out.

Theory of operation
-------------------

``evolve`` folds an event into the state, ``decide`` returns what should be in flight. The driver is between them and a
shell, which owns what the core must not know: a clock, a store, an event loop, threads. A shell is a loop of four
lines::

    driver.take(message, now)                  # something happened: it becomes events, which are folded at once
    commands = driver.advance(now)             # what follows: more events, and what the shell has to do
    commit(driver.batch); driver.committed()   # the events are on disk: now they count
    carry_out(commands)                        # only now does anything start

**Who sets what.** Only the driver appends events, and it folds each event as it does so. The shell never changes the
state. It reports what happened (an attempt ended, a timer fired, a person decided), never what should follow.

**Phases.** A driver is *open* until an event ends it in this process: completed, failed, cancelled, paused or
hibernated. That event sets ``finishing``; from then on messages are dropped, and the batch that holds the event is the
last, which :class:`End` tells the shell. There is one way back: if another process appended an event before that batch
was committed, a hibernation is undone (:meth:`Driver.rebase`). Before a pause or a cancellation the driver is
*closing*: it interrupts what is in flight, in portions, and only takes a :class:`Cancel`.

A step goes PENDING -> RUNNING -> COMPLETED | FAILED | RETRYING -> RUNNING ... in the *state*. In addition to the state,
a driver knows three facts about a step that are not in the history, because they belong to this process:

=============  =====================================  ======================  ==========================
where          what it means                          entered by              left by
=============  =====================================  ======================  ==========================
``running``    an attempt of it is running here       :class:`Start`          Settled, Lost, Woken
``timers``     its next attempt is not due yet        :class:`SetTimer`       Due
``held``       the thread of an attempt that is over  Settled, ``alive=True`` Released
               still runs: no new attempt yet
=============  =====================================  ======================  ==========================

**Why it is level-triggered.** ``decide`` does not translate the last message into a reaction. It returns everything
that should be in flight in this state; what is in ``running``, ``timers`` or ``held`` is skipped. A message that
arrives twice, late or never (the process died) therefore needs no special case: the next decision is made from what is
recorded. So a resume is a run with a non-empty history, and a second shell can drive the same executions.

A foreach is one step on its path. Its items are attempts under names such as ``deploy[ams3]``, and what undoes a step
in a rollback is an attempt of ``~deploy``, so all of the above holds for each of them. Only the shell may call the
user's code and read values, so it lists the items (:class:`AskItems`) and makes the outcome of the foreach
(:class:`JoinItems`). Until it has answered, nothing else starts; an answer that comes after the end does not count.

**Commands.** ``Start`` and ``End`` may be carried out only after the commit of the batch they came with; the ``Start``
of a pure step also before, if the batch is committed before anything that is not pure starts or ends. ``SetTimer``,
``CancelAttempts``, ``AskRoute``, ``AskItems`` and ``JoinItems`` may be carried out at once: they have no effect that a
failed commit would have to undo.

Nothing here reads a clock (``now`` is an argument), awaits, or calls user code: predicates, patterns and retry
conditions are evaluated by the shell and come back as data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, assert_never

from . import events as e
from .decide import (
    ChooseRoute,
    CloseItems,
    Complete,
    EndRollback,
    Fail,
    Jump,
    ListItems,
    Position,
    StartStep,
    decide,
)
from .decide import Command as Decision
from .events import Event, OperationEvent
from .fold import evolve
from .graph import Plan, StepSpec, owner_of
from .limits import Limit, pause_reason, permits
from .messages import (
    Admitted,
    AskItems,
    AskRoute,
    Begin,
    Cancel,
    CancelAttempts,
    Command,
    Drain,
    Due,
    End,
    Expire,
    Items,
    JoinItems,
    Leave,
    Lost,
    Message,
    Recorded,
    Released,
    Restored,
    Routed,
    SetTimer,
    Settled,
    Start,
    Stop,
    Woken,
)
from .paths import every_path
from .rollback import rollback_started
from .state import State
from .state_name import ExecutionState
from .step_state import Phase, StepState
from .value import ErrorInfo

__all__ = ["Driver", "unroutable_failure"]

_NONE: frozenset[str] = frozenset()

MOST_LOST = 5
"""After this many lost attempts of a step in a row the execution pauses: the step seems to kill its process."""

LONGEST_BACKOFF = 60
"""The longest delay, in seconds, before the next attempt after one was lost."""


class Driver:
    """One execution, from its first event to its last in this process.

    Args:
        plan: the validated workflow; no function in it is called.
        state: the fold of everything recorded. The driver owns it from now on.
        limit: how far it may go before it pauses; None: to the end.

    Attributes:
        batch: events that are folded, but not committed yet.
        finishing: whether the batch ends it in this process.
        limited: whether ``limit`` ended it.
        draining: whether it starts nothing more, because another process will resume it.
        held_back: whether a step would have started if it were not draining: the next process can start it at once.
        forgotten: steps whose results a jump has invalidated since the last commit.

    Example:
        >>> from cerebelum_nb._core.graph import Plan, StepSpec
        >>> from cerebelum_nb._core.value import Value
        >>> plan = Plan(workflow="w", timeline=(("a",),), steps={"a": StepSpec(name="a", fn=print, is_async=False)})
        >>> driver = Driver(plan, State())
        >>> driver.take(Begin([e.WorkflowStarted(at=1, workflow="w", inputs=Value("json", "{}"), total_steps=1)]), 1)
        True
        >>> driver.advance(now=1)
        [Start(step='a', visit=1, attempt=1)]
        >>> [type(event).__name__ for event in driver.batch]
        ['WorkflowStarted', 'StepStarted']
    """

    __slots__ = (
        "_changed",
        "_closing",
        "_commands",
        "_deferred",
        "_lost",
        "_position",
        "_routing",
        "batch",
        "draining",
        "finishing",
        "forgotten",
        "held",
        "held_back",
        "limit",
        "limited",
        "plan",
        "running",
        "state",
        "timers",
    )

    def __init__(self, plan: Plan, state: State, limit: Limit | None = None) -> None:
        self.plan, self.state, self.limit = plan, state, limit
        self.batch: list[Event] = []
        self.running: dict[str, tuple[int, int]] = {}  # step -> visit, attempt
        self.timers: dict[str, StartStep] = {}
        self.held: dict[str, None] = {}
        self.finishing = self.limited = False
        self.forgotten: frozenset[str] = _NONE
        self._position = Position.at_start(plan)
        self._changed: list[str] | None = None  # what decide must check; None: everything
        self._commands: list[Command] = []
        self._deferred: list[Callable[[], Event | None]] = []
        self._routing: str | None = None
        self._closing: tuple[str, Event] | None = None  # why what is in flight is interrupted, and what ends it then
        self.draining = self.held_back = False
        self._lost: dict[str, int] = {}

    # -- messages -------------------------------------------------------------------------------------------

    def take(self, message: Message, now: int) -> bool:
        """Take a message about what has happened.

        Args:
            message: what happened.
            now: the time, µs since the epoch; never before the last event.

        Returns:
            Whether it counts; False if it came too late, because the attempt or the execution is over.
        """
        if self.finishing or (self._closing is not None and not isinstance(message, Cancel)):
            return False
        match message:
            case Settled():
                return self._settle(message)
            case Recorded():
                event = message.event
                if not isinstance(event, (OperationEvent, e.StepCheckpointed)):
                    return False
                if self.running.get(event.step) != (event.visit, event.attempt):
                    return False
                self._append(event)
            case Begin():
                ended_at = self.state.last_alive_at(message.last_heartbeat, now)
                for name in list(self.state.in_flight):
                    self._interrupt(name, message.lost, now, ended_at)
                for started in message.events:
                    self._append(started)
            case Due():
                command = self.timers.pop(message.step, None)
                if command is None:
                    return False
                self._start_late(command, now)
            case Released():
                self.held.pop(message.step, None)
                self._touch(message.step)
            case Routed():
                self._routing = None
                if isinstance(message.event, e.WorkflowFailed):
                    self._fail(message.event.error, message.event.failed_step, now)
                else:
                    self._append(message.event)
            case Items():
                if self._routing is None:
                    return False
                self._routing, self._changed = None, None
                self._append(message.event)
            case Lost():
                return self._lose(message, now)
            case Woken():
                return self._wake(message, now)
            case Admitted():
                if self.state.lifecycle is not ExecutionState.QUEUED:
                    return False
                self._append(e.WorkflowAdmitted(at=now))
            case Restored():
                steps = [name for name in message.steps if "[" not in name]
                items = [name for name in message.steps if "[" in name]
                self._append(e.WorkflowResumed(at=now, restored=tuple(steps), revisited=tuple(items)))
                self._position, self._changed = Position.at_start(self.plan), None  # as at the beginning of a resume
                self._routing = None
            case Stop():
                self._close(message.reason, e.WorkflowPaused(at=now, reason=message.reason))
            case Expire():
                if self.state.is_rolling_back:
                    return False
                self._interrupt_all("the execution timed out", now)
                self._fail(message.error, None, now)
            case Cancel():
                self._cancel(message.reason, message.by, now)
            case Drain():
                self.draining = True
            case Leave():
                self._leave(message, now)
            case _:
                assert_never(message)
        return True

    def defer_event(self, make: Callable[[], Event | None]) -> bool:
        """Record an event that needs no separate commit (progress, prints) with the next event.

        Args:
            make: called when there is a next event; returns the event, or None if it is obsolete by then.

        Returns:
            Whether it is the first deferred event: the shell then ensures that it is recorded in the end.
        """
        self._deferred.append(make)
        return len(self._deferred) == 1

    @property
    def has_deferred(self) -> bool:
        """Whether deferred events wait for another event."""
        return bool(self._deferred)

    def take_deferred(self) -> None:
        """Record the deferred events."""
        waiting, self._deferred = self._deferred, []
        for make in waiting:
            if (event := make()) is not None:
                evolve(self.state, event)
                self.batch.append(event)

    # -- decisions ------------------------------------------------------------------------------------------

    def advance(self, now: int, most: int | None = None) -> list[Command]:
        """Decide what follows, and turn it into events and commands, until everything that can start has started.

        Args:
            now: the time, µs since the epoch; never before the last event.
            most: how many members of a parallel group or items of a foreach start, or are interrupted, at once. If
                there are more, :attr:`has_more` is true afterwards, and the shell calls this again when it has carried
                out the commands. None: all.

        Returns:
            What the shell must do, in order. After an :class:`AskRoute`, :class:`AskItems` or :class:`JoinItems` the
            shell answers it and calls this again.
        """
        if self.state.cancel is not None and not self.finishing:
            self._cancel(self.state.cancel.reason, self.state.cancel.by, now)
        if self._closing is not None:
            self._close_more(now, most)
            commands, self._commands = self._commands, []
            return commands
        if self.state.lifecycle is ExecutionState.QUEUED and not self.finishing:
            self._stay_queued(now)
            commands, self._commands = self._commands, []
            return commands
        while not self.finishing and self._routing is None:
            decisions = decide(self.plan, self.state, self._position, self._changed, most)
            self._changed = []
            if self.limit is not None and not self._permitted(self.limit, decisions, now):
                break
            more = False
            for decision in decisions:  # if there are several, all are StartStep, and nothing follows them
                if isinstance(decision, StartStep):
                    self._start(decision, now)
                else:
                    more = self._carry_out(decision, now)
            next_portion = most and self.has_more and not self.batch  # without events there is no commit to wait for
            if not (more or next_portion):
                break
        commands, self._commands = self._commands, []
        return commands

    @property
    def stage(self) -> tuple[str, ...]:
        """The steps of the current stage."""
        return self._position.stage

    @property
    def has_more(self) -> bool:
        """Whether there is more to do at once, after the commit and once the last commands have been carried out.

        That is: more of a parallel group or of a foreach must start or, if the run ends, be interrupted.
        """
        return self.closing or (bool(self._position.ahead) and not (self.finishing or self.draining))

    @property
    def closing(self) -> bool:
        """Whether it is about to end, but not everything in flight is interrupted yet."""
        return self._closing is not None

    @property
    def cancelled(self) -> bool:
        """Whether it is cancelled, or about to be."""
        if self._closing is not None:
            return isinstance(self._closing[1], e.WorkflowCancelled)
        return self.state.lifecycle is ExecutionState.CANCELLED

    @property
    def routing(self) -> bool:
        """Whether it waits for the answer to an :class:`AskRoute`, :class:`AskItems` or :class:`JoinItems`."""
        return self._routing is not None

    # -- around the commit ----------------------------------------------------------------------------------

    def committed(self) -> list[Event]:
        """Note that the batch is in the log; return it."""
        events, self.batch = self.batch, []
        self.forgotten = _NONE
        return events

    def rebase(self, state: State) -> None:
        """Put the batch after events that other processes have appended since.

        Others append only signals. After a signal, two events of the batch may no longer be true: a hibernation,
        because something happened, and the timeout of an approval that somebody has decided.

        Args:
            state: the fold of what is recorded now, without the batch.
        """
        kept = [event for event in self.batch if _still_true(event, state)]
        if len(kept) < len(self.batch):
            self.finishing = self.limited = False
            self._commands = [command for command in self._commands if not isinstance(command, End)]
        self.batch = kept
        for event in kept:
            evolve(state, event)
        self.state = state

    # -- private --------------------------------------------------------------------------------------------

    def _append(self, event: Event) -> None:
        if self._deferred:
            self.take_deferred()
        evolve(self.state, event)
        self.batch.append(event)

    def _finish(self, event: Event) -> None:
        self._append(event)
        self.finishing = True
        self._commands.append(End())

    def _stay_queued(self, now: int) -> None:
        """Start nothing; if the shell drains, the run ends in this process."""
        if self.draining:
            if not (self.batch and isinstance(self.batch[-1], e.WorkflowQueued)):
                self._append(e.WorkflowQueued(at=now, behind=self.state.behind))
            self.finishing = True
            self._commands.append(End())

    def _settle(self, message: Settled) -> bool:
        name = message.step
        if self.running.get(name) != (message.visit, message.attempt):
            return False
        del self.running[name]
        if self._lost:
            self._lost.pop(name, None)
        if message.alive:
            self.held[name] = None
        if self._changed is not None:
            self._changed.append(name)
        for event in message.events:
            self._append(event)
        return True

    def _end_unsettled(self, message: Lost | Woken, now: int) -> bool:
        """Interrupt an attempt that its worker no longer runs; return whether it was the current attempt."""
        name = message.step
        if self.running.get(name) != (message.visit, message.attempt):
            return False
        del self.running[name]
        self._touch(name)
        self._interrupt(name, message.reason, now, worker=message.worker)
        return True

    def _lose(self, message: Lost, now: int) -> bool:
        name = message.step
        if not self._end_unsettled(message, now):
            return False
        times = self._lost[name] = self._lost.get(name, 0) + 1
        if self._spec(name).policy.effect == "external":
            reason = f"step '{name}' (effect='external') started, and its outcome is unknown"
        elif times >= MOST_LOST:
            reason = f"{MOST_LOST} attempts of step '{name}' in a row were lost: {message.reason}"
        else:
            if times > 1:  # a first loss says nothing about the step; a second in a row may be its fault
                wait = min(LONGEST_BACKOFF, 2 ** (times - 1)) * 1_000_000
                step = self._known(name)
                self._set_timer(StartStep(name, step.visit, step.attempt + 1, now + wait), now + wait)
            return True
        self._interrupt_all("another step of its stage was lost", now)
        self._finish(e.WorkflowPaused(at=now, reason=reason))
        return True

    def _cancel(self, reason: str | None, by: str | None, now: int) -> None:
        if not self.cancelled:
            self._close("cancelled", e.WorkflowCancelled(at=now, reason=reason, by=by))

    def _close(self, reason: str, end: Event) -> None:
        """Begin to close: everything in flight is interrupted, then ``end`` is appended (:meth:`_close_more`)."""
        self._abandon()
        self._closing = reason, end

    def _close_more(self, now: int, most: int | None) -> None:
        assert self._closing is not None
        reason, end = self._closing
        for name in list(islice(self.state.in_flight, most)):
            self._interrupt(name, reason, now)
        self._commands.append(CancelAttempts())
        if not self.state.in_flight:
            self._closing = None
            self._finish(replace(end, at=now))

    def _wake(self, message: Woken, now: int) -> bool:
        if not self._end_unsettled(message, now):
            return False
        self._awaken(now)
        return True

    def _awaken(self, now: int) -> None:
        """Record that an execution that hibernated while its shell stayed is awake again."""
        if self.state.hibernated:
            self._append(e.WorkflowAwakened(at=now, reason="it was due"))

    def _leave(self, message: Leave, now: int) -> None:
        failed = unroutable_failure(self.plan, self.state)
        if failed is None:
            event = e.WorkflowHibernated(at=now, wake_at=message.wake_at)
            if message.stays:
                self._append(event)
            else:
                self._finish(event)
            return
        error = self.state.steps[failed].error
        assert error is not None
        self._interrupt_all("another step of its stage failed", now)
        if self._fail(error, failed, now) and self.draining:
            self._finish(e.WorkflowHibernated(at=now, wake_at=now))

    def _fail(self, error: ErrorInfo, step: str | None, now: int) -> bool:
        """Fail the execution; return whether it is rolled back instead."""
        rollback = rollback_started(self.plan, self.state, error, step, now)
        if rollback is None:
            self._finish(e.WorkflowFailed(at=now, error=error, failed_step=step))
            return False
        self._append(rollback)
        self._position.ahead.clear()
        self._changed = None
        return True

    def _permitted(self, limit: Limit, decisions: Sequence[Decision], now: int) -> bool:
        """Whether a run with a limit may continue; otherwise it pauses here. A rollback never pauses midway."""
        if self.state.rollback is not None:
            return True
        stage = self.stage if decisions and isinstance(decisions[0], StartStep | ListItems | CloseItems) else ()
        if permits(limit, self.state, stage, decisions):
            return True
        self._finish(e.WorkflowPaused(at=now, reason=pause_reason(stage, limit)))
        self.limited = True
        return False

    def _carry_out(
        self, command: ChooseRoute | ListItems | CloseItems | Jump | Complete | Fail | EndRollback, now: int
    ) -> bool:
        """Carry out one decision; return whether there is more to decide at once."""
        match command:
            case ChooseRoute():
                self._routing = command.step
                self._commands.append(AskRoute(command.step))
                return False
            case ListItems():
                self._routing = command.step
                self._commands.append(AskItems(command.step))
                return False
            case CloseItems():
                self._routing = command.step
                self._commands.append(JoinItems(command.step))
                return False
            case Jump():
                step = self.state.steps[command.step]
                self._append(
                    e.Jumped(
                        at=now,
                        step=command.step,
                        visit=step.visit,
                        attempt=max(1, step.attempt),
                        kind=command.kind,
                        to=command.to,
                        reset=command.reset,
                    )
                )
                self.forgotten |= set(command.reset)
                self._changed = None
                return True
            case Complete():
                self._finish(e.WorkflowCompleted(at=now, last_step=command.last_step))
            case Fail():
                return self._fail(command.error, command.step, now)
            case EndRollback():
                self._finish(e.WorkflowRolledBack(at=now))
            case _:
                assert_never(command)
        return False

    def _start(self, command: StartStep, now: int) -> None:
        name = command.step
        if self.draining:
            self.held_back = True
        elif name in self.timers or name in self.running or name in self.held:
            pass
        elif command.due_at is not None:
            self._set_timer(command, command.due_at)
        else:
            code = (self.plan.steps.get(name) or self._spec(name)).code
            self._append(e.make_started(at=now, step=name, visit=command.visit, attempt=command.attempt, code=code))
            self.running[name] = (command.visit, command.attempt)
            self._commands.append(Start(name, command.visit, command.attempt))

    def _start_late(self, command: StartStep, now: int) -> None:
        """Start a step whose timer fired, whatever the wall clock shows: the timer has measured the delay."""
        step = self.state.step(command.step)
        if step is None or step.phase is Phase.RETRYING or step.phase is Phase.PENDING:
            self._awaken(now)
            self._start(StartStep(command.step, command.visit, command.attempt), now)

    def _set_timer(self, command: StartStep, due_at: int) -> None:
        self.timers[command.step] = command
        self._commands.append(SetTimer(command.step, due_at))

    def _touch(self, name: str) -> None:
        if self._changed is not None:
            self._changed.append(name)

    def _spec(self, name: str) -> StepSpec:
        spec = self.plan.steps.get(name) or self.plan.body_of(name)
        assert spec is not None, f"nothing is known of step {name}"
        return spec

    def _known(self, name: str) -> StepState:
        step = self.state.step(name)
        assert step is not None, f"step {name} has begun"
        return step

    def _interrupt(self, name: str, reason: str, now: int, ended_at: int | None = None, worker: str = "") -> None:
        step = self._known(name)
        where: dict[str, Any] = {"step": name, "visit": step.visit, "attempt": max(1, step.attempt)}
        self._append(e.StepInterrupted(at=now, reason=reason, ended_at=ended_at, worker=worker, **where))

    def _interrupt_all(self, reason: str, now: int) -> None:
        self._abandon()
        for name in list(self.state.in_flight):
            self._interrupt(name, reason, now)
        self._commands.append(CancelAttempts())

    def _abandon(self) -> None:
        """Abandon every attempt and timer, and the commands that would start more."""
        if self._deferred:
            self.take_deferred()
        self.running.clear()
        self.timers.clear()
        self._routing = None  # what was asked is not answered any more
        self._position.ahead.clear()
        self._commands = [command for command in self._commands if not isinstance(command, Start | SetTimer)]


def unroutable_failure(plan: Plan, state: State) -> str | None:
    """Return a step that failed while others of its stage wait, and whose failure no route can handle."""
    if not state.in_flight:
        return None
    for name, step in state.steps.items():
        if (
            step.phase is Phase.FAILED
            and step.diverge is None
            and name not in plan.diverges
            and _has_sibling_in_flight(plan, state, name)
        ):
            return name
    return None


def _has_sibling_in_flight(plan: Plan, state: State, name: str) -> bool:
    in_flight = set(map(owner_of, state.in_flight))
    return any(name in stage and not in_flight.isdisjoint(stage) for path in every_path(plan) for stage in path)


def _still_true(event: Event, state: State) -> bool:
    """Whether an uncommitted event is still true after the events that others have appended."""
    if isinstance(event, e.WorkflowHibernated):
        return False
    if not isinstance(event, e.ApprovalTimedOut):
        return True
    step = state.step(event.step)
    operation = None if step is None else step.operations.get(event.op)
    return operation is None or not operation.is_decided
