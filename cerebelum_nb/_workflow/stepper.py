"""``Stepper``: run an execution cell by cell.

Between two cells the execution is paused in the log and no process holds it: any kernel can attach and continue. So
each call here is a resume with a limit, and a handle holds nothing that is not in the log, except for values that
cannot be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._core.events import StepCompleted
from .._core.fold import fold
from .._core.limits import Limit, NoStage, OneStage, UpTo, frontier
from .._core.resume import refuse_second_result, step_named, steps_to_reset
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.step_state import Phase
from .._engine import display_hooks
from .._engine.execution import Execution, running_here
from .._engine.leases import leases_of
from .._engine.manual_result import manual_result
from .._engine.patience import patiently
from .._store.base import Store
from .._text.html import Html
from .._text.text import as_stage
from .._values import decode
from .._values.outputs import Outputs, short
from ..errors import ResumeError
from .definition import Definition
from .result import Result
from .run import Run

if TYPE_CHECKING:
    from .resume_plan import ResumePlan

__all__ = ["StepReport", "Stepper"]


def _call(rerun: str | None) -> str:
    """Write the call that continues; ``rerun`` is a finished step that must run again."""
    return "await run.next()" if rerun is None else f"await run.rerun({rerun!r})"


TakeUp = Callable[[str, Collection[str], Collection[str]], Run]


@dataclass(frozen=True)
class StepReport:
    """The report of one call.

    Attributes:
        ran: the steps that ended, with their outcome and a short form of their value.
        next: the steps that would run next; empty at the end.
        status: the execution's state now.
        note: a remark, such as that a step was skipped.
    """

    ran: tuple[tuple[str, str, str], ...]
    next: tuple[str, ...]
    status: ExecutionState
    note: str = ""

    def __repr__(self) -> str:
        return "\n".join([*([self.note] if self.note else []), *map(_line, self.ran), self._next_line()])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        row = Html(
            "<tr><td style='text-align:left'>{}</td><td>{}</td><td style='text-align:left'><code>{}</code></td></tr>"
        )
        rows = Html().join(row.format(*ran) for ran in self.ran)
        note = Html("{}<br>").format(self.note) if self.note else ""
        shown = Html("<div>{}<table>{}</table>{}</div>").format(note, rows, self._next_line())
        return {"text/plain": repr(self), "text/html": shown}

    def _next_line(self) -> str:
        if self.status is ExecutionState.COMPLETED:
            return "completed"
        return f"next: {as_stage(self.next)}" if self.next else "next: the end"


class Stepper:
    """An execution run cell by cell, made by ``begin`` or ``attach``.

    Example:
        >>> import asyncio
        >>> from cerebelum_nb import step, workflow
        >>> from cerebelum_nb.testing import MemoryStore
        >>> @step
        ... def build():
        ...     return "image"
        >>> @step
        ... def ship(build):
        ...     return f"{build} shipped"
        >>> @workflow
        ... def release(wf):
        ...     wf.timeline(build >> ship)
        >>> async def cells():
        ...     run = release.begin(store=MemoryStore())
        ...     await run.next()
        ...     print(dict(run.results))
        ...     await run.finish()
        ...     return run.results["ship"]
        >>> asyncio.run(cells())
        {'build': 'image'}
        'image shipped'
    """

    def __init__(self, workflow: Definition, store: Store, execution_id: str, take_up: TakeUp) -> None:
        self._workflow, self._store, self._take_up = workflow, store, take_up
        self._id = execution_id
        self._live: Mapping[str, Any] = {}
        self._seen = 0

    @property
    def execution_id(self) -> str:
        """The execution's id."""
        return self._id

    @property
    def status(self) -> ExecutionState:
        """Its state now, whichever process has run it."""
        return self._state().status

    @property
    def results(self) -> Outputs:
        """The values of the steps completed so far, by name."""
        return Outputs(self._state().outputs, self._load)

    def __getitem__(self, step: object) -> Any:
        """The value of one completed step, by name or by the step itself."""
        return self.results[str(getattr(step, "name", step))]

    async def next(self) -> StepReport:
        """Run the next step, or the next parallel group, and pause before what follows.

        Returns:
            What ran, and what would run next.

        Raises:
            WorkflowError: the step failed; fix it, then call this again.
            ResumeError: the execution is at its end.
            ExecutionBusyError: it is running, here or elsewhere.
        """
        __tracebackhide__ = True
        return await self._run(OneStage())

    async def run_to(self, step: object) -> StepReport:
        """Run up to and including a step, then pause.

        Args:
            step: a step or its name; it has no result yet.

        Raises:
            ResumeError: there is no such step, or it is done.
            Otherwise as :meth:`next`.
        """
        __tracebackhide__ = True
        name = step_named(self._workflow.plan(), step, "run_to")
        if name in self._state().finished:
            raise ResumeError(
                f"step '{name}' is completed: to run it once more, await run.rerun({name!r}), or await "
                f"run.back_to({name!r}) for it and all that follows"
            )
        moved = await self._run(UpTo(name))
        if name in (ran for ran, _, _ in moved.ran):
            return moved
        return StepReport(moved.ran, moved.next, moved.status, f"'{name}' was skipped on the route this run took")

    async def finish(self) -> Result:
        """Run all that is left; once it has completed, return its recorded result.

        Returns:
            The outcome, as :meth:`Workflow.execute` returns it.

        Raises:
            As :meth:`next`.
        """
        __tracebackhide__ = True
        if self._state().lifecycle is not ExecutionState.COMPLETED:
            await self._run(None)
        state = self._state()
        return Result.of(self._id, state, self._load, lambda: self._store.events(self._id))

    async def rerun(self, step: object) -> StepReport:
        """Run one completed step again, and pause; what depends on it must run again as well.

        Args:
            step: a step or its name.

        Raises:
            ResumeError: there is no such step, or it has not run.
            Otherwise as :meth:`next`.
        """
        __tracebackhide__ = True
        name = step_named(self._workflow.plan(), step, "rerun")
        if name not in self._state().steps:
            raise ResumeError(f"step '{name}' has not run yet: await run.run_to({name!r}) runs it")
        return await self._run(OneStage(), (name,))

    async def back_to(self, step: object) -> StepReport:
        """Go back before a step: it and everything after it must run again; runs nothing.

        Args:
            step: a step or its name, which has run.

        Raises:
            ResumeError: there is no such step, or it has not run.
            ExecutionBusyError: it is running, here or elsewhere.
        """
        __tracebackhide__ = True
        plan = self._workflow.plan()
        name = step_named(plan, step, "back_to")
        reset = tuple(n for n in steps_to_reset(plan, self._state(), name) if n in plan.steps)
        return await self._run(NoStage(), reset)

    async def mark_done(self, step: object, *, value: Any = None) -> StepReport:
        """Record that a step was done by hand; it is not run.

        Args:
            step: a step or its name, which has no result yet.
            value: what it would have returned.

        Raises:
            ResumeError: there is no such step, or it has a result.
            SerializationError: the value cannot be stored.
            ExecutionBusyError: it is running, here or elsewhere.
        """
        __tracebackhide__ = True
        name = step_named(self._workflow.plan(), step, "mark_done")
        refuse_second_result(self._state(), name)

        def done(execution: Execution) -> StepCompleted:
            return manual_result(
                execution, execution.now(), execution.state, name, value, f"the value of step '{name}'"
            )

        return await self._run(NoStage(), (), done)

    def watch(self) -> None:
        """Show it while it runs behind the cell, until it pauses; returns at once.

        Raises:
            ResumeError: it is not running in this kernel.
        """
        running = running_here(self._store, self._id)
        if running is None:
            raise ResumeError(
                f"execution {self._id} is not running in this kernel: it is {self.status}. "
                f"cerebelum_nb.watch({self._id!r}) shows it live, even while another process runs it"
            )
        display_hooks.watch(running)

    def slider(self) -> Any:
        """Make a slider through the run's events; see :func:`cerebelum_nb.history.slider`."""
        return display_hooks.slide(self._id, self._store.events(self._id), None)

    def plan(self) -> ResumePlan:
        """Show what would run now, and why; runs nothing."""
        from .resume_plan import look_ahead

        return look_ahead(self._workflow.plan(), self._store, self._id)

    def __repr__(self) -> str:
        plan, state = self._workflow.plan(), self._state()
        ahead = () if state.status in (ExecutionState.COMPLETED, ExecutionState.CANCELLED) else frontier(plan, state)
        at = f", next: {as_stage(ahead)}" if ahead else ""
        return (
            f"<{self._workflow.name} step by step: {state.status.words}, "
            f"{len(state.finished)} of {state.total_steps} steps done{at}>"
        )

    async def _run(
        self,
        limit: Limit | None,
        rerun: Collection[str] = (),
        mark: Callable[[Execution], StepCompleted] | None = None,
    ) -> StepReport:
        __tracebackhide__ = True
        here = running_here(self._store, self._id)
        if here is not None and isinstance(here.driver.limit, NoStage):  # its `begin` still waits for a locked log
            await here.until_over()
        unchanged = self._store.execution(self._id).version == self._seen
        await leases_of(self._store).wait_until_seen(self._id)
        live = self._live if unchanged else {}
        run = await patiently(lambda: self._take_up(self._id, rerun, live))
        execution = run.execution
        execution.handle = _call
        before = execution.state.version
        if unchanged:
            execution.live.update(self._live)
        with execution.engine.made_ready(execution):
            events = () if mark is None else (mark(execution),)
        try:
            await run.go_as_far_as(limit, *events, quietly=isinstance(limit, NoStage))
        finally:
            self._live, self._seen = execution.live, execution.state.version
        state = execution.state
        ended = {s.settled_at: n for n, s in state.steps.items() if s.settled and s.settled_at > before}
        return StepReport(
            tuple(_ended(ended[at], state) for at in sorted(ended)),
            () if state.status.is_final else frontier(execution.plan, state),
            state.status,
        )

    def _state(self) -> State:
        here = running_here(self._store, self._id)
        return here.state if here is not None else fold(self._store.events(self._id))

    def _load(self, step: str) -> Any:
        state = self._state()
        if step in self._live and state.version == self._seen:
            return self._live[step].value
        output = state.steps[step].output
        assert output is not None
        return decode(
            output,
            self._store.payload,
            trusted=self._store.trusted,
            where=f"the result of step '{step}' of execution {self._id}",
        )


def _ended(name: str, state: State) -> tuple[str, str, str]:
    step = state.steps[name]
    if step.phase is Phase.FAILED:
        assert step.error is not None
        return name, "failed", f"{step.error.type}: {step.error.message}"
    return name, "done by hand" if step.by_hand else "done", short(step.output)


def _line(ran: tuple[str, str, str]) -> str:
    name, how, value = ran
    return f"{name}: {how}, {value}" if value else f"{name}: {how}"
