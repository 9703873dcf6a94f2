"""The scope of a running attempt: how code inside a step reaches its execution.

A scope can be used on the engine's loop, in a step's thread, and on a loop in that thread: its events are always posted
to the engine's loop, and the caller waits until they are committed. scope_lookup.py says how code finds its scope.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .._core.events import OperationMismatched, StepCheckpointed, StepNoted, StepPrinted, StepProgressed
from .._core.step_state import Operation, StepState
from .._core.value import Value
from .._core.waits import Wait
from .._store import at_fork
from ..errors import ExecutionBusyError
from .ports import AttemptCheckpoints, Host, StepProcess, Waiter
from .stdout import Printed
from .watchdog import note_own

if TYPE_CHECKING:
    from .clock import Deadline, Timer

__all__ = ["Scope", "Suspension", "current_scope", "scopes_at_work"]

T = TypeVar("T")

current_scope: ContextVar[Scope | None] = ContextVar("cerebelum_scope", default=None)

_open: dict[int, weakref.ref[Scope]] = {}
"""The attempts at work, by ``id()``. Not a WeakSet, because that has a callback per entry."""
_lock = threading.Lock()
"""Guards the counts of scopes: threads of a step may name operations at the same time."""

PROGRESS_EVERY = 250_000
"""µs between two progress events of one step in the log."""

PRINTED_EVERY = 0.25
"""Seconds between two ``StepPrinted`` events, doubled every 16,000 characters so that the log stays small."""


class Suspension(BaseException):
    """Ends the code of an attempt that is over: stopped, superseded, or hibernated.

    A ``BaseException``, like a cancellation: ``except Exception: compensate()`` in a step must not catch it.
    """


class Scope:
    """One attempt of one step, as the step's code sees it."""

    in_child_process = False
    """Whether it is in the child process of its step, and forwards requests to the attempt's scope."""

    # Most attempts change none of these, and share them: to set them all takes longer than the rest of `__init__`.
    task: asyncio.Task[None] | None = None  # if the step is async
    thread: threading.Thread | None = None  # if the step is plain
    process: StepProcess | None = None  # if the step has process=True
    closed = False
    refused = False  # its own code was refused an operation, and is ending
    percent: float | None = None
    message = ""
    printed: Printed | None = None
    checkpoints: AttemptCheckpoints | None = None
    unawaited: dict[object, None] | None = None
    notes: dict[str, Value] | None = None  # published but not recorded
    _torn: dict[Callable[[str], Any], str] | None = None  # by stream: text that may be the start of a secret
    _counts: dict[str, int] | None = None
    _earlier: dict[str, dict[str, None]] | None = None
    _asks = 0  # how many of its tasks wait for the engine
    _waiters: set[concurrent.futures.Future[None]] | None = None  # for which its threads wait
    _progress_at = 0

    def __init__(self, execution: Host, step: str, visit: int, attempt: int) -> None:
        self.execution, self.loop = execution, execution.loop
        self.step, self.visit, self.attempt = step, visit, attempt
        self.waits: list[OpenWait] = []
        self._pid = os.getpid()
        _open[id(self)] = weakref.ref(self)

    def now(self) -> int:
        """Return the engine's time, µs since the epoch."""
        return self.execution.now()

    @property
    def known(self) -> StepState:
        """The state of its step."""
        step = self.execution.state.step(self.step)
        assert step is not None, f"step {self.step} has begun"
        return step

    @property
    def waiting(self) -> bool:
        """Whether its code waits for the engine: for a time, a signal or a commit."""
        return bool(self._asks or self._waiters)

    def check(self) -> None:
        """Raise Suspension once the attempt is over or its execution was asked to stop."""
        if self.closed or self.execution.stop_requested is not None:
            self.refused = self.refused or self.is_callers()
            raise self.over()

    def identify(self, kind: str, name: str, fingerprint: str) -> str:
        """Return the key of an operation: its kind, name, arguments and occurrence, never its position alone."""
        key = f"{kind}:{self.execution.redactor.mask(name)}:{fingerprint}"
        with _lock:
            if self._counts is None:
                self._counts = {}
                self._note_earlier()
            number = self._counts.get(key, 0)
            op, self._counts[key] = f"{key}:{number}", number + 1
            if self.checkpoints is not None:
                self.checkpoints.operation_named(key, number + 1)
            if self._earlier:
                self._earlier.get(_same_name(op), {}).pop(op, None)
        return op

    @property
    def names_operations(self) -> bool:
        """Whether an operation was begun in this attempt."""
        return bool(self._counts)

    def count_from(self, counts: dict[str, int]) -> None:
        """Set the counts of operations: the step is entered after the statements that began them."""
        with _lock:
            self._counts = dict(counts)
            self._note_earlier()

    def _note_earlier(self) -> None:
        """Index the operations that earlier attempts finished, to find those that this attempt no longer begins."""
        earlier: dict[str, dict[str, None]] = {}
        for op, operation in self.known.operations.items():
            if operation.done:
                earlier.setdefault(_same_name(op), {})[op] = None
        self._earlier = earlier or None

    def recorded(self, op: str) -> Operation | None:
        """Return the operation that an earlier attempt of this visit recorded under ``op``, if any."""
        return self.known.operations.get(op)

    def mismatch(self, op: str) -> str | None:
        """Return a finished operation of the same kind and name but other arguments, if any."""
        return None if self._earlier is None else next(iter(self._earlier.get(_same_name(op), ())), None)

    def perform(self, work: Callable[..., Coroutine[Any, Any, T]], arguments: Sequence[Any]) -> Coroutine[Any, Any, T]:
        """Return an operation's work under this scope, to be awaited."""
        return work(self, *arguments)

    async def record(self, event: type[Any], op: str, **fields: Any) -> None:
        """Append an event of this attempt and wait until it is committed."""
        made = event(at=self.now(), step=self.step, visit=self.visit, attempt=self.attempt, op=op, **fields)
        checkpoint = None
        if self.checkpoints is not None:
            began = time.monotonic()
            checkpoint = self.checkpoints.checkpoint(event)
            note_own(began)

        def post(waiter: Waiter) -> None:
            if checkpoint is not None:
                self.defer_event(StepCheckpointed, **checkpoint)
            self.execution.post_record(made, waiter)

        await self._ask(post)

    async def record_checkpoint(self, fields: dict[str, Any]) -> None:
        """Append a checkpoint of this attempt in a separate commit, and wait for it."""
        made = self._checkpoint(fields)
        await self._ask(lambda waiter: self.execution.post_record(made, waiter))

    def record_checkpoint_now(self, fields: dict[str, Any]) -> None:
        """Append a checkpoint from a plain step, and wait; on the engine's loop, where it cannot, defer the event."""
        if self.loop is asyncio._get_running_loop():
            self.defer_event(StepCheckpointed, **fields)
            return
        if self.closed:
            raise self.over()
        made, waiter = self._checkpoint(fields), concurrent.futures.Future[None]()
        self._waiters = set() if self._waiters is None else self._waiters
        self._waiters.add(waiter)
        try:
            self.loop.call_soon_threadsafe(self._act, lambda waiter: self.execution.post_record(made, waiter), waiter)
            waiter.result()
        finally:
            self._waiters.discard(waiter)

    def _checkpoint(self, fields: dict[str, Any]) -> StepCheckpointed:
        return StepCheckpointed(at=self.now(), step=self.step, visit=self.visit, attempt=self.attempt, **fields)

    def defer_event(self, event: type[Any], **fields: Any) -> None:
        """Append an event of this attempt with the next commit; callable from any thread."""
        made = event(at=self.now(), step=self.step, visit=self.visit, attempt=self.attempt, **fields)
        self._on_loop(lambda: self.execution.defer_event(lambda: None if self.closed else made))

    def confirm(self) -> None:
        """Check right before an effect that it may begin: the attempt is not over, and the log still has the lease.

        Raises:
            Suspension: the attempt is over, or another process is running the execution now.
        """
        self.check()
        with suppress(ExecutionBusyError):
            self.execution.confirm()
            return
        raise self.over()

    async def record_mismatch(self, op: str) -> None:
        """Record an earlier operation that differs from ``op`` only in its arguments, if there is one."""
        recorded = self.mismatch(op)
        if recorded is not None:
            await self.record(OperationMismatched, op, recorded=recorded)

    async def on_loop(self, action: Callable[[], T]) -> T:
        """Call a function on the engine's loop, from any thread, and return its result."""
        made: list[T] = []

        def act(waiter: Waiter) -> None:
            made.append(action())
            waiter.set_result(None)

        await self._ask(act)
        return made[0]

    def wait_until(
        self, due: Deadline | None, op: str = "", until: Callable[[], bool] | None = None, *, busy: bool = False
    ) -> Coroutine[Any, Any, None]:
        """Return the wait until ``due``, or until ``until()`` is true, to be awaited at once.

        Args:
            due: when the wait ends; None: never.
            op: the operation that waits.
            until: called now, and whenever other processes have appended events.
            busy: whether it waits for a child that is at work.
        """
        wait = OpenWait(self, due, op, until, busy)
        return self._ask(wait.begin, wait.end)

    def is_callers(self) -> bool:
        """Whether this is called in the attempt's own thread or task."""
        if self.thread is threading.current_thread():
            return True
        try:
            return self.task is not None and self.task is asyncio.current_task()
        except RuntimeError:  # no loop in this thread
            return False

    def progress(self, percent: float, message: str) -> None:
        """Note the progress of the step; samples of it are recorded with other commits."""
        if self.closed:
            return
        self.percent, self.message = percent, message
        now = self.now()
        if now - self._progress_at >= PROGRESS_EVERY or percent >= 100:
            self._progress_at = now
            self._on_loop(self._note_progress)

    def note(self, name: str, value: Value) -> None:
        """Publish a note; the last value of its name is recorded with the next commit."""
        if not self.closed:
            self._on_loop(lambda: self._take_note(name, value))

    def _take_note(self, name: str, value: Value) -> None:
        if self.notes is None:
            self.notes = {}
        is_waiting = name in self.notes
        self.notes[name] = value
        if not is_waiting:
            self.execution.defer_event(partial(self._noted, name, self.now()))

    def _noted(self, name: str, at: int) -> StepNoted | None:
        assert self.notes is not None
        value, known = self.notes.pop(name), self.known
        if known.visit != self.visit or (known.notes or {}).get(name) == value:
            return None
        return StepNoted(at=at, step=self.step, visit=self.visit, attempt=self.attempt, name=name, value=value)

    def print(self, text: str) -> None:
        """Keep a text that the step printed; it is recorded with a later commit, at the latest with the outcome."""
        if self.closed:
            return
        if self.printed is None:
            self.printed = Printed()
        self.printed.add(text)
        if not self.printed.asked:
            self.printed.asked = True
            self._on_loop(self._note_printed_later)

    def shown(self, text: str, write: Callable[[str], Any]) -> str:
        """Mask a text written to a stream. An end that may be the start of a secret is held back until more follows."""
        redactor = self.execution.redactor
        if self._torn is None:
            self._torn = {}
        masked = redactor.mask(self._torn.pop(write, "") + text)
        end = len(masked) if self.closed else len(masked) - redactor.begun(masked)
        if end < len(masked):
            self._torn[write] = masked[end:]
        return masked[:end]

    def close(self) -> None:
        """End the attempt: all that it still tries to record is refused, and its waits are cancelled."""
        self.closed = True
        _open.pop(id(self), None)
        if self.process is not None:
            self.process.kill()
        if self._torn:
            for write, rest in self._torn.items():
                with suppress(Exception):  # the stream may be closed
                    write(rest)
            self._torn = {}
        for wait in list(self.waits):
            wait.end()
        for waiter in list(self._waiters) if self._waiters else ():
            if not waiter.done():
                waiter.set_exception(self.over())

    def is_here(self) -> bool:
        """Whether this is called in the process of the attempt, not in a forked child."""
        return self._pid == os.getpid()

    async def _ask(self, action: Callable[[Waiter], None], after: Callable[[], None] | None = None) -> None:
        """Call an action on the engine's loop with a waiter, wait until that is done, and call ``after`` there."""
        if self.closed:
            raise self.over()
        try:
            if asyncio.get_running_loop() is self.loop:
                self._asks += 1
                try:
                    waiter = self.loop.create_future()
                    action(waiter)
                    await waiter
                finally:
                    self._asks -= 1
            else:
                if self._waiters is None:
                    self._waiters = set()
                asked = concurrent.futures.Future[None]()
                self._waiters.add(asked)
                try:
                    self.loop.call_soon_threadsafe(self._act, action, asked)
                    await asyncio.wrap_future(asked)
                finally:
                    self._waiters.discard(asked)
        finally:
            if after is not None:
                self._on_loop(after)

    def take_printed(self, at: int, *, all_of_it: bool = False) -> StepPrinted | None:
        """Return the event with the text printed since the last one; None if there is nothing to record.

        Args:
            at: the time of the event, µs since the epoch.
            all_of_it: whether to include an unfinished line.
        """
        if self.printed is None:
            return None
        self.printed.asked = False
        text, dropped = self.printed.take(self.execution.redactor.mask, all_of_it=all_of_it)
        if not text:
            return None
        return StepPrinted(at=at, step=self.step, visit=self.visit, attempt=self.attempt, text=text, dropped=dropped)

    def _note_progress(self) -> None:
        if self.closed or self.percent is None:
            return
        redactor = self.execution.redactor
        event = StepProgressed(
            at=self.now(),
            step=self.step,
            visit=self.visit,
            attempt=self.attempt,
            percent=self.percent,
            message=redactor.mask(self.message) if redactor else self.message,
        )
        self.execution.defer_event(lambda: event)

    def _note_printed_later(self) -> None:
        assert self.printed is not None
        wait = PRINTED_EVERY * 2 ** (self.printed.taken // 16_000)
        self.loop.call_later(wait, self.note_printed)

    def note_printed(self) -> None:
        """Record the printed text with the next commit; until then views read it from here."""
        if not self.closed:
            self.execution.defer_event(partial(self.take_printed, self.now()))

    def _act(self, action: Callable[[Waiter], None], waiter: Waiter) -> None:
        """Call an action for a thread; if the attempt has ended meanwhile, give the thread the error instead."""
        if not self.closed:
            try:
                action(waiter)
            except Exception as error:  # noqa: BLE001 - the thread waits for an answer
                if not waiter.done():
                    waiter.set_exception(error)
        elif not waiter.done():
            waiter.set_exception(self.over())

    def _on_loop(self, action: Callable[[], None]) -> None:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self.loop:
            action()
        elif not self.loop.is_closed():
            self.loop.call_soon_threadsafe(action)

    def over(self) -> Suspension:
        """Return the exception that ends code which still runs after its attempt."""
        is_over = "is over, as another process has taken it over" if self.execution.superseded else "is over"
        return Suspension(
            f"step '{self.step}' (attempt {self.attempt}) of execution {self.execution.id} {is_over}; "
            f"nothing it does now is recorded"
        )


class OpenWait(Wait):
    """A wait of an attempt, and what ends it."""

    __slots__ = ("_due", "_scope", "_timer", "_until", "_waiter")

    def __init__(
        self, scope: Scope, due: Deadline | None, op: str, until: Callable[[], bool] | None, busy: bool
    ) -> None:
        super().__init__(scope.execution.clock.now(), None if due is None else due.at, scope.is_callers(), op, busy)
        self._scope, self._due, self._until = scope, due, until
        self._timer: Timer | None = None
        self._waiter: Waiter | None = None

    def begin(self, waiter: Waiter) -> None:
        """Wait, unless the wait is over already; ``waiter`` is done when it is. On the engine's loop."""
        scope, execution = self._scope, self._scope.execution
        if self._until is not None and self._until():
            waiter.set_result(None)
            return
        self._waiter = waiter
        scope.waits.append(self)
        if self._until is not None:
            execution.watchers[self._look] = None
        if self._due is not None:
            self._timer = execution.clock.call_at(self._due, self._over)
        execution.waits_changed()

    def end(self) -> None:
        """Wait no longer; harmless if it has ended. On the engine's loop."""
        if self._waiter is None:
            return
        self._waiter = None
        execution = self._scope.execution
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        execution.watchers.pop(self._look, None)
        self._scope.waits.remove(self)
        execution.wait_ended(self._scope.step)

    def _look(self) -> None:
        if self._until is not None and self._until():
            self._over()

    def _over(self) -> None:
        waiter = self._waiter
        self.end()
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _same_name(op: str) -> str:
    """Return the kind and name of an operation, without its arguments."""
    return ":".join(op.split(":", 2)[:2])


def scopes_at_work() -> list[Scope]:
    """Return the scopes of the attempts at work in this process."""
    return [scope for ref in list(_open.values()) if (scope := ref()) is not None]  # list(): other threads add scopes


def _in_child() -> None:
    """Forget the parent's attempts, and replace the lock, which one of its threads may hold."""
    global _lock
    _lock = threading.Lock()
    _open.clear()


at_fork.in_child(_in_child)
