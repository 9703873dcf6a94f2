"""What an attempt is given: the steps whose results it uses. Pure: the driver and the workers ask here."""

from __future__ import annotations

from .._core.graph import Plan, key_of, of_item, owner_of, step_of
from .._core.state import State

__all__ = ["needs"]


def needs(plan: Plan, state: State, name: str) -> list[str]:
    """Name what has a result that is used by an attempt, or by listing the items of a foreach.

    Args:
        plan: the workflow.
        state: the execution.
        name: a step; what a foreach does for one item (``deploy[ams3]``); or the foreach itself, for its list.

    Example:
        >>> from cerebelum_nb._core.events import StepCompleted
        >>> from cerebelum_nb._core.graph import StepSpec
        >>> from cerebelum_nb._core.state import evolve
        >>> from cerebelum_nb._core.value import Value
        >>> steps = {"b": StepSpec(name="b", fn=print, is_async=False, requires=("a",), optional=("c",))}
        >>> done = evolve(State(), StepCompleted(at=1, step="a", output=Value("json", "1")))
        >>> needs(Plan(workflow="w", timeline=(("a",), ("b",)), steps=steps), done, "b")
        ['a']
    """
    owner = owner_of(name)
    each = plan.each.get(owner)
    if each is None:
        spec, own = plan.steps[name], dict[str, str]()
    elif name == owner:
        return [each.source] if each.source in state.finished else []
    else:
        spec, key = each.body[step_of(name)], key_of(name)
        own = {step: of_item(owner, key, step) for step in each.body} | {each.parameter: each.source}
    asked = [*spec.requires, *spec.optional, *(state.finished if spec.takes_rest else ())]
    found = [own.get(one, one) for one in dict.fromkeys(asked)]
    return [one for one in found if (known := state.step(one)) is not None and known.has_result]
