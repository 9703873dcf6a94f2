"""Results shared between executions: ``@step(cache="7 days")``.

When an attempt of such a step begins, its key is looked up in the log. The key is a digest of the step's name, its code
with all helpers and constants as they are now, and its recorded arguments. A result with this key becomes the outcome
of the attempt, with a note of the execution it came from. A computed result is recorded with its key if the code is
still the same at that time. A step has no key, and so neither takes nor offers a result,

- if its source is unknown, or it reads something whose changes cannot be detected (such as a connection);
- if an argument or the result holds a secret, or is not kept in the log.

A step that runs again, by a resume's ``rerun`` or a jump back, takes no cached result.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .._core.events import StepCompleted
from .._core.graph import UNDO, Plan, StepSpec, key_of, of_item, owner_of, step_of
from .._core.messages import Start
from .._core.value import Value
from .._dsl.code import code_of, parts_of
from .._text.json_text import parse
from .._text.text import did_you_mean
from .._values.foreign import ForeignBytes
from ..errors import StoreError
from .values import ExecutionValues

__all__ = ["CachedResults", "check_refresh"]


class CachedResults:
    """The cached results that one execution takes, and the keys of the results that it computes."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}  # of the running attempts, by step

    def take(self, values: ExecutionValues, spec: StepSpec, start: Start, now: int) -> StepCompleted | None:
        """Return the event that takes a recorded result instead of running an attempt; None to run it.

        Args:
            values: the execution.
            spec: the step.
            start: the attempt.
            now: the time, µs since the epoch.
        """
        key = _key_of(values, spec, start.step)
        if key is None:
            return None
        event = _find(values, spec, start, key, now)
        if event is None:
            self._keys[start.step] = key
        return event

    def with_key(self, values: ExecutionValues, spec: StepSpec, event: StepCompleted) -> StepCompleted:
        """Add the key by which other executions find a result, unless the code was edited meanwhile.

        Args:
            values: the execution.
            spec: the step.
            event: the event with its result.
        """
        key = self._keys.pop(event.step, None)
        if key is None or not event.output.restorable or _key_of(values, spec, event.step) != key:
            return event
        return replace(event, key=key)


def check_refresh(plan: Plan, given: Any) -> tuple[str, ...]:
    """Return the names of the steps to run although cached results could be taken.

    Raises:
        TypeError: ``given`` is neither a step or its name nor a list of them.
        ValueError: the workflow has no such step, or the step has no ``cache``.
    """
    wanted = [given] if isinstance(given, str) or not hasattr(given, "__iter__") else list(given)
    cached = {spec.name: spec for name in plan.steps for spec in plan.parts(name) if spec.policy.cache is not None}
    found = []
    for asked in wanted:
        name = asked if isinstance(asked, str) else getattr(asked, "name", None)
        if not isinstance(name, str):
            raise TypeError(f"refresh takes names of steps: refresh=['clean'], not {asked!r}")
        if name in cached:
            found.append(name)
        elif any(spec.name == name for step in plan.steps for spec in plan.parts(step)):
            raise ValueError(f"refresh: step '{name}' takes no cached results, so it runs anyway: leave it out")
        else:
            hint = did_you_mean(name, cached, f"Steps with cache=: {', '.join(cached) or 'none'}.")
            raise ValueError(f"refresh: workflow '{plan.workflow}' has no step {name!r}. {hint}")
    return tuple(dict.fromkeys(found))


def _key_of(execution: ExecutionValues, spec: StepSpec, name: str) -> str | None:
    """Return the key of an attempt's result; None if it neither takes nor offers a cached result."""
    from .._dsl.fingerprint import unseen

    if spec.policy.cache is None or name[0] == UNDO:
        return None
    code = code_of(spec.fn)
    if code is None or unseen(parts_of(spec.fn)):
        return None
    arguments = _arguments(execution, spec, name)
    if arguments is None:
        return None
    text = json.dumps([spec.name if "[" not in name else step_of(name), code, arguments], ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _find(values: ExecutionValues, spec: StepSpec, start: Start, key: str, now: int) -> StepCompleted | None:
    """Return the event that takes a result with this key; None on a second visit and with ``refresh``."""
    age = spec.policy.cache
    refresh = values.state.refresh
    if age is None or start.visit > 1 or spec.name in refresh or step_of(start.step) in refresh:
        return None
    store = values.store
    try:
        found = store.result(key, 0 if age == float("inf") else now - round(age * 1e6))
        if found is None:
            return None
        execution_id, version = found
        event = next(iter(store.events(execution_id, after=version - 1, upto=version)), None)
        if not isinstance(event, StepCompleted) or event.key != key or not event.output.restorable:
            return None
        output = event.output
        if not output.is_json:  # copy its bytes, as the other execution may be pruned at any time
            payload = store.payload(output.digest)
            if isinstance(payload, ForeignBytes):
                return None
            output = replace(output, payload=payload)
    except StoreError:
        return None
    return StepCompleted(
        at=now,
        step=start.step,
        visit=start.visit,
        attempt=start.attempt,
        output=output,
        key=key,
        source=f"{execution_id}@{version}",
    )


def _arguments(execution: ExecutionValues, spec: StepSpec, name: str) -> list[Any] | None:
    """Describe the arguments of an attempt for its key; None if they are not all in the log."""
    state, plan = execution.state, execution.plan
    parameter = ""
    body: Mapping[str, StepSpec] = {}
    if "[" in name:
        each = plan.each[owner_of(name)]
        parameter, body = each.parameter, each.body
    names = dict.fromkeys((*spec.requires, *spec.optional))
    if spec.takes_rest:
        names |= dict.fromkeys(sorted(state.finished))
    described: list[Any] = []
    for needed in names:
        if needed == parameter and parameter:
            value: Value | None = _item(execution, name)
        else:
            step = state.step(of_item(owner_of(name), key_of(name), needed) if needed in body else needed)
            value = step.output if step is not None and step.has_result else None
        if value is None:
            if needed not in spec.optional:
                return None
            described.append([needed, None])
            continue
        if not value.restorable:
            return None
        described.append([needed, value.codec, value.json or value.digest])
    if spec.takes_inputs or spec.takes_context:
        inputs = _inputs(execution, spec)
        if inputs is None:
            return None
        described.append(["inputs", inputs])
    return described


def _item(execution: ExecutionValues, name: str) -> Value | None:
    owner = owner_of(name)
    foreach = execution.state.steps[owner]
    if foreach.items is None:
        return None
    return execution.encode(execution.items_of(owner)[foreach.items.keys[key_of(name)]], path="the item")


def _inputs(execution: ExecutionValues, spec: StepSpec) -> Any:
    """Return the inputs that the step reads, as the log holds them; None if one of them is a secret."""
    from .._dsl.input_reads import inputs_read

    value, shape = execution.state.inputs, execution.plan.shape
    if value is None:
        return []
    read = inputs_read(spec.fn, takes_inputs=spec.takes_inputs, takes_context=spec.takes_context)
    if read is not None and not read:
        return []
    if not value.is_json or value.codec == "none":
        return None
    masked = {path.partition(".")[0].partition("[")[0] for path in value.masked}
    if masked and (read is None or masked & read):
        return None
    recorded = parse(value.json)
    chosen = recorded if read is None else {name: recorded[name] for name in sorted(read) if name in recorded}
    if shape is None:
        return [value.codec, chosen]
    try:
        return [value.codec, chosen, inspect.getsource(shape.cls)]  # the class converts them
    except (OSError, TypeError):
        return None
