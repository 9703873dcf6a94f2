"""One attempt of one step: the function is called, all it raises is caught, and its outcome is posted to the engine.

Async steps run as tasks of the engine's loop, plain steps in a thread each (or as tasks, where no thread can start). An
attempt can be abandoned: its outcome is then ignored, and what it still tries to record is refused. But a thread cannot
be killed, so ``alive`` says whether the function is still running.

From a step's return to its row:

1. ``encode_result`` (values.py) encodes the result and masks its secrets; a large one of an async step in a thread.
2. The inbox (loop.py) passes the outcome to ``Execution.settle`` (execution.py).
3. classify_outcome.py and _core/settle.py turn it into an event; retries.py says when another attempt starts.
4. The driver (_core/drive.py) folds the event.
5. The engine commits it with the other events that have arrived (commits.py).
6. _store/rows.py makes it a row, and ``SqliteStore.commit`` (_store/sqlite_appends.py) inserts it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import types
from collections.abc import Callable
from typing import Any

from .._core.graph import StepSpec
from .._text.duration import format_seconds
from .._values.large import LargeValueError
from ..errors import StepTimeoutError
from .call_step import call_step
from .clock import Deadline, Timer
from .eager import begin_task
from .pending_operation import give_up, unawaited
from .ports import Outcome
from .scope import Scope, current_scope
from .threads import can_start_threads, in_thread
from .watchdog import measured

__all__ = ["Attempt", "Interruption"]


class Interruption(BaseException):
    """Raised into a blocked step by a second stop; never seen outside an attempt."""


class Attempt:
    """A running step function."""

    __slots__ = ("_ended", "_returned", "_timer", "scope", "spec", "timed_out", "waited")

    def __init__(self, spec: StepSpec, scope: Scope) -> None:
        self.spec, self.scope = spec, scope
        self.timed_out = False
        self.waited = False  # it was abandoned while it waited, so its thread ends at once
        self._returned = False
        self._timer: Timer | None = None
        self._ended: tuple[Callable[[], None], ...] = ()

    def start(self, context: contextvars.Context, *, at_once: bool = False) -> None:
        """Start the function: an async step on the engine's loop, a plain step in a new thread where that is possible.

        Args:
            context: the attempt's context.
            at_once: whether an async step begins now, not in the loop's next iteration.
        """
        scope, execution = self.scope, self.scope.execution
        try:
            if self.spec.policy.timeout is not None:
                due = Deadline.after(execution.clock, self.spec.policy.timeout)
                self._timer = execution.clock.call_at(due, self._time_out)
            if self.spec.is_async or not can_start_threads():
                work = self._run_async(None)
                task = (
                    begin_task(scope.loop, work, context) if at_once else scope.loop.create_task(work, context=context)
                )
                if not self._returned:
                    scope.task = task
            else:
                name = f"step {self.spec.name}"
                scope.thread = threading.Thread(target=context.run, args=(self._run_sync,), name=name, daemon=True)
                scope.thread.start()
        except BaseException:
            self._returned = True  # it never started
            self._stop_timer()
            raise

    @property
    def alive(self) -> bool:
        """Whether the function is still running."""
        scope = self.scope
        if self._returned or (scope.task is not None and scope.loop.is_closed()):
            return False
        if scope.process is not None and scope.process.killed:
            return False
        return scope.thread is not None or scope.task is not None

    def abandon(self) -> None:
        """Ignore the rest of the attempt; the task of an async step is cancelled."""
        self.waited = self.waited or self.scope.waiting
        if self.scope.checkpoints is not None:
            self.scope.checkpoints.leaving = True
        self.scope.close()
        self._stop_timer()
        if (task := self.scope.task) is None:
            return
        if self.scope.refused:  # it cleans up already, which a cancellation would end
            self.scope.loop.call_later(_CLEANUP_SECONDS, task.cancel)
        else:
            task.cancel()

    def outcome(self, error: BaseException | None = None) -> Outcome:
        """Return a new outcome of this attempt."""
        return Outcome(self.scope.step, self.scope.visit, self.scope.attempt, error=error)

    def when_over(self, callback: Callable[[], None]) -> None:
        """Call back on the engine's loop when the function has ended."""
        self._ended += (callback,)

    async def _run_async(self, result: Any) -> None:
        """Call the function and await it; ``result`` is the awaitable that a plain function returned."""
        scope = self.scope
        scope.task = asyncio.current_task(scope.loop)  # it may have started before `start` could set this
        current_scope.set(scope)
        outcome = Outcome(scope.step, scope.visit, scope.attempt)
        try:
            scope.check()
            if result is None:
                try:
                    arguments = scope.execution.arguments(self.spec, True)
                except LargeValueError:
                    arguments = None  # not here, where its errors would show this one as their context
                if arguments is None:
                    arguments = await in_thread(scope.execution.arguments, self.spec)
                result = call_step(self.spec, scope, arguments)
                del arguments  # only the step keeps its arguments
            while type(result) not in _NOT_AWAITABLE and (
                type(result) is types.CoroutineType or inspect.isawaitable(result)
            ):
                result = await measured(result, scope.execution.note_blocking, self.spec.name)
            if scope.unawaited and (problem := unawaited(scope)) is not None:
                raise problem
            try:
                encoded = scope.execution.encode_result(self.spec, result, True)
            except LargeValueError:
                encoded = None
            if encoded is None:
                self._stop_timer()  # it has returned in time
                encoded = await in_thread(scope.execution.encode_result, self.spec, result)
            outcome.value, outcome.live = encoded
        except asyncio.CancelledError as error:
            if not scope.closed and not self.timed_out and _was_asked_to_stop():
                scope.execution.cancelled_from_outside(scope.step)
                raise
            outcome.error = error
        except Interruption as error:
            outcome.error = error
            scope.execution.ask_to_stop("stopped by hand while a step blocked the loop")
        except BaseException as error:  # noqa: BLE001 - whatever user code raises is its outcome
            outcome.error = error
        finally:
            self._has_returned()
        self._over(outcome)

    def _run_sync(self) -> None:
        scope = self.scope
        current_scope.set(scope)
        outcome = self.outcome()
        try:
            scope.check()
            result = call_step(self.spec, scope, scope.execution.arguments(self.spec))
            if type(result) not in _NOT_AWAITABLE and inspect.isawaitable(result):
                # a plain wrapper around an async function: await it in a task
                self._continue_on_loop(result)
                return
            if (problem := unawaited(scope)) is not None:
                raise problem
            outcome.value, outcome.live = scope.execution.encode_result(self.spec, result)
        except BaseException as error:  # noqa: BLE001 - whatever user code raises is its outcome
            outcome.error = error
        self._has_returned()
        try:
            scope.loop.call_soon_threadsafe(self._over, outcome)
        except RuntimeError:  # the loop was closed, as by asyncio.run: the outcome is lost
            self._loop_ended()

    def _has_returned(self) -> None:
        self._returned = True
        self.scope.task = None  # its context refers to the scope: a reference cycle
        if self.scope.checkpoints is not None:
            self.scope.checkpoints.end()

    def _continue_on_loop(self, result: Any) -> None:
        try:
            self.scope.loop.call_soon_threadsafe(self._take_over, result)
        except RuntimeError:
            self._returned = True
            _close(result)
            self._loop_ended()

    def _take_over(self, result: Any) -> None:
        if self.scope.closed:
            self._returned = True
            _close(result)
            self._over(self.outcome())
            return
        self.scope.thread = None
        self.scope.task = self.scope.loop.create_task(
            self._run_async(result), context=self.scope.execution.context.copy()
        )

    def _loop_ended(self) -> None:
        give_up(self.scope)
        self.scope.execution.end_with_loop()
        self._call_back()

    def _call_back(self) -> None:
        callbacks, self._ended = self._ended, ()  # they refer to the attempt: a reference cycle
        for callback in callbacks:
            callback()

    def _over(self, outcome: Outcome) -> None:
        scope = self.scope
        if self._timer is not None:
            self._timer.cancel()
        if scope.unawaited:
            give_up(scope)
        if self._ended:
            self._call_back()
        if self.timed_out and not scope.closed and (scope.thread is None or scope.process is not None):
            outcome.error, outcome.value = self._timeout_error(), None
        if not scope.closed:
            scope.execution.ended(outcome)

    def _time_out(self) -> None:
        self.timed_out = True
        if self.scope.task is not None:
            self.scope.task.cancel()
        elif self.scope.process is not None:
            self.scope.process.kill()  # its thread returns once the process is gone
        else:  # the thread cannot be stopped, but the attempt is over
            self.scope.execution.ended(self.outcome(self._timeout_error()))

    def _timeout_error(self) -> StepTimeoutError:
        limit = format_seconds(self.spec.policy.timeout or 0)
        message = f"step '{self.spec.name}' took longer than its timeout of {limit}"
        if self.spec.policy.process:
            message += ". Its process was killed"
        elif self.scope.thread is not None:
            message += (
                ". A plain step's thread cannot be ended: it continues until it returns, and the next attempt starts "
                "only then. Make it async def, declare it with @step(process=True), or give what it calls its "
                "own timeout"
            )
        return StepTimeoutError(message)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


_CLEANUP_SECONDS = 1.0
"""How long an async step whose operation was refused may clean up before it is cancelled, as it may have gone on."""

_NOT_AWAITABLE = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict})
"""Types that are never awaitable, to save a call of `inspect.isawaitable`."""


def _close(result: Any) -> None:
    if inspect.iscoroutine(result):
        result.close()


def _was_asked_to_stop() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
