"""Check a step's name, and find the results that its function needs."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Callable
from typing import Any

from ..errors import StepDefinitionError

__all__ = ["RESERVED", "check_name", "needs_of"]

RESERVED = ("context", "inputs")
"""Parameters that every step may have in addition to results."""


def check_name(name: object) -> None:
    """Raise StepDefinitionError unless this can be the name of a step."""
    if not isinstance(name, str):
        raise StepDefinitionError(f"a step's name must be text, not {name!r}: @step(name='fetch')")
    if not name:
        raise StepDefinitionError("this step has no name: write step(name='...')(function), or a def")
    if name == "<lambda>":
        raise StepDefinitionError("a lambda has no name: write step(name='...')(lambda ...), or a def")
    if not name.isidentifier() or keyword.iskeyword(name):
        raise StepDefinitionError(
            f"{name!r} cannot be a step's name: other steps receive its result through a parameter of that name, "
            f"so it must be a Python identifier, such as {_identifier(name)!r}"
        )
    if name in RESERVED:
        raise StepDefinitionError(f"'{name}' is reserved (every step may take it): give the step another name")


def _identifier(name: str) -> str:
    found = re.sub(r"\W+", "_", name).strip("_") or "fetch"
    return f"{found}_" if keyword.iskeyword(found) else found if found.isidentifier() else f"step_{found}"


def needs_of(fn: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError) as error:
        raise StepDefinitionError(
            f"step '{name}': its parameters cannot be read ({error}). Wrap it: def {name}(...): return ..."
        ) from error
    requires: list[str] = []
    optional: list[str] = []
    rest = False
    for parameter in parameters:
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise StepDefinitionError(
                f"step '{name}': parameter '{parameter.name}' is positional-only, but results are given by name: "
                f"remove the '/'"
            )
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise StepDefinitionError(
                f"step '{name}': *{parameter.name} names no step. Name the steps it needs, or take **kwargs for all"
            )
        if parameter.kind is parameter.VAR_KEYWORD:
            rest = True
        elif parameter.name == name:
            raise StepDefinitionError(f"step '{name}' needs its own result: rename the parameter or the step")
        elif parameter.name not in RESERVED:
            (requires if parameter.default is parameter.empty else optional).append(parameter.name)
    names = {parameter.name for parameter in parameters}
    return {
        "requires": tuple(requires),
        "optional": tuple(optional),
        "takes_rest": rest,
        "takes_context": "context" in names,
        "takes_inputs": "inputs" in names,
    }
