"""Why a recorded result is stale: the code or the inputs of its step have changed since.

What is stale is decided by the digests in the events; this module explains it, with the code that the log keeps
(plan_payloads.py).
"""

from __future__ import annotations

from .._core.graph import Plan, StepSpec, step_of
from .._core.resume import code_changed
from .._core.resume_plan import changed_inputs
from .._core.state import State
from .._core.value import Value
from .._dsl.code import parts_of
from .._store.base import Store
from .._values import Redactor
from .plan_payloads import parts_kept, pieces

__all__ = ["doubts", "only_relists", "what_changed", "why_inputs_changed", "why_stale"]


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
