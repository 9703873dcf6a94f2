"""The values of an execution: its inputs and results, encoded for the log and decoded for steps.

Each step gets its own copy of a value: decoded from the log, or a deep copy of the object if the log holds it with
masked secrets. Only a result that is not kept (``keep=False``) is one object shared by all steps.
"""

from __future__ import annotations

import copy
import inspect
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from .._core.graph import Plan, StepSpec, key_of, of_item, owner_of, undone_by
from .._core.state import State
from .._core.step_state import Phase, StepState
from .._core.value import ErrorInfo, Value
from .._store.base import Store
from .._text.json_text import parse
from .._text.times import at_in
from .._values import Redactor, Secret, decode, encode, pickles
from .._values.classes import Home
from .._values.codec import json_of
from .._values.large import LARGE_TEXT, LargeValueError
from ..errors import DependencyError, SerializationError, WorkflowError
from .scope import current_scope
from .user_errors import at_return, error_info
from .watchdog import note_own

__all__ = ["ExecutionValues", "SharedValueWarning", "home_of"]

_SMALL = 1_000
"""Characters of a value that every log accepts."""
_BESIDE = 4_096
"""The most bytes of a row besides its value."""
_NOTHING = encode(None)


class SharedValueWarning(UserWarning):
    """A step changed its own copy of another step's result; no other step sees the change.

    Only results stored as bytes are checked: pickled values, frames and arrays.

    Example:
        >>> import warnings
        >>> from cerebelum_nb import step, workflow
        >>> from cerebelum_nb.testing import MemoryStore
        >>> @step
        ... def load():
        ...     return bytearray(b"abc")
        >>> @step
        ... def spoil(load):
        ...     load.clear()
        >>> @workflow
        ... def careless(wf):
        ...     wf.timeline(load >> spoil)
        >>> with warnings.catch_warnings(record=True) as warned:
        ...     warnings.simplefilter("always")
        ...     result = careless.run(store=MemoryStore())
        >>> warned[0].category is SharedValueWarning
        True
    """


class Given(NamedTuple):
    """A pickled or Arrow value that a step received, with its fingerprint from before, to detect a change in place."""

    producer: str
    value: Any
    fingerprint: bytes
    type: str


MOST_WATCHED = 1_000_000
"""The largest value, in bytes, that is checked for changes: a change is harmless, and not worth more time."""

MakeContext = Callable[..., Any]
"""Creates a step's ``context``. It is passed in because its operations are in a layer above this package."""


class ExecutionValues:
    """Encodes, decodes and passes the values of one execution."""

    __slots__ = (
        "_given",
        "_listed",
        "_make_context",
        "home",
        "id",
        "live",
        "live_inputs",
        "masked_results",
        "plan",
        "redactor",
        "state",
        "store",
    )

    def __init__(
        self,
        store: Store,
        execution_id: str,
        plan: Plan,
        state: State,
        redactor: Redactor,
        make_context: MakeContext,
        home: Home | None = None,
    ) -> None:
        self.store, self.id, self.plan, self.state, self.redactor = store, execution_id, plan, state, redactor
        self._make_context = make_context
        self.live: dict[str, Any] = {}
        self._listed: dict[str, list[Any]] = {}
        self._given: dict[str, list[Given]] = {}
        self.live_inputs: dict[str, Any] | None = None
        self.masked_results: dict[tuple[str, int], Any] = {}  # by step and visit: results that held a secret
        self.home = home_of(plan) if home is None else home

    def encode(self, value: Any, *, keep: bool = True, path: str = "output", at_once: bool = False) -> Value:
        """Encode a value for the log, without its secrets.

        Raises:
            SerializationError: it cannot be stored, or is too large for the log. Raised here, it fails the step that
                made the value; raised by the commit, it would fail the whole execution.
            LargeValueError: it takes too long to be encoded ``at_once``.
        """
        began = time.monotonic()
        try:
            made = encode(value, keep=keep, redactor=self.redactor, path=path, home=self.home, at_once=at_once)
        except RuntimeError as error:  # as of a dict that changes its size while it is read
            raise SerializationError(
                f"{path} was changed while it was being recorded ({error}): code that still runs holds it, such as a "
                "task or a thread. Return a copy",
                path=path,
            ) from error
        note_own(began)
        if len(made.json) > _SMALL or made.size:
            self.check_size(made, path)
        return made

    def encode_plain(self, value: Any, path: str) -> Value:
        """Encode a value that is known to be `plain`, without searching it again, as :meth:`encode` does."""
        text = None if self.redactor else json_of(value)
        if text is None:
            return self.encode(value, path=path)
        made = Value("json", text)
        self.check_size(made, path)
        return made

    def check_size(self, made: Value, path: str = "output") -> None:
        """Raise SerializationError if a value is too large for the log."""
        most = self.store.largest - _BESIDE
        size = made.size or len(made.json)
        if size * 4 > most and (made.size or len(made.json.encode("utf-8", "surrogatepass"))) > most:
            raise SerializationError(
                f"{path} is too large for the log, which accepts {most / 1e6:,.0f} MB in one value. Write it to a file "
                f"and return the path, or declare the step with @step(keep=False)",
                path=path,
            )

    def encode_result(self, spec: StepSpec, result: Any, at_once: bool = False) -> tuple[Value, Any]:
        """Encode what a step returned; the traceback of an error points at the step's ``return``.

        Args:
            spec: the step.
            result: what it returned.
            at_once: whether the caller is the event loop: then a large value raises LargeValueError.

        Returns:
            The value, and the object that `keep_live` takes: a copy if its secrets are masked in the log.
        """
        if result is None and spec.policy.keep:
            return _NOTHING, None
        try:
            value = self.encode(result, keep=spec.policy.keep, at_once=at_once)
        except SerializationError as error:
            raise at_return(error, spec.fn)  # noqa: B904 - the same error
        return value, copy.deepcopy(result) if value.masked else result

    def decode(self, value: Value, where: str, step: str = "") -> Any:
        """Decode a recorded value into a new object; ``step`` is the step whose result it is, if any."""
        if value.codec == "json" and not value.masked and len(value.json) < LARGE_TEXT:
            if value.json == "null":
                return None
            try:
                return parse(value.json)  # most values; the code below would return the same
            except ValueError:  # it is damaged, which is reported below
                pass
        began = time.monotonic()
        made = decode(
            value,
            lambda digest: self.store.payload(digest) if value.payload is None else value.payload,
            trusted=self.store.trusted,
            where=f"{where} of execution {self.id}",
            missing=partial(Secret.missing, execution_id=self.id, step=step),
            home=self.home,
        )
        note_own(began)
        return made

    def describe(self, error: BaseException) -> ErrorInfo:
        """Describe a failure for the log, without secrets."""
        info = error_info(error)
        if not self.redactor:
            return info
        return ErrorInfo(
            type=info.type,
            message=self.redactor.mask(info.message),
            traceback=self.redactor.mask(info.traceback),
            mro=info.mro,
            reason=None if info.reason is None else self.redactor.mask(info.reason),
        )

    def result_of(self, step: str) -> Any:
        """Return a new copy of a completed step's value."""
        known = self._standing(step)
        assert known is not None, f"step {step} has no result"
        return self._copy_of(step, known)

    def _copy_of(self, step: str, known: StepState) -> Any:
        output = known.output
        assert output is not None, f"step {step} has no output"
        if known.items is not None and not output.restorable:
            return [self.result_of(of_item(step, key)) for key in known.items.keys]
        if step in self.live:
            live = self.live[step]
            return live if output.codec == "none" else copy.deepcopy(live)
        return self.decode(output, f"the result of step '{step}'", step)

    def inputs(self) -> dict[str, Any]:
        """Return a new copy of the execution's inputs, with their secrets as far as this process knows them."""
        if self.live_inputs is not None:
            return copy.deepcopy(self.live_inputs)
        recorded = self.state.inputs
        return self.decode(recorded, "the inputs") if recorded is not None else {}

    def shaped_inputs(self) -> Any:
        """Return the inputs as steps receive them: a dict, or an object of the class that the workflow declares."""
        inputs, shape = self.inputs(), self.plan.shape
        return inputs if shape is None else shape.make(inputs)

    def arguments(self, spec: StepSpec, at_once: bool = False) -> dict[str, Any]:
        """Return the arguments for a step's function.

        Args:
            spec: the step.
            at_once: whether the caller is the event loop: then a large value raises LargeValueError.

        Raises:
            DependencyError: a required step has no result.
        """
        arguments: dict[str, Any] = {}
        if not spec.takes_anything:
            return arguments
        given: list[Given] = []
        item = undone_by(spec.name) or spec.name
        own = self._of_the_item(item, given, at_once) if "[" in item else {}
        for name in (*spec.requires, *spec.optional):
            if name in own:
                arguments[name] = own[name]()
            elif (step := self._standing(name)) is not None and step.has_result:
                arguments[name] = self._give(name, step, given, at_once)
            elif name in spec.requires:
                raise DependencyError(_no_result(spec.name, name, self.state), step=spec.name, dependency=name)
        if spec.takes_rest:
            for name in self._with_results():
                if name not in arguments and name not in own and name != spec.name:
                    arguments[name] = self._give_standing(name, given, at_once)
        if given:
            self._given[spec.name] = given
        if at_once and (spec.takes_inputs or spec.takes_context) and _is_large(self.state.inputs):
            raise LargeValueError
        if spec.takes_inputs:
            arguments["inputs"] = self.shaped_inputs()
        if spec.takes_error:
            arguments["error"] = self._why_rolled_back()
        if spec.takes_context:
            arguments["context"] = self._context_of(spec, key_of(item) if own else None)
        return arguments

    def _context_of(self, spec: StepSpec, item: str | None) -> Any:
        """Create the ``context`` of a step; ``item`` is the name of its item in a foreach."""
        known, due = self.state.step(spec.name), self.state.scheduled_at
        assert known is not None, f"step {spec.name} has begun"
        return self._make_context(
            inputs=self.shaped_inputs(),
            execution_id=self.id,
            workflow_name=self.plan.workflow,
            step_name=spec.name,
            attempt=known.attempt,
            visit=known.visit,
            item=item,
            scheduled_at=None if due is None else at_in(due, self.state.timezone),
            _scope=current_scope.get(),
        )

    def _standing(self, name: str) -> StepState | None:
        """Return a step's state; during a rollback also of a step that is already undone."""
        rollback = self.state.rollback
        undone = None if rollback is None or rollback.is_over else rollback.undone.get(name)
        return undone or self.state.step(name)

    def _with_results(self) -> list[str]:
        """List the steps with a result; copies first, as threads call this while the loop changes the state."""
        rollback = self.state.rollback
        undone = [] if rollback is None or rollback.is_over else [n for n in list(rollback.undone) if "[" not in n]
        return list(dict.fromkeys((*list(self.state.finished), *undone)))

    def _why_rolled_back(self) -> WorkflowError | None:
        """Return the failure because of which the execution is rolled back, if any."""
        rollback = self.state.rollback
        if rollback is None or rollback.error is None:
            return None
        return WorkflowError(str(rollback.error), execution_id=self.id, failed_step=rollback.failed_step)

    def forget(self, names: Iterable[str]) -> None:
        """Forget the live results of these steps and their items."""
        gone = {*names}
        for name in [name for name in self.live if owner_of(name) in gone]:
            del self.live[name]
        for name in gone:
            self._listed.pop(name, None)

    def items_of(self, name: str, *, reread: bool = False) -> list[Any]:
        """Return the items of a foreach, from its recorded source.

        Args:
            name: the foreach.
            reread: whether to read the source again, as its result may have changed.

        Raises:
            TypeError: the source is not a collection.
            DependencyError: the source has no result.
        """
        found = None if reread else self._listed.get(name)
        if found is None:
            source = self.plan.each[name].source
            kind, _, field = source.rpartition(".")
            if kind:
                shaped = self.shaped_inputs()
                given = shaped if isinstance(shaped, Mapping) else vars(shaped)
                if field not in given:
                    raise DependencyError(
                        f"foreach({name}) runs over the input {field!r}, which this execution does not have: "
                        f"execute({{{field!r}: [...]}})",
                        step=name,
                        dependency=source,
                    )
                over = given[field]
            else:
                step = self._standing(source)
                if step is None or not step.has_result:
                    raise DependencyError(_no_result(name, source, self.state), step=name, dependency=source)
                over = self.result_of(source)
            found = self._listed[name] = _as_items(over, name, source)
        return found

    def _of_the_item(self, name: str, given: list[Given], at_once: bool) -> dict[str, Callable[[], Any]]:
        """Return getters for the parameters that depend on the item: the item, and results of the body for it."""
        owner, key = owner_of(name), key_of(name)
        each, foreach = self.plan.each[owner], self.state.steps[owner]
        assert foreach.items is not None, f"the items of {owner} are listed"
        index = foreach.items.keys[key]
        own: dict[str, Callable[[], Any]] = {
            step: partial(self._give_standing, of_item(owner, key, step), given, at_once) for step in each.body
        }
        return own | {each.parameter: lambda: copy.deepcopy(self.items_of(owner)[index])}

    def keep_live(self, step: str, visit: int, value: Value, live: Any) -> None:
        """Keep the object itself if the log does not hold it, or only with masked secrets."""
        if value.masked:
            self.live[step] = self.masked_results[step, visit] = live
        elif value.codec == "none":
            self.live[step] = live
        elif self.live:
            self.live.pop(step, None)

    def recall(self, results: Mapping[tuple[str, int], Any], state: State) -> None:
        """Restore results with secrets that this process still knows, by step and visit."""
        for (name, visit), value in results.items():
            step = state.step(name)
            if step is not None and step.has_result and step.visit == visit and step.output is not None:
                self.encode(value)  # registers their secrets with the redactor
                self.keep_live(name, visit, step.output, value)

    def warn_of_changes(self, step: str) -> None:
        """Warn about values that a step has changed in place; called after it ended."""
        for producer, value, before, type_ in self._given.pop(step, ()):
            if pickles.fingerprint(value, self.home) != before:
                warnings.warn(
                    f"step '{step}' changed the {type_} it got from '{producer}' in place; other steps still get what "
                    f"'{producer}' returned. Change a copy, and return it",
                    SharedValueWarning,
                    stacklevel=2,
                )

    def fingerprint_of(self, step: str, value: Any) -> bytes:
        """Return the fingerprint of an argument when the step received it; ``b""`` if none was computed."""
        return next((given.fingerprint for given in self._given.get(step, ()) if given.value is value), b"")

    def _give_standing(self, name: str, given: list[Given], at_once: bool) -> Any:
        known = self._standing(name)
        assert known is not None, f"step {name} has a result"
        return self._give(name, known, given, at_once)

    def _give(self, name: str, known: StepState, given: list[Given], at_once: bool) -> Any:
        output = known.output
        assert output is not None
        if at_once and _is_large(output):
            raise LargeValueError
        value = self._copy_of(name, known)
        if output.digest and output.size <= MOST_WATCHED:
            given.append(Given(name, value, pickles.fingerprint(value, self.home), output.type))
        return value


def _is_large(value: Value | None) -> bool:
    return value is not None and (len(value.json) > LARGE_TEXT or value.size > LARGE_TEXT)


def home_of(plan: Plan) -> Home:
    """Return the global namespaces of a plan's steps, in which the classes of its notebook or script are found."""
    spaces: dict[int, Any] = {}
    for spec in plan.steps.values():
        wrapped = hasattr(spec.fn, "__wrapped__")  # without one, `unwrap` still takes 1 µs
        fn = inspect.unwrap(spec.fn) if wrapped else spec.fn
        space = getattr(fn, "__globals__", None)
        if space is not None:
            spaces[id(space)] = space
    return tuple(spaces.values())


def _as_items(source: Any, name: str, where: str) -> list[Any]:
    """Return the items of a collection, in order; sets are sorted.

    Raises:
        TypeError: it is not a collection.
    """
    if isinstance(source, Mapping):
        return list(source.items())
    if isinstance(source, (set, frozenset)):
        try:
            return sorted(source)
        except TypeError:
            return sorted(source, key=repr)
    if isinstance(source, (list, tuple, range)):
        return list(source)
    if hasattr(source, "itertuples"):  # a DataFrame
        return list(source.itertuples(index=False, name="Row"))
    if hasattr(source, "tolist"):  # a Series, an array
        found = source.tolist()
        if isinstance(found, list):
            return found
    raise TypeError(
        f"foreach({name}) runs over {where if '.' in where else f'the result of {where!r}'}, which is a "
        f"{type(source).__name__}, not a collection: use a list, tuple, dict, range, set, Series or DataFrame"
    )


def _no_result(user: str, name: str, state: State) -> str:
    step = state.steps.get(name)
    if step is None or step.phase is Phase.PENDING:
        why = "was skipped on the route this run took"
    elif step.phase is Phase.FAILED:
        why = "failed, and its failure was handled by a route"
    else:
        why = "has not finished"
    return (
        f"step '{user}' needs the result of '{name}', which {why}. Give the parameter a default "
        f"({name}=None) to make it optional, or route the run so that '{name}' runs"
    )
