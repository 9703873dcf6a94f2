"""A plan without its code as JSON text, and back: everything that drawing and deciding need, and nothing that runs.

The log keeps each once, so that a process without the workflow's code can draw all of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

from .._text.json_text import parse
from .graph import PLAIN, Action, ActionKind, Branch, Diverge, Each, Path, Plan, Policy, StepSpec, Target

__all__ = ["dump", "load", "schema_in"]

_FLAGS = ("is_async", "takes_rest", "takes_context", "takes_inputs", "takes_error")
_POLICY = ("retries", "retry_delay", "backoff", "timeout", "keep", "effect")
_PLAIN = tuple((name, getattr(PLAIN, name)) for name in _POLICY)

_dumps = json.JSONEncoder(separators=(",", ":")).encode


def dump(plan: Plan, schema: Mapping[str, Any] | None = None) -> str:
    """Write a plan as JSON text, the same for the same plan.

    Args:
        plan: the plan.
        schema: the JSON Schema of its inputs, if the workflow says what they are.

    Example:
        >>> dump(Plan(workflow="w", timeline=(("a",),), steps={}))
        '{"workflow":"w","timeline":[["a"]],"max_jumps":1000,"steps":{},"branches":{},"diverges":{}}'
    """
    rest: dict[str, Any] = {
        "branches": {name: [_target(b.when_true), _target(b.when_false)] for name, b in plan.branches.items()},
        "diverges": {
            name: {label: _target(to) for label, (_, to) in d.choices.items()} for name, d in plan.diverges.items()
        },
    }
    if plan.each:
        rest["each"] = {name: _each(each) for name, each in plan.each.items()}
    if plan.undo:
        rest["undo"] = {name: {"name": spec.name, **_step(spec)} for name, spec in plan.undo.items()}
    if plan.rolls_back:
        rest["rolls_back"] = True
    if plan.timeout is not None:
        rest["timeout"] = plan.timeout
    if schema is not None:
        rest["inputs"] = schema
    # The timeline and the steps are nearly all of it; `json` would take four times as long for them.
    timeline = ",".join(map(_names_text, plan.timeline))
    steps = ",".join([f"{_quoted(name)}:{_step_text(spec)}" for name, spec in plan.steps.items()])
    head = f'"workflow":{_quoted(plan.workflow)},"timeline":[{timeline}],"max_jumps":{plan.max_jumps}'
    return f'{{{head},"steps":{{{steps}}},{_dumps(rest)[1:]}'


def load(text: str | bytes) -> Plan:
    """Read a plan that :func:`dump` wrote. Its steps have no code: calling one or testing a pattern is an error.

    Raises:
        ValueError: it is not such text.

    Example:
        >>> load(dump(Plan(workflow="w", timeline=(("a",),), steps={}))).timeline
        (('a',),)
    """
    try:
        told = parse(text)
        timeline = _path(told["timeline"])
        return Plan(
            workflow=str(told["workflow"]),
            timeline=timeline,
            max_jumps=int(told["max_jumps"]),
            steps={str(name): _spec(name, step) for name, step in told["steps"].items()},
            branches={
                name: Branch(name, _no_code, _aim(when_true), _aim(when_false))
                for name, (when_true, when_false) in told["branches"].items()
            },
            diverges={
                name: Diverge(name, {label: (label, _aim(to)) for label, to in choices.items()})
                for name, choices in told["diverges"].items()
            },
            each={str(name): _loop(each) for name, each in told.get("each", {}).items()},
            undo={str(name): _spec(step["name"], step) for name, step in told.get("undo", {}).items()},
            rolls_back=bool(told.get("rolls_back")),
            timeout=None if told.get("timeout") is None else float(told["timeout"]),
            stage_of={name: number for number, stage in enumerate(timeline) for name in stage},
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ValueError(f"this is not a plan: {type(exc).__name__}: {exc}") from exc


def schema_in(text: str | bytes) -> dict[str, Any] | None:
    """Read the JSON Schema of the inputs from the text of :func:`dump`; None if there is none.

    Raises:
        ValueError: it is not JSON.

    Example:
        >>> schema_in(dump(Plan(workflow="w", timeline=(("a",),), steps={}), {"type": "object"}))
        {'type': 'object'}
    """
    told = parse(text)
    schema = told.get("inputs") if isinstance(told, dict) else None
    return schema if isinstance(schema, dict) else None


def _no_code(*_: Any, **__: Any) -> Any:
    raise RuntimeError("this plan was read from a log: it has no code")


def _each(each: Each) -> dict[str, Any]:
    return {
        "source": each.source,
        "parameter": each.parameter,
        "body": {name: _step(spec) for name, spec in each.body.items()},
        "at_once": each.at_once,
        "collect": each.collect,
    }


def _loop(told: dict[str, Any]) -> Each:
    return Each(
        source=str(told["source"]),
        parameter=str(told["parameter"]),
        body={str(name): _spec(name, step) for name, step in told["body"].items()},
        at_once=int(told["at_once"]),
        collect=bool(told["collect"]),
    )


def _step_text(spec: StepSpec) -> str:
    """Write what :func:`_step` returns as JSON text."""
    if spec.policy is not PLAIN or spec.workflow:
        return _dumps(_step(spec))
    told = [f'"code":{_quoted(spec.code)}'] if spec.code else []
    if spec.requires:
        told.append(f'"requires":{_names_text(spec.requires)}')
    if spec.optional:
        told.append(f'"optional":{_names_text(spec.optional)}')
    if spec.is_async or spec.takes_anything:
        told += [f'"{name}":true' for name in _FLAGS if getattr(spec, name)]
    return f"{{{','.join(told)}}}"


def _names_text(names: tuple[str, ...]) -> str:
    return f"[{','.join(map(_quoted, names))}]"


def _step(spec: StepSpec) -> dict[str, Any]:
    """Write a step without the fields that have their default."""
    names = {"code": spec.code, "requires": spec.requires, "optional": spec.optional}
    told: dict[str, Any] = {name: value for name, value in names.items() if value}
    told |= {name: True for name in _FLAGS if getattr(spec, name)}
    if spec.policy is not PLAIN:
        told |= {name: value for name, plain in _PLAIN if (value := getattr(spec.policy, name)) != plain}
    if spec.workflow:
        told["workflow"] = spec.workflow
    return told


def _spec(name: str, told: dict[str, Any]) -> StepSpec:
    return StepSpec(
        name=str(name),
        fn=_no_code,
        requires=tuple(map(str, told.get("requires", ()))),
        optional=tuple(map(str, told.get("optional", ()))),
        policy=Policy(**{key: told[key] for key in _POLICY if key in told}),
        code=told.get("code"),
        workflow=str(told.get("workflow", "")),
        **{flag: bool(told.get(flag)) for flag in _FLAGS},
    )


def _target(target: Target) -> Any:
    if not isinstance(target, Action):
        return target
    return {"kind": target.kind, "step": target.step, "max_attempts": target.max_attempts, "reason": target.reason}


def _aim(told: Any) -> Target:
    if isinstance(told, dict):
        return Action(ActionKind(told["kind"]), told["step"], told["max_attempts"], told["reason"])
    return _path(told)


def _path(told: Any) -> Path:
    return tuple(tuple(map(str, stage)) for stage in told)
