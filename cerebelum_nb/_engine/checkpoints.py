"""Where an attempt enters its step's function, and what the log learns of where it waits.

When the step's own frame reaches an operation, its place and its variables are recorded in the commit of that
operation's event. The next attempt of the same visit is entered there, if it was only left (hibernation, a stop, a
death); a retry starts at the top. It also starts at the top, and the log says why, when a statement before the place
was changed, when the step is given other arguments, and when what it needs cannot be restored here. Then its finished
operations give their recorded results, as they do without checkpoints.
"""

from __future__ import annotations

import ast
import asyncio
import dis
import hashlib
import inspect
import json
import types
from collections.abc import Callable
from typing import Any, Protocol, cast, runtime_checkable

from .._checkpoint.cursor import CannotEnterError, Cursor, twin_of
from .._checkpoint.places import IsOperation, Place
from .._checkpoint.twin import Twin
from .._checkpoint.variables import Kept, Snapshot
from .._core.events import OperationMismatched, SleepCompleted, StepCheckpointed
from .._core.graph import StepSpec, key_of, of_item, owner_of
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.value import Value
from .._text.json_text import parse
from .._values.classes import Home
from ..errors import CerebelumError
from .scope import Scope

__all__ = ["Checkpoints", "call_step", "describe_entry", "waits_in_plain_steps"]

_NEEDS_NONE = (OperationMismatched, SleepCompleted)
"""Events with which the variables are those of the event before."""

SMALL = 200
"""Characters of an argument's JSON that are recorded with every checkpoint rather than compared."""

_operations: list[object] = []


def waits_in_plain_steps(*operations: Callable[..., Any]) -> None:
    """Name the functions whose calls are waits in a plain step; in an async one every `await` is."""
    _operations.extend(operations)


@runtime_checkable
class _KeepsVariables(Protocol):
    """An execution whose log can hold variables; a trial writes nothing, so its steps start at the top."""

    home: Home

    def payload(self, value: Value) -> bytes:
        """Return the bytes of a recorded value that this process may unpickle."""
        ...


def call_step(spec: StepSpec, scope: Scope, arguments: dict[str, Any]) -> Any:
    """Call a step's function, where it waited last if it can be entered there, else from its top.

    Args:
        spec: the step.
        scope: the attempt.
        arguments: what the function is called with.

    Returns:
        What the function returns: of an async one an awaitable.
    """
    host, recorded = scope.execution, scope.known.checkpoint
    if (recorded is None and not _may_wait(spec.fn)) or not isinstance(host, _KeepsVariables):
        return spec.fn(**arguments)
    twin = _twin_of(spec)
    if twin is None or (recorded is None and not twin.waiting):
        return spec.fn(**arguments)
    scope.checkpoints = checkpoints = Checkpoints(spec, scope, host, twin)
    place = None if recorded is None else checkpoints.place_of(recorded)
    checkpoints.cursor.called_with(arguments, checkpoints.given_again(arguments))
    if place is None:
        return checkpoints.cursor.function()(**arguments)
    if spec.is_async:
        return checkpoints.enter_async(place, arguments)
    return checkpoints.enter(place, arguments)


class Checkpoints:
    """Those of one attempt."""

    def __init__(self, spec: StepSpec, scope: Scope, host: _KeepsVariables, twin: Twin) -> None:
        self._spec, self._scope, self._host, self._twin = spec, scope, host, twin
        redactor = scope.execution.redactor
        fn = cast(types.FunctionType, spec.fn)  # else it had no twin
        self.cursor = Cursor(twin, fn, self._is_left, host.home, redactor.reveals if redactor else None)
        self.leaving = False  # the attempt ends, and the step is to be entered again; not when its time is over
        self._last: tuple[Any, ...] = ()
        self._recorded: int | None = None  # the statement at which the last checkpoint is
        self._alone = True  # no task of the step's own is in an operation beside its frame
        self._counts: dict[str, int] = {}  # of operations before the running statement, since the last checkpoint
        self._since: dict[str, int] = {}  # of the running statement's
        self._known = {name: self._recorded_value(name) for name in (*spec.requires, *spec.optional, "inputs")}
        self._digest = _arguments_digest(spec, scope.step, scope.execution.state)

    def _recorded_value(self, argument: str) -> Value:
        """What the log holds of an argument."""
        state = self._scope.execution.state
        value = state.inputs if argument == "inputs" else _output(state, self._scope.step, argument)
        return value or _UNKNOWN

    # -- entering -------------------------------------------------------------------------------------------

    def place_of(self, recorded: StepCheckpointed) -> Place | None:
        """Return where the function is entered; None, and a note in the log, when it must start at its top."""
        place, reason = _entry(self._twin, recorded, self._digest)
        if place is not None:
            try:
                self._restore(recorded)
            except (CerebelumError, ValueError) as error:
                place, reason = None, str(error)
        if place is None:
            self._start_at_top(recorded.line, reason)
            return None
        self._scope.count_from(self._scope.known.counts)
        self._last = (recorded.place, recorded.variables, recorded.kept, recorded.given)
        self._recorded = place.number
        return place

    def _restore(self, recorded: StepCheckpointed) -> None:
        variables = parse(recorded.variables.json) if recorded.variables is not None else {}
        kept = [
            Kept(tuple(names), value.codec, self._host.payload(value))
            for names, value in zip(recorded.groups, recorded.kept, strict=True)
        ]
        self.cursor.restore(variables, kept, recorded.given)

    def given_again(self, arguments: dict[str, Any]) -> list[str]:
        """Name the parameters that are not kept, as every call gives them: the context, and what holds a secret."""
        again = ["context"] if self._spec.takes_context else []
        return again + [name for name in arguments if name in self._known and self._known[name].masked]

    def enter(self, place: Place, arguments: dict[str, Any]) -> Any:
        """Call a plain function from a place on."""
        try:
            return self.cursor.function(place)(**arguments)
        except CannotEnterError as error:
            return self._from_top(place, error)

    async def enter_async(self, place: Place, arguments: dict[str, Any]) -> Any:
        """Call an async function from a place on."""
        try:
            return await self.cursor.function(place)(**arguments)
        except CannotEnterError as error:
            again = self._from_top(place, error)
        return await again

    def _from_top(self, place: Place, error: CannotEnterError) -> Any:
        self._start_at_top(place.line, str(error))
        self._scope.count_from({})
        self._recorded = None
        arguments = self._scope.execution.arguments(self._spec)
        self.cursor.called_with(arguments, self.given_again(arguments))
        return self.cursor.function()(**arguments)

    def _start_at_top(self, line: int, reason: str) -> None:
        redactor = self._scope.execution.redactor
        self._scope.ride(StepCheckpointed, line=line, reason=redactor.mask(reason))

    # -- leaving --------------------------------------------------------------------------------------------

    def _is_left(self) -> bool:
        """Whether the attempt is left in a wait at which the step will be entered again: then nothing is undone."""
        state = self._scope.execution.state
        if not self.leaving or state.cancel is not None or state.lifecycle is ExecutionState.CANCELLED:
            return False
        return self._recorded is not None and self._recorded == self.cursor.number

    def end(self) -> None:
        """Hear that the function has returned."""
        self.cursor.forget()

    # -- recording ------------------------------------------------------------------------------------------

    def operation_named(self, name: str, count: int) -> None:
        """Hear that an operation begins; ``count`` says how many of its name there are with it."""
        if self.cursor.fresh:  # the first of its statement: what was named before belongs to the statement's beginning
            self._counts.update(self._since)
            self._since, self.cursor.fresh = {}, False
        self._since[name] = count

    def checkpoint(self, event: type[Any]) -> dict[str, Any] | None:
        """Return the fields of the checkpoint that is recorded before an operation's event; None when there is none.

        Called in the step's own thread or task, or one that it has started.
        """
        if event in _NEEDS_NONE or not self._alone:
            return None
        if not self._scope.is_callers() and not self._awaits_this_task():
            self._alone = False  # what runs beside the frame is not part of it, and would be lost
            return None
        found = self.cursor.standing()
        return None if found is None else self._fields(*found)

    def _awaits_this_task(self) -> bool:
        """Whether the step's own task waits for the task that asks: for itself, or with asyncio.gather."""
        if self._scope.task is None:
            return False
        try:
            here = asyncio.current_task()
        except RuntimeError:
            return False
        waits_for = getattr(self._scope.task, "_fut_waiter", None)
        return here is not None and (here is waits_for or here in getattr(waits_for, "_children", ()))

    def _unchanged(self, found: Snapshot) -> tuple[str, ...]:
        """Name the larger arguments that are as the log holds them already."""
        return tuple(
            name
            for name in found.plain
            if name in found.given
            and (known := self._known.get(name, _UNKNOWN)).codec == "json"
            and len(known.json) > SMALL
            and self._scope.execution.encode(found.plain[name]).json == known.json
        )

    def _fields(self, place: Place, found: Snapshot) -> dict[str, Any] | None:
        host = self._scope.execution
        given = self._unchanged(found)
        plain = {name: value for name, value in found.plain.items() if name not in given}
        variables = host.encode(plain, path="the variables")
        missing = dict(found.missing)
        for path in variables.masked:
            missing[path.partition(".")[0].partition("[")[0]] = "it holds a secret"
        if missing.keys() & self._twin.live(place):
            return None  # it could not be entered there; the checkpoint before still holds
        kept = {tuple(one.names): _value(one) for one in found.kept}
        for (name, *others), value in list(kept.items()):
            if not others and name in found.given and value.digest == self._known.get(name, _UNKNOWN).digest:
                given += (name,)
                del kept[name,]
        groups, values = tuple(map(list, kept)), tuple(kept.values())
        self._recorded = place.number
        now = (place.digest, variables, values, given)
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
            "missing": {name: host.redactor.mask(why) for name, why in missing.items()} or None,
            "variables": variables,
        }


def describe_entry(spec: StepSpec, state: State) -> str:
    """Say at which line the next attempt of a step would be entered, or why it would start at its top; "" if it waits
    nowhere.
    """
    step = state.steps.get(spec.name)
    recorded = None if step is None else step.checkpoint
    if recorded is None:
        return ""
    twin = _twin_of(spec)
    if twin is None:
        return f"starts at its top, as line {recorded.line} cannot be found in it"
    place, reason = _entry(twin, recorded, _arguments_digest(spec, spec.name, state))
    return f"starts at its top: {reason}" if place is None else f"continues at line {place.line}"


def _may_wait(fn: Callable[..., Any]) -> bool:
    """Whether a function may wait, by a look at its bytecode: most do not, and to parse them takes milliseconds."""
    code = getattr(fn, "__code__", None)
    if code is None or code.co_flags & inspect.CO_COROUTINE:
        return code is not None and _AWAITS in code.co_code[::2]
    names = set(code.co_names)
    if not names.isdisjoint(_NAMES):
        return True
    found = [fn.__globals__[name] for name in names if name in fn.__globals__]
    return any(value is operation for value in found for operation in _operations)


_AWAITS = dis.opmap["GET_AWAITABLE"]
_NAMES = {"run", "sleep", "poll", "retry", "wait_for_approval", "wait_for_signal"}


def _twin_of(spec: StepSpec) -> Twin | None:
    """Return the twin of a step's function; None when its attempts always start at the top."""
    fn = spec.fn
    if spec.policy.checkpoint is None or not isinstance(fn, types.FunctionType) or hasattr(fn, "__wrapped__"):
        return None
    twin = twin_of(fn, _is_operation_in(fn))
    return None if isinstance(twin, str) else twin


def _entry(twin: Twin, recorded: StepCheckpointed, arguments: str) -> tuple[Place | None, str]:
    """Return the place at which a function is entered; None and the reason when it must start at its top."""
    place = twin.find(recorded.place)
    if recorded.arguments != arguments:
        return None, "it is given other arguments"
    if place is None:
        return None, f"code before line {recorded.line} was changed"
    if place.refusal:
        return None, f"line {place.line} cannot be entered: {place.refusal}"
    if lost := (recorded.missing or {}).keys() & twin.live(place):
        name = min(lost)
        return None, f"{name} is used after line {place.line}, and {(recorded.missing or {})[name]}"
    return place, ""


_UNKNOWN = Value("none")


def _value(kept: Kept) -> Value:
    digest = hashlib.sha256(kept.data).hexdigest()
    return Value(kept.codec, type="variables", digest=digest, size=len(kept.data), payload=kept.data)


def _is_operation_in(fn: types.FunctionType) -> IsOperation:
    """Tell the calls of operations in a plain step, by what their names stand for now."""

    def is_operation(call: ast.Call) -> bool:
        match call.func:
            case ast.Name(id=name):
                found = fn.__globals__.get(name)
            case ast.Attribute(value=ast.Name(id="context"), attr="run"):
                return True
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                module = fn.__globals__.get(name)
                found = getattr(module, attribute, None) if inspect.ismodule(module) else None
            case _:
                return False
        return any(found is operation for operation in _operations)

    return is_operation


def _arguments_digest(spec: StepSpec, name: str, state: State) -> str:
    """Digest what a step, or one for an item, is called with, without decoding it."""
    names = (*spec.requires, *spec.optional, *(state.finished if spec.takes_rest else ()))
    values: dict[str, Any] = {}
    for dependency in names:
        output = _output(state, name, dependency)
        if output is not None and dependency != spec.name:
            step = state.steps.get(dependency)
            made = (
                step.settled_at if step is not None and output.codec == "none" else 0
            )  # nothing else tells these apart
            values[dependency] = (output.codec, output.json, output.digest, made)
    if spec.takes_inputs and state.inputs is not None:
        values["inputs"] = (state.inputs.codec, state.inputs.json, state.inputs.digest)
    foreach = state.steps.get(owner_of(name))
    if name != owner_of(name) and foreach is not None and foreach.items is not None:
        values["the item"] = (key_of(name), foreach.items.digests.get(key_of(name), ""))
    text = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _output(state: State, name: str, dependency: str) -> Value | None:
    """What the log holds of a result that a step is given; for an item, of the same item's first."""
    own = None if owner_of(name) == name else state.step(of_item(owner_of(name), key_of(name), dependency))
    step = own or state.steps.get(dependency)
    return step.output if step is not None and step.has_result else None
