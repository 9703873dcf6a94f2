"""A look at the log below every cell: what the cell wrote to it."""

from __future__ import annotations

from typing import Any

from .._host.caller import shell
from .._store.base import Store
from .._store.connect import default_store
from .._text.html import Html, small_table
from ..errors import CerebelumError, StoreError
from .evidence import ANSWERS, Evidence
from .language import say, say_counted
from .lesson import Lesson

__all__ = ["Peek", "peek"]

_MOST_EXECUTIONS, _MOST_EVENTS = 20, 12


class Peek:
    """Shows the new events of a log after each cell, until :meth:`off` is called; ``peek()`` makes it.

    Example:
        >>> from IPython.core.events import EventManager
        >>> looking = Peek(log, EventManager(None, ["post_run_cell"]))
        >>> _ = release.run()
        >>> [kind for _, _, kind, _ in looking.new()]
        ['WorkflowStarted', 'StepStarted', 'StepCompleted', 'WorkflowCompleted']
        >>> looking.off()
    """

    def __init__(self, store: Store, events: Any) -> None:
        self._store, self._events = store, events
        self._seen: dict[str, int] = {}
        self.new()
        events.register("post_run_cell", self._show)

    def new(self) -> list[tuple[str, int, str, str]]:
        """Return the events since the last look: execution, version, type and step."""
        rows, _ = self._store.executions(limit=_MOST_EXECUTIONS)
        found = []
        for row in reversed(rows):
            seen = self._seen.get(row.execution_id, 0)
            self._seen[row.execution_id] = row.version
            if row.version > seen and row.summary.workflow != ANSWERS:
                pairs = Evidence(self._store).run(row.execution_id).pairs()[seen:]
                found += [(row.execution_id, n, kind, step or "") for n, (kind, step) in enumerate(pairs, seen + 1)]
        return found

    def off(self) -> None:
        """Show nothing any more."""
        self._events.unregister("post_run_cell", self._show)

    def _show(self, result: object) -> None:
        try:
            new = self.new()
        except StoreError:  # the log was closed
            return
        if new:
            from IPython.display import display

            head = say_counted(len(new), "the log has 1 new event", "the log has {n} new events")
            rows = [(execution, str(version), kind, step) for execution, version, kind, step in new[-_MOST_EVENTS:]]
            if len(new) > _MOST_EVENTS:
                head += say(", of which the last {n} are shown", n=_MOST_EVENTS)
            text = "\n".join([head, *("  ".join(row).rstrip() for row in rows)])
            table = small_table([(say("execution"), say("version"), say("type"), say("step")), *rows])
            shown = {"text/plain": text, "text/html": Html("<div style='opacity:.75'>{}{}</div>").format(head, table)}
            display(shown, raw=True)  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:
        return say("below each cell: what is new in {log}", log=self._store.location)


def peek(log: Store | Lesson | None = None) -> Peek:
    """Show below every cell which events it wrote to a log.

    Args:
        log: the log, or the lesson it belongs to; by default the session's.

    Returns:
        What shows them; its method ``off()`` ends it.

    Raises:
        CerebelumError: there are no cells here.

    Example:
        >>> peek()
        Traceback (most recent call last):
        cerebelum_nb.errors.CerebelumError: There are no cells here to look below: peek() is for notebooks and IPython.
    """
    here = shell()
    if here is None:
        raise CerebelumError("There are no cells here to look below: peek() is for notebooks and IPython.")
    store = log.store if isinstance(log, Lesson) else default_store() if log is None else log
    return Peek(store, here.events)
