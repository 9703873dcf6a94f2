"""One attempt of one step in an activity, with the product's own attempts, scopes and operations.

`RemoteHost` gives them what ``_engine/execution.py`` gives them in the kernel. What an operation records is sent to the
driver and counts when Temporal has it. Where the kernel's engine would hibernate, the attempt ends as suspended, and
the driver holds its timer: nothing of it stays in the worker.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

from .._core import events as e
from .._core.events import Event
from .._core.fold import evolve
from .._core.graph import Plan, key_of, owner_of, undone_by
from .._core.settle import Returned, settle
from .._core.state import State
from .._core.step_state import Items, Phase, StepState
from .._core.value import Value
from .._core.waits import AttemptWaits, long_from
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
from .children import ChildrenThere
from .needs import needs
from .wire import Rows, from_rows, to_row, with_value

__all__ = ["RemoteHost", "Results", "give_secrets", "missing", "part_of", "routes_of"]

Send = Callable[[Rows], Awaitable[None]]
Ask = Callable[[int], Awaitable[dict[str, Any]]]

_LOOK_SECONDS = 1.0
"""How often a wait that stays in the worker asks for decisions."""
_MOST_DEFERRED = 40
_TRIES_KEPT = 20
"""So many tries of one poll or retry are each recorded; of more, one in ``_TRIES_EVERY`` µs."""
_TRIES_EVERY = 10_000_000


class Results:
    """What steps returned here and no log holds whole, by execution, step and visit; the newest few."""

    def __init__(self, most: int = 1000) -> None:
        self._kept: dict[tuple[str, str, int], Any] = {}
        self._most = most

    def keep(self, execution_id: str, step: str, visit: int, live: Any) -> None:
        """Keep one."""
        self._kept[execution_id, step, visit] = live
        while len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]

    def of(self, execution_id: str, state: State) -> dict[tuple[str, int], Any]:
        """Return those of one execution that hold in its state, by step and visit."""
        return {
            (name, step.visit): self._kept[execution_id, name, step.visit]
            for name, step in state.attempted()
            if (execution_id, name, step.visit) in self._kept and step.has_result
        }


class RemoteHost(ExecutionValues):
    """What an attempt sees of the execution around it.

    Args:
        execution_id: its id.
        plan: the workflow as this worker has it.
        request: what the driver sent: see ``Drive._request``.
        blobs: where big values are.
        send: takes rows to the driver; returns when Temporal has them.
        ask: reads from the driver what has become of the step's waits; it is told the last signal known here.
        results: what earlier steps of this worker returned.
        secrets: gives what this worker has under the name of a secret.
        worker: what the worker is called.
        home: where the classes of the plan's steps are found, if that is known.
        make_children: makes what runs workflows that the step calls; it is given how long the attempt waits for one.
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
        make_children: Callable[[RemoteHost, float], ChildrenThere],
    ) -> None:
        state = part_of(request, blobs)
        store = cast(Store, blobs)  # of a log, values ask no more than it has
        super().__init__(store, execution_id, plan, state, Redactor(blobs.redact), Context, home)
        self.blobs, self._send, self._ask, self._results = blobs, send, ask, results
        self.worker = worker
        self._release_after = round(request["release_after"] * 1e6)
        self.loop = asyncio.get_running_loop()
        self.clock: Clock = SystemClock()
        self.context = contextvars.copy_context()
        self.watchers: set[Callable[[], None]] = set()
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
        self._looker: asyncio.Task[None] | None = None
        self._ripening: Timer | None = None
        self._over: asyncio.Future[dict[str, Any]] = self.loop.create_future()
        self.children_there: ChildrenThere = make_children(self, request["release_after"])
        self._deferred: list[Callable[[], Event | None]] = []
        self._tries: dict[str, int] = {}
        if secrets is not None:
            give_secrets(self, secrets)
        self.recall(results.of(execution_id, state), state)

    @property
    def known(self) -> StepState:
        """What is known of the step."""
        known = self.state.step(self.step)
        assert known is not None, f"step {self.step} is in the state"
        return known

    # -- what attempts, scopes and operations ask ---------------------------------------------------------------

    def now(self) -> int:
        """Return the time of what happens now, µs since the epoch; never before the last event."""
        return max(self.clock.now(), self.state.updated_at)

    def payload(self, value: Value) -> bytes:
        """Return the bytes of a recorded value.

        Raises:
            StoreError: they are where this worker cannot read.
        """
        return value.payload if value.payload is not None else self.blobs.payload(value.digest)

    def post_record(self, event: Event, waiter: Waiter) -> None:
        """Send an operation's event; ``waiter`` is answered when Temporal has it."""
        if not isinstance(event, e.SignalTaken):  # another step may be first, which the driver knows
            evolve(self.state, event)
        if self._is_sampled_out(event):
            waiter.set_result(None)
            return
        self._outbox.append((event, waiter))
        if self._sender is None or self._sender.done():
            self._sender = self.loop.create_task(self._send_all())

    def defer_event(self, make: Callable[[], Event | None]) -> None:
        """Send with the next record, or with the outcome, what is not worth a separate message."""
        self._deferred.append(make)
        del self._deferred[:-_MOST_DEFERRED]

    def waits_changed(self) -> None:
        """Hear that the step began to wait: if for long, it gives its place up."""
        if not self._over.done():
            self.loop.call_soon(self._look_at_waits)

    def wait_ended(self, step: str) -> None:
        """Do nothing: only a clock that jumps has to know."""

    def look_again(self) -> None:
        """Ask every waiter whether its wait is over."""
        for is_due in list(self.watchers):
            is_due()

    @property
    def continues_elsewhere(self) -> bool:
        """Whether the attempt has given its place up, or was given back: another one takes its step up."""
        if not self._over.done():
            return False
        told = self._over.result()
        return bool(told.get("suspended") or told.get("given_back"))

    def confirm(self) -> None:
        """Let an effect begin: a worker that was superseded has heard so by its next heartbeat, and is closed then."""

    def ended(self, outcome: Outcome) -> None:
        """Take the outcome, and make of it what the driver records."""
        scope = self.scope
        if scope.closed or self._over.done():
            return
        deferred = self._deferred_rows()
        scope.close()
        try:
            self._end(self._told_of(outcome, deferred))
        except Exception as error:  # noqa: BLE001 - told as the failure of the activity; else it would never end
            self._over.set_exception(error)

    def _told_of(self, outcome: Outcome, deferred: Rows) -> dict[str, Any]:
        """Make of an outcome, and of the events deferred to it, what the driver records."""
        scope, now = self.scope, self.now()
        step, verdict = self.known, classify_outcome(self, self.spec, outcome)
        header: dict[str, Any] = {"at": now, "step": self.step, "visit": scope.visit, "attempt": scope.attempt}
        again = next_attempt(self.clock, self.spec.policy, step.failures, verdict)
        due_at = None if again is None else again.at
        event = replace(settle(verdict, due_at=due_at, **header), worker=self.worker)
        rows = [*deferred, *self._last_rows(now)]
        if isinstance(event, e.StepFailed) and outcome.error is not None:
            rows += map(self._row, at_failure(self.spec, scope, outcome.error))
        told: dict[str, Any] = {}
        if isinstance(verdict, Returned):
            self.keep_live(self.step, scope.visit, verdict.value, outcome.live)
            if not verdict.value.restorable:
                self._results.keep(self.id, self.step, scope.visit, outcome.live)
                told["tied"] = True
        self.warn_of_changes(self.step)
        rows.append(self._row(event))
        evolve(self.state, event)
        if due_at is not None:
            told["again"] = True
        else:
            told["routes"] = [self._row(route) for route in routes_of(self, self.step)]
        return {"rows": rows, **told}

    def note_blocking(self, step: str, seconds: float) -> None:
        """Do nothing: heartbeats are sent from another thread."""

    def note_own(self, seconds: float) -> None:
        """Do nothing, as above."""

    def ask_to_stop(self, reason: str) -> None:
        """Give the attempt back, from any thread."""
        self.stop_requested = reason
        self.loop.call_soon_threadsafe(self.give_back)

    def cancelled_from_outside(self, step: str) -> None:
        """Give the attempt back: its task was cancelled by somebody else, as at the end of ``asyncio.run``."""
        self.give_back()

    def end_with_loop(self) -> None:
        """Do nothing: without its loop nothing can be told, and its heartbeats end."""

    # -- the attempt --------------------------------------------------------------------------------------------

    async def run(self) -> dict[str, Any]:
        """Run it and say how it ended, as rows for the driver."""
        observed = contextvars.copy_context()
        observers.prepare(self.scope, observed)
        self.began = True
        try:
            self.attempt.start(observed)
        except Exception as error:  # noqa: BLE001 - the system may refuse a thread: then that is how it ended
            self.ended(self.attempt.outcome(error))
        try:
            outcome = await asyncio.shield(self._over)
        finally:
            if self._looker is not None:
                self._looker.cancel()
            if self._ripening is not None:
                self._ripening.cancel()
        if self.scope.thread is not None and ("suspended" in outcome or outcome.get("again")):
            await self._thread_over()  # no second one beside it
        return outcome

    def details(self) -> dict[str, Any]:
        """Return what a heartbeat tells: how far it is, and the last it printed."""
        printed = self.scope.printed.peek(self.redactor.mask)[-500:] if self.scope.printed is not None else ""
        told = {"percent": self.scope.percent, "message": self.redactor.mask(self.scope.message), "printed": printed}
        return {**told, "by": self.worker}

    def give_back(self) -> None:
        """End it without an outcome, so that another worker takes it up."""
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

    def _look_at_waits(self) -> None:
        if self._over.done() or self.scope.closed:
            return
        now = self.clock.now()
        operations = self.known.operations
        waits = AttemptWaits(self.scope.waits, operations, self.spec.policy.effect == "external")
        ripe = long_from(waits, self._release_after, now)
        if ripe is not None and ripe <= now:
            (wait,) = self.scope.waits
            seen = self.children_there.seen.get(wait.op, self.state.last_signal)
            told = {"op": wait.op, "due_at": wait.due_at, "seen": seen}
            self._end({"rows": self._last_rows(now), "suspended": True, **told})
            self.attempt.abandon()
            return
        if ripe is not None:
            if self._ripening is not None:
                self._ripening.cancel()
            self._ripening = self.clock.call_at(Deadline(self.clock, ripe), self._look_at_waits)
        asks = any(not wait.op.startswith("child:") for wait in self.scope.waits)  # the end of a child is told
        if self.watchers and asks and (self._looker is None or self._looker.done()):
            self._looker = self.loop.create_task(self._look())

    async def _look(self) -> None:
        """While it waits here for somebody, ask the driver now and then."""
        while self.watchers and not self.scope.closed:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self._catch_up()
            except Exception:  # noqa: BLE001 - no worker answers, or the server is away: asked again
                continue
            self.look_again()

    async def _catch_up(self) -> dict[str, Any]:
        """Have what others did about the step's waits: decisions, and signals that it may take."""
        told = await self._ask(self.state.last_signal)
        operations, state, thick = self.known.operations, self.state, partial(self.blobs.fat, whole=False)
        for event in from_rows(told["rows"]):
            if isinstance(event, (e.ApprovalReceived, e.ApprovalRejected)):
                asked = operations.get(event.op)
                if asked is not None and not asked.is_decided:
                    evolve(state, with_value(event, thick))
        for version in state.signals.keys() - set(told["untaken"]):
            del state.signals[version]
        for version, row in told["signals"]:
            (event,) = from_rows([row])
            state.signals[version] = cast(e.SignalReceived, with_value(event, thick))
            state.last_signal = version
        return told

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
        """Learn which signals there are for a step that waits for one or takes one, before it continues."""
        if not any(isinstance(event, (e.SignalAwaited, e.SignalTaken)) for event in sent):
            return
        taken = [event for event in sent if isinstance(event, e.SignalTaken)]
        kept = {event.received: self.state.signals.get(event.received) for event in taken}
        told = await self._catch_up()
        for event in taken:
            signal = kept[event.received]
            if event.op in told["done"] and signal is not None:
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
        """Whether a try of a long poll is left out: a run of the driver takes 10,000 messages."""
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
        """Return the events deferred to the outcome, the last lines it printed among them."""
        rows = self._deferred_rows()
        printed = self.scope.take_printed(now, all_of_it=True)
        return rows if printed is None else [*rows, self._row(printed)]

    def _row(self, event: Event) -> list[Any]:
        return to_row(with_value(event, self.blobs.thin))


def part_of(request: dict[str, Any], blobs: Blobs) -> State:
    """Fold what a request of the driver says: the part of the state that an attempt, or a list of items, goes by."""
    name, state, visit = request["step"], State(), request["visit"]
    subject = undone_by(name) or name
    if "item" in request:
        items = Items({key_of(subject): request["item"]}, steps={subject: StepState()})
        state.steps[owner_of(subject)] = StepState(visit=visit, items=items)
    else:
        state.steps[subject] = StepState(visit=visit, attempt=request["attempt"])
    for event in from_rows(request["rows"]):
        if isinstance(event, e.StepCheckpointed) and (step := state.step(event.step)) is not None:
            step.attempt = event.attempt  # the starts of attempts are not among these events either
        evolve(state, with_value(event, partial(blobs.fat, whole=False)))
        if isinstance(event, e.StepCompleted) and (step := state.step(event.step)) is not None:
            step.visit = event.visit  # the jumps that opened it are not among these events
        if state.rollback is not None and name not in state.rollback.steps:
            state.rollback.steps[name] = StepState(visit=visit, attempt=request["attempt"])
    if (known := state.step(subject)) is not None and "children" in request:
        known.children = tuple(request["children"])
    return state


def missing(values: ExecutionValues, name: str) -> list[str]:
    """Name the steps whose results an attempt needs, and which are in the memory of another worker."""
    found = []
    for needed in needs(values.plan, values.state, name):
        step = values.state.step(needed)
        output = None if step is None else step.output
        if output and not output.restorable and needed not in values.live and needed not in values.plan.each:
            found.append(needed)
    return found


def give_secrets(values: ExecutionValues, secrets: Callable[[str], Any]) -> None:
    """Put the secrets that this worker has by name where the inputs hold masks."""
    recorded = values.state.inputs
    if recorded is None or not recorded.masked:
        return
    given = values.inputs()
    for name in recorded.masked:
        if name in given and (found := secrets(name)) is not None:
            given[name] = found
    values.live_inputs = given
    values.encode(given)  # the redactor learns them


def routes_of(values: ExecutionValues, name: str) -> list[e.DivergeTaken | e.BranchTaken | e.WorkflowFailed]:
    """Hold the outcome of a step against its routes: all that the driver may ask for, in its order.

    Args:
        values: an execution in whose state the step has its outcome; the choices are folded into it.
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
