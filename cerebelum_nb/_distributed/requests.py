"""The requests for attempts: the part of the state that one needs, as rows, and the queue of a worker for it. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from .._core import events as e
from .._core.drive import Driver
from .._core.graph import StepSpec, key_of, owner_of, step_of, undone_by
from .._core.step_state import StepState
from .._core.value import Value
from .needs import needs
from .record import Record
from .settings import Terms, queue_of
from .wire import Rows, to_row

__all__ = ["Requests"]

_NOTHING = Value("json", json="{}")


class Requests:
    """Makes the requests of an execution.

    Args:
        driver: the plan and the state.
        record: the rows.
        terms: the settings of the execution.
        tied: the queue of the only worker that has the result of a step, or the code of a step, by step or code.
    """

    def __init__(self, driver: Driver, record: Record, terms: Terms, tied: dict[str, str]) -> None:
        self._driver, self._record, self._terms, self.tied = driver, record, terms, tied
        self._sources: dict[str, Rows] = {}  # by long foreach: the rows with which each item's request begins

    def spec(self, name: str) -> StepSpec:
        """Return the plan of a step, or of a step within a foreach."""
        plan = self._driver.plan
        spec = plan.steps.get(name) or plan.body_of(name)
        assert spec is not None, f"nothing is known of step {name}"
        return spec

    def header(self, name: str) -> dict[str, Any]:
        """Return which attempt of which workflow a request is about."""
        state = self._driver.state
        step = state.step(name) or StepState()
        return {
            "workflow": state.workflow,
            "step": name,
            "visit": step.visit,
            "attempt": max(1, step.attempt),
            "failures": step.failures,
            "release_after": self._terms.release_after,
        }

    def of(self, name: str) -> dict[str, Any]:
        """Make the request for an attempt, or for listing the items of a foreach."""
        spec, state, subject = self.spec(name), self._driver.state, undone_by(name) or name
        owner = owner_of(subject)
        each = self._driver.plan.each.get(owner)
        takes_inputs = spec.takes_inputs or spec.takes_context or (each is not None and "." in each.source)
        begun = e.WorkflowStarted(
            at=state.started_at,
            workflow=state.workflow,
            inputs=(state.inputs or _NOTHING) if takes_inputs else _NOTHING,
            total_steps=state.total_steps,
            depth=state.depth,
            scheduled_at=state.scheduled_at,
            timezone=state.timezone,
        )
        needed = self._needs(name)
        rows = [to_row(begun)]
        request = {**self.header(name), "code": spec.code, "agreed": _code_of(name) in self.tied}
        if each is not None and subject != owner:
            items = state.steps[owner].items
            assert items is not None
            request["item"] = items.keys[key_of(subject)]
            if owner in self._sources:
                rows = self._sources[owner]
                needed = [one for one in needed if one != each.source]
        results = self._record.results
        rows = [*rows, *(results[one] for one in needed if one in results)]
        if subject != name:
            rows.append(to_row(self._why_undone(subject)))
            undone = None if state.rollback is None else state.rollback.undone.get(subject)
            if (known := undone or state.step(subject)) is not None and known.children:
                request["children"] = known.children
        return {**request, "rows": rows + self._record.operations_of(name)}

    def _why_undone(self, subject: str) -> e.RollbackStarted:
        rollback = self._driver.state.rollback
        assert rollback is not None, f"{subject} is undone in a rollback"
        at, error, failed = self._driver.state.updated_at, rollback.error, rollback.failed_step
        return e.RollbackStarted(at=at, todo=(subject,), error=error, failed_step=failed)

    def begin_items(self, name: str, source: Rows | None) -> None:
        """Make the requests of a foreach's items begin with these rows instead of its source."""
        self._sources.pop(name, None)
        if source is not None:
            self._sources[name] = source

    # -- queues -----------------------------------------------------------------------------------------------

    def queue(self, name: str) -> str | None:
        """Return the queue of the group that runs a step; None for the workflow's own queue."""
        group = (self._terms.queues or {}).get(step_of(undone_by(name) or name))
        return queue_of(self._driver.plan.workflow, group) if group else None

    def tied_to(self, name: str) -> str | None:
        """Return the queue of the only worker with the code of a step, or with a value it needs that no log holds."""
        code = self.tied.get(_code_of(name))
        return code or next((self.tied[needed] for needed in self._needs(name) if needed in self.tied), None)

    def tie_code(self, name: str, queue: str | None) -> None:
        """Note the queue of the only worker with the code of a step, or None if any worker may have it."""
        self._tie(_code_of(name), queue)

    def tie_result(self, name: str, queue: str | None) -> None:
        """Note the queue of the only worker with the result of a step, or None if the log has it."""
        self._tie(name, queue)

    def untie(self, name: str) -> list[str]:
        """List the results that a step needs from a worker that is gone, and forget the worker."""
        gone = [needed for needed in self._needs(name) if needed in self.tied]
        for step in gone:
            del self.tied[step]
        return gone

    def note_code(self, name: str, code: str) -> None:
        """Use the fingerprint of a worker's code as that of a step."""
        plan, step = self._driver.plan, step_of(name)
        if undone := undone_by(name):
            specs, step = plan.undo, step_of(undone)
        else:
            specs = plan.each[owner_of(name)].body if "[" in name else plan.steps
        known = cast("dict[str, StepSpec]", specs)
        known[step] = replace(known[step], code=code)

    def _tie(self, key: str, queue: str | None) -> None:
        if queue is None:
            self.tied.pop(key, None)
        else:
            self.tied[key] = queue

    def _needs(self, name: str) -> list[str]:
        return needs(self._driver.plan, self._driver.state, name)


def _code_of(name: str) -> str:
    """Return the key in ``tied`` for the code of a step; the items of a foreach share it."""
    return f"code:{owner_of(name)}.{step_of(name)}" if "[" in name else f"code:{name}"
