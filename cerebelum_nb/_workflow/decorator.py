"""``@workflow``, which makes a :class:`.workflow.Workflow` of a function, and the registry of workflows."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, overload

from .._core.labels import check_tags
from .._dsl.builder import WorkflowBuilder
from .._text.duration import Duration, seconds
from ..errors import WorkflowDefinitionError
from .concurrency import concurrency_of
from .definition import check
from .workflow import Workflow

__all__ = ["registered", "workflow"]

_registry: dict[tuple[str, str], Workflow] = {}


def registered() -> dict[tuple[str, str], Workflow]:
    """Return the workflows defined in this process by module and name, for tools that run one by name."""
    return dict(_registry)


@overload
def workflow(fn: Callable[[WorkflowBuilder], object], /) -> Workflow: ...
@overload
def workflow(
    *,
    name: str | None = None,
    max_jumps: int = 1000,
    on_failure: str | None = None,
    inputs: Any = None,
    timeout: Duration | None = None,
    concurrency_key: str | Callable[[Any], object] | None = None,
    on_conflict: str | None = None,
    tags: Collection[str] = (),
) -> Callable[[Callable[[WorkflowBuilder], object]], Workflow]: ...
def workflow(
    fn: Callable[[WorkflowBuilder], object] | None = None,
    /,
    *,
    name: str | None = None,
    max_jumps: int = 1000,
    on_failure: str | None = None,
    inputs: Any = None,
    timeout: Duration | None = None,
    concurrency_key: str | Callable[[Any], object] | None = None,
    on_conflict: str | None = None,
    tags: Collection[str] = (),
) -> Workflow | Callable[[Callable[[WorkflowBuilder], object]], Workflow]:
    """Turn a function that describes a timeline into a workflow.

    Args:
        fn: takes one argument, on which it calls ``timeline``, ``branch`` and ``diverge``.
        name: the workflow's name in the log; by default the function's.
        max_jumps: how many jumps back one execution may make before it fails, so that no loop runs forever.
        on_failure: ``"rollback"`` to undo at once what a failed execution has done, as :meth:`Workflow.rollback` does.
            If it is unknown whether an external effect happened, it only fails, and a rollback asks.
        inputs: a dataclass, a TypedDict or a pydantic model that the inputs must fit. They are checked before anything
            runs and converted, defaults apply, and steps receive an instance of the class. Without it they are a dict.
        timeout: how long an execution may take, waits included: seconds, a ``timedelta`` or text such as ``"2 days"``.
            Then it fails with ``ExecutionTimeoutError``. It counts from the start or the last resume.
        concurrency_key: the name of an input, or a function of the inputs: only one execution with the same value runs
            at a time, in any process. None from the function means no limit.
        on_conflict: what another one does: ``"queue"`` (the default) waits in the state QUEUED, first come, first
            served; ``"cancel"`` cancels the others and takes their place; ``"refuse"`` raises ``ExecutionBusyError``,
            and nothing is recorded.
        tags: the tags of each of its executions: ``["prod"]``.

    Raises:
        WorkflowDefinitionError: an argument is invalid. Problems of the timeline are reported when it is run.

    Example:
        >>> from cerebelum_nb import step
        >>> @step
        ... def build():
        ...     return "image"
        >>> @workflow
        ... def release(wf):
        ...     wf.timeline(build)
        >>> release
        <workflow release: build>
    """

    def make(function: Callable[[WorkflowBuilder], object]) -> Workflow:
        check(function)
        if isinstance(max_jumps, bool) or not isinstance(max_jumps, int) or max_jumps < 1:
            raise WorkflowDefinitionError(f"@workflow: max_jumps must be a whole number from 1, not {max_jumps!r}")
        if on_failure not in (None, "rollback"):
            raise WorkflowDefinitionError(f"@workflow: on_failure must be 'rollback' or left out, not {on_failure!r}")
        chosen = function.__name__ if name is None else name
        if not isinstance(chosen, str) or not chosen.strip():
            raise WorkflowDefinitionError(f"@workflow: the name must be text, not {name!r}")
        try:
            tagged = check_tags(tags)
        except (TypeError, ValueError) as error:
            raise WorkflowDefinitionError(f"@workflow: {error}") from None
        concurrency = concurrency_of(concurrency_key, on_conflict)
        made = Workflow(function, chosen, max_jumps, on_failure, inputs, _limit_of(timeout), concurrency, tagged)
        _registry[function.__module__, chosen] = made
        return made

    return make if fn is None else make(fn)


def _limit_of(timeout: Duration | None) -> float | None:
    if timeout is None:
        return None
    try:
        limit = seconds(timeout, unit="s", what="timeout")
    except (TypeError, ValueError) as error:
        raise WorkflowDefinitionError(f"@workflow: {error}") from error
    if limit == 0:
        raise WorkflowDefinitionError("@workflow: timeout must be more than zero; leave it out for no limit")
    return limit
