"""The one Temporal workflow: a shell around :mod:`.._core.drive` whose attempts are activities.

Every run starts from rows; a start, a resume, a fork and a continue-as-new differ only in their rows. No user code runs
here, so any worker of the workflow can drive it, and users have no rules of determinism to follow. An event is
committed when Temporal's history holds it: the events of a turn are in the input of the first activity that the turn
schedules, or else in a memo; those of the last turn are the result. ``cluster.py`` reads them.

The driver is deterministic because it uses only the core and the row codec, which read no clock and no random numbers.
The history of an open run must replay under later releases: ``tests/distributed/replay`` holds such histories.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple, cast

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

from .._core import events as e
from .._core.blueprint import load
from .._core.drive import Driver
from .._core.events import Event
from .._core.fold import evolve
from .._core.graph import step_of
from .._core.limits import Before
from .._core.messages import (
    AskItems,
    AskRoute,
    Cancel,
    CancelAttempts,
    Due,
    Expire,
    Items,
    JoinItems,
    Leave,
    Lost,
    Recorded,
    Restored,
    Routed,
    SetTimer,
    Settled,
    Start,
    Stop,
    Woken,
)
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.step_state import Phase, StepState, waits_for_signal
from .._core.time_limit import ends_at, timeout_message
from .._core.value import ErrorInfo
from ..errors import ExecutionTimeoutError
from .family import LOOK_SECONDS, Family
from .losses import DIED, describe_loss, is_untaken, last_heard, other_version
from .memo import MEMO_BYTES, SHOWN_AFTER, Memo, is_long, is_short
from .record import Record
from .requests import Requests
from .settings import (
    ATTEMPT,
    CHILD_DRIVER,
    DRIVER,
    FOREVER,
    JOIN,
    LIST,
    ROUTE,
    Terms,
    activity_id,
)
from .timers import Timers
from .wire import Carried, Rows, from_rows, pack, to_row, unpack

__all__ = ["Drive", "DriveChild"]

_ONCE = RetryPolicy(maximum_attempts=1)  # the driver retries, and records each attempt
_TURN_BYTES = 1_000_000
"""Bytes of requests that one turn schedules; the server takes 4 MB in one answer of a worker."""
_TURN_STARTS = 50
"""Attempts that one turn schedules: the SDK aborts a turn that takes longer than two seconds."""
_MOST_OF_A_SUMMARY = 100
"""Characters; the server takes 400 bytes."""

_Answer = Callable[[str, "dict[str, Any] | ErrorInfo"], None]


class _AtWork(NamedTuple):
    visit: int
    attempt: int
    handle: workflow.ActivityHandle[Any]


class _Suspended(NamedTuple):
    """A step that left its worker: the operation that waits, until when, the last signal it has seen, its worker."""

    op: str
    due_at: int | None
    seen: int = 0
    by: str = ""


@workflow.defn(name=DRIVER)
class Drive:
    """One execution, or the rest of it after a continue-as-new."""

    @workflow.init
    def __init__(self, meta: dict[str, Any], packed: bytes, left: dict[str, Any] | None = None) -> None:
        """Fold the recorded rows; ``left`` is what the run before a continue-as-new knew besides."""
        self._meta, self._terms = meta, Terms.of(meta["terms"])
        self._recorded, before, left = Record(unpack(packed)), self._terms.before, left or {}
        self._driver = Driver(load(meta["plan"]), self._recorded.fold(), Before(before) if before else None)
        self._requests = Requests(self._driver, self._recorded, self._terms, left.get("tied", {}))
        self._suspended = {name: _Suspended(*fields) for name, fields in left.get("suspended", {}).items()}
        self._waiting: list[str] = []  # steps that have started and are not scheduled yet
        self._at_work: dict[str, _AtWork] = {}
        self._routes: dict[str, Rows] = {}
        self._family = Family(left.get("children", ()))
        self._inbox: list[Callable[[], object]] = []
        self._timers = Timers(lambda what: self._inbox.append(what))
        self._natively = False
        self._memo = Memo(self._recorded)
        for name in self._state.in_flight:
            step = self._step(name)
            if step.phase is Phase.RUNNING:
                self._driver.running[name] = (step.visit, step.attempt)
                if name not in self._suspended:
                    self._waiting.append(name)

    @property
    def _state(self) -> State:
        return self._driver.state

    def _step(self, name: str) -> StepState:
        step = self._state.step(name)
        assert step is not None, f"step {name} has begun"
        return step

    # -- the loop -------------------------------------------------------------------------------------------

    @workflow.run
    async def run(self, meta: dict[str, Any], packed: bytes, left: dict[str, Any] | None = None) -> Carried:
        """Drive the execution to its end, or to the next continue-as-new."""
        self._memo.begin(self._state, self._now())
        self._limit_time()
        for name, suspended in list(self._suspended.items()):
            self._suspend(name, *suspended)
        while True:
            self._turn()
            if self._driver.finishing:
                if self._state.caller or self._family.running:
                    self._memo.write(self._state, self._now())  # those who are told of its end then read all events
                    await self._family.announce_end(self._state)
                await workflow.wait_condition(workflow.all_handlers_finished)
                return self._end()
            if self._may_continue_as_new():
                await workflow.wait_condition(workflow.all_handlers_finished)
                arguments = [self._meta, pack(self._recorded.rows), self._left()]
                workflow.continue_as_new(args=arguments, **self._memo.of_next_run(self._state))
            try:
                await workflow.wait_condition(lambda: bool(self._inbox))
            except asyncio.CancelledError:
                self._natively = True
                self._inbox.append(lambda: self._take(Cancel("cancelled in Temporal")))

    def _left(self) -> dict[str, Any]:
        """Return what the next run must know in addition to the rows."""
        return {"suspended": self._suspended, "tied": self._requests.tied, "children": list(self._family.running)}

    def _turn(self) -> None:
        """Handle the inbox, decide, and write into Temporal's history. Nothing in here awaits."""
        inbox, self._inbox = self._inbox, []
        for handle in inbox:
            handle()
        answered = True
        while answered:
            answered = False
            commands = self._driver.advance(self._now())
            self._note_batch()  # the requests below are made from it
            for command in commands:
                match command:
                    case Start():
                        self._waiting.append(command.step)
                    case SetTimer():
                        self._set_timer(command.step, command.due_at)
                    case AskRoute():
                        answered = self._route(command.step) or answered
                    case AskItems():
                        self._ask(LIST, command.step, self._requests.of(command.step), self._listed)
                    case JoinItems():
                        self._ask(JOIN, command.step, self._requests.header(command.step), self._joined)
                    case CancelAttempts():
                        self._cancel_attempts()
                    case _:
                        pass  # End: the loop checks `finishing`
        self._hibernate()
        self._note_batch()
        if not self._driver.finishing and not self._may_continue_as_new():
            self._write()

    # -- messages of workers, people and operators ------------------------------------------------------------

    @workflow.signal
    def record(self, step: str, visit: int, attempt: int, rows: Rows) -> None:
        """Record what an operation of a running attempt reports; ignore an attempt that is over."""
        if self._driver.running.get(step) == (visit, attempt) and step in self._at_work:
            self._inbox.append(lambda: self._record(rows))

    @workflow.update(name="decide")
    def decide(self, row: list[Any]) -> None:
        """Append an event from outside: a decision, a signal, a request to cancel."""
        (event,) = from_rows([self._adjust_time(row)])
        self._append(event)
        self._inbox.append(self._check_decisions)

    @decide.validator
    def _may_decide(self, row: list[Any]) -> None:
        (event,) = from_rows([row])
        if not e.is_signal(event):
            raise ApplicationError(f"{row[0]} may not be appended by others", type="refused", non_retryable=True)
        if self._driver.finishing:
            raise ApplicationError("it is over", type="over", non_retryable=True)
        if isinstance(event, e.SignalReceived) and event.signal_id in self._state.signal_ids:
            raise ApplicationError("it was sent before", type="stale", non_retryable=True)
        if isinstance(event, (e.ApprovalReceived, e.ApprovalRejected)):
            step = self._state.step(event.step)
            asked = None if step is None or step.visit != event.visit else step.operations.get(event.op)
            if asked is None or asked.is_decided:
                raise ApplicationError("it is decided already", type="stale", non_retryable=True)

    @workflow.update
    def stop(self, reason: str) -> None:
        """Pause the execution; finished steps are kept."""
        self._inbox.append(lambda: self._take(Stop(reason)))

    @stop.validator
    def _may_stop(self, reason: str) -> None:
        if self._driver.finishing:
            raise ApplicationError("it is over", type="over", non_retryable=True)

    @workflow.signal
    def child_ended(self, child: str, version: int) -> None:
        """Note that a child has ended; if its step left its worker, the step continues."""
        self._family.end(child, version)
        self._inbox.append(partial(self._check_child, child))

    @workflow.signal
    def caller_ended(self, cancelled: bool, reason: str) -> None:
        """End because the caller, or its step, has ended."""
        self._inbox.append(lambda: self._take(Cancel(reason) if cancelled else Stop(reason)))

    @workflow.query
    def child(self, child: str) -> dict[str, Any]:
        """Return the settings of a child that a step starts, and its history if the caller brought one."""
        terms = {**self._terms.to_dict(), "before": ""}
        return {"terms": terms, "brought": self._meta.get("brought", {}).get(child)}

    @workflow.query
    def operations(self, step: str) -> Rows:
        """Return the rows of a step's operations; workers of an older release ask for them."""
        return self._recorded.operations_of(step)

    @workflow.query
    def waits(self, step: str, seen: int) -> dict[str, Any]:
        """Return the rows of a step's operations, the finished operations, and the signals that it may take.

        Args:
            step: the step.
            seen: the last signal that its worker knows; the answer has as many later ones as fit.
        """
        signals, size, untaken = list[list[Any]](), 0, list[int]()
        known = self._state.step(step)
        operations = {} if known is None else known.operations
        for version, signal in self._state.signals.items():
            if any(waits_for_signal(op, signal.name) for op in operations):
                untaken.append(version)
                if version > seen and size < MEMO_BYTES:
                    row = to_row(signal)
                    signals.append([version, row])
                    size += len(row[5] or "")
        return {
            "rows": self._recorded.operations_of(step),
            "done": [op for op, operation in operations.items() if operation.done],
            "signals": signals,
            "untaken": untaken,
        }

    # -- what has happened ------------------------------------------------------------------------------------

    def _take(self, message: Any) -> bool:
        return self._driver.take(message, self._now())

    def _record(self, rows: Rows) -> None:
        for row in rows:
            (event,) = from_rows([self._adjust_time(row)])
            if isinstance(event, e.OperationEvent):
                if self._take(Recorded(event)) and isinstance(event, e.ChildStarted):
                    self._family.begin(event.child)
            else:
                self._record_now(event)

    def _record_now(self, event: Event) -> None:
        """Record what an attempt printed, or its progress."""
        if not self._driver.finishing:
            self._driver.defer_event(lambda: event)
            self._driver.take_deferred()

    def _settled(self, name: str, at_work: _AtWork) -> None:
        if self._at_work.get(name) is not at_work:
            return
        del self._at_work[name]
        visit, attempt, handle = at_work
        try:
            outcome: dict[str, Any] = handle.result()
        except (ActivityError, asyncio.CancelledError) as error:
            self._lost(name, visit, attempt, error)
            return
        by = outcome.get("by", "")
        lost, woken = partial(Lost, name, visit, attempt, worker=by), partial(Woken, name, visit, attempt, worker=by)
        if "code" in outcome:  # the attempt has not begun
            self._requests.note_code(name, outcome["code"])
            self._requests.tie_code(name, outcome["queue"])
            self._take(woken(reason=other_version(by)))
            return
        if "lacks" in outcome:  # it has not begun
            what = f"worker {by} has no step '{step_of(name)}': it has another version of the workflow"
            self._take(lost(reason=what))
            return
        if "missing" in outcome:  # it has not begun: a result that it needs is in the memory of another worker
            missed = _list_names(outcome["missing"])
            self._take(woken(reason=f"worker {by} does not have the result of {missed}"))
            self._restore(outcome["missing"])
            return
        rows = outcome["rows"]
        if outcome.get("suspended") or outcome.get("given_back"):
            for row in rows:
                self._record([row])
            if outcome.get("suspended"):
                self._suspend(name, outcome["op"], outcome["due_at"], outcome.get("seen", 0), by)
            elif self._requests.spec(name).policy.effect == "external" and outcome.get("began"):
                self._take(lost(reason=f"worker {by} ended"))
            else:
                self._take(woken(reason=f"worker {by} ended"))
            return
        events, last = list[Event](), self._state.updated_at
        for row in rows:
            events += from_rows([self._adjust_time(row, last)])
            last = events[-1].at
        self._requests.tie_result(name, outcome["queue"] if outcome.get("tied") else None)
        self._routes[name] = outcome.get("routes", [])
        self._take(Settled(name, visit, attempt, events))

    def _lost(self, name: str, visit: int, attempt: int, error: BaseException) -> None:
        """Handle an attempt without an outcome: how far it got is unknown."""
        cause = getattr(error, "cause", None) or error
        if is_untaken(cause):
            self._take(Woken(name, visit, attempt, "the worker that has what it needs is gone"))
            self._requests.tie_code(name, None)
            self._restore(self._requests.untie(name))
            return
        died, by = isinstance(cause, ActivityTimeoutError), last_heard(cause)
        self._take(Lost(name, visit, attempt, DIED if died else describe_loss(cause), by))

    def _restore(self, steps: list[str]) -> None:
        """Run steps again whose result no log holds and whose worker is gone."""
        known = [name for name in steps if (step := self._state.step(name)) is not None and step.has_result]
        if known and not self._driver.finishing:
            self._take(Restored(tuple(known)))

    def _check_decisions(self) -> None:
        for name, suspended in list(self._suspended.items()):
            if self._is_decided(name, suspended):
                self._wake(name)

    def _check_child(self, child: str, *, lost: bool = False) -> None:
        """Wake the step that waits for a child that has ended, or is lost: its run is over without an end."""
        for name, suspended in list(self._suspended.items()):
            if self._child_of(name, suspended) == child and (lost or self._is_decided(name, suspended)):
                step = self._step(name)
                where: dict[str, Any] = {"step": name, "visit": step.visit, "attempt": max(1, step.attempt)}
                self._append(e.ChildEnded(at=self._now(), op=suspended.op, **where))
                self._wake(name)

    def _child_of(self, name: str, suspended: _Suspended) -> str:
        operation = self._step(name).operations.get(suspended.op)
        return "" if operation is None else operation.child

    def _look_after_children(self) -> None:
        """Check now and then that awaited children are running: a terminated one sends no signal."""
        awaited = [child for name, one in self._suspended.items() if (child := self._child_of(name, one))]
        self._family.look_after(awaited, lambda child: self._inbox.append(partial(self._check_child, child, lost=True)))
        if awaited:
            self._timers.start(":children", LOOK_SECONDS, self._look_after_children)

    # -- waits ------------------------------------------------------------------------------------------------

    def _is_decided(self, name: str, suspended: _Suspended) -> bool:
        """Whether a step can stop waiting: there is a decision, an ended child, or a signal that it has not seen."""
        op, _, seen, _ = suspended
        operation, state = self._step(name).operations.get(op), self._state
        if operation is not None and (operation.is_decided or self._family.has_ended(operation.child, seen)):
            return True
        new = state.last_signal > seen and op.startswith("signal:")
        return new and any(at > seen and waits_for_signal(op, signal.name) for at, signal in state.signals.items())

    def _suspend(self, name: str, op: str, due_at: int | None, seen: int, by: str) -> None:
        suspended = self._suspended[name] = _Suspended(op, due_at, seen, by)
        if self._is_decided(name, suspended):
            # It was decided while the step was leaving its worker.
            child = self._child_of(name, suspended)
            self._inbox.append(partial(self._check_child, child) if child else partial(self._wake, name))
        elif due_at is not None:
            self._timers.start(f"wait:{name}", self._until(due_at), partial(self._wake, name))
        elif self._child_of(name, suspended) and self._terms.driver >= 1 and not self._timers.is_on(":children"):
            self._timers.start(":children", LOOK_SECONDS, self._look_after_children)

    def _wake(self, name: str) -> None:
        suspended = self._suspended.pop(name, None)
        if suspended is not None:
            self._timers.cancel(f"wait:{name}")
            self._take(Woken(name, *self._driver.running.get(name, (0, 0)), worker=suspended.by))

    def _until(self, due_at: int) -> float:
        return max(0.0, (due_at - self._now()) / 1e6)

    def _set_timer(self, name: str, due_at: int) -> None:
        self._timers.start(name, self._until(due_at), lambda: self._take(Due(name)))

    def _limit_time(self) -> None:
        """Fail the execution when its time is over; after a resume within the run, wait for the new limit."""
        timeout = self._driver.plan.timeout
        ends = ends_at(timeout, self._state)
        if timeout is None or ends is None:
            return
        if ends > self._now():
            self._timers.start(":limit", self._until(ends), self._limit_time)
        else:
            self._take(Expire(ErrorInfo(type=ExecutionTimeoutError.__name__, message=timeout_message(timeout))))

    def _hibernate(self) -> None:
        """Record that the execution hibernates if only long waits are left."""
        state = self._state
        busy = self._at_work or self._waiting or self._inbox or self._driver.finishing or self._driver.routing
        if busy or state.hibernated or not state.in_flight:
            return
        due = [one.due_at for one in self._suspended.values() if one.due_at is not None]
        due += [at for name in self._driver.timers if (step := state.step(name)) is not None and (at := step.due_at)]
        if (ends := ends_at(self._driver.plan.timeout, state)) is not None:
            due.append(ends)
        wake_at, now = min(due, default=None), self._now()
        if wake_at is None or wake_at - now > self._terms.release_after * 1e6:
            self._take(Leave(wake_at, stays=True))

    # -- routes -----------------------------------------------------------------------------------------------

    def _route(self, name: str) -> bool:
        """Take the route that the step's worker chose, or ask a worker; return whether the route is known."""
        rows = self._routes.get(name)
        if rows:
            (event,) = from_rows([self._adjust_time(rows.pop(0))])
            self._take(Routed(cast("e.DivergeTaken | e.BranchTaken | e.WorkflowFailed", event)))
            return True
        step = self._state.steps[name]
        request = self._requests.of(name)
        if step.phase is Phase.FAILED and step.error is not None:
            header: dict[str, Any] = {"at": step.ended_at, "step": name, "visit": step.visit, "attempt": step.attempt}
            failed = e.StepFailed(**header, error=step.error, output=step.output)
            request["rows"].append(to_row(failed))
        elif (result := self._recorded.results.get(name)) is not None:
            request["rows"].append(result)
        self._ask(ROUTE, name, request, self._routed)
        return False

    def _routed(self, name: str, answer: dict[str, Any] | ErrorInfo) -> None:
        if isinstance(answer, ErrorInfo):
            self._take(Routed(e.WorkflowFailed(at=self._now(), error=answer, failed_step=name)))
            return
        self._routes[name] = answer["routes"]
        self._route(name)

    # -- the items of a foreach -------------------------------------------------------------------------------

    def _listed(self, name: str, answer: dict[str, Any] | ErrorInfo) -> None:
        if isinstance(answer, ErrorInfo):
            self._fail_items(name, answer)
        elif "missing" in answer:
            self._restore(answer["missing"])
        else:
            self._requests.begin_items(name, answer.get("source"))
            self._take_items(answer["rows"])

    def _joined(self, name: str, answer: dict[str, Any] | ErrorInfo) -> None:
        if isinstance(answer, ErrorInfo):
            self._fail_items(name, answer)
        else:
            self._routes[name] = answer["routes"]
            self._take_items(answer["rows"])

    def _take_items(self, rows: Rows) -> None:
        (event,) = from_rows([self._adjust_time(row) for row in rows])
        self._take(Items(cast("e.ItemsListed | e.StepCompleted | e.StepFailed", event)))

    def _fail_items(self, name: str, error: ErrorInfo) -> None:
        step = self._state.steps.get(name) or StepState()
        header: dict[str, Any] = {"step": name, "visit": step.visit, "attempt": max(1, step.attempt)}
        self._take(Items(e.StepFailed(at=self._now(), error=error, **header)))

    # -- questions that only user code answers ----------------------------------------------------------------

    def _ask(self, kind: str, name: str, request: dict[str, Any], then: _Answer) -> None:
        """Ask a worker what the code of a step says; ``then`` is called with the answer or an error."""
        tied = self._requests.tied_to(name) if kind == LIST else None
        handle = workflow.start_activity(
            kind,
            args=[request, self._recorded.carried()],
            start_to_close_timeout=timedelta(minutes=1),
            schedule_to_start_timeout=timedelta(seconds=self._terms.heartbeat) if tied else None,
            task_queue=tied or self._requests.queue(name),
            summary=_summary(f"{kind.rpartition('.')[2]} of {name}"),
        )
        handle.add_done_callback(lambda _: self._inbox.append(partial(self._answered, name, handle, then)))

    def _answered(self, name: str, handle: workflow.ActivityHandle[Any], then: _Answer) -> None:
        try:
            answer: dict[str, Any] = handle.result()
        except ActivityError as error:  # after Temporal's retries
            if is_untaken(error.cause):
                then(name, {"missing": self._requests.untie(name)})
            else:
                then(name, ErrorInfo(type="WorkerError", message=describe_loss(error.cause or error)))
        else:
            then(name, answer)

    # -- attempts ---------------------------------------------------------------------------------------------

    def _launch(self, name: str, request: dict[str, Any]) -> None:
        step = self._step(name)
        queue, tied = self._requests.queue(name), self._requests.tied_to(name)
        handle = workflow.start_activity(
            ATTEMPT,
            args=[request, self._recorded.carried()],
            activity_id=activity_id(name, step.visit, step.attempt),
            task_queue=tied or queue,
            start_to_close_timeout=FOREVER,
            schedule_to_start_timeout=timedelta(seconds=self._terms.heartbeat) if tied else None,
            heartbeat_timeout=timedelta(seconds=self._terms.heartbeat),
            retry_policy=_ONCE,
            cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
            summary=_summary(name),
        )
        at_work = self._at_work[name] = _AtWork(step.visit, step.attempt, handle)
        handle.add_done_callback(lambda _: self._inbox.append(partial(self._settled, name, at_work)))

    def _cancel_attempts(self) -> None:
        for _, _, handle in self._at_work.values():
            handle.cancel()
        self._at_work.clear()
        self._timers.clear()
        self._suspended.clear()
        self._waiting.clear()
        if not self._driver.finishing:  # a rollback follows
            self._family.stop("its caller is rolled back")

    # -- into Temporal's history ------------------------------------------------------------------------------

    def _now(self) -> int:
        return max(workflow.time_ns() // 1000, self._state.updated_at)

    def _adjust_time(self, row: list[Any], after: int = 0) -> list[Any]:
        """Move the time of a worker's event between the last event and now: clocks differ."""
        row = list(row)
        row[4] = max(after, self._state.updated_at, min(row[4], self._now()))
        return row

    def _append(self, event: Event) -> None:
        """Append an event that the core did not decide."""
        evolve(self._state, event)
        self._driver.rebase(self._state)
        self._note(event)

    def _note_batch(self) -> None:
        for event in self._driver.committed():
            self._note(event)

    def _note(self, event: Event) -> None:
        self._recorded.note(event, self._state)

    def _write(self) -> None:
        """Schedule attempts; the events are in the input of the first one, or in a memo."""
        written, most = 0, min(self._terms.most_at_work, len(self._at_work) + _TURN_STARTS)
        if self._at_work and is_long():
            most = 0  # running attempts end, and the rest starts in a new history
        while self._waiting and len(self._at_work) < most and written < _TURN_BYTES:
            name = self._waiting.pop(0)
            request = self._requests.of(name)
            written += 500 + sum(len(row[5] or "") for row in request["rows"])
            self._launch(name, request)
        if self._waiting and most and len(self._at_work) < self._terms.most_at_work:
            self._timers.start(":more", 0, lambda: None)  # the rest in the next turn
        shown = self._memo.write(self._state, self._now())
        if self._terms.driver < 1:
            return
        if shown:
            self._timers.cancel(":shown")
        elif not self._timers.is_on(":shown"):
            self._timers.start(":shown", SHOWN_AFTER, lambda: None)

    def _may_continue_as_new(self) -> bool:
        """Whether a continue-as-new is worth it, and possible: while no attempt runs, the rows hold everything."""
        if self._at_work or self._driver.routing or self._inbox or self._driver.finishing:
            return False
        if workflow.info().is_continue_as_new_suggested():
            return True
        # Before a wait of more than an hour: the open history is then one event and a timer, which any release replays.
        wake_at = self._state.wake_at
        long = self._state.hibernated and (wake_at is None or wake_at - self._now() > 3_600_000_000)
        return long and not self._waiting and not is_short()

    def _end(self) -> Carried:
        state = self._state
        if state.lifecycle is ExecutionState.COMPLETED:
            carried = self._recorded.carried()
            self._memo.write(self._state, self._now(), last=True)
            return carried or {"after": len(self._recorded.rows), "rows": []}
        self._memo.write(self._state, self._now(), last=True)
        if state.lifecycle is ExecutionState.CANCELLED:
            if self._natively:
                raise asyncio.CancelledError
            raise ApplicationError(f"cancelled: {state.reason or ''}", type="Cancelled", non_retryable=True)
        if state.lifecycle is ExecutionState.ROLLED_BACK:
            raise ApplicationError("rolled back", type="RolledBack", non_retryable=True)
        error = state.error or ErrorInfo(type="Paused", message=state.reason or "")
        where = f"step '{state.failed_step}': " if state.failed_step else ""
        raise ApplicationError(f"{where}{error}"[:1000], type=error.type, non_retryable=True)


@workflow.defn(name=CHILD_DRIVER)
class DriveChild(Drive):
    """The same driver for a child, which lists leave out."""

    @workflow.init
    def __init__(self, meta: dict[str, Any], packed: bytes, left: dict[str, Any] | None = None) -> None:
        super().__init__(meta, packed, left)

    @workflow.run
    async def run(self, meta: dict[str, Any], packed: bytes, left: dict[str, Any] | None = None) -> Carried:
        """Drive the child to its end."""
        return await super().run(meta, packed, left)


def _summary(text: str) -> str:
    return text[:_MOST_OF_A_SUMMARY]


def _list_names(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
