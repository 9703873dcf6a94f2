"""``Workflows``: runs of one test, on a clock of their own and a log in memory, driven until a person is needed.

Every call runs the event loop of the test's workflows until the run that it is about has ended, or waits for a person
or a signal: everything else, sleeps included, happens meanwhile. Where a loop is running already, as in an async test,
theirs runs in a thread.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, TypeVar

from .._core.graph import owner_of, step_of
from .._core.state import State, fold
from .._core.state_name import ExecutionState
from .._engine.approvals import decide_approval, open_approvals
from .._engine.clock import SystemClock, current_clock
from .._engine.crash import Crashed
from .._engine.signals import deliver
from .._engine.threads import is_loop_running
from .._store.memory import MemoryStore
from .._text.duration import Duration, seconds
from .._workflow.once import launch_once
from .._workflow.result import Result
from .._workflow.run import Run
from .._workflow.start import take_up
from .._workflow.workflow import Workflow
from ..errors import ExecutionBusyError
from .clock import FakeClock
from .doubles import with_doubles
from .every_crash import Visit
from .waited import Waited

__all__ = ["WorkflowRun", "Workflows"]

T = TypeVar("T")

_BUSY_SECONDS = 30.0
"""How long the threads of a crashed run may take to end before it can be resumed."""

_ASKS = (ExecutionState.WAITING_FOR_APPROVAL, ExecutionState.WAITING_FOR_SIGNAL)


class _Clock(FakeClock):
    """A clock that jumps, unless the run that is driven waits for a person."""

    def __init__(self, workflows: Workflows) -> None:
        super().__init__()
        self._workflows = workflows

    def idle(self) -> None:
        if self._workflows._needs_somebody() or not self._timers:
            self._workflows._quiet()
        else:
            super().idle()

    def advance(self, duration: Duration) -> None:
        """Move on by seconds (or a ``timedelta``, or text such as ``"2h"``); what comes due happens, in order."""
        length = round(seconds(duration, unit="s") * 1e6)
        self._workflows._drive(lambda: self._advance(self._monotonic + length))

    async def _advance(self, end: int) -> None:
        while (at := self._timers.next_at()) is not None and at <= end:
            self._workflows._loud()
            self._fire(at)
            await self._workflows._settle()
        self._move_to(max(end, self._monotonic))


class _RealClock(SystemClock):
    """The system's clock; it also tells when everything waits for it."""

    jumps = True

    def __init__(self, workflows: Workflows) -> None:
        self._workflows = workflows

    def idle(self) -> None:
        if self._workflows._needs_somebody():
            self._workflows._quiet()

    def advance(self, duration: Duration) -> None:
        """Wait that long."""
        self._workflows._drive(lambda: self._advance(seconds(duration, unit="s")))

    async def _advance(self, length: float) -> None:
        await asyncio.sleep(length)
        self._workflows._loud()
        await self._workflows._settle(patience=0.2)


@dataclass(slots=True)
class _Started:
    """What is needed to start a run again that has crashed, and the task that runs it."""

    flow: Workflow
    inputs: Mapping[str, Any] | None
    task: asyncio.Task[Result]


class Workflows:
    """The runs of one test, with a fake clock and a log in memory. As a pytest fixture it is called ``workflows``.

    Args:
        real_time: True lets time pass as it does, so that sleeps take as long as they say.

    Example:
        >>> with Workflows() as workflows:
        ...     run = workflows.run(release, doubles={"build": "a double"})
        ...     run.output, run.path
        ('a double', ['build'])
    """

    def __init__(self, *, real_time: bool = False) -> None:
        self.store = MemoryStore()
        self.clock: _Clock | _RealClock = _RealClock(self) if real_time else _Clock(self)
        self.last: WorkflowRun | None = None
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._started: dict[str, _Started] = {}
        self._counts: Counter[str] = Counter()
        self._event = asyncio.Event()
        self._driven = ""
        self._visit = Visit.current()

    def run(
        self,
        flow: Workflow,
        inputs: Mapping[str, Any] | None = None,
        *,
        doubles: Mapping[Any, Any] | None = None,
        execution_id: str | None = None,
    ) -> WorkflowRun:
        """Run a workflow until it has ended, or waits for a person or a signal.

        Args:
            flow: the workflow.
            inputs: what steps receive as ``inputs``; names to values.
            doubles: what runs instead of steps, by step or its name: a value to return, a function to call with those
                arguments of the step that it takes, or :class:`Fails`. The retries, timeout and other options of the
                step stay.
            execution_id: an id; by default ``NAME-1``, ``NAME-2`` and so on.

        Returns:
            The run; also as ``workflows.last``, which is there when it fails, too.

        Raises:
            WorkflowError: a step failed.
            Crashed: it crashed where the test asked for it.
            Otherwise as :meth:`~cerebelum_nb.Workflow.execute`.
        """
        __tracebackhide__ = True
        doubled = with_doubles(flow, doubles)
        if execution_id is None:
            self._counts[flow.name] += 1
            execution_id = f"{flow.name}-{self._counts[flow.name]}"
        make = partial(launch_once, doubled, inputs, self.store, execution_id, resume=False)
        return self._go(execution_id, doubled, inputs, make)

    def resume(
        self,
        flow: Workflow,
        execution_id: str | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        rerun: str | Collection[str] = (),
        repeat: Collection[str] = (),
        mark_done: Mapping[str, Any] | None = None,
        doubles: Mapping[Any, Any] | None = None,
    ) -> WorkflowRun:
        """Resume a run that failed, crashed or was stopped; it goes as far as :meth:`run` does.

        A run that crashed before anything of it was recorded is started again; of one that crashed after its last
        event, nothing runs.

        Args:
            flow: the workflow.
            execution_id: its id; by default the last one of this workflow.
            inputs: as in :meth:`~cerebelum_nb.Workflow.resume`, like ``rerun``, ``repeat`` and ``mark_done``.
            rerun: completed steps to run again.
            repeat: steps with an external effect that may happen again.
            mark_done: the results of steps that are not to run.
            doubles: as in :meth:`run`; by default those it was started with.

        Raises:
            ValueError: no run of this workflow was started in this test.
            Otherwise as :meth:`~cerebelum_nb.Workflow.resume`.
        """
        __tracebackhide__ = True
        found = execution_id or next((i for i, s in reversed(self._started.items()) if s.flow.name == flow.name), None)
        if found is None:
            raise ValueError(
                f"no run of workflow '{flow.name}' was started in this test: call workflows.run(...) first"
            )
        before = self._started.get(found)
        doubled = with_doubles(flow, doubles) if doubles or before is None else before.flow
        given = before.inputs if before is not None else None
        recorded = self._state(found)
        if not recorded.version or (recorded.lifecycle is ExecutionState.COMPLETED and not rerun):
            make = partial(launch_once, doubled, given, self.store, found, resume=True)
        else:
            options: dict[str, Any] = {"inputs": inputs, "rerun": rerun, "repeat": repeat, "mark_done": mark_done}
            make = partial(take_up, doubled, found, store=self.store, **options)
        return self._go(found, doubled, inputs or given, make)

    def close(self) -> None:
        """End what still runs, and the loop. A fixture does this by itself."""
        _beside(self._runner.close)
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- driving --------------------------------------------------------------------------------------------

    def _go(
        self, execution_id: str, flow: Workflow, inputs: Mapping[str, Any] | None, make: Callable[[], Run]
    ) -> WorkflowRun:
        __tracebackhide__ = True
        handle = self.last = WorkflowRun(self, execution_id)

        async def main() -> None:
            self._loud()
            task = _begin(make)
            self._started.pop(execution_id, None)  # the last one that began comes last
            self._started[execution_id] = _Started(flow, inputs, task)
            await self._settle()

        self._driven = execution_id
        self._drive(main)
        handle._raise()
        return handle

    def _drive(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the loop of these workflows, from a sync or an async test."""
        __tracebackhide__ = True
        context = contextvars.copy_context()
        context.run(current_clock.set, self.clock)
        return _beside(lambda: self._runner.run(main(), context=context))

    async def _settle(self, patience: float | None = None) -> None:
        """Wait until the driven run has ended, or nothing happens without a person; a crash of a visit is survived."""
        while True:
            task = self._started[self._driven].task
            quiet = asyncio.ensure_future(self._event.wait())
            await asyncio.wait([task, quiet], return_when=asyncio.FIRST_COMPLETED, timeout=patience)
            quiet.cancel()
            if self._visit is None or self._visit.crashed is None or self._visit.survived:
                return
            self._visit.survived = True
            await self._start_again()

    async def _start_again(self) -> None:
        """Start or resume everything that has crashed, as whoever started it would."""
        self._loud()
        for execution_id, started in self._started.items():
            await asyncio.wait([started.task])
            if not isinstance(started.task.exception(), Crashed):
                continue
            if not self._state(execution_id).version or self._state(execution_id).lifecycle.is_final:
                make = partial(launch_once, started.flow, started.inputs, self.store, execution_id, resume=True)
            else:
                assert self._visit is not None
                repeat = [n for n in self._visit.repeat if self._state(execution_id).step(n) is not None]
                make = partial(
                    take_up, started.flow, execution_id, inputs=started.inputs, repeat=repeat, store=self.store
                )
            started.task = _begin(make)

    def _needs_somebody(self) -> bool:
        return self._state(self._driven).status in _ASKS

    def _state(self, execution_id: str) -> State:
        return fold(self.store.events(execution_id))

    def _quiet(self) -> None:
        self._event.set()

    def _loud(self) -> None:
        self._event.clear()


def _beside(call: Callable[[], T]) -> T:
    """Call what runs an event loop; where one is running already, as in an async test, in a thread."""
    __tracebackhide__ = True
    if not is_loop_running():
        return call()
    with ThreadPoolExecutor(1, "workflows of a test") as pool:
        return pool.submit(call).result()


def _begin(make: Callable[[], Run]) -> asyncio.Task[Result]:
    """Run one beside the test; what it raises is for the test to ask for."""
    task = asyncio.create_task(_run(make))
    task.add_done_callback(lambda done: None if done.cancelled() else (done.exception(), None)[1])
    return task


async def _run(make: Callable[[], Run]) -> Result:
    """Run one, once the threads of its crashed forerunner have ended."""
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


class WorkflowRun:
    """A run of a test: what is known of it, and what a person may do.

    Example:
        >>> with Workflows() as workflows:
        ...     run = workflows.run(purchase)
        ...     print(run.status, run.waits_for)
        ...     run.approve("budget", 2).output
        WAITING_FOR_APPROVAL approval 'budget'
        2
    """

    def __init__(self, workflows: Workflows, execution_id: str) -> None:
        self._workflows, self.execution_id = workflows, execution_id

    @property
    def clock(self) -> Any:
        """The clock of the test: ``run.clock.advance("1d")``."""
        return self._workflows.clock

    @property
    def status(self) -> ExecutionState:
        """Its state now."""
        return self._state.status

    @property
    def output(self) -> Any:
        """What its last step returned.

        Raises:
            AssertionError: it is not completed.
            WorkflowError: a step failed.
        """
        __tracebackhide__ = True
        self._raise()
        return self._result("output").output

    @property
    def results(self) -> Any:
        """What its steps returned, by name."""
        return self._result("results").results

    @property
    def error(self) -> BaseException | None:
        """What it raised; None if it did not."""
        task = self._workflows._started[self.execution_id].task
        return task.exception() if task.done() and not task.cancelled() else None

    @property
    def path(self) -> list[str]:
        """The steps that began, in order, once for each visit; the items of a foreach count as one."""
        path: list[str] = []
        seen: set[tuple[str, int]] = set()
        for event in self.events:
            name = owner_of(event.step) if type(event).__name__ == "StepStarted" else ""
            if name and (name, event.visit) not in seen:
                seen.add((name, event.visit))
                path.append(name)
        return path

    @property
    def events(self) -> list[Any]:
        """Its events: objects with ``at``, often ``step``, and more by type."""
        return list(self._workflows.store.events(self.execution_id))

    @property
    def waited(self) -> Waited:
        """How much time has passed on the clock since it began; compare it with text: ``run.waited == "2h"``."""
        events = self.events
        return Waited(microseconds=events[-1].at - events[0].at if events else 0)

    @property
    def waits_for(self) -> str:
        """What it waits for, such as ``approval 'budget'``; "" if it waits for nobody."""
        if self.status is ExecutionState.WAITING_FOR_SIGNAL:
            waits = [
                o.signal
                for _, s in self._state.attempted()
                for o in s.operations.values()
                if o.kind == "signal" and not o.done
            ]
            return " and ".join(f"signal {name!r}" for name in waits)
        return " and ".join(f"approval {asked.approval_type!r}" for asked in open_approvals(self._state))

    def attempts(self, step: Any) -> int:
        """Count the attempts of a step, given as the step or its name, over all its visits and items."""
        name = getattr(step, "name", step)
        known = {owner_of(event.step) for event in self.events if hasattr(event, "step")}
        known |= {step_of(event.step) for event in self.events if hasattr(event, "step")}
        plan = self._workflows._started[self.execution_id].flow.plan()
        if name not in known and name not in plan.steps:
            raise ValueError(f"workflow '{plan.workflow}' has no step {name!r}. It has: {', '.join(plan.steps)}")
        began = [event.step for event in self.events if type(event).__name__ == "StepStarted"]
        return sum(name in (step, owner_of(step), step_of(step)) for step in began)

    def approve(self, approval: str | None = None, response: Any = None, *, step: Any = None) -> WorkflowRun:
        """Approve what it waits for, and run on until it has ended or waits again.

        Args:
            approval: the type of the approval, such as ``"budget"``; by default the one that is open.
            response: what the step receives.
            step: which step's, if several of that type wait.

        Raises:
            AssertionError: it does not wait for that approval.
            Otherwise what the run raises.
        """
        __tracebackhide__ = True
        return self._decide(approval, step, approve=True, response=response)

    def reject(self, approval: str | None = None, reason: str = "", *, step: Any = None) -> WorkflowRun:
        """Reject what it waits for, and run on; as :meth:`approve`."""
        __tracebackhide__ = True
        return self._decide(approval, step, approve=False, reason=reason)

    def signal(self, name: str, data: Any = None) -> WorkflowRun:
        """Send it a signal, and run on until it has ended or waits again."""
        __tracebackhide__ = True
        return self._on(lambda: deliver(self._workflows.store, self.execution_id, name, data))

    def __repr__(self) -> str:
        waits = f" for {self.waits_for}" if self.waits_for else ""
        return f"<run {self.execution_id}: {self.status}{waits}, {' >> '.join(self.path)}>"

    @property
    def _state(self) -> State:
        return self._workflows._state(self.execution_id)

    def _decide(self, approval: str | None, step: Any, **decision: Any) -> WorkflowRun:
        __tracebackhide__ = True
        name = getattr(step, "name", step)
        asked = [
            one
            for one in open_approvals(self._state)
            if approval in (None, one.approval_type) and name in (None, one.step)
        ]
        if not asked:
            what = f"approval {approval!r}" if approval else "an approval"
            told = f"it waits for {self.waits_for}" if self.waits_for else f"it is {self.status}"
            raise AssertionError(f"run {self.execution_id} does not wait for {what}: {told}")
        store = self._workflows.store
        return self._on(lambda: decide_approval(store, self.execution_id, step=name or asked[0].step, **decision))

    def _on(self, act: Callable[[], object]) -> WorkflowRun:
        """Do something that a person does, and run on."""
        __tracebackhide__ = True

        async def main() -> None:
            self._workflows._loud()
            act()
            await self._workflows._settle()

        self._workflows._driven = self.execution_id
        self._workflows._drive(main)
        self._raise()
        return self

    def _raise(self) -> None:
        __tracebackhide__ = True
        if self.error is not None:
            raise self.error

    def _result(self, what: str) -> Result:
        task = self._workflows._started[self.execution_id].task
        if not task.done():
            waits = f"it waits for {self.waits_for}" if self.waits_for else f"it is {self.status}"
            raise AssertionError(f"run {self.execution_id} has no {what} yet: {waits}")
        return task.result()
