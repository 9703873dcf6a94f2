"""Doubles: replacements for the functions of steps in a test, under the policies of those steps."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .._core.graph import Plan, StepSpec, key_of
from .._core.portions import Portions
from .._dsl.code import is_async
from .._dsl.step import Step
from .._engine.scope import current_scope
from .._text.text import did_you_mean
from .._workflow.workflow import Workflow
from .fates import Fate

__all__ = ["Fails", "PerItem", "with_doubles"]


_THE_STEP: Any = type("TheStep", (), {"__repr__": lambda self: "the step itself"})()


class Fails:
    """A double that fails a few times before the step succeeds.

    Args:
        error: what it raises: an exception, or its class.
        times: how many attempts fail, counted over the whole test; None for all of them.
        then: what later attempts return, or a function to call; by default the step itself runs.

    Example:
        >>> Fails(ConnectionError, times=2)
        Fails(ConnectionError, times=2)
    """

    def __init__(
        self, error: BaseException | type[BaseException], times: int | None = None, then: Any = _THE_STEP
    ) -> None:
        if not _is_error(error):
            raise TypeError(f"Fails takes an exception or its class, such as Fails(ConnectionError), not {error!r}")
        if times is not None and (isinstance(times, bool) or not isinstance(times, int) or times < 1):
            raise ValueError(
                f"times (how many attempts fail) must be a whole number from 1, or None for all, not {times!r}"
            )
        self.error, self.times, self._then, self._failed = error, times, then, 0

    def __repr__(self) -> str:
        return f"Fails({_name(self.error)}, times={self.times})"

    def fails_now(self) -> bool:
        """Whether this attempt fails; it is counted."""
        if self.times is not None and self._failed >= self.times:
            return False
        self._failed += 1
        return True

    def function(self, spec: StepSpec) -> Callable[..., Any]:
        """Return what runs once it no longer fails."""
        return spec.fn if self._then is _THE_STEP else _function(self._then, spec)[0]


class PerItem(list[Any]):
    """The recorded results of a step of a foreach, in the order of the items; as a double it gives each item its own.

    Args:
        results: the results by the key of the item.

    Example:
        >>> PerItem({"ams3": "up", "nyc1": "down"})
        ['up', 'down']
    """

    def __init__(self, results: Mapping[str, Any]) -> None:
        super().__init__(results.values())
        self._results = results

    def of_this_item(self) -> Any:
        """Return the result of the item whose step runs now.

        Raises:
            LookupError: the recorded run had no such item.
        """
        scope = current_scope.get()
        assert scope is not None, "a double runs as a step"
        key = key_of(scope.step)
        if key not in self._results:
            raise LookupError(
                f"'{scope.step}' has no recorded result, as the run had the items {', '.join(self._results)}: give the "
                f"test the inputs of that run, or this step another double"
            )
        return self._results[key]


class _Doubled(Workflow):
    """A workflow with doubles."""

    doubles: Mapping[str, Any]
    fate: Fate | None

    def _planning(self) -> Portions[Plan]:
        plan = yield from super()._planning()
        known = {spec.name for name in plan.steps for spec in plan.parts(name)} | set(plan.steps)
        known |= {spec.name for spec in plan.undo.values()}
        for name in self.doubles:
            if name not in known:
                hint = did_you_mean(str(name), known, f"It has: {', '.join(known)}.")
                raise ValueError(f"workflow '{self.name}' has no step {name!r} that a double could replace. {hint}")
        return replace(
            plan,
            steps={name: self._with_double(spec) for name, spec in plan.steps.items()},
            undo={name: self._with_double(spec) for name, spec in plan.undo.items()},
            each={
                name: replace(each, body={part: self._with_double(spec) for part, spec in each.body.items()})
                for name, each in plan.each.items()
            },
        )

    def _with_double(self, spec: StepSpec) -> StepSpec:
        if spec.name not in self.doubles:
            return spec
        fn, waits = _function(self.doubles[spec.name], spec, self.fate)
        return replace(spec, fn=fn, is_async=waits, policy=replace(spec.policy, checkpoint=None, process=False))


def with_doubles(flow: Workflow, doubles: Mapping[Any, Any] | None, fate: Fate | None = None) -> Workflow:
    """Return the workflow with doubles in place of some of its steps.

    Args:
        flow: the workflow.
        doubles: what runs instead, by step or its name.
        fate: how long doubles that are values take.
    """
    if not isinstance(flow, Workflow):
        raise TypeError(f"a workflow made with @workflow is needed, not {flow!r}")
    if not doubles:
        return flow
    if not isinstance(doubles, Mapping):
        raise TypeError(f"doubles must be a dict of steps to replacements, such as {{charge: 'paid'}}, not {doubles!r}")
    named = {getattr(step, "name", step): double for step, double in doubles.items()}
    made = _Doubled.__new__(_Doubled)  # copy.copy returns a workflow of a module itself, not a copy
    vars(made).update(vars(flow), doubles=named, fate=fate)
    return made


def _function(double: Any, spec: StepSpec, fate: Fate | None = None) -> tuple[Callable[..., Any], bool]:
    """Return the function of a double, and whether it runs on the event loop."""
    if isinstance(double, Fails):
        after = double.function(spec)

        def fails(**arguments: Any) -> Any:
            if double.fails_now():
                raise double.error
            return after(**arguments)

        if not is_async(after):
            return fails, False

        async def fails_later(**arguments: Any) -> Any:
            return await fails(**arguments)

        return fails_later, True
    if _is_error(double):
        raise TypeError(
            f"a double does not return {double!r}: to let step '{spec.name}' fail, write Fails({_name(double)})"
        )
    if isinstance(double, Step):
        double = double.fn
    if callable(double) and not isinstance(double, type):
        return _with_fewer_arguments(double), is_async(double)

    async def value(**_: Any) -> Any:
        for _turn in range(fate.next_turns() if fate is not None else 0):
            await asyncio.sleep(0)
        return double.of_this_item() if isinstance(double, PerItem) else double

    return value, True


def _with_fewer_arguments(double: Callable[..., Any]) -> Callable[..., Any]:
    """Let a double take fewer arguments than the step it replaces."""
    try:
        parameters = inspect.signature(double).parameters.values()
    except (TypeError, ValueError):
        return double
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return double
    names = {p.name for p in parameters}

    def call(**arguments: Any) -> Any:
        return double(**{name: value for name, value in arguments.items() if name in names})

    if not is_async(double):
        return call

    async def call_later(**arguments: Any) -> Any:
        return await call(**arguments)

    return call_later


def _is_error(double: Any) -> bool:
    return isinstance(double, BaseException) or (inspect.isclass(double) and issubclass(double, BaseException))


def _name(error: Any) -> str:
    return error.__name__ if isinstance(error, type) else repr(error)
