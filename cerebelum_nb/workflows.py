"""``@workflow`` and the ways to run one: ``execute``, ``run``, ``start``, ``resume``, ``cancel``.

A workflow's function is evaluated anew at every start and every resume, in its own module: a step whose cell was
edited and run again is the one that runs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import inspect
import os
import threading
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .core.events import Event, StepCompleted, WorkflowAwakened, WorkflowResumed, WorkflowStarted
from .core.model import ExecutionState, Plan
from .core.resume import plan_resume
from .core.state import StepState
from .core.stepping import NoStage
from .core.validate import Report
from .dsl.builder import WorkflowBuilder, build
from .engine import views
from .engine.cancel import cancel_execution
from .engine.code import keep_parts, why_stale
from .engine.engine import engine_of
from .engine.execution import Execution
from .engine.lease import keeper_of
from .engine.scope import current_scope
from .errors import CerebelumError, ExecutionStoppedError, ResumeError, WorkflowDefinitionError
from .result import Result
from .run import Run
from .stepper import Stepper
from .store.base import Store
from .store.default import resolve_store
from .values import Secret, Vault, encode

if TYPE_CHECKING:
    from .outlook import Outlook

__all__ = ["Workflow", "new_id", "registered", "run_sync", "workflow"]

T = TypeVar("T")
Inputs = Mapping[str, Any]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RESUMABLE = (
    ExecutionState.FAILED,
    ExecutionState.PAUSED,
    ExecutionState.RUNNING,
    ExecutionState.SLEEPING,
    ExecutionState.WAITING_FOR_APPROVAL,
)
_registry: dict[tuple[str, str], Workflow] = {}


def registered() -> dict[tuple[str, str], Workflow]:
    """Return the workflows defined in this process by module and name, for tools that take one up by name."""
    return dict(_registry)


@overload
def workflow(fn: Callable[[WorkflowBuilder], object], /) -> Workflow: ...
@overload
def workflow(
    *, name: str | None = None, max_jumps: int = 1000
) -> Callable[[Callable[[WorkflowBuilder], object]], Workflow]: ...
def workflow(
    fn: Callable[[WorkflowBuilder], object] | None = None,
    /,
    *,
    name: str | None = None,
    max_jumps: int = 1000,
) -> Workflow | Callable[[Callable[[WorkflowBuilder], object]], Workflow]:
    """Make a function that describes a timeline a workflow.

    Args:
        fn: takes one argument, on which it calls ``timeline``, ``branch`` and ``diverge``.
        name: the workflow's name in the log; by default the function's.
        max_jumps: how many jumps back one execution may make before it fails, so that no loop runs for ever.

    Raises:
        WorkflowDefinitionError: it is no such function. What is wrong with the timeline is told when it is run.

    Example:
        >>> from cerebelum_nb import step
        >>> @step
        ... def build():
        ...     return "image"
        >>> @workflow
        ... def release(wf):
        ...     wf.timeline(build)
        >>> release
        <workflow release: build>
    """

    def make(function: Callable[[WorkflowBuilder], object]) -> Workflow:
        _check(function)
        if isinstance(max_jumps, bool) or not isinstance(max_jumps, int) or max_jumps < 1:
            raise WorkflowDefinitionError(f"@workflow: max_jumps is a whole number from 1, not {max_jumps!r}")
        chosen = function.__name__ if name is None else name
        if not isinstance(chosen, str) or not chosen.strip():
            raise WorkflowDefinitionError(f"@workflow: the name is text, not {name!r}")
        made = Workflow(function, chosen, max_jumps)
        _registry[function.__module__, chosen] = made
        return made

    return make if fn is None else make(fn)


class Workflow:
    """A workflow, made by ``@workflow``."""

    def __init__(self, fn: Callable[[WorkflowBuilder], object], name: str, max_jumps: int) -> None:
        self.__doc__, self.__module__, self.__name__ = fn.__doc__, fn.__module__, fn.__name__
        self.fn, self.name, self.max_jumps = fn, name, max_jumps

    def validate(self) -> Report:
        """Evaluate the timeline as it is now and report what is wrong with it, all at once."""
        return build(self.fn, self.name, self.max_jumps)[1]

    def plan(self) -> Plan:
        """Evaluate the timeline as it is now.

        Raises:
            WorkflowDefinitionError: it cannot run; ``.errors`` names every problem.
        """
        plan, report = build(self.fn, self.name, self.max_jumps)
        if not report.ok:
            count = len(report.errors)
            raise WorkflowDefinitionError(
                f"workflow '{self.name}' cannot run, {count} problem{'s' if count > 1 else ''}:\n{report}",
                errors=report.errors,
                warnings=report.warnings,
            )
        return plan

    async def execute(
        self,
        inputs: Inputs | None = None,
        *,
        store: Store | None = None,
        execution_id: str | None = None,
        wait: bool = False,
        distributed: bool = False,
    ) -> Result:
        """Run it here and wait until it is done.

        Args:
            inputs: what steps receive as ``inputs``; names to values.
            store: the log to write; by default the session's.
            execution_id: an id of your own; by default a new short one.
            wait: True waits here to the end, however long; by default a wait longer than the log's
                ``hibernate_after`` (an hour) ends the run in this process, and the result says when it wakes.
            distributed: True runs it on the distributed engine.

        Returns:
            The outcome of the completed execution; or, SLEEPING or WAITING_FOR_APPROVAL, how far it is and what is
            next.

        Raises:
            WorkflowDefinitionError: the timeline cannot run; nothing has run.
            WorkflowError: a step failed; the message ends with the call that goes on from there.
            ExecutionStoppedError: it was stopped; it can be resumed.
            ExecutionCancelledError: somebody cancelled it.
            StoreError: the log cannot be written.
        """
        __tracebackhide__ = True
        if distributed:
            result: Result = await _distributed_engine().execute(self, inputs, execution_id=execution_id)
            return result
        return await self._launch(inputs, store, execution_id, wait=wait).foreground()

    def run(
        self,
        inputs: Inputs | None = None,
        *,
        store: Store | None = None,
        execution_id: str | None = None,
        wait: bool = False,
    ) -> Result:
        """Run it and wait, from sync code: a script, or a cell.

        In a cell it runs on a loop of its own in a thread, so that nothing needs patching.

        Raises:
            CerebelumError: it is called inside a step.
            KeyboardInterrupt: it was stopped with Ctrl-C in a script; the execution is paused and can be resumed.
            Otherwise as :meth:`execute`.
        """
        __tracebackhide__ = True
        _refuse_in_step(self.variable)
        return run_sync(lambda: self.execute(inputs, store=store, execution_id=execution_id, wait=wait))

    def start(
        self, inputs: Inputs | None = None, *, store: Store | None = None, execution_id: str | None = None
    ) -> Run:
        """Run it in the background: return at once, with a handle that can be awaited, watched, stopped and cancelled.

        Raises:
            CerebelumError: no event loop is running here (use :meth:`run` in a script).
            Otherwise as :meth:`execute`, as far as it can be told before it runs.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise CerebelumError(
                f"no event loop is running here, so nothing can run in the background: use {self.variable}.run(...) "
                f"in a script, or call start from a cell or from async code"
            ) from None
        return self._launch(inputs, store, execution_id).background()

    async def resume(
        self,
        execution_id: str | None = None,
        skip_completed_steps: bool = True,
        inputs: Inputs | None = None,
        *,
        rerun: str | Collection[str] = (),
        repeat: Collection[str] = (),
        mark_done: Mapping[str, Any] | None = None,
        wait: bool = False,
        store: Store | None = None,
    ) -> Result:
        """Go on with an execution that failed, was stopped, or whose process died; finished steps are not run again.

        Args:
            execution_id: its id or an unambiguous beginning; None takes the newest that can be resumed.
            skip_completed_steps: False runs everything again under the same id.
            inputs: replace the recorded inputs of these names, or supply secrets again.
            rerun: names of completed steps to run again with what depends on them; ``"stale"`` means those whose
                code changed.
            repeat: steps with ``effect="external"`` that may run again although their outcome is unknown.
            mark_done: steps that need not run (any more), with the results they are to have: ``{"charge": receipt}``.
            wait: as in :meth:`execute`.
            store: the log; by default the session's.

        Returns:
            As :meth:`execute`.

        Raises:
            OutcomeUnknownError: it would repeat an external effect that may have happened: say ``repeat`` or
                ``mark_done``.
            ResumeError: it cannot be resumed: it is completed, or the timeline lost a step it has completed.
            ExecutionBusyError: it is running, here or elsewhere.
            ExecutionNotFoundError: there is no such execution.
            Otherwise as :meth:`execute`.
        """
        __tracebackhide__ = True
        run = self._take_up(execution_id, skip_completed_steps, inputs, rerun, store, repeat, mark_done, wait)
        return await run.foreground()

    def wake(self, execution_id: str, *, store: Store, reason: str, died: bool) -> Run | None:
        """Go on with an execution that is due, or that a dead process left; for schedulers.

        Unlike :meth:`resume` it makes no decision of a person's: a step that failed stays failed.

        Args:
            execution_id: its id.
            store: its log.
            reason: why, for the log.
            died: whether the process that ran it has died.

        Returns:
            The run, not yet started; None when there is nothing to do any more.

        Raises:
            OutcomeUnknownError: it would repeat an external effect that may have happened.
            Otherwise as :meth:`resume`.
        """
        plan = self.plan()
        engine = engine_of(store)
        execution = engine.claim(execution_id, plan, Vault(store.redact))
        state = execution.state
        try:
            due = state.hibernated and state.wake_at is not None and state.wake_at <= execution.clock.now()
            if state.lifecycle is not ExecutionState.RUNNING or (state.hibernated and not due):
                engine.give_back(execution)
                return None
            chosen = plan_resume(plan, state, execution_id)
            self._resume_inputs(execution, None)
        except BaseException:
            engine.give_back(execution)
            raise
        events: list[Event] = [WorkflowAwakened(at=execution.now(), reason=reason, died=died)]
        if chosen.restored:
            events.append(WorkflowResumed(at=execution.now(), restored=chosen.restored))
        return Run(execution, self.variable, *events)

    def begin(
        self, inputs: Inputs | None = None, *, store: Store | None = None, execution_id: str | None = None
    ) -> Stepper:
        """Record a start and run nothing: the handle then runs it cell by cell.

        Args:
            inputs: what steps receive as ``inputs``; names to values.
            store: the log to write; by default the session's.
            execution_id: an id of your own; by default a new short one.

        Returns:
            A handle with ``next``, ``run_to``, ``finish``, ``rerun``, ``back_to``, ``mark_done`` and ``plan``.

        Raises:
            As :meth:`start`.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise CerebelumError(
                f"no event loop is running here, so nothing can run cell by cell: use {self.variable}.run(...) in a "
                f"script, or call begin from a cell or from async code"
            ) from None
        log = resolve_store(store)
        run = self._launch(inputs, log, execution_id)
        run.execution.limit = NoStage()
        run.background()
        error = run.execution.done.exception() if run.execution.done.done() else None
        if error is not None:
            raise error
        return self._stepper(run.execution_id, log)

    def attach(self, execution_id: str | None = None, *, store: Store | None = None) -> Stepper:
        """Take up an execution cell by cell: after a kernel restart, or one that stopped or failed.

        Args:
            execution_id: its id or an unambiguous beginning; None takes the newest that can be resumed.
            store: the log; by default the session's.

        Returns:
            The handle that :meth:`begin` gave.

        Raises:
            ResumeError: it belongs to another workflow, or there is nothing to resume.
            ExecutionNotFoundError: there is no such execution.
        """
        log = resolve_store(store)
        found = self._newest(log) if execution_id is None else log.execution(_check_id(execution_id)).execution_id
        self._refuse_other(found, log.execution(found).summary.workflow)
        return self._stepper(found, log)

    def plan_resume(
        self,
        execution_id: str | None = None,
        *,
        inputs: Inputs | None = None,
        rerun: str | Collection[str] = (),
        store: Store | None = None,
    ) -> Outlook:
        """Say what a resume would do with each step, and why; runs nothing.

        Args:
            execution_id: its id or an unambiguous beginning; None takes the newest that can be resumed.
            inputs: the inputs the resume would replace.
            rerun: what the resume would be given as ``rerun``.
            store: the log; by default the session's.

        Returns:
            A table: run, keep, stale or skip for each step, with the reasons.

        Raises:
            As :meth:`resume`, for what keeps it from being resumed.
        """
        from .outlook import look_ahead

        plan, log = self.plan(), resolve_store(store)
        found = self._newest(log) if execution_id is None else log.execution(_check_id(execution_id)).execution_id
        self._refuse_other(found, log.execution(found).summary.workflow)
        given = None if inputs is None else _check_inputs(inputs)
        return look_ahead(plan, log, found, inputs=given, rerun=rerun)

    async def cancel(self, execution_id: str, reason: str | None = None, *, store: Store | None = None) -> None:
        """End an execution for good, wherever it runs; see :func:`cerebelum_nb.engine.cancel.cancel_execution`."""
        await cancel_execution(resolve_store(store), execution_id, reason=reason, by=None)

    def __repr__(self) -> str:
        try:
            return f"<workflow {self.name}: {describe_path(self.plan())}>"
        except WorkflowDefinitionError as error:
            return f"<workflow {self.name}: {len(error.errors)} problems, see {self.__name__}.validate()>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        plan, report = build(self.fn, self.name, self.max_jumps)
        return views.drawers[0](plan).bundle() if report.ok and views.drawers else {"text/plain": repr(self)}

    def to_mermaid(self) -> str:
        """Write its graph as a Mermaid flowchart, for pages that render one."""
        return views.drawers[0](self.plan()).to_mermaid()

    @property
    def variable(self) -> str:
        """How the user calls it, for messages that say what to type."""
        return str(self.fn.__name__)

    def _launch(
        self, inputs: Inputs | None, store: Store | None, execution_id: str | None, *, wait: bool = False
    ) -> Run:
        _refuse_in_step(self.variable)
        plan = self.plan()
        log = resolve_store(store)
        vault = Vault(log.redact)
        given = _check_inputs(inputs)
        value = encode(given, vault=vault, path="inputs")
        engine = engine_of(log)
        execution = engine.create(new_id() if execution_id is None else _check_id(execution_id), plan, vault)
        execution.stays = wait
        self._keep_inputs(execution, given, value.codec != "json" or bool(value.masked))
        event = WorkflowStarted(
            at=execution.clock.now(),
            workflow=self.name,
            inputs=value,
            total_steps=sum(map(len, plan.timeline)),
            module=self.fn.__module__,
            qualname=self.fn.__qualname__,
            source=inspect.unwrap(self.fn).__code__.co_filename,
        )
        execution.payloads = keep_parts(plan, log, vault)
        return Run(execution, self.variable, event)

    def _take_up(
        self,
        execution_id: str | None,
        skip_completed_steps: bool,
        inputs: Inputs | None,
        rerun: str | Collection[str],
        store: Store | None,
        repeat: Collection[str] = (),
        mark_done: Mapping[str, Any] | None = None,
        wait: bool = False,
        live: Collection[str] = (),
    ) -> Run:
        _refuse_in_step(self.variable)
        marks = mark_done or {}
        plan = self.plan()
        log = resolve_store(store)
        found = self._newest(log) if execution_id is None else log.execution(_check_id(execution_id)).execution_id
        engine = engine_of(log)
        execution = engine.claim(found, plan, Vault(log.redact))
        try:
            state = execution.state
            self._refuse_other(found, state.workflow)
            value = self._resume_inputs(execution, inputs)
            chosen = plan_resume(
                plan,
                state,
                found,
                skip_completed_steps=skip_completed_steps,
                rerun=rerun,
                live={*execution.live, *live},
                outdated=why_stale(plan, state, log, execution.vault, value),
                repeat=repeat,
                mark_done=tuple(marks),
            )
            given = {name: execution.encode(result, path=f"mark_done[{name!r}]") for name, result in marks.items()}
        except BaseException:
            engine.give_back(execution)
            raise
        execution.stays = wait
        events: list[Event] = []
        if state.hibernated:
            events.append(WorkflowAwakened(at=execution.now(), reason="resumed by hand"))
        resumed = WorkflowResumed(
            at=execution.now(),
            retried=chosen.retried,
            revisited=chosen.revisited,
            rerouted=chosen.rerouted,
            restored=chosen.restored,
            inputs=value,
            total_steps=sum(map(len, plan.timeline)),
        )
        if not state.hibernated or not chosen.is_nothing or value is not None:
            events.append(resumed)
        for name, result in given.items():
            step = state.steps.get(name) or StepState()
            header: dict[str, Any] = {
                "at": execution.now(),
                "step": name,
                "visit": step.visit,
                "attempt": max(1, step.attempt),
            }
            events.append(StepCompleted(**header, output=result, by_hand=True))
        execution.payloads = keep_parts(plan, log, execution.vault)
        return Run(execution, self.variable, *events, stale=chosen.stale)

    def _stepper(self, execution_id: str, log: Store) -> Stepper:
        def take_up(found: str, rerun: Collection[str], live: Collection[str]) -> Run:
            return self._take_up(found, True, None, rerun, log, live=live)

        return Stepper(self, log, execution_id, take_up)

    def _refuse_other(self, execution_id: str, workflow: str) -> None:
        if workflow != self.name:
            raise ResumeError(
                f"execution {execution_id} belongs to workflow '{workflow}', not to '{self.name}': resume it there"
            )

    def _resume_inputs(self, execution: Execution, inputs: Inputs | None) -> Any:
        remembered = keeper_of(execution.engine.store).remembered_inputs(execution.id)
        recorded = execution.decode(execution.state.inputs, "the inputs") if execution.state.inputs else {}
        given = _check_inputs(inputs)
        masked = execution.state.inputs.masked if execution.state.inputs else ()
        given |= {n: Secret(v) for n, v in given.items() if n in masked and not isinstance(v, Secret)}  # stays secret
        merged = {**recorded, **(remembered or {}), **given}
        value = encode(merged, vault=execution.vault, path="inputs")
        self._keep_inputs(execution, merged, value.codec != "json" or bool(value.masked))
        return value if inputs is not None and value != execution.state.inputs else None

    def _keep_inputs(self, execution: Execution, inputs: dict[str, Any], needed: bool) -> None:
        if needed:
            execution.live_inputs = inputs
            keeper_of(execution.engine.store).remember_inputs(execution.id, inputs)

    def _newest(self, log: Store) -> str:
        rows, _ = log.executions(workflow=self.name, states=_RESUMABLE, limit=20)
        keeper = keeper_of(log)
        for row in rows:
            if keeper.running(row.execution_id) is None:
                return row.execution_id
        done, total = log.executions(workflow=self.name, limit=1)
        last = f"the last of its {total} executions, {done[0].execution_id}, is {done[0].summary.state}" if done else ""
        raise ResumeError(
            f"workflow '{self.name}' has nothing to resume{': ' + last if last else ''}. "
            f"Start a new one with await {self.variable}.execute()"
        )


def describe_path(plan: Plan) -> str:
    """Write a plan's timeline as it was written.

    Example:
        >>> describe_path(Plan(workflow="w", timeline=(("a",), ("b", "c")), steps={}))
        'a >> [b, c]'
    """
    shown = [stage[0] if len(stage) == 1 else f"[{', '.join(stage)}]" for stage in plan.timeline]
    if len(shown) > 12:
        shown = [*shown[:6], f"... {len(shown) - 9} more ...", *shown[-3:]]
    return " >> ".join(shown)


def _check(function: Any) -> None:
    if isinstance(function, Workflow):
        raise WorkflowDefinitionError(f"{function.name!r} is a workflow already: write @workflow once")
    if not inspect.isfunction(function):
        raise WorkflowDefinitionError(
            f"@workflow takes a function that describes the timeline, def deploy(wf): ..., not {function!r}"
        )
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise WorkflowDefinitionError(
            f"workflow '{function.__name__}' only describes the timeline and runs nothing: make it a plain def"
        )
    required = [
        p
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(required) != 1:
        raise WorkflowDefinitionError(
            f"workflow '{function.__name__}' takes one argument, on which it calls timeline: "
            f"def {function.__name__}(wf)"
        )


def _check_inputs(inputs: Any) -> dict[str, Any]:
    if inputs is None:
        return {}
    if isinstance(inputs, Secret) or not isinstance(inputs, Mapping):
        raise TypeError(
            f"inputs are names with values, such as {{'size': 'small'}}, not {type(inputs).__name__} {inputs!r}"
        )
    for name in inputs:
        if not isinstance(name, str):
            raise TypeError(f"the names of inputs are text, not {name!r}")
    return dict(inputs)


def _check_id(execution_id: Any) -> str:
    if not isinstance(execution_id, str) or not execution_id.strip():
        raise TypeError(f"an execution id is text, such as 'k3v9x2ma4t', not {execution_id!r}")
    return execution_id


def new_id() -> str:
    """Make an id that is short, easy to read aloud, and starts with a letter."""
    first, *rest = os.urandom(10)
    letters = _ALPHABET[10:]
    return letters[first % len(letters)] + "".join(_ALPHABET[byte % 32] for byte in rest)


def _refuse_in_step(variable: str) -> None:
    scope = current_scope.get()
    if scope is not None:
        raise CerebelumError(
            f"step '{scope.step}' starts workflow '{variable}' inside a step: a step would wait for a run that its own "
            f"run must wait for. Put the steps on one timeline, or start the second workflow after the first"
        )


def run_sync(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine from sync code: with ``asyncio.run``, or in a thread when a loop runs here."""
    __tracebackhide__ = True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run_in_script(make)
    return _run_in_thread(make)


def _run_in_script(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    __tracebackhide__ = True
    try:
        return asyncio.run(make())
    except ExecutionStoppedError as error:
        raise KeyboardInterrupt(str(error)) from error


def _run_in_thread(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    __tracebackhide__ = True
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
    loops: concurrent.futures.Future[asyncio.AbstractEventLoop] = concurrent.futures.Future()

    async def main() -> T:
        loops.set_result(asyncio.get_running_loop())
        return await make()

    def target() -> None:
        try:
            outcome.set_result(asyncio.run(main()))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            outcome.set_exception(error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(target,), name="cerebelum-run", daemon=True).start()
    try:
        return outcome.result()
    except KeyboardInterrupt:
        loop = loops.result()
        if not outcome.done():
            loop.call_soon_threadsafe(Run.stop_all_on, loop)
        return outcome.result()


def _distributed_engine() -> Any:
    from importlib.metadata import entry_points

    for entry in entry_points(group="cerebelum_nb.engines"):
        return entry.load()()
    raise CerebelumError(
        "distributed=True needs a distributed engine, and none is installed: this version runs workflows in the "
        "kernel. Leave distributed out to run it here; the workflow itself need not change"
    )
