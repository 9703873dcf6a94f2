"""``WorkflowRun``: a run in a test, and what a person can do to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._core.graph import owner_of, step_of
from .._core.state import State
from .._core.state_name import ExecutionState
from .._engine.approvals import decide_approval, open_approvals
from .._engine.signals import deliver
from .._workflow.result import Result
from .driver import Driver
from .waited import Waited

__all__ = ["WorkflowRun"]


class WorkflowRun:
    """A run of a test: its state and events, and what a person can do.

    Example:
        >>> with Workflows() as workflows:
        ...     run = workflows.run(purchase)
        ...     print(run.status, run.waits_for)
        ...     run.approve("budget", 2).output
        WAITING_FOR_APPROVAL approval 'budget'
        2
    """

    def __init__(self, driver: Driver, execution_id: str) -> None:
        self._driver, self.execution_id = driver, execution_id

    @property
    def clock(self) -> Any:
        """The clock of the test: ``run.clock.advance("1d")``."""
        return self._driver.clock

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
        self.raise_error()
        return self._result("output").output

    @property
    def results(self) -> Any:
        """What its steps returned, by name."""
        return self._result("results").results

    @property
    def error(self) -> BaseException | None:
        """What it raised; None if it did not."""
        task = self._driver.started[self.execution_id].task
        return task.exception() if task.done() and not task.cancelled() else None

    @property
    def path(self) -> list[str]:
        """The steps that started, in order, once for each visit; the items of a foreach count as one."""
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
        return list(self._driver.store.events(self.execution_id))

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
        plan = self._driver.started[self.execution_id].flow.plan()
        if name not in known and name not in plan.steps:
            raise ValueError(f"workflow '{plan.workflow}' has no step {name!r}. It has: {', '.join(plan.steps)}")
        began = [event.step for event in self.events if type(event).__name__ == "StepStarted"]
        return sum(name in (step, owner_of(step), step_of(step)) for step in began)

    def approve(self, approval: str | None = None, response: Any = None, *, step: Any = None) -> WorkflowRun:
        """Approve what it is waiting for, and continue until it has ended or waits again.

        Args:
            approval: the type of the approval, such as ``"budget"``; by default the open one.
            response: what the step receives.
            step: which step's, if several of that type wait.

        Raises:
            AssertionError: it does not wait for that approval.
            Otherwise what the run raises.
        """
        __tracebackhide__ = True
        return self._decide(approval, step, approve=True, response=response)

    def reject(self, approval: str | None = None, reason: str = "", *, step: Any = None) -> WorkflowRun:
        """Reject what it is waiting for, and continue; as :meth:`approve`."""
        __tracebackhide__ = True
        return self._decide(approval, step, approve=False, reason=reason)

    def signal(self, name: str, data: Any = None) -> WorkflowRun:
        """Send it a signal, and continue until it has ended or waits again."""
        __tracebackhide__ = True
        return self._on(lambda: deliver(self._driver.store, self.execution_id, name, data))

    def __repr__(self) -> str:
        waits = f" for {self.waits_for}" if self.waits_for else ""
        return f"<run {self.execution_id}: {self.status}{waits}, {' >> '.join(self.path)}>"

    @property
    def _state(self) -> State:
        return self._driver.state(self.execution_id)

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
            state = f"it waits for {self.waits_for}" if self.waits_for else f"it is {self.status}"
            raise AssertionError(f"run {self.execution_id} does not wait for {what}: {state}")
        store = self._driver.store
        return self._on(lambda: decide_approval(store, self.execution_id, step=name or asked[0].step, **decision))

    def _on(self, act: Callable[[], object]) -> WorkflowRun:
        """Act on behalf of a person, and continue."""
        __tracebackhide__ = True
        self._driver.act(self.execution_id, act)
        self.raise_error()
        return self

    def raise_error(self) -> None:
        """Raise what the run raised, if it did."""
        __tracebackhide__ = True
        if self.error is not None:
            raise self.error

    def _result(self, what: str) -> Result:
        task = self._driver.started[self.execution_id].task
        if not task.done():
            waits = f"it waits for {self.waits_for}" if self.waits_for else f"it is {self.status}"
            raise AssertionError(f"run {self.execution_id} has no {what} yet: {waits}")
        return task.result()
