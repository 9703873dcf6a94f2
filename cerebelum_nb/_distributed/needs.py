"""Which results an attempt uses. Pure: the driver and the workers use it."""

from __future__ import annotations

from .._core.graph import Plan, key_of, of_item, owner_of, undone_by
from .._core.state import State

__all__ = ["needs"]


def needs(plan: Plan, state: State, name: str) -> list[str]:
    """List the steps with a result that an attempt, or the listing of a foreach's items, uses.

    Args:
        plan: the workflow.
        state: the execution.
        name: a step; an item of a foreach (``deploy[ams3]``); the foreach itself, for its list; or the undoing of one
            of these (``~deploy``).

    Example:
        >>> from cerebelum_nb._core.events import StepCompleted
        >>> from cerebelum_nb._core.graph import StepSpec
        >>> from cerebelum_nb._core.fold import evolve
        >>> from cerebelum_nb._core.value import Value
        >>> steps = {"b": StepSpec(name="b", fn=print, is_async=False, requires=("a",), optional=("c",))}
        >>> done = evolve(State(), StepCompleted(at=1, step="a", output=Value("json", "1")))
        >>> needs(Plan(workflow="w", timeline=(("a",), ("b",)), steps=steps), done, "b")
        ['a']
    """
    subject = undone_by(name) or name
    owner, key = owner_of(subject), key_of(subject)
    each = plan.each.get(owner)
    if each is not None and name == owner:
        return [each.source] if each.source in state.finished else []
    spec, own = plan.spec(name), dict[str, str]()
    assert spec is not None, f"nothing is known of step {name}"
    if each is not None and key:
        own = {step: of_item(owner, key, step) for step in each.body} | {each.parameter: each.source}
    undone = state.rollback.undone if state.rollback is not None and subject != name else {}
    rest = [*state.finished, *(one for one in undone if "[" not in one)] if spec.takes_rest else []
    found = [own.get(one, one) for one in dict.fromkeys((*spec.requires, *spec.optional, *rest))]
    return [one for one in found if (known := undone.get(one) or state.step(one)) is not None and known.has_result]
