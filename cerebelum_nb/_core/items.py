"""The items of a foreach: their keys, and the outcome of the foreach once all of them have ended. Pure."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from .events import StepCompleted, StepFailed
from .graph import Plan, key_of, of_item
from .portions import Portions, portions_of
from .state import State
from .step_state import StepState
from .value import ErrorInfo, Value

__all__ = ["digests_of", "failures", "join_values", "keys_of", "outcome_of_items"]

_LONGEST = 60
"""The longest text, in characters, that can be the key of its own item."""

_MOST_SHOWN = 5
"""How many failed items the error of a foreach shows."""


def keys_of(items: Sequence[Any], key: Callable[[Any], object] | None = None) -> Portions[tuple[str, ...]]:
    """Return the keys of items, in portions.

    Without ``key``, short texts and numbers that occur once are their own keys; that of any other item is its index.

    Raises:
        ValueError: ``key`` returns the same key for two items.

    Example:
        >>> from cerebelum_nb._core.portions import at_once
        >>> at_once(keys_of(["ams3", "nyc1", "nyc1", {"size": 2}, 7]))
        ('ams3', '#1', '#2', '#3', '7')
    """
    texts: list[str] = []
    for portion, more in portions_of(items):
        texts += map(_own_key, portion) if key is None else [str(key(item)).replace("]", ")") for item in portion]
        if more:
            yield
    times = Counter(texts)
    if key is not None and len(times) < len(texts):
        ((twice, _),) = times.most_common(1)
        first, second, *_ = (index for index, found in enumerate(texts) if found == twice)
        raise ValueError(f"key= returns {twice!r} for items {first} and {second}: each item needs its own key")
    if key is not None or (len(times) == len(texts) and "" not in times):
        return tuple(texts)
    return tuple(text if text and times[text] == 1 else f"#{index}" for index, text in enumerate(texts))


def digests_of(items: Sequence[Any], keys: Sequence[str]) -> Portions[tuple[str, ...]]:
    """Digest items, in portions, to compare those with the same key; empty if every item is its own key.

    Example:
        >>> from cerebelum_nb._core.portions import at_once
        >>> at_once(digests_of(["ams3", "nyc1"], ("ams3", "nyc1")))
        ()
    """
    digests: list[str] = []
    for portion, more in portions_of(list(zip(items, keys, strict=True))):
        digests += ["" if item == key else _digest_of(item) for item, key in portion]
        if more:
            yield
    return tuple(digests) if any(digests) else ()


def outcome_of_items(plan: Plan, state: State, name: str, at: int) -> Portions[StepCompleted | StepFailed]:
    """Make the outcome of a foreach, in portions: the results in order, or an error that says which items failed."""
    step = state.steps[name]
    assert step.items is not None
    attempt, failed = max(1, step.attempt), failures(step)
    if failed and not plan.each[name].collect:
        error = _failure(name, len(step.items.keys), failed)
        return StepFailed(at=at, step=name, visit=step.visit, attempt=attempt, error=error)
    values = []
    for portion, more in portions_of(step.items.keys):
        for key in portion:
            if key in failed:
                values.append(_item_error(key, *failed[key]))
            else:
                output = step.items.steps[of_item(name, key)].output
                assert output is not None, f"item {key} has no outcome"
                values.append(output)
        if more:
            yield
    return StepCompleted(at=at, step=name, visit=step.visit, attempt=attempt, output=join_values(values))


def failures(step: StepState) -> dict[str, tuple[str, ErrorInfo]]:
    """Return the failed items of a foreach by key, in order: each with the step that failed and its error."""
    if step.items is None or not step.items.failed:
        return {}
    steps, places = step.items.steps, step.items.keys
    found = sorted(step.items.failed, key=lambda name: places[key_of(name)])
    return {key_of(name): (name, error) for name in found if (error := steps[name].error) is not None}


def join_values(values: Sequence[Value]) -> Value:
    """Make one value, a list, of several, without decoding any of them.

    Example:
        >>> join_values([Value("json", "1"), Value("json", '{"a":"***"}', masked=("a",))])
        Value(codec='json', json='[1,{"a":"***"}]', type='', preview='', digest='', size=0, masked=('[1].a',))
    """
    shown = f"{len(values)} results"
    if any(value.codec == "none" for value in values):
        return Value("none", type="builtins.list", preview=shown)
    masked = tuple(_item_path(index, path) for index, value in enumerate(values) for path in value.masked)
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


def _item_path(index: int, path: str) -> str:
    return f"[{index}]{'.' if path and path[0] != '[' else ''}{path}"


def _item_error(key: str, step: str, error: ErrorInfo) -> Value:
    data = {"item": key, "step": step, "type": error.type, "message": error.message}
    return Value("tagged", json.dumps({"$item_error": data}, ensure_ascii=True, separators=(",", ":")))


def _failure(name: str, count: int, failed: dict[str, tuple[str, ErrorInfo]]) -> ErrorInfo:
    shown = "; ".join(f"{which}: {error}" for which, error in list(failed.values())[:_MOST_SHOWN])
    more = f"; and {len(failed) - _MOST_SHOWN} more" if len(failed) > _MOST_SHOWN else ""
    (_, first), *_ = failed.values()
    return ErrorInfo(
        type="ItemError",
        message=f"{len(failed)} of {count} items of '{name}' failed: {shown}{more}",
        traceback=first.traceback,
        mro=("cerebelum_nb.errors.ItemError", "cerebelum_nb.errors.CerebelumError", "builtins.Exception"),
    )


def _digest_of(item: Any) -> str:
    return hashlib.blake2b(repr(item).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def _own_key(item: Any) -> str:
    """Return an item as a key; empty if it cannot be one."""
    if type(item) is str:
        usable = item.isprintable() and len(item) <= _LONGEST and item[:1] != "#" and "]" not in item
        return item if usable else ""
    return str(item) if type(item) in (int, float) else ""
