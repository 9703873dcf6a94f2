"""The proof that a module is what ran: it compares the code and the results of each step with recorded runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from .._core.events import StepCompleted, StepStarted
from .._core.graph import Plan, owner_of
from .._engine.staleness import what_changed
from .._store.base import Store
from .._testing.replay import Replayed, check_history
from .._values import Redactor
from .._workflow.workflow import Workflow

__all__ = ["Proof", "Proven", "prove"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """The comparison of one step.

    Attributes:
        step: its name.
        same: whether its code is that of the newest run that completed it; None if no run did.
        why: how the code differs.
        tried: with how many recorded runs it was tried.
        as_recorded: with how many of them it returned the recorded result.
        external: whether it has an external effect, so that it cannot be tried.
    """

    step: str
    same: bool | None
    why: str = ""
    tried: int = 0
    as_recorded: int = 0
    external: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The comparison of a workflow in a module with its recorded runs."""

    workflow: str
    steps: Sequence[Proven]
    histories: Sequence[Replayed]

    @property
    def accepted(self) -> int:
        """How many of the recorded runs the workflow accepts."""
        return sum(not history.refused for history in self.histories)

    @property
    def holds(self) -> bool:
        """Whether nothing differs; a step that no run completed does not count."""
        fits = all(proven.same is not False and proven.tried == proven.as_recorded for proven in self.steps)
        return fits and self.accepted == len(self.histories)


def prove(flow: Workflow, store: Store, *, runs: int, pure: Collection[str]) -> Proof:
    """Compare a workflow with the recorded runs of its name.

    Args:
        flow: the workflow, as the module defines it.
        store: the log, which is only read.
        runs: how many runs to compare, the newest first.
        pure: the names of the steps that are called with their recorded arguments.
    """
    plan = flow.plan()
    ids = [row.execution_id for row in store.executions(workflow=flow.name, limit=runs)[0]]
    histories = [check_history(store, execution_id, plan, pure) for execution_id in ids]
    recorded = _recorded(store, ids)
    steps = [_proven(name, plan, recorded, histories, store) for name in plan.steps]
    return Proof(workflow=flow.name, steps=steps, histories=histories)


def _recorded(store: Store, ids: Sequence[str]) -> Mapping[str, str | None]:
    """Return the code with which each step, or each item of a foreach, was last completed."""
    found: dict[str, str | None] = {}
    for execution_id in ids:  # the newest first
        codes: dict[str, str | None] = {}
        completed: dict[str, str | None] = {}
        for event in store.events(execution_id):
            if isinstance(event, StepStarted):
                codes[event.step] = event.code
            elif isinstance(event, StepCompleted) and event.step in codes:
                completed[event.step] = codes[event.step]
        found = {**completed, **found}
    return found


def _proven(
    name: str, plan: Plan, recorded: Mapping[str, str | None], histories: Sequence[Replayed], store: Store
) -> Proven:
    spec = plan.steps[name]
    known = {part: code for part, code in recorded.items() if part == name or ("[" in part and owner_of(part) == name)}
    now = {part: found for part in known if (found := plan.spec(part)) is not None}
    differ = {part: found for part, found in now.items() if found.code != known[part]}
    same = None if not known else not differ and now.keys() == known.keys()
    redactor = Redactor(store.redact)
    reasons = [words for part, found in differ.items() for words in what_changed(found, known[part], store, redactor)]
    why = "; ".join(dict.fromkeys(reasons))
    changed = [history for history in histories if name in history.changed]
    tried = len(changed) + sum(name in history.same for history in histories)
    return Proven(
        step=name,
        same=same,
        why=why or (next((h.changed[name] for h in changed), "") if changed else ""),
        tried=tried,
        as_recorded=tried - len(changed),
        external=spec.policy.effect == "external",
    )
