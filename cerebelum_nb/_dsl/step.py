"""``@step``: a function becomes a step that knows its name, its needs and its policy.

A step is only a description; it runs when it is called directly (as the plain function) or when an engine
starts an attempt of it.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import keyword
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, overload

from .._core.graph import Policy, StepSpec
from .._text.duration import Duration, seconds
from ..errors import StepDefinitionError
from .reloading import by_name, load_of, newest

__all__ = [
    "DECORATIONS",
    "PARTS",
    "RESERVED",
    "Chain",
    "Composite",
    "Link",
    "Step",
    "check_name",
    "code_of",
    "is_async",
    "parts_of",
    "step",
]

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")
R = TypeVar("R", covariant=True)  # so that a Step[..., int] is a Step[..., object]

RESERVED = ("context", "inputs")
DECORATIONS = "__cerebelum_decorations__"
"""Where the decorators under ``@step`` note what they add, so that a changed interval is changed code."""
PARTS = "__cerebelum_parts__"
"""Where a function that was made for a step says of what parts its code is."""


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
        self._needs = _needs(fn, name)
        self._load = load_of(fn)
        self._spec: StepSpec | None = None
        self._undo_spec: tuple[StepSpec, StepSpec] | None = None
        self.undo: Step[..., Any] | None = _undo_of_last_run(fn)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle by name, as functions are; one that its module does not hold, by what it is made of."""
        return by_name(self) or (type(self), (self.fn, self.name, self.policy))

    def newest(self) -> Step[P, R]:
        """Return the step that its module defines now, after a reload; itself otherwise."""
        return newest(self, self.name, self.fn, self._load)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function, without an engine: steps are unit tested like any function."""
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
        """Make a function undo this step when an execution is rolled back.

        Its parameters are those of a step: one named after this step receives the result that is undone, others name
        other steps, and ``inputs`` and ``context`` may be taken. ``error`` receives the
        :class:`~cerebelum_nb.WorkflowError` for which it is rolled back, or None. In a ``foreach`` each item is undone
        by itself, and the item's parameter may be taken.

        Args:
            fn: the function, when used without parentheses; a step with a policy of its own will do.
            options: how often and how it is tried, as :func:`step` takes them: ``retries=3``.

        Returns:
            The function as a step.

        Raises:
            StepDefinitionError: the function or an option is not what a step can be made from.

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
                        f"on_rollback of '{self.name}': {function!r} is a step with options of its own; give all of "
                        f"them in one place"
                    )
                made = function
            else:
                made = step(**options)(function)
            if made.name == self.name:
                raise StepDefinitionError(
                    f"on_rollback of '{self.name}': what undoes it has the same name, so that it would replace the "
                    f"step: call it otherwise, such as 'undo_{self.name}'"
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
        """The names by which it asks for results."""
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
        """Describe what undoes the step to the engine; None when nothing does."""
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
    """Steps in order, as ``a >> [b, c] >> d`` builds them; they are judged when the workflow is validated."""

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
    """A step made of others, such as a ``foreach`` or a workflow: it may be placed wherever a step may."""

    name: str

    def as_step(self, item: str = "") -> Step[..., Any] | None:
        """Return the step that stands for it, if one does; in a foreach, ``item`` is the item's parameter."""
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
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    timeout: Duration | None = None,
    keep: bool = True,
    effect: str | None = None,
    checkpoint: str | None = "waits",
    cache: Duration | bool = False,
    process: bool = False,
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
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
    timeout: Duration | None = None,
    keep: bool = True,
    effect: str | None = None,
    checkpoint: str | None = "waits",
    cache: Duration | bool = False,
    process: bool = False,
) -> Step[P, R] | Callable[[Callable[P, R]], Step[P, R]]:
    """Make a function a step of workflows.

    Its parameters are its dependencies: ``context`` and ``inputs`` are given by the engine, every other parameter
    names the step whose result it receives; one with a default is optional, ``**kwargs`` takes every other earlier
    result. ``async def`` runs on the event loop, a plain ``def`` in a separate thread.

    Args:
        fn: the function, when used without parentheses.
        name: the step's name; by default the function's.
        retries: attempts after the first one.
        retry_delay: seconds (or text such as ``"5s"``) before the first retry.
        backoff: what each further delay is multiplied by, at least 1.
        max_delay: seconds (or text) that no delay exceeds, however often it is multiplied.
        jitter: by which share of itself a delay varies at random, from 0 to 1, so that what failed together is not
            tried again together.
        retry_on: the exception classes that are retried.
        timeout: seconds (or text) one attempt may take; more is a ``StepTimeoutError``. The thread of a plain step
            cannot be ended: the next attempt starts when it has returned, unless it has ``process=True``.
        keep: False for a result that cannot or should not be stored: it lives in memory for this run only, and a
            resume runs the step again when another step needs it.
        effect: ``"external"`` for what must not happen twice unasked (it charges a card, it deploys): when its outcome
            is unknown, because the process died in it or it was stopped, a resume stops and asks.
        checkpoint: ``"waits"``: an attempt that was left in an operation (``sleep``, ``poll``, an approval) is entered
            again at that statement, with the variables it had. ``"lines"``: so is one that was left or died in any
            statement; each is recorded before it runs, in a commit of its own. None: it starts at its top.
        cache: how old a result may be, such as ``"7 days"``, that is taken instead of running; True for any age. It is
            a completed result in this log of the same step, with the same code (helpers and constants included) and
            the same arguments. Nothing is taken where one of them holds a secret, or where nobody can tell whether
            what the step reads has changed. Every item of a ``foreach`` is looked for by itself.
        process: True runs a plain ``def`` in a process of its own, which a stop or a timeout kills, and whose crash is
            only a failed attempt. It gets copies of its arguments and of the globals it uses; what it prints, its
            progress and its operations work as elsewhere. An attempt that was left starts at its top.

    Raises:
        StepDefinitionError: the function or an argument is not what a step can be made from.

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
        policy = _policy(
            chosen, retries, retry_delay, backoff, max_delay, jitter, retry_on, timeout, keep, effect, checkpoint, cache
        )
        return Step(function, chosen, _in_process(function, chosen, policy, process))

    if fn is None:
        return make
    return make(fn)


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether a call of it makes a coroutine, as far as its definition tells.

    A plain wrapper of an async function does not say so; what it returns does, when it runs.
    """
    while isinstance(fn, functools.partial):
        fn = fn.func
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(vars(type(fn)).get("__call__"))


def code_of(fn: Callable[..., Any]) -> str | None:
    """Digest the code that a step's function runs now; None when its source is unknown."""
    found = _fingerprinter()(fn)
    decorations = getattr(fn, DECORATIONS, None)
    if found is None or not decorations:
        return found.digest if found else None
    return hashlib.sha256(f"{found.digest}{decorations!r}".encode()).hexdigest()[:16]


def parts_of(fn: Callable[..., Any]) -> tuple[Any, ...]:
    """Return the parts of a step's code, each a :class:`~cerebelum_nb._dsl.fingerprint.Part`; none without a source."""
    from .fingerprint import Part

    if (own := getattr(fn, PARTS, None)) is not None:
        parts: tuple[Any, ...] = own()
        return parts
    found = _fingerprinter()(fn)
    decorations = getattr(fn, DECORATIONS, None)
    if found is None or not decorations:
        return found.parts if found else ()
    digest = hashlib.sha256(repr(decorations).encode()).hexdigest()[:16]
    return (*found.parts, Part(kind="decorator", name="what stands under @step", digest=digest, text=repr(decorations)))


def _undo_of_last_run(fn: Callable[..., Any]) -> Step[..., Any] | None:
    """What undid the step whose cell is run again: to fix a step must not lose its handler, which another cell defines.

    Only a cell is run again without the rest; a module that is loaded again defines its handlers, too.
    """
    if getattr(fn, "__module__", "") != "__main__" or getattr(fn, "__qualname__", ".").rpartition(".")[0]:
        return None
    before = getattr(fn, "__globals__", {}).get(fn.__name__)
    return before.undo if isinstance(before, Step) else None


@functools.cache
def _fingerprinter() -> Callable[[Callable[..., Any]], Any]:
    from .fingerprint import fingerprint  # it imports ast and tokenize, which a mere import of ours does not need

    return fingerprint


def _check_function(function: Any) -> None:
    if isinstance(function, Step):
        raise StepDefinitionError(f"{function!r} is a step already: write @step once")
    if isinstance(function, (staticmethod, classmethod)) or inspect.isclass(function):
        raise StepDefinitionError(f"@step takes a function, not {function!r}: put it above a plain def or async def")
    if not callable(function):
        raise StepDefinitionError(
            f"@step takes a function, not {function!r}. With options write @step(name='...') above the def"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise StepDefinitionError(
            f"step '{function.__name__}' yields: a step has one result. Return a list, or make a step of each part"
        )


def check_name(name: object) -> None:
    """Raise StepDefinitionError unless this can be the name of a step."""
    if not isinstance(name, str):
        raise StepDefinitionError(f"a step's name is text, not {name!r}: @step(name='fetch')")
    if not name:
        raise StepDefinitionError("this step has no name: write step(name='...')(function), or a def")
    if name == "<lambda>":
        raise StepDefinitionError("a lambda has no name: write step(name='...')(lambda ...), or a def")
    if not name.isidentifier() or keyword.iskeyword(name):
        raise StepDefinitionError(
            f"{name!r} cannot be a step's name: other steps receive its result by a parameter of that name, "
            f"so it must be a Python identifier, such as {_identifier(name)!r}"
        )
    if name in RESERVED:
        raise StepDefinitionError(f"'{name}' is reserved (every step may take it): give the step another name")


def _identifier(name: str) -> str:
    found = re.sub(r"\W+", "_", name).strip("_") or "fetch"
    return f"{found}_" if keyword.iskeyword(found) else found if found.isidentifier() else f"step_{found}"


def _policy(
    name: str,
    retries: int,
    retry_delay: Duration,
    backoff: float,
    max_delay: Duration | None,
    jitter: float,
    retry_on: Any,
    timeout: Duration | None,
    keep: bool,
    effect: object,
    checkpoint: object,
    cache: Any,
) -> Policy:
    where = f"@step of '{name}'"
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise StepDefinitionError(f"{where}: retries is how often to try again, a whole number from 0, not {retries!r}")
    if isinstance(backoff, bool) or not isinstance(backoff, (int, float)) or not 1 <= backoff < float("inf"):
        raise StepDefinitionError(f"{where}: backoff multiplies the delay and is at least 1, not {backoff!r}")
    if isinstance(jitter, bool) or not isinstance(jitter, (int, float)) or not 0 <= jitter <= 1:
        raise StepDefinitionError(
            f"{where}: jitter is the share of a delay that is random, from 0 to 1, not {jitter!r}"
        )
    classes = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    for cls in classes:
        if not (inspect.isclass(cls) and issubclass(cls, BaseException)):
            raise StepDefinitionError(f"{where}: retry_on is an exception class or a tuple of them, not {cls!r}")
    if not isinstance(keep, bool):
        raise StepDefinitionError(f"{where}: keep is True or False, not {keep!r}")
    if effect not in (None, "external"):
        raise StepDefinitionError(f"{where}: effect is 'external' or left out, not {effect!r}")
    if checkpoint not in (None, "waits", "lines"):
        raise StepDefinitionError(f"{where}: checkpoint is 'waits', 'lines' or None, not {checkpoint!r}")
    try:
        delay = seconds(retry_delay, unit="s", what="retry_delay")
        longest = None if max_delay is None else seconds(max_delay, unit="s", what="max_delay")
        limit = None if timeout is None else seconds(timeout, unit="s", what="timeout")
    except (TypeError, ValueError) as error:
        raise StepDefinitionError(f"{where}: {error}") from error
    kept_for = _cache(where, cache, keep, effect)
    if limit == 0:
        raise StepDefinitionError(f"{where}: timeout must be more than zero; leave it out for no limit")
    return Policy(
        retries=retries,
        retry_delay=delay,
        backoff=float(backoff),
        retry_on=classes,
        timeout=limit,
        keep=keep,
        effect=None if effect is None else "external",
        checkpoint=None if checkpoint is None else str(checkpoint),
        max_delay=longest,
        jitter=float(jitter),
        cache=kept_for,
    )


def _in_process(function: Callable[..., Any], name: str, policy: Policy, process: object) -> Policy:
    """Return the policy of a step that is to run in a process of its own, if it is.

    Raises:
        StepDefinitionError: it cannot.
    """
    where = f"@step of '{name}'"
    if not isinstance(process, bool):
        raise StepDefinitionError(f"{where}: process is True or False, not {process!r}")
    if not process:
        return policy
    if is_async(function):
        raise StepDefinitionError(
            f"{where}: process=True is for a plain def. A stop or a timeout ends an async def step as it is; make it a "
            f"plain def, or leave out process=True"
        )
    if policy.checkpoint == "lines":
        raise StepDefinitionError(
            f"{where}: the lines of a step in a process of its own are not recorded: leave out checkpoint= or process="
        )
    return replace(policy, process=True, checkpoint=None)


def _cache(where: str, cache: Any, keep: bool, effect: object) -> float | None:
    """Read how old a result may be that is taken instead of running, seconds; None when none is taken."""
    if cache is False or cache is None:
        return None
    if effect is not None:
        raise StepDefinitionError(
            f"{where}: an external effect is never taken from another execution: leave out cache= or effect="
        )
    if not keep:
        raise StepDefinitionError(f"{where}: a result that is not kept cannot be taken later: leave out keep=False")
    if cache is True:
        return float("inf")
    try:
        age = seconds(cache, unit="s", what="cache")
    except (TypeError, ValueError) as error:
        raise StepDefinitionError(f"{where}: {error}. cache is True, or how old a result may be: '7 days'") from error
    if not age:
        raise StepDefinitionError(f"{where}: cache must be more than zero; leave it out to run each time")
    return age


def _needs(fn: Callable[..., Any], name: str) -> dict[str, Any]:
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
            raise StepDefinitionError(f"step '{name}' asks for its own result: rename the parameter or the step")
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
