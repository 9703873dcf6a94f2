"""``replay``: recorded histories against the current code.

The code is not executed again event by event; this library never does that. For each history it checks whether the
workflow still accepts it, so that it could be resumed; which results are stale, and why; and whether pure steps still
return the same results.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from .._archive.for_tests import History, read_history
from .._core.events import WorkflowCompleted
from .._core.fold import fold
from .._core.graph import Plan, StepSpec, key_of, owner_of, step_of
from .._core.resume_plan import StepAction
from .._core.state import State
from .._core.state_name import ExecutionState
from .._core.summary import summarise
from .._engine.run_sync import run_sync
from .._history.try_step import try_spec
from .._store.base import Commit, Store
from .._store.memory import MemoryStore
from .._text.text import did_you_mean
from .._values import decode
from .._workflow.resume_plan import look_ahead
from .._workflow.workflow import Workflow
from ..errors import OutcomeUnknownError, ResumeError
from .doubles import PerItem

__all__ = ["On", "Recorded", "Replay", "Replayed", "check_history", "recorded", "replay"]

On = Literal["refused", "changed", "stale", "never"]
_ON: tuple[On, ...] = ("never", "refused", "changed", "stale")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """The result of comparing one recorded history with the current code.

    Attributes:
        execution_id: the execution.
        refused: why it could not be resumed; "" if it could.
        stale: why results are stale, by step.
        changed: how the results of pure steps differ from the recorded ones, by step.
        same: the pure steps that returned the same result.
        path: the file.

    Example:
        >>> print(Replayed(execution_id="kept-1", same=["build"], path="kept-1.jsonl"))
        kept-1 (kept-1.jsonl):
          as recorded: build
    """

    execution_id: str
    refused: str = ""
    stale: Mapping[str, Sequence[str]] = field(default_factory=dict)
    changed: Mapping[str, str] = field(default_factory=dict)
    same: Sequence[str] = ()
    path: str = ""

    def fails(self, on: On) -> bool:
        """Whether this is a failure, according to ``on``."""
        level = _ON.index(on)
        return (
            (level >= 1 and bool(self.refused))
            or (level >= 2 and bool(self.changed))
            or (level >= 3 and bool(self.stale))
        )

    def __str__(self) -> str:
        lines = [f"refused: {self.refused}"] if self.refused else []
        lines += [f"'{step}' changed: {how}" for step, how in self.changed.items()]
        lines += [f"'{step}' is stale: {'; '.join(reasons)}" for step, reasons in self.stale.items()]
        if self.same:
            lines.append(f"as recorded: {', '.join(self.same)}")
        head = f"{self.execution_id} ({self.path})" if self.path else self.execution_id
        return "\n  ".join([f"{head}:", *lines]) if lines else f"{head}: accepted, nothing is stale"


class Replay(tuple[Replayed, ...]):
    """The results of some histories: a tuple of :class:`Replayed`.

    Example:
        >>> Replay([Replayed(execution_id="kept-1", same=["build"], path="kept-1.jsonl")])
        kept-1 (kept-1.jsonl):
          as recorded: build
    """

    def __repr__(self) -> str:
        return "\n".join(map(str, self))


def replay(
    histories: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    flow: Workflow,
    *,
    pure: Collection[Any] = (),
    on: On = "changed",
) -> Replay:
    """Compare recorded histories with a workflow as it is now; nothing is recorded.

    Make a history with ``cerebelum pack --for-tests ID -o tests/histories/ID.jsonl``. It may hold pickled values, which
    are restored: review it like code.

    Args:
        histories: files, or a pattern such as ``"tests/histories/*.jsonl"``; those of other workflows are left out.
        flow: the workflow.
        pure: steps, or their names, that only compute: they are called with their recorded arguments, and must return
            the recorded results. No other step is called.
        on: what fails: ``"refused"``, a history that could not be resumed; ``"changed"``, that or a different result of
            a pure step; ``"stale"``, those or a stale result; ``"never"``.

    Returns:
        A :class:`Replayed` for each history.

    Raises:
        AssertionError: a history fails according to ``on``.
        ValueError: there is no history of this workflow, a file is not a history, or there is no such step.

    Example:
        >>> run = release.run(execution_id="kept-1")
        >>> path = archive.pack("kept-1", "kept-1.jsonl", for_tests=True).path
        >>> replay(path, release, pure=["build"])
        kept-1 (kept-1.jsonl):
          as recorded: build
    """
    __tracebackhide__ = True
    if not isinstance(flow, Workflow):
        raise TypeError(f"replay takes a workflow made with @workflow, not {flow!r}")
    if on not in _ON:
        raise ValueError(f"on must be one of {', '.join(map(repr, _ON))}, not {on!r}")
    plan = flow.plan()
    named = _names_of(pure, plan)
    paths = _paths(histories)
    found = [read_history(path) for path in paths]
    own = [history for history in found if history.state.workflow == flow.name]
    if not own:
        others = sorted({history.state.workflow for history in found})
        reason = f"they are of {', '.join(map(repr, others))}" if others else "there is no such file"
        raise ValueError(f"no history of workflow '{flow.name}' in {histories!r}: {reason}")
    made = Replay(_check(history, plan, named) for history in own)
    failed = [one for one in made if one.fails(on)]
    if failed:
        shown = "\n".join(map(str, failed))
        raise AssertionError(f"{len(failed)} of {len(made)} recorded histories do not fit today's code:\n{shown}")
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The inputs and results of a recorded run: ``inputs``, ``results`` by step, ``output``.

    Example:
        >>> Recorded(inputs={}, results={"build": "image"}, output="image").results["build"]
        'image'
    """

    inputs: Mapping[str, Any]
    results: Mapping[str, Any]
    output: Any


def recorded(history: str | os.PathLike[str]) -> Recorded:
    """Read the inputs and results of a recorded run, for the doubles of a test.

    Args:
        history: a file that ``cerebelum pack --for-tests`` wrote. It may hold pickled values, which are restored.

    Returns:
        Its inputs, and the last result of each step; for a step of a foreach, a list of the results of its items.
        Results that were not kept are left out.

    Raises:
        ValueError: it is not such a file.

    Example:
        >>> run = release.run(execution_id="kept-2")
        >>> recorded(archive.pack("kept-2", "kept-2.jsonl", for_tests=True).path).results
        {'build': 'image'}
    """
    read = read_history(Path(history))
    store = MemoryStore()
    try:
        _fill(store, read.execution_id, read.events, read.payloads)
        loaded = {
            name: decode(step.output, store.payload, trusted=True, where=f"step '{name}'")
            for name, step in read.state.attempted()
            if step.output is not None and step.output.restorable
        }
        given = read.state.inputs
        inputs = decode(given, store.payload, trusted=True, where="inputs") if given is not None else {}
    finally:
        store.close()
    return Recorded(inputs=inputs, results=_by_step(read.state, loaded), output=loaded.get(read.state.last_step or ""))


def _by_step(state: State, loaded: Mapping[str, Any]) -> dict[str, Any]:
    """Group the results of a foreach's items by the names of its steps."""
    found = {name: result for name, result in loaded.items() if "[" not in name}
    for name, step in state.steps.items():
        if step.items is not None and name in found:
            found[name] = PerItem(dict(zip(step.items.keys, found[name], strict=False)))
            inner = [part for part in loaded if "[" in part and owner_of(part) == name and step_of(part) != name]
            for part in map(step_of, inner):
                found[part] = PerItem({key_of(one): loaded[one] for one in inner if step_of(one) == part})
    return found


def check_history(store: Store, execution_id: str, plan: Plan, pure: Collection[str]) -> Replayed:
    """Compare one execution of a log with a workflow as it is now.

    Args:
        store: the log, which is only read.
        execution_id: its full id.
        plan: the workflow.
        pure: the names of the steps that are called with their recorded arguments.
    """
    events = store.events(execution_id)
    reads = store
    if fold(events).lifecycle is ExecutionState.COMPLETED:  # without its end, because it must be possible to resume
        reads = _copy(store, execution_id, [event for event in events if not isinstance(event, WorkflowCompleted)])
    refused, stale = "", {}
    try:
        resume_plan = look_ahead(plan, reads, execution_id)
        stale = {planned.step: planned.reasons for planned in resume_plan if planned.action is StepAction.STALE}
    except OutcomeUnknownError:
        pass  # a person must decide about an outcome: that is not a fault of the code
    except ResumeError as error:
        if fold(events).lifecycle is not ExecutionState.CANCELLED:
            refused = str(error)
    changed, same = {}, []
    for name in pure:
        known = fold(events).step(name)
        if known is None or not known.settled or name in plan.each:
            continue
        difference = _difference(plan.steps[name], store, execution_id)
        if difference:
            changed[name] = difference
        else:
            same.append(name)
    return Replayed(execution_id=execution_id, refused=refused, stale=stale, changed=changed, same=same)


def _difference(spec: StepSpec, store: Store, execution_id: str) -> str:
    is_other, difference = run_sync(lambda: try_spec(spec, store, execution_id))
    return "" if is_other is False else difference or "it cannot be compared"


def _copy(store: Store, execution_id: str, events: Sequence[Any]) -> MemoryStore:
    copy = MemoryStore(trusted=store.trusted)
    copy.redact = store.redact
    copy.payload = store.payload  # type: ignore[method-assign]
    _fill(copy, execution_id, events)
    return copy


def _fill(store: MemoryStore, execution_id: str, events: Sequence[Any], payloads: Sequence[Any] = ()) -> None:
    holder = store.register(events[0].at, 1)
    commit = Commit(execution_id, 0, events, summarise(fold(events)), holder, release=True, payloads=payloads)
    store.commit([commit])


def _check(history: History, plan: Plan, pure: Collection[str]) -> Replayed:
    store = MemoryStore()
    try:
        _fill(store, history.execution_id, history.events, history.payloads)
        found = check_history(store, history.execution_id, plan, pure)
    finally:
        store.close()
    return replace(found, path=str(history.path))


def _paths(histories: Any) -> list[Path]:
    if isinstance(histories, (str, os.PathLike)):
        text = os.fspath(histories)
        found = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 - the pattern may be absolute
        return [Path(one) for one in found]
    return [Path(one) for one in histories]


def _names_of(pure: Any, plan: Plan) -> list[str]:
    if isinstance(pure, str) or not isinstance(pure, Iterable):
        raise TypeError(f"pure takes a list of steps or their names, not {pure!r}")
    names = [str(getattr(step, "name", step)) for step in pure]
    for name in names:
        if name not in plan.steps:
            hint = did_you_mean(name, plan.steps, f"It has: {', '.join(plan.steps)}.")
            raise ValueError(f"workflow '{plan.workflow}' has no step {name!r}. {hint}")
        if plan.steps[name].policy.effect == "external":
            raise ValueError(f"step '{name}' has an external effect, so it is not pure: leave it out of pure=[...]")
    return names
