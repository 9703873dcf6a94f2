"""A workflow on the timeline of another one: a step that runs it as a child and returns its output."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Protocol

from .._core.graph import Plan, StepSpec
from .._core.validate import Report
from ..errors import StepDefinitionError
from .code import PARTS
from .constants import digest_of
from .signature import RESERVED, check_name
from .step import Step, step

__all__ = ["ChildStep", "Placeable", "child_step", "placed"]

_PLACED = "__cerebelum_workflow__"
"""The attribute of a step's function that holds the workflow which the step runs."""

_OPTIONS = ("retries", "retry_delay", "backoff", "max_delay", "jitter", "retry_on", "timeout", "keep")


class Placeable(Protocol):
    """The part of a workflow that this module uses."""

    name: str
    """Its name in the log."""

    @property
    def variable(self) -> str:
        """The name of its variable."""
        ...

    def describe(self) -> tuple[Plan, Report]:
        """Evaluate its timeline as it is now, and validate it."""
        ...

    def inputs_schema(self) -> dict[str, Any]:
        """Describe its inputs as JSON Schema."""
        ...

    async def output_of(self, inputs: Mapping[str, Any]) -> Any:
        """Run it as a child of the current step, and return its output."""
        ...

    async def undo_children(self) -> Any:
        """Roll back the children of the step that the current attempt undoes."""
        ...


class ChildStep(Step[..., Any]):
    """A step that runs a workflow as a child.

    Attributes:
        workflow: the workflow.
        declared: the inputs that the workflow declares, if it is used without ``given``.
    """

    def __init__(self, workflow: Placeable, inputs: Any, name: str | None, options: dict[str, Any]) -> None:
        chosen = workflow.variable if name is None else name
        where = f"workflow '{workflow.variable}' as a step"
        self.workflow, self.declared = workflow, frozenset[str]()
        if inputs is None:
            inputs, self.declared = _takes_declared(workflow)
        elif isinstance(inputs, Mapping):
            inputs = _constant(inputs)
        elif not inspect.isroutine(inputs):
            raise StepDefinitionError(
                f"{where}: given(...) takes a function that returns its inputs, such as lambda build: "
                f"{{'image': build['tag']}}, or a dict, not {inputs!r}"
            )
        elif inspect.iscoroutinefunction(inputs) or inspect.isgeneratorfunction(inputs):
            raise StepDefinitionError(
                f"{where}: the function that returns its inputs must be a plain def, not async or a generator"
            )
        if unknown := [option for option in options if option not in _OPTIONS]:
            raise StepDefinitionError(f"{where}: given() has no option {unknown[0]!r}; it has {', '.join(_OPTIONS)}")
        try:
            check_name(chosen)
        except StepDefinitionError as error:
            raise StepDefinitionError(f"{where}: {error}. Write {workflow.variable}.given(..., name='...')") from None
        fn = _body(workflow, inputs, chosen)
        made = step(name=chosen, checkpoint=None, **options)(fn)
        super().__init__(fn, chosen, made.policy)
        self._inputs = inputs
        vars(fn)[PARTS] = self.code_parts

    def __repr__(self) -> str:
        return f"<step {self.name}: workflow {self.workflow.name}>"

    def newest(self) -> ChildStep:
        """Return the step itself: the workflow is evaluated at every start, so the step is always current."""
        return self

    def among(self, steps: Collection[str]) -> StepSpec:
        """Describe it to the engine, on a timeline of these steps; its other inputs come from the caller."""
        spec = self.spec()
        if not self.declared:
            return spec
        given = tuple(name for name in spec.requires if name in steps)
        others = (name for name in spec.requires if name not in steps)
        return replace(spec, requires=given, optional=(*spec.optional, *others))

    def spec(self) -> StepSpec:
        """Describe it to the engine, with a fingerprint of the function that returns its inputs and of its steps."""
        return replace(super().spec(), workflow=self.workflow.name)

    def undo_spec(self) -> StepSpec | None:
        """Describe its rollback: its own handler, or the rollback of the child if one of the child's steps has any."""
        if self.undo is not None:
            return super().undo_spec()
        with _describing(self.workflow) as is_first:
            if not is_first or not self.workflow.describe()[0].undo:
                return None
        undo = functools.partial(self.workflow.undo_children)
        return StepSpec(name=f"rollback of {self.workflow.name}", fn=undo, is_async=True, workflow=self.workflow.name)

    def problems(self) -> Iterator[str]:
        """Return the problems of the workflow, or of its use."""
        with _describing(self.workflow) as is_first:
            if not is_first:  # the workflow runs itself: its problems are already being collected
                return
            plan, report = self.workflow.describe()
        name = self.workflow.variable
        for problem in report.errors:
            yield f"workflow '{name}', which is a step of it: {problem}"
        if self._inputs is _nothing and (reader := next(_readers(plan), None)) is not None:
            yield (
                f"workflow '{name}' is a step of it and has no inputs, which its step '{reader}' needs: write "
                f"{name}.given(lambda result: {{...}}), or declare them: @workflow(inputs=...)"
            )

    def code_hash(self) -> str | None:
        """Digest the function that returns its inputs, and the code of its steps; None if some of it is unknown."""
        codes = [part.digest for part in self.code_parts()]
        return digest_of(repr(codes))

    def code_parts(self) -> tuple[Any, ...]:
        """Return the parts of its code: of the function that returns its inputs, and of the workflow's steps."""
        from .fingerprint import Part, fingerprint

        found = fingerprint(self._inputs)
        parts = [] if found is None else [replace(part, line=0) for part in found.parts]
        with _describing(self.workflow) as is_first:
            if is_first:
                plan, _ = self.workflow.describe()
                for spec in (spec for name in plan.steps for spec in plan.parts(name)):
                    name = f"{self.workflow.variable}.{spec.name}"
                    parts.append(Part(kind="helper", name=name, digest=spec.code or "", text=""))
        return tuple(parts)


def child_step(workflow: Placeable, item: str = "") -> ChildStep:
    """Make a step of a workflow used without ``given``; in a foreach, ``item`` is the parameter that gets the item.

    Raises:
        StepDefinitionError: it cannot be a step.
    """
    if not item or _fields(workflow):
        return ChildStep(workflow, None, None, {})

    def inputs(**given: Any) -> dict[str, Any]:
        return given

    _sign(inputs, required=(item,))
    return ChildStep(workflow, inputs, None, {})


def placed(plan: Plan) -> Iterator[Any]:
    """Yield the workflows on a timeline, as steps or within a foreach."""
    for name in plan.steps:
        for spec in plan.parts(name):
            if (workflow := getattr(spec.fn, _PLACED, None)) is not None:
                yield workflow


def _nothing() -> dict[str, Any]:
    """Return no inputs."""
    return {}


def _constant(inputs: Mapping[str, Any]) -> Callable[[], dict[str, Any]]:
    return lambda: dict(inputs)


def _fields(workflow: Placeable) -> dict[str, bool]:
    """Return the inputs that a workflow declares, each with whether it must be given."""
    schema = workflow.inputs_schema()
    return {name: name in schema.get("required", ()) for name in schema.get("properties", ())}


def _takes_declared(workflow: Placeable) -> tuple[Callable[..., Any], frozenset[str]]:
    fields = _fields(workflow)
    if not fields:
        return _nothing, frozenset()

    def inputs(**given: Any) -> dict[str, Any]:
        callers = given.pop("inputs")
        callers = callers if isinstance(callers, Mapping) else vars(callers)
        return {name: given.get(name, callers.get(name)) for name in fields if name in given or name in callers}

    required = [name for name, is_required in fields.items() if is_required and name not in RESERVED]
    _sign(inputs, required=("inputs", *required), optional=[n for n in fields if n not in (*required, *RESERVED)])
    return inputs, frozenset(fields)


def _sign(fn: Callable[..., Any], required: Collection[str], optional: Collection[str] = ()) -> None:
    """Give a ``**kwargs`` function a signature."""
    kind = inspect.Parameter.KEYWORD_ONLY
    names = [inspect.Parameter(name, kind) for name in required]
    names += [inspect.Parameter(name, kind, default=None) for name in optional]
    fn.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]  # what inspect.signature looks for


def _body(workflow: Placeable, inputs: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Make the function of the step, with the parameters of the one that returns the inputs."""

    async def run(**given: Any) -> Any:
        made = inputs(**given)
        if not isinstance(made, Mapping):
            raise TypeError(
                f"the function that returns the inputs of workflow '{workflow.variable}' must return a dict of names "
                "to values, not "
                f"{type(made).__name__} {made!r}"
            )
        return await workflow.output_of(made)

    run.__name__ = run.__qualname__ = name
    run.__module__ = inputs.__module__ if hasattr(inputs, "__module__") else __name__
    run.__signature__ = inspect.signature(inputs)  # type: ignore[attr-defined]  # what inspect.signature looks for
    setattr(run, _PLACED, workflow)
    return run


def _readers(plan: Plan) -> Iterator[str]:
    """Return the names of the steps that take inputs."""
    return (spec.name for name in plan.steps for spec in plan.parts(name) if spec.takes_inputs)


_being_described: ContextVar[tuple[str, ...]] = ContextVar("cerebelum_describing", default=())


@contextmanager
def _describing(workflow: Placeable) -> Iterator[bool]:
    """Mark a workflow as being described; yield False if it already is, because it runs itself."""
    around, key = _being_described.get(), f"{id(workflow)}"
    token = _being_described.set((*around, key))
    try:
        yield key not in around
    finally:
        _being_described.reset(token)
