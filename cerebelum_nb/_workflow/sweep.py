"""``sweep``: run variants that share a prefix side by side, and compare them in a table.

The prefix is an execution that is paused before the step where the variants diverge. Each variant is a fork of it, with
an id derived from the prefix and the variant. So a repeated sweep over the same prefix finds the finished variants and
resumes the others.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from .._core.arguments import ExecutionLike
from .._core.events import StepEvent
from .._core.fold import fold
from .._core.limits import Before, frontier
from .._core.resume import step_named
from .._core.state import State
from .._core.state_name import ExecutionState
from .._engine.hints import sweep_call
from .._engine.inputs import Inputs, check_inputs
from .._engine.interrupt import on_sigint
from .._engine.patience import patiently
from .._history.frames import answer
from .._host.caller import in_cells
from .._store.base import Store
from .._store.connect import resolve_store
from .._values import decode, fingerprint_args
from ..errors import CerebelumError, ExecutionStoppedError, ResumeError, SerializationError, StoreError
from .definition import Definition
from .execution_id import id_in_workflow, new_id
from .fork import fork
from .run import Run
from .start import launch, prepare_resume

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["sweep"]


_COLUMNS = ("execution_id", "state", "duration", "output", "error")


class ClusterRunner(Protocol):
    """Runs executions on a cluster, and copies their history into a log."""

    async def run_before(
        self, workflow: Definition, step: str, inputs: Inputs | None, execution_id: str, *, again: bool, store: Store
    ) -> None:
        """Run an execution, or resume it, up to a step; it ends paused."""
        ...

    async def fork(
        self,
        workflow: Definition,
        execution_id: ExecutionLike,
        from_step: object = None,
        inputs: Inputs | None = None,
        overrides: Mapping[Any, Any] | None = None,
        *,
        fork_id: str | None = None,
        store: Store | None = None,
    ) -> Any:
        """Run a fork to its end."""
        ...

    async def resume(
        self,
        workflow: Definition,
        execution_id: ExecutionLike | None = None,
        *,
        rerun: str | Collection[str] = (),
        store: Store | None = None,
    ) -> Any:
        """Resume an execution, and wait until it is done."""
        ...

    async def stop(self, execution_id: ExecutionLike, reason: str = "stopped by hand") -> bool:
        """Pause an execution."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variant:
    """A variant: its overrides and inputs, all the inputs that it changes, and its id."""

    overrides: dict[str, Any]
    inputs: dict[str, Any]
    changed: dict[str, Any]
    execution_id: str = ""


async def sweep(
    workflow: Definition,
    at: object,
    overrides: Sequence[Mapping[Any, Any]] | None,
    inputs: Inputs | Sequence[Inputs] | None,
    *,
    execution_id: ExecutionLike | None,
    concurrency: int,
    rerun: str | Collection[str],
    store: Store | None,
    cluster: ClusterRunner | None = None,
) -> pd.DataFrame:
    """Run variants from a shared prefix; the arguments are those of :meth:`~cerebelum_nb.Workflow.sweep`."""
    log = resolve_store(store)
    step = step_named(workflow.plan(), at, "sweep")
    first, variants = _variants(workflow, overrides, inputs)
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise ValueError(
            f"concurrency (how many variants run at once) must be a whole number from 1, not {concurrency!r}"
        )
    prefix = await _prefix(workflow, step, first, execution_id, log, cluster)
    variants = _with_ids(log, prefix, step, variants)
    work = _Sweep(workflow, step, prefix, log, concurrency, rerun, cluster)
    await work.run(variants)
    return _table(log, variants, work.refused)


def _variants(workflow: Definition, overrides: Any, inputs: Any) -> tuple[dict[str, Any], list[_Variant]]:
    """Read the arguments; return the inputs of the prefix and the variants."""
    plan = workflow.plan()
    listed = not (inputs is None or isinstance(inputs, Mapping))
    for name, given in (("overrides", overrides), ("inputs", inputs if listed else None)):
        if given is not None and (isinstance(given, (str, Mapping)) or not isinstance(given, Collection)):
            raise TypeError(f"{name} must be a list with one entry per variant, not {given!r}")
    for entry in overrides or ():
        if not isinstance(entry, Mapping):
            raise TypeError(
                f"each entry of overrides must be a dict of steps to results, such as {{'build': 'image-7'}}, "
                f"not {entry!r}"
            )
    each = [check_inputs(entry) for entry in inputs] if listed else []
    given = [{step_named(plan, step, "sweep"): value for step, value in o.items()} for o in overrides or ()]
    if not given and not each:
        raise ValueError("a sweep needs variants: overrides=[{...}, ...], or inputs=[{...}, ...], with one entry each")
    if given and each and len(given) != len(each):
        raise ValueError(f"overrides has {len(given)} entries and inputs {len(each)}: each variant takes one of each")
    shared = {} if listed else check_inputs(inputs)
    each = each or [{} for _ in given]
    given = given or [{} for _ in each]
    made = [_Variant(overrides=o, inputs=i, changed={**shared, **i}) for o, i in zip(given, each, strict=True)]
    return made[0].changed, made


def _with_ids(log: Store, prefix: str, step: str, variants: Sequence[_Variant]) -> list[_Variant]:
    """Give each variant an id derived from the prefix and its differences; equal variants are numbered."""
    recorded = fold(log.events(prefix)).inputs
    known = {} if recorded is None else decode(recorded, log.payload, trusted=log.trusted, where="the inputs")
    met: Counter[str] = Counter()
    named = []
    for variant in variants:
        given = variant.changed
        changed = {n: v for n, v in given.items() if n not in known or _digest(v) != _digest(known[n])}
        what = _digest(step, variant.overrides, changed)
        named.append(replace(variant, changed=changed, execution_id=new_id(f"{prefix}:{what}:{met[what]}")))
        met[what] += 1
    return named


def _digest(*values: Any) -> str:
    return fingerprint_args(values, {})


async def _prefix(
    workflow: Definition,
    step: str,
    inputs: Inputs,
    execution_id: ExecutionLike | None,
    log: Store,
    cluster: ClusterRunner | None,
) -> str:
    """Run the prefix up to the step, unless it has been run, and return its id."""
    __tracebackhide__ = True
    if cluster is not None:
        return await _prefix_on_cluster(workflow, step, inputs, execution_id, log, cluster)
    if execution_id is None:
        run = launch(workflow, inputs, log, None)
    else:
        found = id_in_workflow(workflow, execution_id, log, "sweep over")
        history = log.events(found)
        if _is_before(workflow, step, fold(history)) or _has_run(step, history):
            return found
        run = await patiently(lambda: prepare_resume(workflow, found, store=log))
    call = sweep_call(workflow.variable, step, run.execution_id)
    run.execution.handle = lambda _: call
    await run.go_as_far_as(Before(step))
    if not run.execution.driver.limited:
        raise _missed_step(run.execution_id, run.status, step, run.results)
    return run.execution_id


async def _prefix_on_cluster(
    workflow: Definition,
    step: str,
    inputs: Inputs,
    execution_id: ExecutionLike | None,
    log: Store,
    cluster: ClusterRunner,
) -> str:
    """Do the same as `_prefix` on a cluster."""
    __tracebackhide__ = True
    if execution_id is None:
        found = new_id()
        await cluster.run_before(workflow, step, inputs, found, again=False, store=log)
    else:
        found = id_in_workflow(workflow, execution_id, log, "sweep over")
        history = log.events(found)
        if _is_before(workflow, step, fold(history)) or _has_run(step, history):
            return found
        await cluster.run_before(workflow, step, None, found, again=True, store=log)
    state = fold(log.events(found))
    if not _is_before(workflow, step, state):
        raise _missed_step(found, state.status, step, state.finished)
    return found


def _missed_step(prefix: str, status: ExecutionState, step: str, ways: Iterable[str]) -> ResumeError:
    return ResumeError(
        f"execution {prefix}, the shared prefix of this sweep, is {status} and did not reach step "
        f"'{step}': it took another route. Sweep at a step that it runs: {', '.join(ways) or 'there is none'}"
    )


def _is_before(workflow: Definition, step: str, state: State) -> bool:
    return state.lifecycle is ExecutionState.PAUSED and step in frontier(workflow.plan(), state)


def _has_run(step: str, history: Sequence[object]) -> bool:
    return any(isinstance(event, StepEvent) and event.step == step for event in history)


class _Sweep:
    """The running variants."""

    def __init__(
        self,
        workflow: Definition,
        step: str,
        prefix: str,
        log: Store,
        concurrency: int,
        rerun: str | Collection[str],
        cluster: ClusterRunner | None,
    ) -> None:
        self.workflow, self.step, self.prefix, self.log, self.rerun = workflow, step, prefix, log, rerun
        self.cluster, self.loop = cluster, asyncio.get_running_loop()
        self.at_work: dict[str, asyncio.Future[bool] | None] = {}  # variants on a cluster, and the calls that stop them
        self.free = asyncio.Semaphore(concurrency)
        self.running: set[Run] = set()
        self.refused: dict[str, str] = {}
        self.stopped = False
        self.ended: Callable[[ExecutionState], None]

    async def run(self, variants: Sequence[_Variant]) -> None:
        """Run the unfinished variants.

        Raises:
            ExecutionStoppedError: it was stopped; everything can be resumed.
        """
        __tracebackhide__ = True
        with on_sigint(self.stop), _progress(f"{self.workflow.name} at {self.step}", len(variants)) as self.ended:
            tasks = [asyncio.ensure_future(self._run_variant(variant)) for variant in variants]
            try:
                await asyncio.gather(*tasks)
            except BaseException:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                raise
        if self.stopped:
            call = sweep_call(self.workflow.variable, self.step, self.prefix)
            raise ExecutionStoppedError(
                f"the sweep over execution {self.prefix} of workflow '{self.workflow.name}' is paused. What is "
                f"finished is kept; to resume, give the same variants again with the prefix they share:\n\n    {call}",
                execution_id=self.prefix,
                resume_hint=call,
            )

    def stop(self) -> None:
        """Pause the running variants, and start no others."""
        self.stopped = True
        for run in list(self.running):
            run.stop()
        self.loop.call_soon_threadsafe(self._stop_on_cluster)

    def _stop_on_cluster(self) -> None:
        if self.cluster is not None:
            for execution_id in self.at_work:
                self.at_work[execution_id] = asyncio.ensure_future(self.cluster.stop(execution_id))

    async def _run_variant(self, variant: _Variant) -> None:
        async with self.free:
            if self.stopped:
                return
            if self.cluster is not None:
                await self._run_on_cluster(variant, self.cluster)
                return
            try:
                run = await patiently(lambda: self._make(variant))
            except StoreError:
                raise
            except CerebelumError as error:
                self.refused[variant.execution_id] = f"{type(error).__name__}: {error}"
                self.ended(ExecutionState.FAILED)
                return
            if run is None:
                self.ended(ExecutionState.COMPLETED)
                return
            self.running.add(run)
            try:
                await run.unseen()
            except StoreError:
                raise
            except CerebelumError:
                pass  # the log has its end, and the table shows it
            finally:
                self.running.discard(run)
                self.ended(run.status)

    async def _run_on_cluster(self, variant: _Variant, cluster: ClusterRunner) -> None:
        name, known = variant.execution_id, self.log.events(variant.execution_id, upto=1)
        self.at_work[name] = None
        try:
            if not known:
                await cluster.fork(
                    self.workflow,
                    self.prefix,
                    self.step,
                    variant.changed or None,
                    variant.overrides,
                    fork_id=name,
                    store=self.log,
                )
            elif not self._is_done(name):
                await cluster.resume(self.workflow, name, rerun=self.rerun, store=self.log)
        except StoreError:
            raise
        except CerebelumError as error:
            if not self.log.events(name, upto=1):
                self.refused[name] = f"{type(error).__name__}: {error}"  # otherwise the log has its end
        finally:
            del self.at_work[name]
            self.ended(self.log.execution(name).summary.state if name not in self.refused else ExecutionState.FAILED)

    def _is_done(self, execution_id: str) -> bool:
        state = self.log.execution(execution_id).summary.state
        return state is ExecutionState.CANCELLED or (state is ExecutionState.COMPLETED and not self.rerun)

    def _make(self, variant: _Variant) -> Run | None:
        """Prepare a variant; None if there is nothing to do."""
        if not self.log.events(variant.execution_id, upto=1):
            return fork(
                self.workflow,
                self.prefix,
                self.step,
                variant.changed or None,
                variant.overrides,
                fork_id=variant.execution_id,
                store=self.log,
            )
        if self._is_done(variant.execution_id):
            return None
        state = self.log.execution(variant.execution_id).summary.state
        try:
            return prepare_resume(self.workflow, variant.execution_id, rerun=self.rerun, store=self.log)
        except ResumeError:
            if state is ExecutionState.COMPLETED:  # nothing in it must run again
                return None
            raise


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[ExecutionState], None]]:
    """Show progress in one line on stderr, if a person reads it; yield the function to call when a variant ends."""
    ends: Counter[ExecutionState] = Counter()
    stream = sys.stderr if in_cells() or (sys.stderr is not None and sys.stderr.isatty()) else None

    def show() -> None:
        states = ", ".join(f"{count} {state.lower().replace('_', ' ')}" for state, count in ends.items())
        if stream is not None:
            stream.write(f"\r{what}: {ends.total()} of {total} variants{f' ({states})' if states else ''}")
            stream.flush()

    def ended(state: ExecutionState) -> None:
        ends[state] += 1
        show()

    show()
    try:
        yield ended
    finally:
        if stream is not None:
            stream.write("\n")


def _table(log: Store, variants: Sequence[_Variant], refused: Mapping[str, str]) -> pd.DataFrame:
    """Return the variants as a table, one row each."""
    import pandas as pd

    states = [fold(log.events(variant.execution_id)) for variant in variants]
    table: dict[str, list[Any]] = {}
    for prefix, given in (("", [v.overrides for v in variants]), ("inputs.", [v.inputs for v in variants])):
        for name in dict.fromkeys(name for entry in given for name in entry):
            table[f"{prefix or 'overrides.' * (name in _COLUMNS)}{name}"] = [entry.get(name) for entry in given]
    table["execution_id"] = [variant.execution_id for variant in variants]
    table["state"] = [state.status.value if state.version else None for state in states]
    table["duration"] = [None if s.completed_at is None else s.completed_at - s.started_at for s in states]
    table |= _columns([_output(log, v.execution_id, s) for v, s in zip(variants, states, strict=True)])
    table["error"] = [
        refused.get(v.execution_id) or (None if s.error is None else f"{s.error.type}: {s.error.message}")
        for v, s in zip(variants, states, strict=True)
    ]
    made = answer(list(zip(*table.values(), strict=True)), list(table))
    made["duration"] = pd.to_timedelta(made["duration"].astype("Int64"), unit="us").astype("timedelta64[us]")
    return made


def _output(log: Store, execution_id: str, state: State) -> Any:
    value = state.output if state.lifecycle is ExecutionState.COMPLETED else None
    if value is None:
        return None
    try:
        return decode(value, log.payload, trusted=log.trusted, where=f"the output of execution {execution_id}")
    except SerializationError:
        return value.preview


def _columns(outputs: Sequence[Any]) -> dict[str, list[Any]]:
    """Return outputs as columns: one per member if all outputs are objects."""
    found = [output for output in outputs if output is not None]
    if not found or not all(isinstance(output, dict) for output in found):
        return {"output": list(outputs)}
    members = dict.fromkeys(name for output in found for name in output)
    return {f"output.{name}": [None if o is None else o.get(name) for o in outputs] for name in members}
