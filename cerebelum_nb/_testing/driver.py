"""The driver of a test's workflows: it runs their event loop until a run has ended, or waits for a person or a signal.

If a loop is running already, as in an async test, the loop of the workflows runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from .._core.fold import fold
from .._core.state import State
from .._core.state_name import ExecutionState
from .._engine.clock import SystemClock, current_clock
from .._engine.crash import Crashed, armed
from .._engine.threads import is_loop_running
from .._store.memory import MemoryStore
from .._text.duration import Duration, seconds
from .._workflow.once import launch_once
from .._workflow.result import Result
from .._workflow.run import Run
from .._workflow.start import prepare_resume
from .._workflow.workflow import Workflow
from ..errors import ExecutionBusyError
from .clock import FakeClock
from .every_crash import Visit
from .fates import Fate

__all__ = ["Driver", "Started"]

T = TypeVar("T")

_BUSY_SECONDS = 30.0
"""How long the threads of a crashed run may take to end before it can be resumed."""

_WAITS_FOR_PERSON = (ExecutionState.WAITING_FOR_APPROVAL, ExecutionState.WAITING_FOR_SIGNAL)


class _Clock(FakeClock):
    """A fake clock that does not jump while the driven run waits for a person or a signal."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self._driver = driver

    def idle(self) -> None:
        if self._driver.waits_for_person() or not self._timers:
            self._driver.set_quiet()
        else:
            super().idle()

    def advance(self, duration: Duration) -> None:
        """Move on by seconds (or a ``timedelta``, or text such as ``"2h"``), firing what comes due, in order."""
        length = round(seconds(duration, unit="s") * 1e6)
        self._driver.drive(lambda: self._advance(self._monotonic + length))

    async def _advance(self, end: int) -> None:
        while (at := self._timers.next_at()) is not None and at <= end:
            self._driver.set_busy()
            self._fire(at)
            await self._driver.settle()
        self._move_to(max(end, self._monotonic))


class _RealClock(SystemClock):
    """The system's clock, which also tells the driver when everything waits."""

    jumps = True

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def idle(self) -> None:
        if self._driver.waits_for_person():
            self._driver.set_quiet()

    def advance(self, duration: Duration) -> None:
        """Wait for this duration."""
        self._driver.drive(lambda: self._advance(seconds(duration, unit="s")))

    async def _advance(self, length: float) -> None:
        await asyncio.sleep(length)
        self._driver.set_busy()
        await self._driver.settle(patience=0.2)


@dataclass(slots=True)
class Started:
    """A run: its task, and what is needed to start it again after a crash."""

    flow: Workflow
    inputs: Mapping[str, Any] | None
    task: asyncio.Task[Result]


class Driver:
    """The loop, the clock and the log of the workflows of a test.

    Args:
        real_time: True lets time really pass.
        fate: when they crash; by default at the place of the test's current visit, if it has one.
    """

    def __init__(self, *, real_time: bool, fate: Fate | None = None) -> None:
        self.store = MemoryStore()
        self.clock: _Clock | _RealClock = _RealClock(self) if real_time else _Clock(self)
        self.started: dict[str, Started] = {}
        self.driven = ""
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._event = asyncio.Event()
        self._fate = fate or Visit.current()
        if fate is not None:
            armed.append(fate)

    def go(self, execution_id: str, flow: Workflow, inputs: Mapping[str, Any] | None, make: Callable[[], Run]) -> None:
        """Start or resume a run, and drive it."""
        __tracebackhide__ = True

        async def main() -> None:
            self.set_busy()
            task = _begin(make)
            self.started.pop(execution_id, None)  # so that the last run that began comes last
            self.started[execution_id] = Started(flow, inputs, task)
            await self.settle()

        self.driven = execution_id
        self.drive(main)

    def act(self, execution_id: str, act: Callable[[], object]) -> None:
        """Act on a run on behalf of a person, and drive it."""
        __tracebackhide__ = True

        async def main() -> None:
            self.set_busy()
            act()
            await self.settle()

        self.driven = execution_id
        self.drive(main)

    def close(self) -> None:
        """Cancel what is still running, and close the loop."""
        _run_loop(self._runner.close)
        if self._fate in armed and isinstance(self._fate, Fate):
            armed.remove(self._fate)
        self.store.close()

    def drive(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the loop of these workflows, from a sync or an async test."""
        __tracebackhide__ = True
        context = contextvars.copy_context()
        context.run(current_clock.set, self.clock)
        return _run_loop(lambda: self._runner.run(main(), context=context))

    async def settle(self, patience: float | None = None) -> None:
        """Wait until the driven run has ended or waits for a person; start runs again after a crash of a visit."""
        while True:
            task = self.started[self.driven].task
            quiet = asyncio.ensure_future(self._event.wait())
            await asyncio.wait([task, quiet], return_when=asyncio.FIRST_COMPLETED, timeout=patience)
            quiet.cancel()
            if self._fate is None or not self._fate.pending:
                return
            self._fate.pending = False
            await self._start_again()

    async def _start_again(self) -> None:
        """Start or resume every run that has crashed, as a supervisor would."""
        self.set_busy()
        for execution_id, started in self.started.items():
            await asyncio.wait([started.task])
            if not isinstance(started.task.exception(), Crashed):
                continue
            if not self.state(execution_id).version or self.state(execution_id).lifecycle.is_final:
                make = partial(launch_once, started.flow, started.inputs, self.store, execution_id, resume=True)
            else:
                assert self._fate is not None
                repeat = [n for n in self._fate.repeat if self.state(execution_id).step(n) is not None]
                make = partial(
                    prepare_resume, started.flow, execution_id, inputs=started.inputs, repeat=repeat, store=self.store
                )
            started.task = _begin(make)

    def waits_for_person(self) -> bool:
        """Whether the driven run waits for a person or a signal."""
        return self.state(self.driven).status in _WAITS_FOR_PERSON

    def state(self, execution_id: str) -> State:
        """Return the recorded state of a run."""
        return fold(self.store.events(execution_id))

    def set_quiet(self) -> None:
        """Note that nothing more happens without a person."""
        self._event.set()

    def set_busy(self) -> None:
        """Note that something is about to happen."""
        self._event.clear()


def _run_loop(call: Callable[[], T]) -> T:
    """Call a function that runs an event loop; in a thread if a loop is running already, as in an async test."""
    __tracebackhide__ = True
    if not is_loop_running():
        return call()
    with ThreadPoolExecutor(1, "workflows of a test") as pool:
        return pool.submit(call).result()


def _begin(make: Callable[[], Run]) -> asyncio.Task[Result]:
    """Start a run as a task; its error is retrieved, so that asyncio does not report it: the test asks for it."""
    task = asyncio.create_task(_run(make))
    task.add_done_callback(lambda done: None if done.cancelled() else (done.exception(), None)[1])
    return task


async def _run(make: Callable[[], Run]) -> Result:
    """Run it after the threads of the crashed run before it have ended."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _BUSY_SECONDS
    while True:
        try:
            run = make()
        except ExecutionBusyError:
            if loop.time() > until:
                raise
            await asyncio.sleep(0.005)
        else:
            return await run.unseen()
