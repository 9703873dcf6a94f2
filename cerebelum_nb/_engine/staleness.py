"""The code of steps and the plan, as the log keeps them, and why a result is stale.

The parts of a step's fingerprint are stored without secrets, once per content, with the events of a start or a resume.
The digests in the events decide what is stale; the parts are only read to explain it.
"""

from __future__ import annotations

import json
import weakref
import zlib
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from .._core.blueprint import dump, load, schema_in
from .._core.graph import Plan, StepSpec, step_of
from .._core.resume import code_changed
from .._core.resume_plan import changed_inputs
from .._core.state import State
from .._core.value import Value
from .._dsl.code import parts_of
from .._store.base import Store
from .._text.json_text import parse
from .._values import MASK, Redactor
from .._values.bounds import inflate
from ..errors import StoreError

__all__ = [
    "blueprint_kept",
    "blueprint_of",
    "doubts",
    "keep_parts",
    "only_relists",
    "parts_kept",
    "parts_written",
    "pieces",
    "schema_kept",
    "what_changed",
    "why_inputs_changed",
    "why_stale",
]

_known: weakref.WeakKeyDictionary[Store, set[str]] = weakref.WeakKeyDictionary()
"""The keys of the parts that this process has committed to a store, so that the next start skips them."""

Parts = tuple[tuple[str, str, str, str], ...]
"""``(kind, name, digest, text)`` of each part of a fingerprint."""


def keep_parts(plan: Plan, store: Store, redactor: Redactor, blueprint: Value | None = None) -> tuple[Value, ...]:
    """Return the payloads of a plan that the log may not hold yet, for the next commit: code, blueprint."""
    known = _known.get(store, ())
    specs = (spec for name in plan.steps for spec in plan.parts(name))
    new = {spec.code: spec for spec in specs if spec.code is not None and _key(spec.code) not in known}
    parts = tuple(as_payload(code, pieces(parts_of(spec.fn), redactor)) for code, spec in new.items())
    return parts if blueprint is None or blueprint.digest in known else (*parts, blueprint)


def blueprint_of(plan: Plan, redactor: Redactor) -> Value:
    """Return a plan as a payload, without its code and without secrets; events name it by its digest."""
    global _laid_out
    last, kept = _laid_out
    if last is plan and not redactor:
        return kept
    data = redactor.mask(dump(plan, _schema(plan, redactor))).encode()
    made = Value("plan", digest=f"plan:{sha256(data).hexdigest()}", size=len(data), payload=data)
    if not redactor:
        _laid_out = plan, made
    return made


_laid_out: tuple[Plan | None, Value] = (None, Value("plan"))
"""The last plan and its blueprint. Many runs of one workflow share one plan (see `WorkflowBuilder.describes`), and its
blueprint takes 4 us per step."""


def _schema(plan: Plan, redactor: Redactor) -> dict[str, Any] | None:
    """Return the JSON Schema of the inputs, for a form in a process without the code; without defaults of secrets."""
    if plan.shape is None:
        return None
    try:
        schema: dict[str, Any] = plan.shape.schema()
    except (TypeError, ValueError, RuntimeError):  # pydantic: a field that JSON cannot hold
        return None
    return _without_hidden(schema, redactor) if redactor.names else schema


def _without_hidden(schema: Any, redactor: Redactor) -> Any:
    if isinstance(schema, list):
        return [_without_hidden(item, redactor) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {}
    for name, value in schema.items():
        if not redactor.hides(name):
            found[name] = _without_hidden(value, redactor)
        elif isinstance(value, dict):
            values = ("default", "const", "enum", "examples")
            found[name] = {**{k: v for k, v in value.items() if k not in values}, "writeOnly": True}
    return found


def schema_kept(store: Store, plan: str) -> dict[str, Any] | None:
    """Read the JSON Schema of the inputs of a plan, by the plan's digest; None if the log has none."""
    try:
        return schema_in(store.payload(plan)) if plan else None
    except (StoreError, ValueError):
        return None


def blueprint_kept(store: Store, state: State) -> Plan | None:
    """Read the plan that an execution last used; None if the log does not hold it."""
    try:
        return load(store.payload(state.plan)) if state.plan else None
    except (StoreError, ValueError):
        return None


def parts_written(store: Store, payloads: Iterable[Value]) -> None:
    """Note that the log holds these payloads, so that they are not written again."""
    _known.setdefault(store, set()).update(value.digest for value in payloads)


def as_payload(code: str, parts: Parts) -> Value:
    """Return the parts of a step's code as a payload."""
    data = zlib.compress(json.dumps(parts, ensure_ascii=True, separators=(",", ":")).encode(), 6)
    return Value("code", digest=_key(code), size=len(data), payload=data)


def parts_kept(store: Store, code: str) -> Parts | None:
    """Read the parts of code, by its digest; None if the log does not hold them, or they are damaged."""
    try:
        return tuple(tuple(part) for part in parse(inflate(store.payload(_key(code)))))
    except (StoreError, ValueError):  # not essential: the digests decide what is stale
        return None


def pieces(parts: Iterable[object], redactor: Redactor) -> Parts:
    """Return the kind, name, digest and text of each part, without secrets."""
    found = []
    for part in parts:
        kind, name, digest, text = (getattr(part, field) for field in ("kind", "name", "digest", "text"))
        if redactor:
            text = MASK if redactor.hides(name.rpartition(".")[2]) else redactor.mask(text)
        found.append((kind, name, digest, text))
    return tuple(found)


def why_stale(
    plan: Plan, state: State, store: Store, redactor: Redactor, inputs: Value | None = None
) -> dict[str, list[str]]:
    """Explain, by step, why its recorded result is stale.

    Args:
        plan: the workflow as it is now.
        state: the state of the execution.
        store: its log, which holds the code that made the results.
        redactor: secrets that must not appear in a reason.
        inputs: the inputs of a resume, if they replace the recorded ones.
    """
    specs, steps = plan.steps, state.steps
    changed = [
        name
        for name in state.finished
        if (spec := specs.get(name)) is not None and spec.code != steps[name].code and code_changed(plan, state, name)
    ]
    reasons = {name: _why_changed(plan, state, name, store, redactor) for name in changed}
    for name, words in why_inputs_changed(plan, state, inputs or state.inputs).items():
        reasons.setdefault(name, []).extend(words)
    return reasons


def doubts(plan: Plan, state: State) -> dict[str, list[str]]:
    """List, for each completed step, what it reads whose changes cannot be detected."""
    from .._dsl.fingerprint import unseen

    found = {
        name: list(dict.fromkeys(words for spec in plan.parts(name) for words in unseen(parts_of(spec.fn))))
        for name in state.finished
        if name in plan.steps
    }
    return {name: words for name, words in found.items() if words}


def why_inputs_changed(plan: Plan, state: State, now: Value | None) -> dict[str, list[str]]:
    """Name, for each completed step, the inputs that it reads and that differ from ``now``."""
    reasons: dict[str, list[str]] = {}
    differ: dict[int, tuple[str, ...] | None] = {}
    steps = state.steps
    for name in state.finished:
        then = steps[name].inputs
        if then is now or then is None or (spec := plan.steps.get(name)) is None:
            continue
        if id(then) not in differ:
            differ[id(then)] = changed_inputs(then, now)
        names = differ[id(then)]
        if names == () or not (spec.takes_inputs or spec.takes_context):
            continue
        if words := _which_inputs(plan, name, names):
            reasons[name] = words
    return reasons


def only_relists(plan: Plan, state: State, now: Value | None) -> tuple[str, ...]:
    """Name the completed foreach steps of which the inputs ``now`` change only the list."""
    found = []
    for name, each in plan.each.items():
        if name not in state.finished or not each.source.startswith("inputs."):
            continue
        names = changed_inputs(state.steps[name].inputs, now)
        if names and not any(_inputs_of(spec, names) for spec in plan.parts(name)):
            found.append(name)
    return tuple(found)


def _why_changed(plan: Plan, state: State, name: str, store: Store, redactor: Redactor) -> list[str]:
    specs = plan.parts(name)
    if len(specs) == 1:
        return what_changed(specs[0], state.steps[name].code, store, redactor)
    items = state.steps[name].items
    ran = {} if items is None else {step_of(part): known.code for part, known in items.steps.items()}
    words = [
        f"`{spec.name}`: {change}"
        for spec in specs
        if spec.name in ran and ran[spec.name] != spec.code
        for change in what_changed(spec, ran[spec.name], store, redactor)
    ]
    return words or ["its code changed"]


def what_changed(spec: StepSpec, code: str | None, store: Store, redactor: Redactor) -> list[str]:
    """Describe how a step differs from the code with this digest, if the log holds that."""
    from .._dsl.fingerprint import Part, explain

    old = parts_kept(store, code) if code is not None else None
    if old is None:
        return ["its code changed"]
    new = parts_of(spec.fn)
    lines = {(part.kind, part.name): part.line for part in new}
    was = [Part(kind=kind, name=name, digest=digest, text=text) for kind, name, digest, text in old]  # type: ignore[arg-type]  # as written
    now = [
        Part(kind=kind, name=name, digest=digest, text=text, line=lines.get((kind, name), 0))  # type: ignore[arg-type]  # as read
        for kind, name, digest, text in pieces(new, redactor)
    ]
    return explain(was, now) or ["its code changed"]


def _which_inputs(plan: Plan, name: str, changed: tuple[str, ...] | None) -> list[str]:
    words = [words for spec in plan.parts(name) for words in _inputs_of(spec, changed)]
    kind, _, source = plan.each[name].source.partition(".") if name in plan.each else ("", "", "")
    if kind == "inputs" and (changed is None or source in changed):
        words.append(f"input `{source}` changed")
    return list(dict.fromkeys(words))


def _inputs_of(spec: StepSpec, changed: tuple[str, ...] | None) -> list[str]:
    from .._dsl.input_reads import inputs_read

    read = inputs_read(spec.fn, takes_inputs=spec.takes_inputs, takes_context=spec.takes_context)
    if read is not None and not read:
        return []
    if changed is None:
        return ["the inputs changed"]
    return [f"input `{name}` changed" for name in changed if read is None or name in read]


def _key(code: str) -> str:
    return f"code:{code}"
