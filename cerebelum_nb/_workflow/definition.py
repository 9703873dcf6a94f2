"""A workflow before it runs: the function that describes its timeline, the plan, and how both are shown.

The function is evaluated at every start and every resume, as its module defines it then, so an edited step is the step
that runs.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .._core.graph import Concurrency, Plan
from .._core.portions import Portions, at_once
from .._core.validate import Report
from .._dsl.builder import WorkflowBuilder, build
from .._dsl.child import ChildStep, child_step
from .._dsl.reloading import by_name, load_of, newest
from .._dsl.step import Composite
from .._engine import display_hooks, resume_points
from .._text.text import as_stage, counted, did_you_mean
from ..errors import WorkflowDefinitionError

if TYPE_CHECKING:
    from .._values.shape import Shape

__all__ = ["Definition", "check", "describe_path"]


class Definition(Composite, ABC):
    """A named function that describes a timeline.

    Args:
        fn: the function.
        name: the workflow's name in the log.
        max_jumps: how many jumps back one execution may make.
        on_failure: ``"rollback"`` if an execution that fails is rolled back at once.
        inputs: the class that its inputs must fit.
        timeout: how long an execution may take, seconds.
        concurrency: its concurrency key and what happens on conflict.
        tags: the tags of each of its executions.
    """

    def __init__(
        self,
        fn: Callable[[WorkflowBuilder], object],
        name: str,
        max_jumps: int,
        on_failure: str | None = None,
        inputs: Any = None,
        timeout: float | None = None,
        concurrency: Concurrency | None = None,
        tags: tuple[str, ...] = (),
    ) -> None:
        self.__doc__, self.__module__, self.__name__ = fn.__doc__, fn.__module__, fn.__name__
        self.__qualname__ = fn.__qualname__
        self._fn, self.name, self.max_jumps, self.on_failure = fn, name, max_jumps, on_failure
        self._load = load_of(fn)
        self._as_step: dict[str, ChildStep] = {}
        self._inputs, self.timeout, self.concurrency, self.tags = inputs, timeout, concurrency, tags
        self.shape: Shape | None = None
        if inputs is not None:
            from .._values.shape import shape_of

            self.shape = shape_of(inputs, f"@workflow of '{name}'", fn.__globals__)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle it by name, like a function, if its module holds it; otherwise by its parts."""
        made_of = self._fn, self.name, self.max_jumps, self.on_failure, self._inputs, self.timeout
        return by_name(self) or (type(self), (*made_of, self.concurrency, self.tags))

    @property
    def fn(self) -> Callable[[WorkflowBuilder], object]:
        """The function, as its module defines it now."""
        return newest(self, self.name, self._fn, self._load)._fn

    def as_step(self, item: str = "") -> ChildStep:
        """Return the step that represents it in another timeline, or in a foreach whose item has this parameter."""
        known = self._as_step.get(item)
        if known is None:
            known = self._as_step[item] = child_step(self, item)
        return known

    def given(
        self,
        inputs: Callable[..., Mapping[str, Any]] | Mapping[str, Any] | None = None,
        /,
        *,
        name: str | None = None,
        **options: Any,
    ) -> ChildStep:
        """Use it as a step of another timeline, and say what inputs it gets there.

        Its output is the step's result. Its failure fails the step, and a resume of the outer execution resumes it
        where it failed. Without this, a workflow that declares its inputs takes each from the step of that name, or
        from the inputs of the outer execution.

        Args:
            inputs: a function that returns them, whose parameters are those of a step: results by name, and ``inputs``;
                or a dict of names to values.
            name: the step's name; by default the workflow's.
            options: ``retries``, ``retry_delay``, ``timeout`` and so on, as ``@step`` takes them.

        Returns:
            A step, for ``timeline``, ``branch``, ``diverge`` and ``foreach``.

        Raises:
            StepDefinitionError: an argument is invalid.

        Example:
            >>> from cerebelum_nb import step, workflow
            >>> from cerebelum_nb.testing import MemoryStore
            >>> @step
            ... def probe(inputs):
            ...     return f"{inputs['image']} answers"
            >>> @workflow
            ... def smoke_tests(wf):
            ...     wf.timeline(probe)
            >>> @step
            ... def build():
            ...     return {"tag": "web:7"}
            >>> @workflow
            ... def release(wf):
            ...     wf.timeline(build >> smoke_tests.given(lambda build: {"image": build["tag"]}))
            >>> release.run(store=MemoryStore()).output
            'web:7 answers'
        """
        return ChildStep(self, {} if inputs is None else inputs, name, options)

    @abstractmethod
    async def output_of(self, inputs: Mapping[str, Any]) -> Any:
        """Run it as a child of the current step, and return its output."""

    @abstractmethod
    async def undo_children(self) -> Any:
        """Roll back the children of the step that the current attempt undoes."""

    def describe(self) -> tuple[Plan, Report]:
        """Evaluate the timeline as it is now, and validate it."""
        return at_once(self._describe())

    def _describe(self) -> Portions[tuple[Plan, Report]]:
        plan, report = yield from build(self.fn, self.name, self.max_jumps, self.on_failure == "rollback")
        if self.shape is not None or self.timeout is not None or self.concurrency is not None:
            plan = replace(plan, shape=self.shape, timeout=self.timeout, concurrency=self.concurrency)
        if self.shape is not None and (problems := tuple(_lists_that_are_no_inputs(plan, self.shape))):
            report = replace(report, errors=(*report.errors, *problems))
        return plan, report

    def validate(self) -> Report:
        """Evaluate the timeline as it is now and report everything that is wrong with it.

        The notes say at which lines steps that wait cannot continue, and why.
        """
        plan, report = self.describe()
        steps = [spec for name in plan.steps for spec in plan.parts(name)]
        return replace(report, notes=tuple(note for spec in steps for note in resume_points.notes_on(spec)))

    def plan(self) -> Plan:
        """Evaluate the timeline as it is now.

        Raises:
            WorkflowDefinitionError: it cannot run; ``.errors`` names every problem.
        """
        return at_once(self._planning())

    def _planning(self) -> Portions[Plan]:
        """Evaluate the timeline as it is now, in portions; otherwise as `plan`."""
        plan, report = yield from self._describe()
        if not report.ok:
            raise WorkflowDefinitionError(
                f"workflow '{self.name}' cannot run, {counted(len(report.errors), 'problem')}:\n{report}",
                errors=report.errors,
                warnings=report.warnings,
            )
        return plan

    def __repr__(self) -> str:
        try:
            return f"<workflow {self.name}: {describe_path(self.plan())}>"
        except WorkflowDefinitionError as error:
            found = "\n".join(f"  - {problem}" for problem in error.errors)
            return f"<workflow {self.name}: {counted(len(error.errors), 'problem')}>\n{found}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        plan, report = self.describe()
        return display_hooks.draw(plan).bundle() if report.ok else {"text/plain": repr(self)}

    def inputs_schema(self) -> dict[str, Any]:
        """Describe its inputs as a JSON Schema, which allows any object if it declares no class for them."""
        return {"type": "object"} if self.shape is None else self.shape.schema()

    def to_mermaid(self) -> str:
        """Write its graph as a Mermaid flowchart, for pages that render one."""
        return display_hooks.draw(self.plan()).to_mermaid()

    @property
    def variable(self) -> str:
        """The name of its variable, for calls in messages."""
        return str(self.fn.__name__)


def _lists_that_are_no_inputs(plan: Plan, shape: Shape) -> Iterator[str]:
    for name, each in plan.each.items():
        source = each.source.removeprefix("inputs.")
        if source != each.source and shape.names and source not in shape.names:
            hint = did_you_mean(source, shape.names, f"{shape.cls.__name__} has: {', '.join(shape.names)}", most=1)
            yield f"foreach({name}) runs over the input '{source}', which {shape.cls.__name__} does not have. {hint}"


def describe_path(plan: Plan) -> str:
    """Write a plan's timeline as in code.

    Example:
        >>> describe_path(Plan(workflow="w", timeline=(("a",), ("b", "c")), steps={}))
        'a >> [b, c]'
    """
    shown = list(map(as_stage, plan.timeline))
    if len(shown) > 12:
        shown = [*shown[:6], f"... {len(shown) - 9} more ...", *shown[-3:]]
    return " >> ".join(shown)


def check(function: Any) -> None:
    """Raise WorkflowDefinitionError if a function cannot describe a timeline."""
    if isinstance(function, Definition):
        raise WorkflowDefinitionError(f"{function.name!r} is already a workflow: write @workflow once")
    if not inspect.isfunction(function):
        raise WorkflowDefinitionError(
            f"@workflow takes a function that describes the timeline, def deploy(wf): ..., not {function!r}"
        )
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise WorkflowDefinitionError(
            f"workflow '{function.__name__}' only describes the timeline and runs nothing: make it a plain def"
        )
    required = [
        p
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(required) != 1:
        raise WorkflowDefinitionError(
            f"workflow '{function.__name__}' must take one argument: def {function.__name__}(wf)"
        )
