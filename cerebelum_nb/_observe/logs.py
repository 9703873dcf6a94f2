"""Adds the step that wrote it to each log record, for ``logging`` and structlog.

There is no handler that records log records as events: what a handler writes to stderr in a step is recorded anyway.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from .._engine.scope import current_scope

__all__ = ["StepFilter", "add_step"]


class StepFilter(logging.Filter):
    """Adds the step that wrote it to every record; add the filter to a handler.

    A record gets ``execution_id``, ``workflow``, ``step``, ``visit`` and ``attempt``; outside a step the texts are
    empty and the numbers are 0, so a format can always use them.

    Example:
        >>> import logging, sys
        >>> handler = logging.StreamHandler(sys.stdout)
        >>> handler.addFilter(StepFilter())
        >>> handler.setFormatter(logging.Formatter("%(execution_id)s/%(step)s: %(message)s"))
        >>> log = logging.getLogger("shop")
        >>> log.addHandler(handler)
        >>> from cerebelum_nb import step, workflow
        >>> from cerebelum_nb.testing import MemoryStore
        >>> @step
        ... def build():
        ...     log.warning("the disk is nearly full")
        >>> @workflow
        ... def release(wf):
        ...     wf.timeline(build)
        >>> result = release.run(store=MemoryStore(), execution_id="k1")
        k1/build: the disk is nearly full
        >>> log.removeHandler(handler)
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the attributes; no record is dropped."""
        vars(record).update(_here() or _NOWHERE)
        return True


def add_step(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the step that wrote the event; this is a structlog processor.

    Example:
        >>> add_step(None, "info", {"event": "outside of a step"})
        {'event': 'outside of a step'}
    """
    event.update(_here())
    return event


_NOWHERE: dict[str, str | int] = {"execution_id": "", "workflow": "", "step": "", "visit": 0, "attempt": 0}


def _here() -> dict[str, str | int]:
    scope = current_scope.get()
    if scope is None:
        return {}
    return {
        "execution_id": scope.execution.id,
        "workflow": scope.execution.plan.workflow,
        "step": scope.step,
        "visit": scope.visit,
        "attempt": scope.attempt,
    }
