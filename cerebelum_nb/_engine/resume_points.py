"""Where the next attempt of a step is entered: at a statement where it waited or raised, or at its top, and why.

It is the newest checkpoint at which the function can still be entered. It cannot be entered there if

- a statement before that place was changed,
- the step gets other arguments,
- a later statement needs a variable that could not be kept,
- after a failure: a function that the statements before it use was changed, so as to give other variables.
"""

from __future__ import annotations

import ast
import dis
import hashlib
import inspect
import json
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from .._checkpoint.decorated import innermost
from .._core.events import StepCheckpointed
from .._core.graph import StepSpec, key_of, of_item, owner_of
from .._core.state import State
from .._core.step_state import Checkpoint, StepState
from .._core.value import Value
from .._store.base import Store
from .._text.json_text import parse
from .._values.foreign import ForeignBytes
from ..errors import SerializationError, UntrustedValueError

if TYPE_CHECKING:  # most steps do not need these: imported where they are used, see call_step.py
    from .._checkpoint.places import IsOperation, Place
    from .._checkpoint.twin import Twin

__all__ = [
    "ResumePoint",
    "digest_arguments",
    "helpers_of",
    "kept_bytes",
    "look_ahead",
    "may_wait",
    "notes_on",
    "result_of",
    "resume_points",
    "twin_for",
    "variables_of",
    "waits_in_plain_steps",
]

_operations: list[object] = []


def waits_in_plain_steps(*operations: Callable[..., Any]) -> None:
    """Register functions whose calls are waits in a plain step; in an async step every `await` is a wait."""
    _operations.extend(operations)


class ResumePoint(NamedTuple):
    """A checkpoint, with the place at which it can be entered, or with the reason why it cannot."""

    checkpoint: Checkpoint
    place: Place | None
    reason: str = ""


def resume_points(twin: Twin, fn: Any, step: StepState, arguments: str) -> Iterator[ResumePoint]:
    """Yield the resume point of each checkpoint of a step, the newest first.

    Args:
        twin: the twin of the step's function.
        fn: the function itself.
        step: the step's state.
        arguments: the digest of its arguments.
    """
    for checkpoint in step.checkpoints[::-1]:
        place, reason = _resume_point(twin, fn, checkpoint.event, arguments)
        yield ResumePoint(checkpoint, place, reason)


def look_ahead(spec: StepSpec, state: State) -> str:
    """Describe where the next attempt of a step is entered, and why; "" if it has no checkpoints."""
    step = state.steps.get(spec.name)
    if step is None or not step.checkpoints:
        return f"starts at its top: {step.dropped}" if step is not None and step.dropped else ""
    twin = twin_for(spec)
    if twin is None:
        return f"starts at its top, as line {step.checkpoints[-1].event.line} cannot be found in it"
    reasons = [step.dropped] if step.dropped else []
    for _, place, reason in resume_points(twin, innermost(spec.fn), step, digest_arguments(spec, spec.name, state)):
        if place is not None:
            return f"continues at line {place.line}{f': {reasons[0]}' if reasons else ''}"
        reasons.append(reason)
    return f"starts at its top: {reasons[0]}"


def _resume_point(twin: Twin, fn: Any, recorded: StepCheckpointed, arguments: str) -> tuple[Place | None, str]:
    place = twin.find(recorded.place)
    if recorded.arguments != arguments:
        return None, "its arguments have changed"
    if place is None:
        return None, f"code before line {recorded.line} was changed"
    if place.refusal:
        return None, f"line {place.line} cannot be entered: {place.refusal}"
    if name := twin.needs(place, missing := recorded.missing or {}):
        return None, f"{name} is used after line {place.line}, but {missing[name]}"
    if recorded.raised and (changed := _changed_helper(recorded.helpers or {}, helpers_of(twin, fn, place))):
        return None, f"{changed} was changed, and is used before line {place.line}"
    return place, ""


def helpers_of(twin: Twin, fn: types.FunctionType, place: Place) -> dict[str, str]:
    """Digest the functions and classes that the statements before a place use, by name."""
    from .._dsl.fingerprint import fingerprint, reach  # slow to load, and only needed after a failure

    names = twin.names_before(place)
    parts = list(reach(fn.__code__, names, fn.__globals__))
    closed_over = inspect.getclosurevars(fn).nonlocals
    for helper in (closed_over[name] for name in names & closed_over.keys()):
        found = fingerprint(helper) if isinstance(helper, types.FunctionType) else None
        parts += () if found is None else found.parts
    code = [part for part in parts if part.kind in ("code", "helper", "class") and ".self." not in part.name]
    return {part.name: part.digest[:12] for part in code}


def _changed_helper(then: dict[str, str], now: dict[str, str]) -> str:
    return next((name for name in then if now.get(name) != then[name]), "")


def may_wait(spec: StepSpec) -> bool:
    """Whether a step may wait, judged by its bytecode: parsing every step would take milliseconds."""
    fn = spec.fn
    if spec.policy.checkpoint == "lines":
        return True
    while (inner := getattr(fn, "__wrapped__", None)) is not None:
        fn = inner
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


def twin_for(spec: StepSpec) -> Twin | None:
    """Return the twin of a step's function; None if its attempts always start at the top."""
    fn = None if spec.policy.checkpoint is None else innermost(spec.fn)
    if fn is None:
        return None
    twin = _twin_of(spec, fn)
    return None if isinstance(twin, str) else twin


def _twin_of(spec: StepSpec, fn: types.FunctionType) -> Twin | str:
    from .._checkpoint.cursor import twin_of

    return twin_of(fn, _is_operation_in(fn), lines=spec.policy.checkpoint == "lines")


def kept_bytes(log: Store, value: Value) -> bytes:
    """Return the bytes of recorded variables, which this process may unpickle.

    Raises:
        SerializationError: the variables were not kept.
        UntrustedValueError: somebody else may have made them.
        StoreError: the log no longer holds them.
    """
    found = log.payload(value.digest) if value.codec != "none" else b""
    if not found:
        raise SerializationError("some of its variables were not kept")
    if not log.trusted or isinstance(found, ForeignBytes):
        raise UntrustedValueError("its variables would have to be unpickled, and the log is not trusted")
    return found


def variables_of(spec: StepSpec, recorded: StepCheckpointed, log: Store) -> dict[str, Any]:
    """Return the variables at a recorded line that can be restored here; from an untrusted log, only the JSON ones."""
    from .._checkpoint.variables import Frame, Kept

    plain = parse(recorded.variables.json) if recorded.variables is not None else {}
    found = dict(plain)
    fn, twin = innermost(spec.fn), twin_for(spec)
    if fn is not None and twin is not None and log.trusted:
        frame = Frame(twin, fn, (fn.__globals__,))
        for names, value in zip(recorded.groups, recorded.kept, strict=True):
            with suppress(Exception):  # their classes may raise anything; the other variables are still shown
                found |= frame.restore({}, [Kept(tuple(names), value.codec, log.payload(value.digest))])
    return {name: value for name, value in found.items() if name[0] != "."}


def notes_on(spec: StepSpec) -> list[str]:
    """Describe the lines at which a step cannot continue, and what is not kept; empty for a step that does not wait."""
    if spec.policy.checkpoint is None or not may_wait(spec):
        return []
    fn = innermost(spec.fn)
    twin = "a decorator hides its function" if fn is None else _twin_of(spec, fn)
    if isinstance(twin, str):
        return [f"step '{spec.name}' always starts at its top: {twin}"]
    from .._checkpoint.notes import notes

    return [f"step '{spec.name}', {note}" for note in notes(twin)]


def _is_operation_in(fn: types.FunctionType) -> IsOperation:
    """Return the test for calls of operations in a plain step, by what the names refer to now."""

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


def digest_arguments(spec: StepSpec, name: str, state: State) -> str:
    """Digest the arguments of a step, or of a step for one item, without decoding them."""
    names = (*spec.requires, *spec.optional, *(state.finished if spec.takes_rest else ()))
    values: dict[str, Any] = {}
    for dependency in names:
        output = result_of(state, name, dependency)
        if output is not None and dependency != spec.name:
            step = state.steps.get(dependency)
            # Of a result that was not kept, only the time tells it from another one.
            settled_at = step.settled_at if step is not None and output.codec == "none" else 0
            values[dependency] = (output.codec, output.json, output.digest, settled_at)
    if spec.takes_inputs and state.inputs is not None:
        values["inputs"] = (state.inputs.codec, state.inputs.json, state.inputs.digest)
    foreach = state.steps.get(owner_of(name))
    if name != owner_of(name) and foreach is not None and foreach.items is not None:
        values["the item"] = (key_of(name), foreach.items.digests.get(key_of(name), ""))
    text = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def result_of(state: State, name: str, dependency: str) -> Value | None:
    """Return the recorded result of a dependency; in a foreach, the result for the same item if there is one."""
    own = None if owner_of(name) == name else state.step(of_item(owner_of(name), key_of(name), dependency))
    step = own or state.steps.get(dependency)
    return step.output if step is not None and step.has_result else None
