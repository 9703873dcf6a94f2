"""Checks whether a cluster can run a workflow, before anything starts."""

from __future__ import annotations

import logging

from .._core.graph import Plan
from .._dsl.child import placed
from .._workflow.definition import Definition
from ..errors import CerebelumError, WorkflowDefinitionError

__all__ = ["plan_for", "refuse_slots"]

log = logging.getLogger("cerebelum_nb")


def refuse_slots(workflow: Definition) -> None:
    """Raise CerebelumError if a workflow has a concurrency key: a cluster has no slots."""
    if workflow.concurrency is not None:
        raise CerebelumError(
            f"workflow '{workflow.name}' has a concurrency_key, which applies to the executions of a log, not of a "
            f"cluster. Run it without distributed=True, or give the executions one execution_id for each value"
        )


def plan_for(workflow: Definition) -> Plan:
    """Return the workflow's current plan.

    Raises:
        CerebelumError: it, or a workflow on its timeline, uses something that a cluster cannot run.
    """
    plans: dict[str, Plan] = {}
    todo = [workflow]
    while todo:
        one = todo.pop()
        if one.name not in plans:
            refuse_slots(one)
            plans[one.name] = plan = one.plan()
            _refuse_unkept_items(one, plan)
            todo += placed(plan)
    _warn_of_caches(workflow, plans[workflow.name])
    return plans[workflow.name]


def _refuse_unkept_items(workflow: Definition, plan: Plan) -> None:
    for name, each in plan.each.items():
        if not each.body[name].policy.keep:
            raise WorkflowDefinitionError(
                f"foreach({name}) of workflow '{workflow.name}' keeps no results (keep=False). On a cluster they "
                f"would be in the memory of several workers, where no step can have all of them. Keep them, or run it "
                f"here, without distributed=True and core_url="
            )


def _warn_of_caches(workflow: Definition, plan: Plan) -> None:
    cached = [spec.name for name in plan.steps for spec in plan.parts(name) if spec.policy.cache is not None]
    if cached:
        log.warning(
            "a cluster takes no cached results: %s of '%s' will run. To use the cache, run it without distributed=True",
            *(", ".join(cached), workflow.name),
        )
