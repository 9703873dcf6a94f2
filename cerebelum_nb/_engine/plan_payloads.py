"""A plan and the code of its steps as payloads of the log, stored once per content and without secrets.

- A *blueprint* is a plan without its code. Events name it by its digest; a process without the code draws the workflow
  from it, and makes a form from the JSON Schema of its inputs. Its digest is that of its text, compressed or not.
- The *parts* of a step's fingerprint (its code, helpers, constants) say what a result was made with. staleness.py
  compares them with the code of now to explain what has changed; the digests in the events decide what is stale.
"""

from __future__ import annotations

import json
import weakref
import zlib
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from .._core.blueprint import dumping, load, schema_in
from .._core.graph import Plan
from .._core.portions import Portions, at_once
from .._core.state import State
from .._core.value import Value
from .._dsl.code import parts_of
from .._store.base import Store
from .._text.json_text import parse
from .._values import MASK, Redactor
from .._values.bounds import MOST_CODE_BYTES, inflate
from ..errors import StoreError

__all__ = [
    "Parts",
    "as_payload",
    "blueprint_kept",
    "blueprint_of",
    "keep_parts",
    "laying_out",
    "parts_kept",
    "parts_written",
    "pieces",
    "plan_text",
    "schema_kept",
]

_known: weakref.WeakKeyDictionary[Store, set[str]] = weakref.WeakKeyDictionary()
"""The keys of the parts that this process has committed to a store, so that the next start skips them."""

Parts = tuple[tuple[str, str, str, str], ...]
"""``(kind, name, digest, text)`` of each part of a fingerprint."""


def keep_parts(plan: Plan, store: Store, redactor: Redactor, blueprint: Value | None = None) -> tuple[Value, ...]:
    """Return the payloads of a plan that the log may not hold yet, for the next commit: code, blueprint."""
    known = _known.get(store, ())
    specs = (spec for name in plan.steps for spec in plan.parts(name)) if plan.each else plan.steps.values()
    codes = {spec.code: spec for spec in specs}  # many steps may share one
    new = {code: spec for code, spec in codes.items() if code is not None and _key(code) not in known}
    parts = tuple(as_payload(code, pieces(parts_of(spec.fn), redactor)) for code, spec in new.items())
    return parts if blueprint is None or blueprint.digest in known else (*parts, blueprint)


def blueprint_of(plan: Plan, redactor: Redactor) -> Value:
    """Return a plan as a payload, without its code and without secrets; events name it by its digest."""
    return at_once(laying_out(plan, redactor))


def laying_out(plan: Plan, redactor: Redactor) -> Portions[Value]:
    """Make the payload of a plan in portions; otherwise as :func:`blueprint_of`, which then finds it."""
    global _laid_out
    last, kept = _laid_out
    if last is plan and not redactor:
        return kept
    dumped = yield from dumping(plan, _schema(plan, redactor))
    text = redactor.mask(dumped).encode()
    data = zlib.compress(text, 1) if _FEW_BYTES < len(text) <= MOST_CODE_BYTES else text
    made = Value("plan", digest=f"plan:{sha256(text).hexdigest()}", size=len(data), payload=data)
    if not redactor:
        _laid_out = plan, made
    return made


_FEW_BYTES = 1 << 10
"""A plan of fewer bytes is not compressed: that would take 50 us and save no page of the log. Of 1,000 steps, 68 kB
become 5 in 80 us."""

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


def plan_text(payload: bytes) -> bytes:
    """Return the JSON text of a plan's payload, which may be compressed.

    Raises:
        ValueError: the bytes are damaged.
    """
    return payload if payload.startswith(b"{") else inflate(payload)


def schema_kept(store: Store, plan: str) -> dict[str, Any] | None:
    """Read the JSON Schema of the inputs of a plan, by the plan's digest; None if the log has none."""
    try:
        return schema_in(plan_text(store.payload(plan))) if plan else None
    except (StoreError, ValueError):
        return None


def blueprint_kept(store: Store, state: State) -> Plan | None:
    """Read the plan that an execution last used; None if the log does not hold it."""
    try:
        return load(plan_text(store.payload(state.plan))) if state.plan else None
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


def _key(code: str) -> str:
    return f"code:{code}"
