"""``@step``: make a function a step with a name, dependencies and a policy.

A step is only a description. It runs when it is called directly, as the plain function, or when the engine starts an
attempt of it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, overload

from .._core.graph import Policy, StepSpec
from .._text.duration import Duration
from ..errors import StepDefinitionError
from .code import code_of, is_async
from .policy import RetryOn, in_process, policy_of
from .reloading import by_name, load_of, newest
from .signature import check_name, needs_of

__all__ = ["Chain", "Composite", "Link", "Step", "step"]

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")
R = TypeVar("R", covariant=True)  # so that a Step[..., int] is a Step[..., object]


class Step(Generic[P, R]):
    """A step of a workflow, made by ``@step``. Calling it just runs the function.

    Example:
        >>> @step
        ... def build(inputs, fetch):
        ...     return fetch + inputs["size"]
        >>> build, build.requires
        (<step build>, ('fetch',))
        >>> build({"size": 2}, 1)
        3
    """

    def __init__(self, fn: Callable[P, R], name: str, policy: Policy) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.name = name
        self.policy = policy
        self._needs = needs_of(fn, name)
        self._load = load_of(fn)
        self._spec: StepSpec | None = None
        self._undo_spec: tuple[StepSpec, StepSpec] | None = None
        self.undo: Step[..., Any] | None = _undo_of_last_run(fn)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle it by name, like a function, if its module holds it; otherwise by its parts."""
        return by_name(self) or (type(self), (self.fn, self.name, self.policy))

    def newest(self) -> Step[P, R]:
        """Return the step that its module defines now, after a reload; itself otherwise."""
        return newest(self, self.name, self.fn, self._load)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function, without an engine, for example in a unit test."""
        return self.fn(*args, **kwargs)

    def __rshift__(self, other: Link) -> Chain:
        return Chain((self,)) >> other

    def __rrshift__(self, other: Sequence[object]) -> Chain:
        return Chain((other,)) >> self

    def __repr__(self) -> str:
        return f"<step {self.name}>"

    @overload
    def on_rollback(self, fn: Callable[Q, T], /) -> Step[Q, T]: ...
    @overload
    def on_rollback(self, fn: None = None, /, **options: Any) -> Callable[[Callable[Q, T]], Step[Q, T]]: ...
    def on_rollback(
        self, fn: Callable[Q, T] | None = None, /, **options: Any
    ) -> Step[Q, T] | Callable[[Callable[Q, T]], Step[Q, T]]:
        """Register a function that undoes this step when an execution is rolled back.

        Its parameters are those of a step: one named after this step receives the result to undo, others can name other
        steps, ``inputs`` and ``context``. ``error`` receives the :class:`~cerebelum_nb.WorkflowError` that made the
        execution fail, or None. In a ``foreach`` each item is undone separately, and the item's parameter receives it.

        Args:
            fn: the function, when used without parentheses; it can be a step with its own policy.
            options: the options of :func:`step`: ``retries=3``.

        Returns:
            The function as a step.

        Raises:
            StepDefinitionError: the function or an option is invalid.

        Example:
            >>> @step
            ... def create_server(inputs):
            ...     return {"id": 42}
            >>> @create_server.on_rollback
            ... def destroy_server(create_server, error=None):
            ...     return f"{create_server['id']} is gone"
            >>> create_server.undo
            <step destroy_server>
        """

        def make(function: Callable[Q, T]) -> Step[Q, T]:
            if isinstance(function, Step):
                if options:
                    raise StepDefinitionError(
                        f"on_rollback of '{self.name}': {function!r} is a step that already has options; give all of "
                        f"them in one place"
                    )
                made = function
            else:
                made = step(**options)(function)
            if made.name == self.name:
                raise StepDefinitionError(
                    f"on_rollback of '{self.name}': its handler has the same name and would replace the step: rename "
                    f"it, for example to 'undo_{self.name}'"
                )
            self.undo = made
            return made

        return make if fn is None else make(fn)

    @property
    def is_async(self) -> bool:
        """Whether it runs on the event loop; a plain function runs in a separate thread."""
        return is_async(self.fn)

    @property
    def requires(self) -> tuple[str, ...]:
        """The steps whose results it needs."""
        required: tuple[str, ...] = self._needs["requires"]
        return required

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters that receive results."""
        return (*self._needs["requires"], *self._needs["optional"])

    def spec(self) -> StepSpec:
        """Describe the step to the engine, with a fingerprint of its code as it is now."""
        code = self.code_hash()
        if self._spec is None or self._spec.code != code:
            self._spec = StepSpec(
                name=self.name,
                fn=self.fn,
                is_async=self.is_async,
                policy=self.policy,
                code=code,
                **self._needs,
            )
        return self._spec

    def undo_spec(self) -> StepSpec | None:
        """Describe the step's handler to the engine; None if it has none."""
        if self.undo is None:
            return None
        spec = self.undo.newest().spec()
        if self._undo_spec is None or self._undo_spec[0] is not spec:
            requires, optional = ((n for n in names if n != "error") for names in (spec.requires, spec.optional))
            takes_error = "error" in (*spec.requires, *spec.optional)
            described = replace(spec, requires=tuple(requires), optional=tuple(optional), takes_error=takes_error)
            self._undo_spec = spec, described
        return self._undo_spec[1]

    def code_hash(self) -> str | None:
        """Digest the code the step runs, helpers and constants included; None when its source is unknown."""
        return code_of(self.fn)


class Chain:
    """Steps in order, as built by ``a >> [b, c] >> d``; they are checked when the workflow is validated."""

    __slots__ = ("items",)

    def __init__(self, items: Iterable[object]) -> None:
        self.items = tuple(items)

    def __rshift__(self, other: Link) -> Chain:
        return Chain(self.items + (other.items if isinstance(other, Chain) else (other,)))

    def __rrshift__(self, other: Sequence[object]) -> Chain:
        return Chain((other, *self.items))

    def __repr__(self) -> str:
        return " >> ".join(repr(item) for item in self.items)


class Composite:
    """A step made of others, such as a ``foreach`` or a workflow, usable wherever a step is."""

    name: str

    def as_step(self, item: str = "") -> Step[..., Any] | None:
        """Return the step that represents it, if any; in a foreach, ``item`` is the item's parameter."""
        return None

    def __rshift__(self, other: Link) -> Chain:
        return Chain((self,)) >> other

    def __rrshift__(self, other: Sequence[object]) -> Chain:
        return Chain((other, self))


Link: TypeAlias = Step[..., Any] | Composite | Chain | Sequence[Step[..., Any] | Composite]
"""What ``>>`` joins: a step, a chain, or a list of steps that run in parallel."""


@overload
def step(fn: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    retries: int = 0,
    retry_delay: Duration = 0,
    backoff: float = 1.0,
    max_delay: Duration | None = None,
    jitter: float = 0.0,
    retry_on: RetryOn = Exception,
    timeout: Duration | None = None,
    keep: bool = True,
    effect: str | None = None,
    checkpoint: str | None = "waits",
    cache: Duration | bool = False,
    process: bool = False,
    pure: bool = False,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(
    fn: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int = 0,
    retry_delay: Duration = 0,
    backoff: float = 1.0,
    max_delay: Duration | None = None,
    jitter: float = 0.0,
    retry_on: RetryOn = Exception,
    timeout: Duration | None = None,
    keep: bool = True,
    effect: str | None = None,
    checkpoint: str | None = "waits",
    cache: Duration | bool = False,
    process: bool = False,
    pure: bool = False,
) -> Step[P, R] | Callable[[Callable[P, R]], Step[P, R]]:
    """Make a function a step.

    Its parameters are its dependencies: ``context`` and ``inputs`` are given by the engine, every other parameter
    names the step whose result it receives; one with a default is optional, ``**kwargs`` takes every other earlier
    result. ``async def`` runs on the event loop, a plain ``def`` in a separate thread.

    Args:
        fn: the function, when used without parentheses.
        name: the step's name; by default the function's.
        retries: attempts after the first one.
        retry_delay: seconds (or text such as ``"5s"``) before the first retry.
        backoff: the factor for each further delay, at least 1.
        max_delay: the longest delay, seconds (or text).
        jitter: the random share of a delay, from 0 to 1, so that calls that failed together are not retried together.
        retry_on: what to retry: an exception class, a tuple of them, or a function that takes the exception and returns
            whether to try again. If that function raises, the step fails with its exception.
        timeout: seconds (or text) one attempt may take; more is a ``StepTimeoutError``. The thread of a plain step
            cannot be ended: the next attempt starts when it has returned, unless it has ``process=True``.
        keep: False for a result that cannot or should not be stored: it is only kept in memory for this run, and a
            resume runs the step again when another step needs it.
        effect: ``"external"`` for an effect that must not happen twice (charging a card, deploying): if its outcome is
            unknown, because the process died or was stopped, a resume asks first.
        checkpoint: ``"waits"``: an attempt that was interrupted in an operation (``sleep``, ``poll``, an approval)
            continues at that statement, with the variables it had. ``"lines"``: so does one that was interrupted or
            died in any statement; each is recorded before it runs, in a separate commit. None: it starts at its top.
        cache: take a recorded result up to this age, such as ``"7 days"``, instead of running; True for any age. It is
            a completed result in this log of the same step, with the same code (helpers and constants included) and the
            same arguments. Nothing is taken if one of them holds a secret, or if changes of what the step reads cannot
            be detected. Each item of a ``foreach`` is looked up separately.
        process: True runs a plain ``def`` in its own process, which a stop or a timeout kills, and whose crash is only
            a failed attempt. It gets copies of its arguments and of the globals it uses; prints, progress and
            operations work as usual. An interrupted attempt starts at its top.
        pure: True for a step that only computes its result, so that running it again does no harm. It starts without
            waiting until the log holds its start and the ends of the pure steps before it, which are recorded together
            a few milliseconds later. If the process dies in between, they run again.

    Raises:
        StepDefinitionError: the function or an argument is invalid.

    Example:
        >>> @step(retries=2, retry_delay="1s")
        ... async def fetch(inputs):
        ...     return inputs["url"]
        >>> fetch
        <step fetch>
    """

    def make(function: Callable[P, R]) -> Step[P, R]:
        _check_function(function)
        chosen = name if name is not None else getattr(function, "__name__", "")
        check_name(chosen)
        policy = policy_of(
            chosen,
            retries,
            retry_delay,
            backoff,
            max_delay,
            jitter,
            retry_on,
            timeout,
            keep,
            effect,
            checkpoint,
            cache,
            pure,
        )
        return Step(function, chosen, in_process(function, chosen, policy, process))

    if fn is None:
        return make
    return make(fn)


def _undo_of_last_run(fn: Callable[..., Any]) -> Step[..., Any] | None:
    """Return the rollback handler of the step that this one replaces when its cell is run again.

    Another cell defines the handler, so fixing the step must not lose it. This applies only to cells: a reloaded module
    defines its handlers again too.
    """
    if getattr(fn, "__module__", "") != "__main__" or getattr(fn, "__qualname__", ".").rpartition(".")[0]:
        return None
    before = getattr(fn, "__globals__", {}).get(fn.__name__)
    return before.undo if isinstance(before, Step) else None


def _check_function(function: Any) -> None:
    if isinstance(function, Step):
        raise StepDefinitionError(f"{function!r} is already a step: write @step once")
    if isinstance(function, (staticmethod, classmethod)) or inspect.isclass(function):
        raise StepDefinitionError(f"@step takes a function, not {function!r}: put it above a plain def or async def")
    if not callable(function):
        raise StepDefinitionError(
            f"@step takes a function, not {function!r}. With options write @step(name='...') above the def"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise StepDefinitionError(
            f"step '{function.__name__}' yields, but a step has one result. Return a list, or make each part a step"
        )
