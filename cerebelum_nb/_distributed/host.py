"""One attempt of a step in an activity, with the engine's attempts, scopes and operations.

`RemoteHost` is to them what ``_engine/execution.py`` is in the kernel. The events of an operation go to the driver, and
are recorded when Temporal has them. Where the kernel's engine would hibernate, the attempt ends as suspended and the
driver holds its timer: nothing of it stays in the worker.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

from .._core import events as e
from .._core.events import Event
from .._core.fold import evolve
from .._core.graph import Plan, key_of, owner_of, undone_by
from .._core.settle import settle
from .._core.state import State
from .._core.step_state import Items, Phase, StepState
from .._core.value import Value
from .._core.waits import AttemptWaits, long_wait_from
from .._engine import observers
from .._engine.attempt import Attempt
from .._engine.call_step import at_failure
from .._engine.classify_outcome import classify_outcome
from .._engine.clock import Clock, Deadline, SystemClock, Timer
from .._engine.ports import Outcome, Waiter
from .._engine.retries import next_attempt
from .._engine.routing import take_route
from .._engine.scope import Scope, Suspension
from .._engine.values import ExecutionValues
from .._operations.context import Context
from .._store.base import Store
from .._values import Redactor
from .._values.classes import Home
from ..errors import StoreError
from .blobs import Blobs
from .children import RemoteChildren
from .needs import needs
from .wire import Rows, from_rows

__all__ = ["RemoteHost", "Results", "choose_routes", "give_secrets", "missing_results", "state_of_request"]

Send = Callable[[Rows], Awaitable[None]]
Ask = Callable[[int], Awaitable[dict[str, Any]]]

_LOOK_SECONDS = 1.0
"""Seconds between two questions to the driver during a wait in the worker."""
_MOST_DEFERRED = 40
_TRIES_KEPT = 20
"""Tries of one poll or retry that are each recorded; of later ones, one in ``_TRIES_EVERY`` µs is."""
_TRIES_EVERY = 10_000_000


class Results:
    """The newest results of this worker that no log holds, by execution, step and visit."""

    def __init__(self, most: int = 1000) -> None:
        self._kept: dict[tuple[str, str, int], Any] = {}
        self._most = most

    def keep(self, execution_id: str, step: str, visit: int, live: Any) -> None:
        """Keep a result; the oldest goes if there are too many."""
        self._kept[execution_id, step, visit] = live
        while len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]

    def of(self, execution_id: str, state: State) -> dict[tuple[str, int], Any]:
        """Return the results that are valid in the state of an execution, by step and visit."""
        return {
            (name, step.visit): self._kept[execution_id, name, step.visit]
            for name, step in state.attempted()
            if (execution_id, name, step.visit) in self._kept and step.has_result
        }


class RemoteHost(ExecutionValues):
    """The execution around an attempt, as the attempt sees it.

    Args:
        execution_id: the id of the execution.
        plan: the workflow as this worker has it.
        request: what the driver sent: see ``Requests.of``.
        blobs: the store of big values.
        send: sends rows to the driver; returns when Temporal has them.
        ask: asks the driver for the state of the step's waits; its argument is the last signal known here.
        results: the results that this worker has in memory.
        secrets: returns this worker's value for the name of a secret.
        worker: the worker's name.
        home: where the classes of the plan's steps are found, if that is known.
        make_children: makes the runner of the step's children; its second argument is how long to wait for one here.
    """

    def __init__(
        self,
        execution_id: str,
        plan: Plan,
        request: dict[str, Any],
        blobs: Blobs,
        send: Send,
        ask: Ask,
        results: Results,
        secrets: Callable[[str], Any] | None = None,
        worker: str = "",
        home: Home | None = None,
        *,
        make_children: Callable[[RemoteHost, float], RemoteChildren],
    ) -> None:
        state = state_of_request(request, blobs)
        store = cast(Store, blobs)  # it has the methods of a log that values use
        super().__init__(store, execution_id, plan, state, Redactor(blobs.redact), Context, home)
        self.blobs, self._send, self._ask, self._results = blobs, send, ask, results
        self.worker = worker
        self._release_after = round(request["release_after"] * 1e6)
        self.loop = asyncio.get_running_loop()
        self.clock: Clock = SystemClock()
        self.context = contextvars.copy_context()
        self.watchers: dict[Callable[[], None], None] = {}
        self.stop_requested: str | None = None
        self.superseded = False
        name = self.step = request["step"]
        step = self.known
        step.visit, step.attempt, step.failures = request["visit"], request["attempt"], request["failures"]
        step.phase = Phase.RUNNING
        state.in_flight[name] = None
        spec = plan.spec(name)
        assert spec is not None, f"nothing is known of step {name}"
        self.spec = spec
        self.scope = Scope(self, name, step.visit, step.attempt)
        self.attempt = Attempt(self.spec, self.scope)
        self.began = False
        self._outbox: list[tuple[Event, Waiter]] = []
        self._sender: asyncio.Task[None] | None = None
        self._poller: asyncio.Task[None] | None = None
        self._wait_timer: Timer | None = None
        self._over: asyncio.Future[dict[str, Any]] = self.loop.create_future()
        self.child_runner: RemoteChildren = make_children(self, request["release_after"])
        self._deferred: list[Callable[[], Event | None]] = []
        self._tries: dict[str, int] = {}
        if secrets is not None:
            give_secrets(self, secrets)
        self.recall(results.of(execution_id, state), state)

    @property
    def known(self) -> StepState:
        """The step's state."""
        known = self.state.step(self.step)
        assert known is not None, f"step {self.step} is in the state"
        return known

    # -- what attempts, scopes and operations ask ---------------------------------------------------------------

    def now(self) -> int:
        """Return the time, µs since the epoch; never before the last event."""
        return max(self.clock.now(), self.state.updated_at)

    def payload(self, value: Value) -> bytes:
        """Return the bytes of a recorded value.

        Raises:
            StoreError: this worker cannot read them.
        """
        return value.payload if value.payload is not None else self.blobs.payload(value.digest)

    def post_record(self, event: Event, waiter: Waiter) -> None:
        """Send an operation's event; ``waiter`` is answered when Temporal has it."""
        if not isinstance(event, e.SignalTaken):  # another step may take it first: only the driver knows
            evolve(self.state, event)
        if self._is_sampled_out(event):
            waiter.set_result(None)
            return
        self._outbox.append((event, waiter))
        if self._sender is None or self._sender.done():
            self._sender = self.loop.create_task(self._send_all())

    def defer_event(self, make: Callable[[], Event | None]) -> None:
        """Send an event with the next record or the outcome, because it is not worth a message of its own."""
        self._deferred.append(make)
        del self._deferred[:-_MOST_DEFERRED]

    def waits_changed(self) -> None:
        """Suspend the attempt if the step began a long wait."""
        if not self._over.done():
            self.loop.call_soon(self._check_waits)

    def wait_ended(self, step: str) -> None:
        """Do nothing: only a fake clock needs this."""

    def look_again(self) -> None:
        """Ask every waiter whether its wait is over."""
        for is_due in list(self.watchers):
            is_due()

    @property
    def continues_elsewhere(self) -> bool:
        """Whether the attempt has left this worker, so that another one continues the step."""
        if not self._over.done():
            return False
        outcome = self._over.result()
        return bool(outcome.get("suspended") or outcome.get("given_back"))

    def confirm(self) -> None:
        """Let an effect begin: a worker that was superseded learns of it by its next heartbeat, and is closed."""

    def ended(self, outcome: Outcome) -> None:
        """End the attempt with an outcome."""
        scope = self.scope
        if scope.closed or self._over.done():
            return
        deferred = self._deferred_rows()
        scope.close()
        try:
            self._end(self._report(outcome, deferred))
        except Exception as error:  # noqa: BLE001 - it fails the activity, which would never end otherwise
            self._over.set_exception(error)

    def _report(self, outcome: Outcome, deferred: Rows) -> dict[str, Any]:
        """Return an outcome, and the deferred events, as the driver records them."""
        scope, now = self.scope, self.now()
        step, verdict = self.known, classify_outcome(self, self.spec, outcome)
        header: dict[str, Any] = {"at": now, "step": self.step, "visit": scope.visit, "attempt": scope.attempt}
        again = next_attempt(self.clock, self.spec.policy, step.failures, verdict)
        due_at = None if again is None else again.at
        event = replace(settle(verdict, due_at=due_at, **header), worker=self.worker)
        rows = [*deferred, *self._last_rows(now)]
        if isinstance(event, e.StepFailed) and outcome.error is not None:
            rows += map(self._row, at_failure(self.spec, scope, outcome.error))
        report: dict[str, Any] = {}
        if isinstance(verdict, Value):
            self.keep_live(self.step, scope.visit, verdict, outcome.live)
            if not verdict.restorable:
                self._results.keep(self.id, self.step, scope.visit, outcome.live)
                report["tied"] = True
        self.warn_of_changes(self.step)
        rows.append(self._row(event))
        evolve(self.state, event)
        if due_at is not None:
            report["again"] = True
        else:
            report["routes"] = [self._row(route) for route in choose_routes(self, self.step)]
        return {"rows": rows, **report}

    def note_blocking(self, step: str, seconds: float) -> None:
        """Do nothing: heartbeats are sent from another thread."""

    def ask_to_stop(self, reason: str) -> None:
        """Give the attempt back; call it from any thread."""
        self.stop_requested = reason
        self.loop.call_soon_threadsafe(self.give_back)

    def cancelled_from_outside(self, step: str) -> None:
        """Give the attempt back: other code cancelled its task, as ``asyncio.run`` does at its end."""
        self.give_back()

    def end_with_loop(self) -> None:
        """Do nothing: without its loop nothing can be sent, and the heartbeats end."""

    # -- the attempt --------------------------------------------------------------------------------------------

    async def run(self) -> dict[str, Any]:
        """Run the attempt and return its outcome for the driver."""
        observed = contextvars.copy_context()
        observers.prepare(self.scope, observed)
        self.began = True
        try:
            self.attempt.start(observed)
        except Exception as error:  # noqa: BLE001 - the system may refuse a thread, which then is the outcome
            self.ended(self.attempt.outcome(error))
        try:
            outcome = await asyncio.shield(self._over)
        finally:
            if self._poller is not None:
                self._poller.cancel()
            if self._wait_timer is not None:
                self._wait_timer.cancel()
        if self.scope.thread is not None and ("suspended" in outcome or outcome.get("again")):
            await self._thread_over()  # the next attempt must not run beside it
        return outcome

    def details(self) -> dict[str, Any]:
        """Return the details of a heartbeat: the progress, and the end of what was printed."""
        scope, mask = self.scope, self.redactor.mask
        printed = scope.printed.peek(mask)[-500:] if scope.printed is not None else ""
        return {"percent": scope.percent, "message": mask(scope.message), "printed": printed, "by": self.worker}

    def give_back(self) -> None:
        """End the attempt without an outcome, so that another worker runs the step."""
        if not self._over.done():
            self._end({"rows": self._last_rows(self.now()), "given_back": True, "began": self.began})
        self.attempt.abandon()

    def _end(self, outcome: dict[str, Any]) -> None:
        if not self._over.done():
            self._over.set_result(outcome)

    async def _thread_over(self) -> None:
        over = asyncio.Event()
        self.attempt.when_over(over.set)
        if self.attempt.alive:
            await over.wait()

    # -- waits ----------------------------------------------------------------------------------------------------

    def _check_waits(self) -> None:
        if self._over.done() or self.scope.closed:
            return
        now = self.clock.now()
        operations = self.known.operations
        waits = AttemptWaits(self.scope.waits, operations, self.spec.policy.effect == "external")
        ripe = long_wait_from(waits, self._release_after, now)
        if ripe is not None and ripe <= now:
            (wait,) = self.scope.waits
            seen = self.child_runner.seen.get(wait.op, self.state.last_signal)
            waits_for = {"op": wait.op, "due_at": wait.due_at, "seen": seen}
            self._end({"rows": self._last_rows(now), "suspended": True, **waits_for})
            self.attempt.abandon()
            return
        if ripe is not None:
            if self._wait_timer is not None:
                self._wait_timer.cancel()
            self._wait_timer = self.clock.call_at(Deadline(self.clock, ripe), self._check_waits)
        asks = any(not wait.op.startswith("child:") for wait in self.scope.waits)  # a child's end comes as a signal
        if self.watchers and asks and (self._poller is None or self._poller.done()):
            self._poller = self.loop.create_task(self._poll_driver())

    async def _poll_driver(self) -> None:
        """Ask the driver now and then while an operation waits in this worker."""
        while self.watchers and not self.scope.closed:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self._catch_up()
            except Exception:  # noqa: BLE001 - no worker answers, or the server is away: try again
                continue
            self.look_again()

    async def _catch_up(self) -> dict[str, Any]:
        """Fold what has happened to the step's waits: decisions, and signals that it may take."""
        answer = await self._ask(self.state.last_signal)
        operations, state = self.known.operations, self.state
        for event in from_rows(answer["rows"]):
            if isinstance(event, (e.ApprovalReceived, e.ApprovalRejected)):
                asked = operations.get(event.op)
                if asked is not None and not asked.is_decided:
                    evolve(state, self.blobs.load(event))
        for version in state.signals.keys() - set(answer["untaken"]):
            del state.signals[version]
        for version, row in answer["signals"]:
            (event,) = from_rows([row])
            state.signals[version] = cast(e.SignalReceived, self.blobs.load(event))
            state.last_signal = version
        return answer

    # -- to the driver --------------------------------------------------------------------------------------------

    async def _send_all(self) -> None:
        while self._outbox:
            batch, self._outbox = self._outbox, []
            try:
                rows = [*self._deferred_rows(), *(self._row(event) for event, _ in batch)]
                await self._send(rows)
                await self._settle_signals([event for event, _ in batch])
            except Exception as error:  # noqa: BLE001 - the driver is gone, or a value cannot be written
                self._not_sent(batch, error)
                continue
            for _, waiter in batch:
                if not waiter.done():
                    waiter.set_result(None)

    async def _settle_signals(self, sent: list[Event]) -> None:
        """Before a step that waits for a signal or takes one continues, ask the driver which signals there are."""
        if not any(isinstance(event, (e.SignalAwaited, e.SignalTaken)) for event in sent):
            return
        taken = [event for event in sent if isinstance(event, e.SignalTaken)]
        kept = {event.received: self.state.signals.get(event.received) for event in taken}
        answer = await self._catch_up()
        for event in taken:
            signal = kept[event.received]
            if event.op in answer["done"] and signal is not None:
                self.state.signals[event.received] = signal
                evolve(self.state, event)

    def _not_sent(self, batch: list[tuple[Event, Waiter]], error: Exception) -> None:
        if isinstance(error, StoreError):
            raised: BaseException = error
        else:
            raised = Suspension(f"execution {self.id} has ended, or cannot be reached ({error}); nothing is recorded")
        for _, waiter in batch:
            if not waiter.done():
                waiter.set_exception(raised)

    def _is_sampled_out(self, event: Event) -> bool:
        """Whether a try of a long poll is not sent: a run of the driver takes 10,000 signals."""
        if not isinstance(event, (e.PollAttempted, e.RetryAttempted)) or event.number <= _TRIES_KEPT:
            return False
        if event.due_at - event.at > self._release_after or event.at - self._tries.get(event.op, 0) >= _TRIES_EVERY:
            self._tries[event.op] = event.at
            return False
        return True

    def _deferred_rows(self) -> Rows:
        deferred, self._deferred = self._deferred, []
        return [self._row(event) for make in deferred if (event := make()) is not None]

    def _last_rows(self, now: int) -> Rows:
        """Return the rows that go with the outcome, among them the last printed lines."""
        rows = self._deferred_rows()
        printed = self.scope.take_printed(now, all_of_it=True)
        return rows if printed is None else [*rows, self._row(printed)]

    def _row(self, event: Event) -> list[Any]:
        return self.blobs.to_row(event)


def state_of_request(request: dict[str, Any], blobs: Blobs) -> State:
    """Fold the rows of a request into the part of the state that an attempt, or the listing of items, needs."""
    name, state, visit = request["step"], State(), request["visit"]
    subject = undone_by(name) or name
    if "item" in request:
        items = Items({key_of(subject): request["item"]}, steps={subject: StepState()})
        state.steps[owner_of(subject)] = StepState(visit=visit, items=items)
    else:
        state.steps[subject] = StepState(visit=visit, attempt=request["attempt"])
    for event in from_rows(request["rows"]):
        if isinstance(event, e.StepCheckpointed) and (step := state.step(event.step)) is not None:
            step.attempt = event.attempt  # the request does not hold the starts of attempts
        evolve(state, blobs.load(event))
        if isinstance(event, e.StepCompleted) and (step := state.step(event.step)) is not None:
            step.visit = event.visit  # the request does not hold the jumps that opened the visit
        if state.rollback is not None and name not in state.rollback.steps:
            state.rollback.steps[name] = StepState(visit=visit, attempt=request["attempt"])
    if (known := state.step(subject)) is not None and "children" in request:
        known.children = tuple(request["children"])
    return state


def missing_results(values: ExecutionValues, name: str) -> list[str]:
    """List the steps whose results an attempt needs and only another worker has in memory."""
    found = []
    for needed in needs(values.plan, values.state, name):
        step = values.state.step(needed)
        output = None if step is None else step.output
        if output and not output.restorable and needed not in values.live and needed not in values.plan.each:
            found.append(needed)
    return found


def give_secrets(values: ExecutionValues, secrets: Callable[[str], Any]) -> None:
    """Replace the masks in the inputs by this worker's secrets of these names."""
    recorded = values.state.inputs
    if recorded is None or not recorded.masked:
        return
    given = values.inputs()
    for name in recorded.masked:
        if name in given and (found := secrets(name)) is not None:
            given[name] = found
    values.live_inputs = given
    values.encode(given)  # the redactor learns them


def choose_routes(values: ExecutionValues, name: str) -> list[e.DivergeTaken | e.BranchTaken | e.WorkflowFailed]:
    """Match the outcome of a step against its routes, in the order in which the driver asks for them.

    Args:
        values: an execution whose state has the step's outcome; the chosen routes are folded into it.
        name: the step.
    """
    plan, chosen = values.plan, list[e.DivergeTaken | e.BranchTaken | e.WorkflowFailed]()
    if not plan.routed(name):
        return chosen
    step = values.state.steps[name]

    def take() -> bool:
        event, error = take_route(values, name, values.state.updated_at)
        chosen.append(event)
        if error is None:
            evolve(values.state, event)
        return error is None

    if name in plan.diverges and not step.diverge_chosen and not take():
        return chosen
    if name in plan.branches and step.diverge is None and step.phase is Phase.COMPLETED and step.branch is None:
        take()
    return chosen
