"""Records where a step waits or raises, and enters the next attempt there.

When the frame of the step's function reaches an operation, its place and its variables are recorded in the commit of
the operation's event; when it raises, in the commit of its failure. The next attempt of the same visit is entered there
if the attempt was left (hibernation, a stop, a death) or the step is resumed; a retry starts at the top. If it cannot
be entered there (resume_points.py), the previous checkpoint is tried, in the end the top, and the log says why.
Finished operations return their recorded results, as they do without checkpoints.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast, runtime_checkable

from .._checkpoint.cursor import CannotEnterError, Cursor, Lines
from .._checkpoint.decorated import around, innermost
from .._checkpoint.places import Place
from .._checkpoint.twin import Twin
from .._checkpoint.variables import Kept, Snapshot
from .._core.events import OperationMismatched, SleepCompleted, StepCheckpointed
from .._core.graph import StepSpec
from .._core.state_name import ExecutionState
from .._core.value import Value
from .._text.json_text import parse
from .._values.classes import Home
from .._values.redactor import Redactor
from ..errors import CerebelumError, SerializationError
from .resume_points import digest_arguments, helpers_of, result_of, resume_points
from .scope import Scope

__all__ = ["CheckpointHost", "Checkpoints"]

_NEEDS_NONE = (OperationMismatched, SleepCompleted)
"""Events at which the variables are the same as at the previous event."""

SMALL = 200
"""Up to this many characters of JSON, an argument is recorded with every checkpoint instead of compared."""


@runtime_checkable
class CheckpointHost(Protocol):
    """An execution whose log can hold variables; a trial writes nothing, so its steps start at the top."""

    home: Home

    def payload(self, value: Value) -> bytes:
        """Return the bytes of a recorded value, which this process may unpickle."""
        ...

    def fingerprint_of(self, step: str, value: Any) -> bytes:
        """Return the fingerprint of an argument when the step received it; ``b""`` if none was computed."""
        ...

    def encode_plain(self, value: Any, path: str) -> Value:
        """Encode a value that JSON restores unchanged, without its secrets."""
        ...

    def check_size(self, made: Value, path: str = "output") -> None:
        """Raise SerializationError if a value is too large for the log."""
        ...


class Checkpoints:
    """Records and restores the checkpoints of one attempt."""

    def __init__(self, spec: StepSpec, scope: Scope, host: CheckpointHost, twin: Twin) -> None:
        self._spec, self._scope, self._host, self._twin = spec, scope, host, twin
        redactor = scope.execution.redactor
        fn = cast(types.FunctionType, innermost(spec.fn))  # it is a function, as it has a twin
        self.cursor = Cursor(twin, fn, self._is_left, host.home, redactor.reveals if redactor else None, self._lines())
        self.leaving = False  # the attempt ends, and the step will be entered again; not after a timeout
        self.line: int | None = None  # the line at which it was entered
        self._last: tuple[Any, ...] = ()
        self._recorded: int | None = None  # the statement of the last checkpoint
        self._entered: StepCheckpointed | None = None
        self._alone = True  # nothing runs beside its frame: no other task, no second call
        self._counts: dict[str, int] = {}  # operations of earlier statements since the last checkpoint
        self._since: dict[str, int] = {}  # operations of the running statement
        self._named_at = -1  # the frame's instruction when the last operation was named
        self._reasons: tuple[str, ...] = ()  # why newer checkpoints were skipped
        self._digest = digest_arguments(spec, scope.step, scope.execution.state)

    def _lines(self) -> Lines | None:
        """Return the recorder of every statement; None if only statements that wait are recorded."""
        return None

    def _known(self, argument: str) -> Value:
        """Return an argument as recorded in the log, where it does not change during the attempt."""
        spec, state = self._spec, self._scope.execution.state
        if argument == "inputs":
            return state.inputs or _UNKNOWN
        if argument in spec.requires or argument in spec.optional:
            return result_of(state, self._scope.step, argument) or _UNKNOWN
        return _UNKNOWN

    # -- entering -------------------------------------------------------------------------------------------

    def call_at_top(self, arguments: dict[str, Any]) -> Any:
        """Call the function at its top, as no earlier attempt has recorded another place."""
        return self._function(None, arguments)(**arguments)

    def call(self, arguments: dict[str, Any]) -> Any:
        """Call a plain function, entered at its last place that is possible, or at its top."""
        for place in self._places():
            try:
                return self._function(place, arguments)(**arguments)
            except CannotEnterError as error:
                self._reasons += (str(error),)
            arguments = self._scope.execution.arguments(self._spec)
        raise AssertionError("the top can always be entered")

    async def call_async(self, arguments: dict[str, Any]) -> Any:
        """Call an async function, entered at its last place that is possible, or at its top."""
        for place in self._places():
            try:
                return await self._function(place, arguments)(**arguments)
            except CannotEnterError as error:
                self._reasons += (str(error),)
            arguments = self._scope.execution.arguments(self._spec)
        raise AssertionError("the top can always be entered")

    def _function(self, place: Place | None, arguments: dict[str, Any]) -> Callable[..., Any]:
        """Return the callable that takes the arguments and enters the function at a place."""
        fn = self.cursor.fn
        if self._spec.fn is fn:
            self._called_with(arguments)
            return self.cursor.function(place)
        first = [place]

        @functools.wraps(fn)
        def called(*args: Any, **kwargs: Any) -> Any:
            """Enter the function; a second call by a decorator starts at the top, and ends the checkpoints."""
            self._alone = self._alone and bool(first)
            given = inspect.signature(fn).bind(*args, **kwargs).arguments
            self._called_with(given)
            return self.cursor.function(first.pop() if first else None)(*args, **kwargs)

        return around(cast(types.FunctionType, self._spec.fn), _as_async(called) if self._spec.is_async else called)

    def _places(self) -> Iterator[Place | None]:
        """Yield the places to enter the function at, the best first, and at last None for its top."""
        step = self._scope.known
        newest = step.checkpoints[-1].event.line if step.checkpoints else 0
        for checkpoint, place, reason in resume_points(self._twin, self.cursor.fn, step, self._digest):
            recorded, counts = checkpoint.event, step.counts_at(checkpoint)
            if place is not None:
                try:
                    self._restore(recorded)
                except (CerebelumError, ValueError) as error:
                    place, reason = None, str(error)
            if place is None:
                self._reasons += (reason,)
                continue
            self._record_skipped(recorded.place, place.line)
            self._scope.count_from(counts)
            self._last = (
                recorded.place,
                recorded.variables,
                recorded.kept,
                tuple(recorded.given),
                recorded.secrets or {},
            )
            self._recorded, self._entered, self.line = place.number, recorded, place.line
            yield place
        self._record_skipped("", newest)
        self._scope.count_from({})
        self._recorded, self._last, self._entered, self.line = None, (), None, None
        yield None

    def _record_skipped(self, place: str, line: int) -> None:
        """Record why the checkpoints after a place were skipped, if any were."""
        if self._reasons:
            reason = self._scope.execution.redactor.mask(self._reasons[0])
            self._scope.defer_event(StepCheckpointed, place=place, line=line, reason=reason)

    def _restore(self, recorded: StepCheckpointed) -> None:
        variables = parse(recorded.variables.json) if recorded.variables is not None else {}
        kept = [
            Kept(tuple(names), value.codec, self._host.payload(value))
            for names, value in zip(recorded.groups, recorded.kept, strict=True)
        ]
        self.cursor.restore(variables, kept, recorded.given, recorded.secrets or {})

    def _called_with(self, arguments: dict[str, Any]) -> None:
        as_arrow = [name for name in arguments if self._known(name).codec == "arrow"]
        fingerprints = {name: self._host.fingerprint_of(self._spec.name, arguments[name]) for name in as_arrow}
        self.cursor.set_arguments(arguments, self._passed_again(arguments), fingerprints)

    def _passed_again(self, arguments: dict[str, Any]) -> list[str]:
        """Name the parameters to take from the call and not from the checkpoint: the context, values with secrets."""
        again = ["context"] if self._spec.takes_context else []
        return again + [name for name in arguments if self._known(name).masked]

    # -- leaving --------------------------------------------------------------------------------------------

    def _is_left(self) -> bool:
        """Whether the attempt is left in a wait at which the step will be entered again; then no `finally` runs."""
        state = self._scope.execution.state
        if not self.leaving or state.cancel is not None or state.lifecycle is ExecutionState.CANCELLED:
            return False
        return self._recorded is not None and self._recorded == self.cursor.number

    def end(self) -> None:
        """Forget the frame: the function has returned."""
        self.cursor.forget()

    # -- recording ------------------------------------------------------------------------------------------

    def operation_named(self, name: str, count: int) -> None:
        """Note that an operation begins; ``count`` is how many of its name there are, including it."""
        self._named_at = self.cursor.instruction
        if self.cursor.fresh:  # the first operation of its statement
            self._counts.update(self._since)
            self._since, self.cursor.fresh = {}, False
        self._since[name] = count

    def checkpoint(self, event: type[Any]) -> dict[str, Any] | None:
        """Return the fields of the checkpoint to record before an operation's event; None if there is none.

        Called in the step's thread or task, or in one that it has started.
        """
        if event in _NEEDS_NONE or not self._is_alone():
            return None
        found = self.cursor.current_place()
        return None if found is None else self._fields(*found)

    def _is_alone(self) -> bool:
        if self._alone and not self._scope.is_callers() and not self._awaits_this_task():
            self._alone = False  # a checkpoint of the frame would lose the other thread or task
        return self._alone

    def raised(self, error: BaseException) -> list[dict[str, Any]]:
        """Return the fields of the checkpoints to record before a failure."""
        found = self.cursor.raised_in(error.__traceback__) if self._alone else None
        if found is None or self._twin.is_top(found[0]):
            return []
        place, variables = found
        if self.cursor.number == place.number:
            if self._recorded == place.number:
                return []  # recorded by its operation
        elif self._names_operations_unmarked(place):
            return []
        else:
            self._counts.update(self._since)
        code = self._scope.known.code or ""
        before, last, self._last = self._entered, self._last, ()
        fields = self._fields(place, variables)
        if fields is None:
            return []
        now = (place.digest, code, type(error).__name__)
        if before is not None and (before.place, before.code, before.raised) == now and self._last == last:
            return [self._drop(before)]
        return [fields | self._failure(place, error)]

    def _failure(self, place: Place, error: BaseException) -> dict[str, Any]:
        """Return the fields with the error of a statement and the code that raised it."""
        helpers = helpers_of(self._twin, self.cursor.fn, place)
        return {"raised": type(error).__name__, "code": self._scope.known.code or "", "helpers": helpers or None}

    def _names_operations_unmarked(self, place: Place) -> bool:
        """Whether an unmarked statement began operations, in a helper; how many came before it is unknown then."""
        if self._named_at < 0:
            return self._scope.names_operations and self.cursor.number is None
        return self.cursor.place_at(self._named_at) is place

    def _drop(self, last: StepCheckpointed) -> dict[str, Any]:
        """Return the fields that drop a checkpoint: its statement raised again, although nothing has changed."""
        known = [checkpoint.event for checkpoint in self._scope.known.checkpoints]
        before = known[: next((i for i, event in enumerate(known) if event.place == last.place), 0)]
        reason = f"line {last.line} raised {last.raised} again with the same code and variables"
        return {
            "place": before[-1].place if before else "",
            "line": before[-1].line if before else last.line,
            "reason": reason,
            "raised": last.raised,
        }

    def _awaits_this_task(self) -> bool:
        """Whether the step's task waits for the current task, directly or with asyncio.gather."""
        if self._scope.task is None:
            return False
        try:
            here = asyncio.current_task()
        except RuntimeError:
            return False
        waits_for = getattr(self._scope.task, "_fut_waiter", None)
        return here is not None and (here is waits_for or here in getattr(waits_for, "_children", ()))

    def _unchanged(self, found: Snapshot) -> tuple[str, ...]:
        """Name the larger arguments that are still as the log holds them."""
        return tuple(
            name
            for name in sorted(found.given)
            if name in found.plain
            and (known := self._known(name)).codec == "json"
            and len(known.json) > SMALL
            and self._host.encode_plain(found.plain[name], name).json == known.json
        )

    def _fields(self, place: Place, found: Snapshot) -> dict[str, Any] | None:
        host = self._scope.execution
        given = (*self._unchanged(found), *found.again, *found.unchanged)
        plain = {name: value for name, value in found.plain.items() if name not in given} if given else found.plain
        kept = {group.names: _value(group, host.redactor) for group in found.kept}
        try:
            variables = self._host.encode_plain(plain, "the variables")
            for value in kept.values():
                self._host.check_size(value)
        except SerializationError:
            return None  # too large for the log; the previous checkpoint remains
        missing = dict(found.missing)
        for path in variables.masked:
            missing[path.partition(".")[0].partition("[")[0]] = "it holds a secret"
        if self._twin.needs(place, missing):
            return None  # it could not be entered there; the previous checkpoint remains
        for (name, *others), value in list(kept.items()):
            if not others and name in found.given and value.digest == self._known(name).digest:
                given += (name,)
                del kept[name,]
        groups, values = tuple(map(list, kept)), tuple(kept.values())
        self._recorded = place.number
        now = (place.digest, variables, values, given, found.secrets)
        counts, self._counts = self._counts, {}
        if now == self._last and not counts:
            return None
        self._last = now
        return {
            "place": place.digest,
            "line": place.line,
            "counts": counts or None,
            "arguments": self._digest,
            "groups": groups,
            "kept": values,
            "given": given,
            "secrets": found.secrets or None,
            "missing": {name: host.redactor.mask(why) for name, why in missing.items()} or None,
            "variables": variables,
        }


def _as_async(call: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(call)
    async def called(*args: Any, **kwargs: Any) -> Any:
        return await call(*args, **kwargs)

    return called


_UNKNOWN = Value("none")


def _value(kept: Kept, redactor: Redactor) -> Value:
    return Value(
        kept.codec,
        type="variables",
        digest=kept.digest or hashlib.sha256(kept.data).hexdigest(),
        size=len(kept.data),
        payload=kept.data,
        preview=redactor.mask(kept.shown),
    )
