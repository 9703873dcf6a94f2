"""The items of a foreach: their names, and the outcome of the whole once all have ended. Pure."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from .events import StepCompleted, StepFailed
from .graph import Plan, key_of, of_item
from .state import State
from .step_state import StepState
from .value import ErrorInfo, Value

__all__ = ["closed", "digests_of", "failures", "joined", "keys_of"]

_LONGEST = 60
"""The most characters of a text that is the key of its item."""

_NAMED = 5
"""How many failed items the error of a foreach names."""


def keys_of(items: Sequence[Any], key: Callable[[Any], object] | None = None) -> tuple[str, ...]:
    """Name items: by ``key``, else short texts and numbers that occur once name themselves, all others are named by
    index.

    Raises:
        ValueError: ``key`` gives two items the same name.

    Example:
        >>> keys_of(["ams3", "nyc1", "nyc1", {"size": 2}, 7])
        ('ams3', '#1', '#2', '#3', '7')
    """
    if key is not None:
        keys = tuple(str(key(item)).replace("]", ")") for item in items)
        if len(set(keys)) < len(keys):
            ((twice, _),) = Counter(keys).most_common(1)
            first, second, *_ = (index for index, found in enumerate(keys) if found == twice)
            raise ValueError(f"key= returns {twice!r} for items {first} and {second}: each item needs its own key")
        return keys
    texts = [_text(item) for item in items]
    times = Counter(texts)
    return tuple(text if text and times[text] == 1 else f"#{index}" for index, text in enumerate(texts))


def digests_of(items: Sequence[Any], keys: Sequence[str]) -> tuple[str, ...]:
    """Fingerprint items, to tell whether two with one key are the same; none if every item is its own key.

    Example:
        >>> digests_of(["ams3", "nyc1"], ("ams3", "nyc1"))
        ()
    """
    digests = tuple("" if item == key else _digest(item) for item, key in zip(items, keys, strict=True))
    return digests if any(digests) else ()


def closed(plan: Plan, state: State, name: str, at: int) -> StepCompleted | StepFailed:
    """Make the outcome of a foreach: the results of its items in their order, or how many of them failed."""
    step = state.steps[name]
    assert step.items is not None
    attempt, failed = max(1, step.attempt), failures(step)
    if failed and not plan.each[name].collect:
        error = _failure(name, len(step.items.keys), failed)
        return StepFailed(at=at, step=name, visit=step.visit, attempt=attempt, error=error)
    values = []
    for key in step.items.keys:
        if key in failed:
            values.append(_item_error(key, *failed[key]))
        else:
            output = step.items.steps[of_item(name, key)].output
            assert output is not None, f"item {key} has its outcome"
            values.append(output)
    return StepCompleted(at=at, step=name, visit=step.visit, attempt=attempt, output=joined(values))


def failures(step: StepState) -> dict[str, tuple[str, ErrorInfo]]:
    """Return for each failed item of a foreach, by key and in the items' order, which step failed and how."""
    if step.items is None or not step.items.failed:
        return {}
    steps, places = step.items.steps, step.items.keys
    found = sorted(step.items.failed, key=lambda name: places[key_of(name)])
    return {key_of(name): (name, error) for name in found if (error := steps[name].error) is not None}


def joined(values: Sequence[Value]) -> Value:
    """Make the value of a list of values, without decoding any of them.

    Example:
        >>> joined([Value("json", "1"), Value("json", '{"a":"***"}', masked=("a",))])
        Value(codec='json', json='[1,{"a":"***"}]', type='', preview='', digest='', size=0, masked=('[1].a',))
    """
    shown = f"{len(values)} results"
    if any(value.codec == "none" for value in values):
        return Value("none", type="builtins.list", preview=shown)
    masked = tuple(_inside(index, path) for index, value in enumerate(values) for path in value.masked)
    codecs = {value.codec for value in values}
    if codecs <= {"json"} or (codecs <= {"json", "tagged"} and not any(map(_looks_tagged, values))):
        codec = "tagged" if "tagged" in codecs else "json"
        return Value(codec, f"[{','.join(value.json for value in values)}]", masked=masked)
    members = [[v.codec, json.loads(v.json)] if v.json else [v.codec, v.digest, v.type, v.preview] for v in values]
    text = json.dumps(members, ensure_ascii=False, separators=(",", ":"))
    return Value("list", text, type="builtins.list", preview=shown, masked=masked)


def _looks_tagged(value: Value) -> bool:
    """Whether plain JSON contains something that tagged JSON would read as a tag."""
    return value.codec == "json" and '"$' in value.json


def _inside(index: int, path: str) -> str:
    return f"[{index}]{'.' if path and path[0] != '[' else ''}{path}"


def _item_error(key: str, step: str, error: ErrorInfo) -> Value:
    told = {"item": key, "step": step, "type": error.type, "message": error.message}
    return Value("tagged", json.dumps({"$item_error": told}, ensure_ascii=True, separators=(",", ":")))


def _failure(name: str, count: int, failed: dict[str, tuple[str, ErrorInfo]]) -> ErrorInfo:
    shown = "; ".join(f"{which}: {error}" for which, error in list(failed.values())[:_NAMED])
    more = f"; and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    (_, first), *_ = failed.values()
    return ErrorInfo(
        type="ItemError",
        message=f"{len(failed)} of {count} items of '{name}' failed: {shown}{more}",
        traceback=first.traceback,
        mro=("cerebelum_nb.errors.ItemError", "cerebelum_nb.errors.CerebelumError", "builtins.Exception"),
    )


def _digest(item: Any) -> str:
    return hashlib.blake2b(repr(item).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def _text(item: Any) -> str:
    if type(item) is str:
        usable = item.isprintable() and len(item) <= _LONGEST and item[:1] != "#" and "]" not in item
        return item if usable else ""
    return str(item) if type(item) in (int, float) else ""
