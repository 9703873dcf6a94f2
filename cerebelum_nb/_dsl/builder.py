"""``wf``: the object with which a workflow function describes its timeline and routes.

It only collects; ``build`` reports every problem at once.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from .._core.graph import Action, Branch, Diverge, Path, Plan, StepSpec, Target
from .._core.portions import MOST, Portions, portions_of
from .._core.validate import Report, validate
from .._text.text import cut
from ..errors import StepDefinitionError, WorkflowDefinitionError
from . import flow
from .child import ChildStep
from .foreach import Foreach
from .step import Chain, Composite, Link, Step

__all__ = ["WorkflowBuilder", "build"]

F = TypeVar("F", bound=Callable[..., None])


def _by_name(method: F) -> F:
    """Report wrong arguments of a call as a problem of the workflow, not as a bare TypeError."""
    signature = inspect.signature(method)
    wanted = ", ".join(f"{p.name}=..." for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY)

    @functools.wraps(method)
    def called(self: WorkflowBuilder, *args: Any, **kwargs: Any) -> None:
        try:
            signature.bind(self, *args, **kwargs)
        except TypeError as error:
            self._problems.append(f"wf.{method.__name__}: {error}; write wf.{method.__name__}({wanted})")
            return
        method(self, *args, **kwargs)

    return called  # type: ignore[return-value]


class WorkflowBuilder:
    """Describes one workflow: ``timeline``, ``branch`` and ``diverge`` may be called in any order.

    Example:
        >>> from cerebelum_nb import step, workflow
        >>> @step
        ... def build():
        ...     return "image"
        >>> @workflow
        ... def release(wf: WorkflowBuilder) -> None:
        ...     wf.timeline(build)
        >>> release
        <workflow release: build>
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._timeline: list[tuple[str, ...]] = []
        self._steps: dict[str, Step[..., Any] | Foreach] = {}
        self._routed: dict[str, Step[..., Any] | Foreach] = {}
        self._branches: dict[str, Branch] = {}
        self._diverges: dict[str, dict[str, tuple[Any, Target]]] = {}
        self._problems: list[str] = []
        self._warnings: list[str] = []

    def timeline(self, *items: Link) -> None:
        """Say what runs, in order. Several calls add to the same timeline.

        Args:
            items: steps or chains such as ``a >> [b, c] >> d``. A list in a chain runs in parallel and joins; a bare
                list, ``timeline([a, b, c])``, is a sequence.
        """
        if len(items) == 1 and isinstance(items[0], (list, tuple)):
            items = tuple(items[0])
        for item in items:
            if not isinstance(item, Step):
                self._timeline.extend(self._path(item, "timeline"))
            elif (name := self._step_name(item, "timeline")) is not None:
                self._timeline.append((name,))

    @_by_name
    def branch(
        self,
        *,
        after: Step[..., Any] | None = None,
        on: Callable[[Any], object] | None = None,
        when_true: Link | Action | None = None,
        when_false: Link | Action | None = None,
        condition: Callable[[Any], object] | None = None,
    ) -> None:
        """Insert a path after a step, depending on its result; then the timeline continues.

        Args:
            after: the step whose result decides.
            on: a plain function of that result, true or false.
            when_true: a step, a chain, a flow action, or None for nothing.
            when_false: likewise.
            condition: another name for ``on``.
        """
        where = f"branch after {_describe(after)}"
        name = self._name_of_route_step(after, f"{where}: after=")
        if on is not None and condition is not None:
            self._problems.append(
                f"{where}: on= and condition= are two names for the same thing: give only one of them"
            )
        predicate = on if on is not None else condition
        if predicate is None or not callable(predicate) or isinstance(predicate, Step):
            self._problems.append(
                f"{where}: on= takes a function of the step's result, such as lambda result: result > 3, "
                f"not {predicate!r}"
            )
        elif inspect.iscoroutinefunction(predicate):
            self._problems.append(f"{where}: the predicate is async; make it a plain def, or do the waiting in a step")
        elif not _takes_one_argument(predicate):
            self._problems.append(f"{where}: on= takes the step's result as its one argument: lambda result: ...")
        if when_true is None and when_false is None:
            self._problems.append(
                f"{where}: neither when_true= nor when_false= is given, so it decides nothing: give at least one path"
            )
        if name is None or predicate is None:
            return
        if name in self._branches:
            self._problems.append(f"{where}: '{name}' already has a branch; nest the second in one of its paths")
        self._branches[name] = Branch(
            name,
            predicate,
            self._target(when_true, f"{where}: when_true="),
            self._target(when_false, f"{where}: when_false="),
        )

    @_by_name
    def diverge(
        self,
        *,
        from_step: Step[..., Any] | None = None,
        patterns: Mapping[Any, Link | Action | None] | Iterable[tuple[Any, Link | Action | None]] | None = None,
    ) -> None:
        """Match the outcome of a step with patterns, in order; the path of the first match runs instead of the rest.

        Args:
            from_step: the step whose outcome is matched.
            patterns: a dict (or a list of pairs, for patterns that cannot be keys) from a pattern to a step, a chain
                or a flow action. A string matches an equal result, the ``"error"`` reason or ``result["status"]``;
                ``"ok"``, ``"error"`` and ``"_"`` match any success, any failure, anything; an exception class matches
                what was raised; a dict matches as a subset; a function is a predicate on the result.
        """
        where = f"diverge from {_describe(from_step)}"
        name = self._name_of_route_step(from_step, f"{where}: from_step=")
        pairs = _pairs(patterns)
        if not pairs:
            self._problems.append(
                f"{where}: patterns= takes a dict from pattern to path, such as {{'error': rollback}}, not {patterns!r}"
            )
        choices = self._diverges.setdefault(name, {}) if name is not None else {}
        for pattern, target in pairs or []:
            label = _label(pattern)
            if inspect.iscoroutinefunction(pattern):
                self._problems.append(f"{where}: pattern {label} is async; patterns are plain functions of the result")
            wrong = _wrong_pattern(pattern)
            if wrong:
                self._problems.append(f"{where}: the pattern {label} {wrong}")
            if isinstance(pattern, str) and label in choices:
                self._warnings.append(f"{where}: pattern {label} is never reached: it was already given above")
            elif "_" in choices:
                self._warnings.append(f"{where}: pattern {label} is never reached, '_' before it matches anything")
            while label in choices:
                label += "'"
            if target is None:
                self._problems.append(
                    f"{where}: pattern {label} has no path; to continue as usual, write flow.proceed()"
                )
            choices[label] = (pattern, self._target(target, f"{where}: pattern {label}"))

    def plan(self, max_jumps: int, rolls_back: bool = False) -> Portions[Plan]:
        """Make the plan."""
        for step in self._routed.values():
            self._register(step)
        specs: dict[str, StepSpec] = {}
        for portion, more in portions_of(self._steps.items()):
            for name, item in portion:
                specs[name] = item.among(self._steps) if isinstance(item, ChildStep) else item.spec()
            if more:
                yield
        timeline = tuple(self._timeline)
        return Plan(
            workflow=self.name,
            timeline=timeline,
            steps=specs,
            branches=self._branches,
            diverges={name: Diverge(name, choices) for name, choices in self._diverges.items()},
            max_jumps=max_jumps,
            stage_of={name: i for i, stage in reversed(list(enumerate(timeline))) for name in stage},
            each={name: item.each() for name, item in self._steps.items() if isinstance(item, Foreach)},
            undo=self._undo(),
            rolls_back=rolls_back,
        )

    def _undo(self) -> dict[str, StepSpec]:
        """Return the rollback handlers by step; of a foreach, those of its body."""
        parts = (
            part for item in self._steps.values() for part in (item.body if isinstance(item, Foreach) else (item,))
        )
        return {step.name: undo for step in parts if (undo := step.undo_spec()) is not None}

    def describes(self, plan: Plan, max_jumps: int, rolls_back: bool) -> Portions[bool]:
        """Whether `plan` would surely return this plan; False if there are routes, which cannot be compared."""
        if (
            self._branches
            or self._diverges
            or self._problems
            or self._warnings
            or plan.branches
            or plan.diverges
            or plan.each
            or (self.name, max_jumps, rolls_back) != (plan.workflow, plan.max_jumps, plan.rolls_back)
            or tuple(self._timeline) != plan.timeline
        ):
            return False
        for portion, more in portions_of(self._steps.items()):
            for name, step in portion:
                if step.spec() is not plan.steps[name]:
                    return False
                if not isinstance(step, Foreach) and step.undo_spec() is not plan.undo.get(name):
                    return False
            if more:
                yield
        return True

    def report(self, plan: Plan) -> Report:
        """Validate the description; report every problem at once."""
        found = validate(plan)
        errors = found.errors if plan.timeline or not self._problems else ()  # then they are why it is empty
        return Report((*self._problems, *errors), (*self._warnings, *found.warnings))

    def _target(self, target: object, where: str) -> Target:
        if target is None:
            return ()
        if isinstance(target, Action):
            return target
        if isinstance(target, (list, tuple)):
            return self._path(Chain((target,)), where)
        return self._path(target, where)

    def _path(self, item: object, where: str) -> Path:
        stages = []
        for member in item.items if isinstance(item, Chain) else (item,):
            if isinstance(member, (list, tuple)):
                stages.append(self._group(member, where))
            else:
                name = self._step_name(member, where)
                stages.append(() if name is None else (name,))
        return tuple(stage for stage in stages if stage)

    def _group(self, members: Iterable[object], where: str) -> tuple[str, ...]:
        names = []
        for member in members:
            if isinstance(member, (Chain, list, tuple)):
                self._problems.append(
                    f"{where}: a parallel list takes steps, not {_describe(member)}. Make one step of that chain, or "
                    f"put its steps in consecutive lists"
                )
                continue
            name = self._step_name(member, where)
            if name is not None:
                names.append(name)
        if not names:
            self._problems.append(f"{where}: a parallel list is empty; remove it or put steps in it")
        return tuple(names)

    def _name_of_route_step(self, item: object, where: str) -> str | None:
        """Return the name of a route's step; the last step of its body also stands for a foreach."""
        item = self._as_step(item)
        if not isinstance(item, (Step, Foreach)):
            self._problems.append(f"{where}: {_not_a_step(item)}")
            return None
        self._routed[item.name] = item.newest() if isinstance(item, Step) else item
        return item.name

    def _as_step(self, item: object) -> object:
        """Return the step that represents a workflow; anything else unchanged."""
        if not isinstance(item, Composite):
            return item
        try:
            return item.as_step() or item
        except StepDefinitionError as error:
            self._problems.append(str(error))
            return item

    def _register(self, item: Step[..., Any] | Foreach) -> None:
        """Register a step under its name, and report another one with that name."""
        known = self._steps.setdefault(item.name, item)
        if known is item or (isinstance(known, Foreach) and known.body[-1:] == (item,)):
            return
        problem = (
            f"two different steps are named '{item.name}' ({_origin(known)} and {_origin(item)}): "
            f"give one of them @step(name=...), or run the cell again that uses the older one"
        )
        if problem not in self._problems:
            self._problems.append(problem)

    def _step_name(self, item: object, where: str) -> str | None:
        if type(item) is Step and (item := item.newest()) is self._steps.setdefault(item.name, item):
            return item.name  # the usual case, in which the checks below find nothing
        if isinstance(item, Foreach):
            self._problems.extend(problem for problem in item.problems if problem not in self._problems)
            if item.problems:
                return None
            self._register(item)
            return item.name
        item = self._as_step(item)
        if not isinstance(item, Step):
            self._problems.append(f"{where}: {_not_a_step(item)}")
            return None
        item = item.newest()
        if isinstance(item, ChildStep):
            self._problems.extend(problem for problem in item.problems() if problem not in self._problems)
        if isinstance(self._steps.get(item.name), Foreach):
            self._problems.append(
                f"{where}: step '{item.name}' is both in a foreach and outside it: make two steps of it"
            )
            return item.name
        self._register(item)
        return item.name


def build(
    fn: Callable[[WorkflowBuilder], object], name: str, max_jumps: int, rolls_back: bool = False
) -> Portions[tuple[Plan, Report]]:
    """Evaluate a workflow function and validate the result, in portions.

    Raises:
        WorkflowDefinitionError: it joins things that cannot be joined.
        Whatever else ``fn`` raises.
    """
    wf = WorkflowBuilder(name)
    try:
        fn(wf)
    except TypeError as error:
        hint = _hint_for(error)
        if hint is None:
            raise
        problem = f"{error} (line {_line_of(error, fn)}): {hint}"
        raise WorkflowDefinitionError(f"workflow '{name}' cannot be read: {problem}", errors=(problem,)) from error
    if len(wf._steps) > MOST:
        yield
    before = _BUILT.get(fn)
    if before is not None and (yield from wf.describes(before[0], max_jumps, rolls_back)):
        return before
    plan = yield from wf.plan(max_jumps, rolls_back)
    if len(plan.steps) > MOST:
        yield
    built = _BUILT[fn] = plan, wf.report(plan)
    return built


_BUILT: weakref.WeakKeyDictionary[Callable[..., object], tuple[Plan, Report]] = weakref.WeakKeyDictionary()
"""The last plan of each workflow function, which is not validated again while the function describes the same steps."""


def _pairs(patterns: Any) -> list[tuple[Any, Any]] | None:
    if isinstance(patterns, Mapping):
        return list(patterns.items())
    if isinstance(patterns, (list, tuple)) and all(isinstance(p, (list, tuple)) and len(p) == 2 for p in patterns):
        return [(pattern, target) for pattern, target in patterns]
    return None


def _label(pattern: Any) -> str:
    if isinstance(pattern, str):
        return pattern
    if isinstance(pattern, Step):
        return pattern.name
    if inspect.isclass(pattern):
        return pattern.__name__
    if callable(pattern):
        return str(getattr(pattern, "__name__", type(pattern).__name__))
    return repr(pattern)


def _takes_one_argument(fn: Callable[..., object]) -> bool:
    try:
        inspect.signature(fn).bind(None)
    except TypeError:
        return False
    except ValueError:  # a built-in without a signature
        return True
    return True


def _wrong_pattern(pattern: Any) -> str | None:
    if isinstance(pattern, Step):
        return "is a step; patterns go on the left, paths on the right"
    if isinstance(pattern, BaseException):
        return f"is an exception; give its class: {type(pattern).__name__}"
    if isinstance(pattern, tuple) and any(inspect.isclass(member) for member in pattern):
        return "is a tuple of classes; give each class its own line"
    if inspect.isclass(pattern):
        if not issubclass(pattern, BaseException):
            return "is a class, but not an exception; use a function of the result"
        return None
    if callable(pattern) and not _takes_one_argument(pattern):
        return "takes the step's result as its one argument: lambda result: ..."
    return None


_MISJOINED = (
    ("for >>:", "a chain starts with a step; two lists in a row are written a >> [b, c] >> [d, e]"),
    ("foreach() takes", "the list is named by the parameter that receives an item: foreach(deploy, region=regions)"),
    ("foreach() got", "the list is named by the parameter that receives an item: foreach(deploy, region=regions)"),
    ("not supported between instances of", "steps are joined by >>, as in a >> b"),
    ("unsupported operand type(s)", "steps are joined by >>, as in a >> [b, c] >> d"),
    ("unhashable type: 'dict'", "a pattern that cannot be a key goes into a list of pairs, patterns=[({...}, path)]"),
)


def _hint_for(error: TypeError) -> str | None:
    """Return what to write instead, if the workflow function joined things that cannot be joined."""
    trace = error.__traceback__
    if trace is None or trace.tb_next is None or trace.tb_next.tb_next is not None:
        return None
    return next((hint for part, hint in _MISJOINED if part in str(error)), None)


def _line_of(error: TypeError, fn: Callable[..., object]) -> int:
    trace = error.__traceback__
    assert trace is not None and trace.tb_next is not None
    return trace.tb_next.tb_lineno - fn.__code__.co_firstlineno + 1


def _describe(item: object) -> str:
    """Describe an object in a message; the repr of a workflow would evaluate the workflow."""
    if isinstance(item, (Step, Foreach)):
        return f"'{item.name}'"
    if type(item).__name__ == "Workflow":
        return f"workflow '{getattr(item, 'name', '')}'"
    return cut(repr(item), 80)


def _not_a_step(item: object) -> str:
    if inspect.iscoroutine(item):
        name = item.__qualname__
        item.close()
        return f"'{name}()' was called; name the step without parentheses: {name}"
    if isinstance(item, str):
        return f"{item!r} is text; give the step itself, without quotes"
    if inspect.isfunction(item) and item.__module__ == flow.__name__:
        return f"flow.{item.__name__} was not called; write flow.{item.__name__}(...)"
    if inspect.isfunction(item):
        return f"'{item.__name__}' is a plain function; put @step above its def"
    if isinstance(item, Action):
        return f"{item} is a flow action; it is a target of branch or diverge, not a part of a path"
    if item is None or item is ...:
        return f"a step is expected, not {item!r}: give one, or leave it out"
    if isinstance(item, (set, frozenset)):
        return f"{_describe(item)} is a set, which has no order; put parallel steps in a list"
    return f"{_describe(item)} ({type(item).__name__}) is not a step; steps are made with @step"


def _origin(step: Step[..., Any] | Foreach) -> str:
    if isinstance(step, Foreach):
        return repr(step)
    code = getattr(inspect.unwrap(step.fn), "__code__", None)
    return f"{code.co_filename.rpartition('/')[2]}:{code.co_firstlineno}" if code else repr(step.fn)
