"""``crash_after`` and ``crash_before``: make a run end at an event as if its process had died there."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from .._core.events import EVENT_TYPES
from .._engine.crash import Crashed, CrashPoint, armed

__all__ = ["crash_after", "crash_before"]


def crash_after(
    event: str | int, *, step: Any = None, execution_id: str | None = None
) -> AbstractContextManager[CrashPoint]:
    """Make the first run that records an event crash once the event is in the log; the ``with`` block catches the
    crash.

    Everything that runs in this process on that log and event loop is dropped as if the process had died: nothing more
    is written, and what only the process knew is forgotten. Resume it after the block. Events that are committed
    together, such as the end of a step and the start of the next, are in the log together.

    Unlike a real death, a crash runs the ``finally`` and ``except`` blocks of async steps, and a running plain step
    runs to its end.

    Args:
        event: the type of the event, such as ``"StepCompleted"``, or its number in the execution, from 1.
        step: the step that the event is about, or its name; by default any.
        execution_id: the execution; by default any.

    Returns:
        A context manager, whose ``crashed`` says afterwards where it crashed.

    Raises:
        AssertionError: at the end of the block, if nothing crashed because no such event was recorded.
        ValueError: there is no such type of event, or the number is invalid.

    Example:
        >>> log = MemoryStore()
        >>> with crash_after("StepStarted", step="build") as crash:
        ...     release.run(store=log, execution_id="k1")
        >>> crash.crashed
        Crashed("execution k1 crashed after event 2, StepStarted of step 'build', as requested")
        >>> release.resume_sync("k1", store=log).output
        'image'
    """
    return _crash(event, step, execution_id, before=False)


def crash_before(
    event: str | int, *, step: Any = None, execution_id: str | None = None
) -> AbstractContextManager[CrashPoint]:
    """Make the first run that would record an event crash after it has happened but before it is in the log.

    This is the gap that no log can close: ``crash_before("StepCompleted", step="charge")`` has charged, and a resume
    charges again, unless the step prevents it. The commit that holds the event is lost as a whole.

    Arguments, return value and errors are those of :func:`crash_after`.

    Example:
        >>> log = MemoryStore()
        >>> with crash_before("StepCompleted", step="build"):
        ...     release.run(store=log, execution_id="k1")
        >>> [type(event).__name__ for event in log.events("k1")]
        ['WorkflowStarted', 'StepStarted']
    """
    return _crash(event, step, execution_id, before=True)


@contextmanager
def _crash(event: str | int, step: Any, execution_id: str | None, *, before: bool) -> Iterator[CrashPoint]:
    _check(event, step)
    name = getattr(step, "name", step)
    point = CrashPoint(event=event, step=name, execution_id=execution_id, before=before)
    armed.append(point)
    try:
        yield point
    except Crashed as crashed:
        if crashed is not point.crashed:
            raise
    finally:
        if point in armed:
            armed.remove(point)
    if point.crashed is None:
        raise AssertionError(_nothing_crashed(point))


def _check(event: Any, step: Any) -> None:
    """Raise if no event can match."""
    if isinstance(event, bool) or not isinstance(event, (int, str)):
        raise TypeError(
            f"the event to crash at must be its type, such as 'StepCompleted', or its number, not {event!r}"
        )
    if isinstance(event, int) and event < 1:
        raise ValueError(f"the events of an execution are numbered from 1, so none is number {event}")
    if isinstance(event, str) and event not in EVENT_TYPES:
        near = difflib.get_close_matches(event, EVENT_TYPES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "the types are in the column `type` of history.events(...)"
        raise ValueError(f"there is no type of event called {event!r}: {hint}")
    if step is not None and not isinstance(getattr(step, "name", step), str):
        raise TypeError(f"step must be a step or its name, not {step!r}")


def _nothing_crashed(point: CrashPoint) -> str:
    what = f"number {point.event}" if isinstance(point.event, int) else str(point.event)
    about = f" of step '{point.step}'" if point.step else ""
    text = f"the run did not crash: no event {what}{about} was recorded"
    if not point.seen:
        return f"{text}, nor any other. Run the workflow inside the `with` block"
    return f"{text}. Recorded were: {', '.join(point.seen)}"
