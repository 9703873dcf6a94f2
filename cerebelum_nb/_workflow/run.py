"""``Run``: a handle on an execution in this process, in the foreground or in the background."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import logging
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from typing import Any

from .._core.events import CancelRequested, Event
from .._core.fork import describe_origin
from .._core.limits import Limit
from .._core.messages import Drain
from .._core.state_name import ExecutionState
from .._engine import display_hooks
from .._engine.crash import Crashed
from .._engine.execution import Execution
from .._engine.interrupt import on_sigint
from .._engine.run_sync import STOPPED
from .._engine.signals import send
from .concurrency import supersede
from .outcome import cause_of, is_rollback, outcome_of, result_of, warn_of_stale
from .result import Result

__all__ = ["Run"]

log = logging.getLogger("cerebelum_nb")

_GRACE_SECONDS = 1.0
"""How long a stop waits for async steps to clean up before it abandons them."""


_AWAITED_SECONDS = 0.2
"""How long to wait, after a failure in the background, for somebody to await the run before it is logged."""

_unreported: set[Run] = set()
"""Runs that have just failed in the background: if their loop ends first, they are logged at the exit."""


@atexit.register
def _report_at_exit() -> None:
    for run in list(_unreported):
        run._report()


class Run:
    """An execution in this process. Await it for its :class:`Result`.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     run = release.start()
        ...     print(run.done)
        ...     return await run
        >>> asyncio.run(main()).output
        False
        'image'
    """

    def __init__(
        self,
        execution: Execution,
        variable: str,
        *events: Event,
        stale: tuple[str, ...] = (),
    ) -> None:
        self._execution, self._events = execution, events
        self.stale = stale
        execution.variable = variable
        if execution.plan.concurrency is not None:
            execution.queue_place.when_queued = partial(supersede, execution)
        self._undoes = is_rollback(execution.state, events)
        self._is_reported = False  # whether it is awaited or shown
        warn_of_stale(execution, stale)

    @property
    def execution_id(self) -> str:
        """The execution's id."""
        return self._execution.id

    @property
    def execution(self) -> Execution:
        """The engine's object for it."""
        return self._execution

    @property
    def status(self) -> ExecutionState:
        """Its state now."""
        return self._execution.state.status

    @property
    def results(self) -> Any:
        """The values of the steps completed so far, by name."""
        return self._result().results

    @property
    def done(self) -> bool:
        """Whether it no longer runs here."""
        return self._execution.over

    async def foreground(self) -> Result:
        """Run it and wait; the stop button and Ctrl-C pause it."""
        __tracebackhide__ = True
        with self._ready(), on_sigint(lambda: self.stop()), display_hooks.displayed(self._execution):
            self._start()
            await self._settled()
        return self.outcome()

    async def unseen(self) -> Result:
        """Run it and wait, without a view; the caller handles stops."""
        __tracebackhide__ = True
        with self._ready():
            self._start()
        await self._settled()
        return self.outcome()

    async def leave(self) -> Result:
        """Record that it has started, and leave running it to a scheduler."""
        __tracebackhide__ = True
        self._execution.driver.take(Drain(), self._execution.now())
        return await self.unseen()

    async def go_as_far_as(self, limit: Limit | None, *events: Event, quietly: bool = False) -> None:
        """Record ``events``, run it up to a limit, and wait.

        With ``quietly`` there is no view, and the first Ctrl-C interrupts even a step that blocks the loop.
        """
        __tracebackhide__ = True
        execution = self._execution
        execution.driver.limit = limit
        with self._ready(), on_sigint(lambda: self.stop(), presses=1 if quietly else 2), ExitStack() as shown:
            if not quietly:
                shown.enter_context(display_hooks.displayed(execution))
            self._start(*events)
            await self._settled()
        if not execution.driver.limited:
            self.outcome()

    def background(self) -> Run:
        """Run it without waiting; when this returns, its start is in the log, unless the log is locked."""
        with self._ready():
            self._start()
        self._execution.engine.flush()
        self._execution.done.add_done_callback(self._report_later)
        return self

    def attended(self, caller: Execution) -> Execution:
        """Run it for a step of another execution, which waits for it and reports how it ended."""
        self._is_reported, self._execution.attended_by = True, caller
        caller.children[self.execution_id] = self._execution
        with self._ready():
            self._start()
        return self._execution

    @property
    def cause(self) -> BaseException | None:
        """The exception with which a step failed it in this process."""
        return cause_of(self._execution)

    def _report_later(self, done: asyncio.Future[None]) -> None:
        """Log a failure that nobody awaits, which would otherwise go unnoticed."""
        if self._is_reported or (done.exception() is None and self.status is not ExecutionState.FAILED):
            return
        _unreported.add(self)
        # In an empty context the message goes to the current cell and not to the cell that started the run.
        self._execution.loop.call_later(_AWAITED_SECONDS, self._report, context=contextvars.Context())

    def _report(self) -> None:
        _unreported.discard(self)
        if self._is_reported:
            return
        self._is_reported = True
        try:
            self.outcome()
        except Exception as error:  # noqa: BLE001 - whatever a log or a codec has raised is reported
            with suppress(Exception):  # the logger's stream may be closed
                log.error("in the background: %s", error)

    async def wait(self) -> Result:
        """Wait until it is done; return its result, or raise its error."""
        __tracebackhide__ = True
        self._is_reported = True
        await self._execution.until_over()
        return self.outcome()

    def __await__(self) -> Generator[Any, None, Result]:
        return self.wait().__await__()

    def watch(self) -> None:
        """Show it live in a notebook, and how it ended; returns at once."""
        self._is_reported = self._is_reported or bool(display_hooks.factories)
        display_hooks.watch(self._execution)

    def slider(self) -> Any:
        """Make a slider through the events so far; see :func:`cerebelum_nb.history.slider`."""
        return self._result().slider()

    def stop(self, reason: str = STOPPED) -> None:
        """Pause it: finished steps are kept, running ones are interrupted."""
        if not self._execution.over:
            self._execution.ask_to_stop(reason)

    def drain(self) -> None:
        """Let running steps finish and start no others; another process resumes it."""
        self._execution.drain()

    async def send_signal(self, name: str, data: Any = None, *, signal_id: str | None = None) -> bool:
        """Send it a signal, for a step that waits with ``wait_for_signal``, now or later.

        Args:
            name: the name of the signal.
            data: what the step receives.
            signal_id: identifies the signal: a second one with the same id is ignored.

        Returns:
            False when a signal with this ``signal_id`` was sent before.

        Raises:
            SignalError: it has ended, or has 1,000 signals that no step took.
        """
        return await send(self._execution.store, self.execution_id, name, data=data, signal_id=signal_id)

    def cancel(self, reason: str | None = None) -> None:
        """End it for good."""
        if not self._execution.over:
            request = CancelRequested(at=self._execution.now(), reason=reason)
            self._execution.engine.post(self._execution, self._execution.cancel, request)

    def __repr__(self) -> str:
        state = self._execution.state
        origin = describe_origin(state)
        return (
            f"<run {self.execution_id} of {state.workflow or self._execution.plan.workflow}: {self.status}, "
            f"{len(state.finished)} of {state.total_steps} steps{origin and f', {origin}'}>"
        )

    def _ready(self) -> AbstractContextManager[None]:
        return self._execution.engine.made_ready(self._execution)

    def _start(self, *more: Event) -> None:
        if not self._execution.over:  # otherwise it ended earlier, and only its outcome is wanted
            events, self._events = self._events, ()
            self._execution.engine.start(self._execution, *events, *more)

    async def _settled(self) -> None:
        execution = self._execution
        tasks = []
        try:
            await execution.until_over()
        except asyncio.CancelledError:
            tasks = self._tasks()
            if not execution.over:
                execution.engine.post(execution, execution.stop, "cancelled from outside")
                execution.engine.flush()
            if tasks:
                await asyncio.wait(tasks, timeout=_GRACE_SECONDS)
            raise
        if execution.attempts.alive():  # left behind
            if tasks := self._tasks():
                await asyncio.wait(tasks, timeout=_GRACE_SECONDS)
            await self._waiting_threads_over()

    async def _waiting_threads_over(self) -> None:
        """Wait until the threads of plain steps whose wait was interrupted have ended, so that a resume finds none.

        After a crash that a test has simulated, wait for all threads: a real crash would have ended them.
        """
        over = asyncio.Event()
        done = self._execution.done
        crashed = done.done() and isinstance(done.exception(), Crashed)
        left = [a for a in self._execution.attempts.alive() if a.scope.thread is not None]
        alive = [a for a in left if a.waited or crashed]
        for attempt in alive:
            attempt.when_over(lambda: over.set() if not any(a.alive for a in alive) else None)
        if alive:
            with suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_SECONDS):
                    await over.wait()

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [
            task for a in self._execution.attempts.alive() if (task := a.scope.task) is not None and not task.done()
        ]

    def _result(self) -> Result:
        return result_of(self._execution)

    def outcome(self) -> Result:
        """Return the result of a run that is done, or raise its error."""
        __tracebackhide__ = True
        return outcome_of(self._execution, undoes=self._undoes)
