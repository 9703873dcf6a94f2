"""``history.graph``: the graph of a run and how far it got."""

from __future__ import annotations

from typing import Any

from .._core.arguments import ExecutionLike
from .._core.describe_steps import shown_state
from .._core.fold import fold
from .._core.graph import Plan
from .._core.state import State
from .._core.state_name import ExecutionState
from .._engine import display_hooks
from .._engine.plan_payloads import blueprint_kept
from ..errors import StoreError
from .sources import Log, opened

__all__ = ["RunGraph", "graph"]


class RunGraph:
    """The graph of a run: a notebook shows the picture; its text is the timeline with a sign per step.

    Attributes:
        plan: the plan that the run last used: its steps, stages and routes, without the code.
        states: the state of each step that was reached: ``completed``, ``failed``, ``running``, ``retrying``,
            ``sleeping``, ``approval``, ``interrupted``; and ``skipped`` or ``waiting`` for the others.
    """

    def __init__(self, plan: Plan, state: State) -> None:
        self.plan = plan
        rest = "skipped" if state.status is ExecutionState.COMPLETED else "waiting"
        names = dict.fromkeys([*plan.steps, *(name for stage in plan.timeline for name in stage)])
        self.states = {name: shown_state(state.steps[name]) if name in state.steps else rest for name in names}

    def __repr__(self) -> str:
        return self._repr_mimebundle_()["text/plain"]

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return display_hooks.draw(self.plan).bundle(self.states)

    def to_mermaid(self) -> str:
        """Write it as a Mermaid flowchart."""
        return display_hooks.draw(self.plan).to_mermaid()


def graph(execution_id: ExecutionLike, *, store: Log | None = None) -> RunGraph:
    """Draw the whole graph of a run, even without its code: the log holds its plan.

    Args:
        execution_id: the execution.
        store: the log, or its path; by default the session's.

    Returns:
        A :class:`RunGraph`, which a notebook shows as a picture.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        StoreError: the log cannot be read, or an older version wrote the run, without its plan.

    Example:
        >>> from cerebelum_nb import connect, history, step, workflow
        >>> log = connect(":memory:")
        >>> @step
        ... def build():
        ...     return "image"
        >>> @step
        ... def push(build):
        ...     raise OSError("no network")
        >>> @workflow
        ... def release(wf):
        ...     wf.timeline(build >> push)
        >>> try:
        ...     release.run(execution_id="r1")
        ... except Exception:
        ...     history.graph("r1")
        release
          ✓ build
          ✗ push
    """
    with opened(store) as log:
        row = log.execution(execution_id)
        state = fold(log.events(row.execution_id, upto=row.version))
        plan = blueprint_kept(log, state)
    if plan is None:
        raise StoreError(
            f"The log does not hold the plan of execution {row.execution_id}: an older version wrote it. Its steps are "
            f"in history.steps({row.execution_id!r}), and a resume records the plan."
        )
    return RunGraph(plan, state)
