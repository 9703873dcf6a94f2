"""``Workflows``: the runs of one test, on a fake clock and a log in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Self

from .._core.state_name import ExecutionState
from .._store.memory import MemoryStore
from .._workflow.once import launch_once
from .._workflow.run import Run
from .._workflow.start import prepare_resume
from .._workflow.workflow import Workflow
from .doubles import with_doubles
from .driver import Driver
from .fates import Fate
from .workflow_run import WorkflowRun

__all__ = ["Workflows"]


class Workflows:
    """The runs of one test, with a fake clock and a log in memory. As a pytest fixture it is named ``workflows``.

    Args:
        real_time: True lets time really pass, so sleeps take as long as they say.
        fate: when they crash, and in which order parallel doubles end; Hypothesis draws one from :func:`fates`.

    Example:
        >>> with Workflows() as workflows:
        ...     run = workflows.run(release, doubles={"build": "a double"})
        ...     run.output, run.path
        ('a double', ['build'])
    """

    def __init__(self, *, real_time: bool = False, fate: Fate | None = None) -> None:
        self._fate = fate
        self._driver = Driver(real_time=real_time, fate=fate)
        self.last: WorkflowRun | None = None
        self._counts: Counter[str] = Counter()

    @property
    def clock(self) -> Any:
        """The clock: ``workflows.clock.advance("1d")``."""
        return self._driver.clock

    @property
    def store(self) -> MemoryStore:
        """The log in memory, for ``history`` and other functions that take one."""
        return self._driver.store

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
            The run; also available as ``workflows.last``, even if it fails.

        Raises:
            WorkflowError: a step failed.
            Crashed: it crashed where the test asked for it.
            Otherwise as :meth:`~cerebelum_nb.Workflow.execute`.
        """
        __tracebackhide__ = True
        doubled = with_doubles(flow, doubles, self._fate)
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
        rerun: str | Collection[Any] = (),
        repeat: Collection[Any] = (),
        mark_done: Mapping[Any, Any] | None = None,
        doubles: Mapping[Any, Any] | None = None,
    ) -> WorkflowRun:
        """Resume a run that failed, crashed or was stopped; it continues as far as :meth:`run` does.

        A run that crashed before its first event is started again. If it crashed after its last event, nothing runs.

        Args:
            flow: the workflow.
            execution_id: its id; by default the last one of this workflow.
            inputs: as in :meth:`~cerebelum_nb.Workflow.resume`, like ``rerun``, ``repeat`` and ``mark_done``.
            rerun: completed steps to run again, by step or its name.
            repeat: steps with an external effect that may happen again.
            mark_done: the results of steps that are not to run.
            doubles: as in :meth:`run`; by default those it was started with.

        Raises:
            ValueError: no run of this workflow was started in this test.
            Otherwise as :meth:`~cerebelum_nb.Workflow.resume`.
        """
        __tracebackhide__ = True
        found = execution_id or next(
            (i for i, s in reversed(self._driver.started.items()) if s.flow.name == flow.name), None
        )
        if found is None:
            raise ValueError(
                f"no run of workflow '{flow.name}' was started in this test: call workflows.run(...) first"
            )
        before = self._driver.started.get(found)
        doubled = with_doubles(flow, doubles, self._fate) if doubles or before is None else before.flow
        given = before.inputs if before is not None else None
        recorded = self._driver.state(found)
        if not recorded.version or (recorded.lifecycle is ExecutionState.COMPLETED and not rerun):
            make = partial(launch_once, doubled, given, self.store, found, resume=True)
        else:
            options: dict[str, Any] = {"inputs": inputs, "rerun": _names_of(rerun), "repeat": _names_of(repeat)}
            options["mark_done"] = {_name(step): result for step, result in (mark_done or {}).items()}
            make = partial(prepare_resume, doubled, found, store=self.store, **options)
        return self._go(found, doubled, inputs or given, make)

    def close(self) -> None:
        """Cancel what is still running, and close the loop. The fixture does this by itself."""
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _go(
        self, execution_id: str, flow: Workflow, inputs: Mapping[str, Any] | None, make: Callable[[], Run]
    ) -> WorkflowRun:
        __tracebackhide__ = True
        run = self.last = WorkflowRun(self._driver, execution_id)
        self._driver.go(execution_id, flow, inputs, make)
        run.raise_error()
        return run


def _names_of(steps: str | Collection[Any]) -> str | list[str]:
    return steps if isinstance(steps, str) else [_name(step) for step in steps]


def _name(step: Any) -> str:
    return str(getattr(step, "name", step))
