"""``foreach``: a step, or several in order, for every item of a list that is known only at run time."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from .._core.graph import PLAIN, Each, StepSpec
from .child import ChildStep
from .constants import digest_of
from .signature import RESERVED
from .step import Chain, Composite, Link, Step

__all__ = ["Foreach", "foreach"]

_AT_ONCE = 32


class Foreach(Composite):
    """The result of :func:`foreach`, used in a timeline like a step, under the name of the last step of its body.

    Attributes:
        body: the steps that run for an item, in order.
        parameter: the parameter that receives the item.
        source: the step that returns the items, or ``inputs.NAME``.
        problems: its problems, which the workflow reports.
    """

    def __init__(
        self,
        body: object,
        given: dict[str, object],
        at_once: int,
        key: Callable[[Any], object] | None,
        on_error: str,
    ) -> None:
        members = _placed(body.items if isinstance(body, Chain) else (body,), next(iter(given), "item"))
        self.body = tuple(item.newest() for item in members if isinstance(item, Step))
        self.name = self.body[-1].name if self.body else "foreach"
        self.parameter, source = next(iter(given.items()), ("item", ""))
        self.source: str = source if isinstance(source, str) else str(getattr(source, "name", ""))
        self.at_once, self.key, self.collect = at_once, key, on_error == "collect"
        self.problems = tuple(_problems(members, self.body, given, at_once, key, on_error))
        self._specs: tuple[StepSpec, ...] = ()
        self._described: tuple[StepSpec, Each] | None = None

    def __repr__(self) -> str:
        return f"foreach({' >> '.join(step.name for step in self.body)}, {self.parameter}={self.source})"

    def spec(self) -> StepSpec:
        """Describe it as one step, which needs the results that its body needs from outside."""
        return self._describe()[0]

    def each(self) -> Each:
        """Describe the steps that run for an item."""
        return self._describe()[1]

    def _describe(self) -> tuple[StepSpec, Each]:
        specs = tuple(step.spec() for step in self.body)
        if self._described is None or any(old is not new for old, new in zip(self._specs, specs, strict=True)):
            self._specs, self._described = specs, (self._as_one_step(specs), self._each(specs))
        return self._described

    def _as_one_step(self, specs: tuple[StepSpec, ...]) -> StepSpec:
        own = {self.parameter, *(spec.name for spec in specs)}
        reads_inputs = self.source.startswith("inputs.")
        requires = [] if reads_inputs else [self.source]
        requires += [name for spec in specs for name in spec.requires if name not in own]
        optional = [name for spec in specs for name in spec.optional if name not in {*own, *requires}]
        codes = [spec.code for spec in specs]
        return replace(
            specs[-1],
            requires=tuple(dict.fromkeys(requires)),
            optional=tuple(dict.fromkeys(optional)),
            takes_rest=any(spec.takes_rest for spec in specs),
            takes_context=any(spec.takes_context for spec in specs),
            takes_inputs=reads_inputs or any(spec.takes_inputs for spec in specs),
            policy=PLAIN,
            code=codes[0] if len(codes) == 1 or None in codes else digest_of(repr(codes)),
        )

    def _each(self, specs: tuple[StepSpec, ...]) -> Each:
        return Each(
            source=self.source,
            parameter=self.parameter,
            body={spec.name: spec for spec in specs},
            at_once=self.at_once,
            collect=self.collect,
            key=self.key,
        )


def foreach(
    body: Link,
    *,
    max_concurrency: int = _AT_ONCE,
    key: Callable[[Any], object] | None = None,
    on_error: str = "fail",
    **source: object,
) -> Foreach:
    """Run a step, or several in order, for every item of a list that is known only at run time.

    The step after it receives the list of the results, in the order of the items, under the name of the last step of
    the body. Each item is recorded separately: a resume runs only those that are not done.

    Args:
        body: a step, a workflow, or a chain of them, ``fetch >> parse``: inside it a parameter named after an earlier
            step of the chain receives what that step returned for the same item.
        max_concurrency: how many items run at a time.
        key: a function of an item that names it; by default a short text or a number that occurs once is its own name,
            and any other item is named by its index, ``#3``.
        on_error: ``"fail"`` lets the other items finish and then fails the step; ``"collect"`` continues and gives the
            next step an :class:`~cerebelum_nb.ItemError` in place of the result.
        source: exactly one: the parameter that receives the item, and where the items come from. That is a step, or
            the text ``"inputs.NAME"``. Lists, tuples, ranges, sets (sorted), dicts (pairs), Series, arrays and frames
            (rows as named tuples) are accepted.

    Returns:
        A :class:`Foreach`, for use in a timeline.

    Example:
        >>> from cerebelum_nb import step, workflow
        >>> from cerebelum_nb.testing import MemoryStore
        >>> @step
        ... def regions():
        ...     return ["ams3", "nyc1"]
        >>> @step
        ... def deploy(region):
        ...     return region.upper()
        >>> @workflow
        ... def rollout(wf):
        ...     wf.timeline(regions >> foreach(deploy, region=regions))
        >>> rollout.run(store=MemoryStore()).output
        ['AMS3', 'NYC1']
    """
    return Foreach(body, source, max_concurrency, key, on_error)


def _placed(members: tuple[object, ...], item: str) -> tuple[object, ...]:
    """Replace the workflows in a body with steps, which run a child for each item."""
    return tuple((member.as_step(item) or member) if isinstance(member, Composite) else member for member in members)


def _problems(
    body: tuple[object, ...],
    steps: tuple[Step[..., Any], ...],
    given: dict[str, object],
    at_once: object,
    key: object,
    on_error: object,
) -> Iterator[str]:
    where = f"foreach({' >> '.join(step.name for step in steps) or '...'})"
    yield from _wrong_body(where, body, steps)
    names = [step.name for step in steps]
    if len(given) != 1:
        problem = "is missing" if not given else f"is given {len(given)} times ({', '.join(given)})"
        yield f"{where}: the list {problem}: name the one parameter that receives the item, such as region=regions"
    for parameter, source in given.items():
        if parameter in RESERVED:
            yield f"{where}: '{parameter}' is reserved (every step may take it): give the item's parameter another name"
        elif parameter in names:
            yield f"{where}: '{parameter}' is a step of the body: give the item a parameter with another name"
        elif steps and not any(parameter in step.parameters for step in steps):
            takers = "its step takes" if len(steps) == 1 else "its steps take"
            taken = ", ".join(dict.fromkeys(name for step in steps for name in step.parameters)) or "none"
            yield f"{where}: no step has a parameter '{parameter}' for the item; the parameters {takers}: {taken}"
        if not _is_source(source):
            yield (
                f"{where}: {parameter}= is the step that returns the list, or text such as 'inputs.regions', "
                f"not {_describe_item(source)}"
            )
        elif getattr(source, "name", source) in names:
            yield f"{where}: it runs over the result of its own body: {parameter}= must be an earlier step"
    if isinstance(at_once, bool) or not isinstance(at_once, int) or at_once < 1:
        yield f"{where}: max_concurrency (how many items run at a time) must be a whole number from 1, not {at_once!r}"
    if key is not None and (not callable(key) or isinstance(key, Step)):
        yield (
            f"{where}: key must be a function of an item, such as key=lambda region: region['name'], "
            f"not {_describe_item(key)}"
        )
    elif inspect.iscoroutinefunction(key):
        yield f"{where}: key= is async; it must be a plain function of an item"
    if on_error not in ("fail", "collect"):
        yield f"{where}: on_error must be 'fail' or 'collect', not {on_error!r}"


def _wrong_body(where: str, body: tuple[object, ...], steps: tuple[Step[..., Any], ...]) -> Iterator[str]:
    for item in body:
        if isinstance(item, ChildStep):
            yield from item.problems()
        if isinstance(item, Step):
            continue
        if isinstance(item, (list, tuple)):
            yield f"{where}: a parallel list cannot run for each item: use a chain, a >> b"
        elif isinstance(item, Foreach):
            yield f"{where}: a foreach cannot be inside another: make one list of both, or put one after the other"
        else:
            yield f"{where}: its body must be a step or a chain of steps, a >> b, not {_describe_item(item)}"
    for name, count in Counter(step.name for step in steps).items():
        if count > 1:
            yield f"{where}: step '{name}' occurs {count} times in its body: use it once"


def _is_source(source: object) -> bool:
    if isinstance(source, str):
        name = source.removeprefix("inputs.")
        return name != source and name.isidentifier()
    return isinstance(source, (Step, Foreach))


def _describe_item(item: object) -> str:
    if isinstance(item, Step):
        return f"the step '{item.name}'"
    if inspect.isgenerator(item):
        return "a generator: it cannot be recorded; return a list from a step"
    text = repr(item) if type(item).__name__ != "Workflow" else "a workflow"
    return text if len(text) <= 80 else f"{text[:79]}…"
