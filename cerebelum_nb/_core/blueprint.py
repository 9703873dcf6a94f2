"""A plan without its code as JSON text, and back: everything that drawing and deciding need, and nothing that runs.

The log stores each plan once, so that a process without the workflow's code can draw the workflow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .._text.json_text import parse
from .graph import PLAIN, Action, ActionKind, Branch, Diverge, Each, Path, Plan, Policy, StepSpec, Target
from .portions import Portions, at_once, portions_of

__all__ = ["dump", "dumping", "load", "schema_in"]

_FLAGS = ("is_async", "takes_rest", "takes_context", "takes_inputs", "takes_error")
_POLICY = ("retries", "retry_delay", "backoff", "timeout", "keep", "effect")
_DEFAULTS = tuple((name, getattr(PLAIN, name)) for name in _POLICY)

_dumps = json.JSONEncoder(separators=(",", ":")).encode


def dump(plan: Plan, schema: Mapping[str, Any] | None = None) -> str:
    """Write a plan as JSON text, the same for the same plan.

    Args:
        plan: the plan.
        schema: the JSON Schema of its inputs, if the workflow declares them.

    Example:
        >>> dump(Plan(workflow="w", timeline=(("a",),), steps={}))
        '{"workflow":"w","timeline":[["a"]],"max_jumps":1000,"steps":{},"branches":{},"diverges":{}}'
    """
    return at_once(dumping(plan, schema))


def dumping(plan: Plan, schema: Mapping[str, Any] | None = None) -> Portions[str]:
    """Write a plan as JSON text, in portions; otherwise as :func:`dump`."""
    steps = []
    for portion, more in portions_of(plan.steps.items()):
        steps.append(_dumps({name: _step_data(spec) for name, spec in portion})[1:-1])
        if more:
            yield
    if len(steps) > 1:
        yield
    data: dict[str, Any] = {
        "workflow": plan.workflow,
        "timeline": plan.timeline,
        "max_jumps": plan.max_jumps,
    }
    rest: dict[str, Any] = {
        "branches": {
            name: [_target_data(b.when_true), _target_data(b.when_false)] for name, b in plan.branches.items()
        },
        "diverges": {
            name: {label: _target_data(to) for label, (_, to) in d.choices.items()} for name, d in plan.diverges.items()
        },
    }
    if plan.each:
        rest["each"] = {name: _each_data(each) for name, each in plan.each.items()}
    if plan.undo:
        rest["undo"] = {name: {"name": spec.name, **_step_data(spec)} for name, spec in plan.undo.items()}
    if plan.rolls_back:
        rest["rolls_back"] = True
    if plan.timeout is not None:
        rest["timeout"] = plan.timeout
    if schema is not None:
        rest["inputs"] = schema
    return f'{_dumps(data)[:-1]},"steps":{{{",".join(steps)}}},{_dumps(rest)[1:]}'


def load(text: str | bytes) -> Plan:
    """Read a plan that :func:`dump` wrote. Its steps have no code: calling a step or testing a pattern is an error.

    Raises:
        ValueError: the text is not a plan.

    Example:
        >>> load(dump(Plan(workflow="w", timeline=(("a",),), steps={}))).timeline
        (('a',),)
    """
    try:
        data = parse(text)
        timeline = _read_path(data["timeline"])
        return Plan(
            workflow=str(data["workflow"]),
            timeline=timeline,
            max_jumps=int(data["max_jumps"]),
            steps={str(name): _read_step(name, step) for name, step in data["steps"].items()},
            branches={
                name: Branch(name, _no_code, _read_target(when_true), _read_target(when_false))
                for name, (when_true, when_false) in data["branches"].items()
            },
            diverges={
                name: Diverge(name, {label: (label, _read_target(to)) for label, to in choices.items()})
                for name, choices in data["diverges"].items()
            },
            each={str(name): _read_each(each) for name, each in data.get("each", {}).items()},
            undo={str(name): _read_step(step["name"], step) for name, step in data.get("undo", {}).items()},
            rolls_back=bool(data.get("rolls_back")),
            timeout=None if data.get("timeout") is None else float(data["timeout"]),
            stage_of={name: number for number, stage in enumerate(timeline) for name in stage},
        )
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        raise ValueError(f"this is not a plan: {type(exc).__name__}: {exc}") from exc


def schema_in(text: str | bytes) -> dict[str, Any] | None:
    """Read the JSON Schema of the inputs from the text of :func:`dump`; None if there is none.

    Raises:
        ValueError: it is not JSON.

    Example:
        >>> schema_in(dump(Plan(workflow="w", timeline=(("a",),), steps={}), {"type": "object"}))
        {'type': 'object'}
    """
    data = parse(text)
    schema = data.get("inputs") if isinstance(data, dict) else None
    return schema if isinstance(schema, dict) else None


def _no_code(*_: Any, **__: Any) -> Any:
    raise RuntimeError("this plan was read from a log: it has no code")


def _each_data(each: Each) -> dict[str, Any]:
    return {
        "source": each.source,
        "parameter": each.parameter,
        "body": {name: _step_data(spec) for name, spec in each.body.items()},
        "at_once": each.at_once,
        "collect": each.collect,
    }


def _read_each(data: dict[str, Any]) -> Each:
    return Each(
        source=str(data["source"]),
        parameter=str(data["parameter"]),
        body={str(name): _read_step(name, step) for name, step in data["body"].items()},
        at_once=int(data["at_once"]),
        collect=bool(data["collect"]),
    )


def _step_data(spec: StepSpec) -> dict[str, Any]:
    """Return the fields of a step that do not have their default."""
    names = {"code": spec.code, "requires": spec.requires, "optional": spec.optional}
    data: dict[str, Any] = {name: value for name, value in names.items() if value}
    data |= {name: True for name in _FLAGS if getattr(spec, name)}
    if spec.policy is not PLAIN:
        data |= {name: value for name, default in _DEFAULTS if (value := getattr(spec.policy, name)) != default}
    if spec.workflow:
        data["workflow"] = spec.workflow
    return data


def _read_step(name: str, data: dict[str, Any]) -> StepSpec:
    return StepSpec(
        name=str(name),
        fn=_no_code,
        requires=tuple(map(str, data.get("requires", ()))),
        optional=tuple(map(str, data.get("optional", ()))),
        policy=Policy(**{key: data[key] for key in _POLICY if key in data}),
        code=data.get("code"),
        workflow=str(data.get("workflow", "")),
        **{flag: bool(data.get(flag)) for flag in _FLAGS},
    )


def _target_data(target: Target) -> Any:
    if not isinstance(target, Action):
        return target
    return {"kind": target.kind, "step": target.step, "max_attempts": target.max_attempts, "reason": target.reason}


def _read_target(data: Any) -> Target:
    if isinstance(data, dict):
        return Action(ActionKind(data["kind"]), data["step"], data["max_attempts"], data["reason"])
    return _read_path(data)


def _read_path(data: Any) -> Path:
    return tuple(tuple(map(str, stage)) for stage in data)
