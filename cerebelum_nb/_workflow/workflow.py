"""``Workflow`` and its methods: signatures and documentation. Other modules do the work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from .._core.arguments import ExecutionLike
from .._core.labels import Labels
from .._core.limits import NoStage
from .._engine.cancel import cancel_execution
from .._engine.cluster_access import load_cluster_module
from .._engine.inputs import Inputs, check_inputs
from .._engine.patience import briefly, prepared
from .._engine.run_sync import run_sync
from .._engine.threads import is_loop_running
from .._store.base import Store
from .._store.connect import resolve_store
from .._text.duration import Duration
from ..errors import CerebelumError
from .child import offer_child, run_child, undo_children
from .definition import Definition
from .execution_id import find_execution
from .once import Resume, launch_once, watch_holder
from .result import Result
from .run import Run
from .start import calling_step, prepare_resume, reading, refuse_in_step, wait_until_seen, wake

if TYPE_CHECKING:
    import pandas as pd

    from .._text.duration import Duration
    from .resume_plan import ResumePlan
    from .schedule import Schedule
    from .stepper import Stepper

__all__ = ["Workflow"]

P = ParamSpec("P")
R = TypeVar("R")


def _make_sync(
    call: Callable[Concatenate[Workflow, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Workflow, P], R]:
    """Make the sync counterpart of an async method, with the same arguments."""

    @wraps(call)
    def twin(self: Workflow, /, *args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True
        refuse_in_step(self)
        return run_sync(lambda: call(self, *args, **kwargs))

    twin.__name__, twin.__qualname__ = f"{call.__name__}_sync", f"{call.__qualname__}_sync"
    twin.__doc__ = f"""Call :meth:`{call.__name__}` and wait, from sync code: a script, or a cell.

        The arguments, the result and the errors are those of :meth:`{call.__name__}`. In a cell it runs on a separate
        loop in a thread, so that nothing needs patching; inside a step it raises CerebelumError.
        """
    return twin


class Workflow(Definition):
    """A workflow, made by ``@workflow``.

    Example:
        >>> from cerebelum_nb import step
        >>> from cerebelum_nb.testing import MemoryStore
        >>> @step
        ... def greet(inputs):
        ...     return f"hello {inputs['name']}"
        >>> @workflow
        ... def hello(wf):
        ...     wf.timeline(greet)
        >>> hello.run({"name": "Ada"}, store=MemoryStore()).output
        'hello Ada'
    """

    def execute(
        self,
        inputs: Inputs | None = None,
        *,
        store: Store | None = None,
        execution_id: str | None = None,
        resume: Resume = False,
        wait: bool = False,
        name: str | None = None,
        tags: Collection[str] = (),
        refresh: Collection[str] = (),
        distributed: bool = False,
        core_url: str | None = None,
    ) -> Coroutine[Any, Any, Result]:
        """Run it here and wait until it is done.

        Inside a step it runs as a child of the step's execution, in the same log, under a derived id, so that a step
        that runs again finds it. It is resumed, stopped and cancelled with its caller, and takes only inputs.

        Args:
            inputs: what steps receive as ``inputs``: a dict of names to values.
            store: the log to write; by default the session's.
            execution_id: an id of your own; by default a new short one.
            resume: True makes the call repeatable, as in a notebook that is run from the top: it starts the execution
                of that id, resumes it if it is unfinished, or returns its recorded result without running anything.
                ``"replace_inputs"`` also accepts inputs that differ from the recorded ones.
            wait: True waits here until the end, however long; by default a wait longer than the log's
                ``hibernate_after`` (an hour) ends the run in this process, and the result says when it wakes.
            name: what people call this execution, ``"release 4.2"``: lists show it and find it. It need not be unique.
                Like ``tags``, it is set when the execution starts, not when it is resumed.
            tags: words to find it by, in addition to those of the workflow: ``["prod", "eu"]``.
            refresh: steps with ``cache=`` that run even if the log has a result for them.
            distributed: True runs it on a cluster of workers, and copies its history into this log.
            core_url: HOST:PORT of that cluster's Temporal server; by default ``$CEREBELUM_CORE_URL``, else
                ``localhost:7233``. Naming one implies ``distributed``.

        Returns:
            The outcome of the completed execution; if it is SLEEPING or WAITING_FOR_APPROVAL, how far it is and what is
            next.

        Raises:
            WorkflowDefinitionError: the timeline cannot run; nothing has run.
            WorkflowError: a step failed; the message ends with the call that resumes it.
            ExecutionStoppedError: it was stopped; it can be resumed.
            ExecutionCancelledError: it was cancelled.
            ResumeError: an execution of that id already exists; with ``resume``, it has other inputs.
            ExecutionBusyError: with ``resume``, it is running, here or elsewhere.
            StoreError: the log cannot be written.

        Example:
            >>> import asyncio
            >>> from cerebelum_nb import step
            >>> from cerebelum_nb.testing import MemoryStore
            >>> @step
            ... def greet(inputs):
            ...     print("greeting")
            ...     return f"hello {inputs['name']}"
            >>> @workflow
            ... def hello(wf):
            ...     wf.timeline(greet)
            >>> log = MemoryStore()
            >>> for _ in range(2):  # as a notebook does that is run from the top again
            ...     result = asyncio.run(hello.execute({"name": "Ada"}, store=log, execution_id="ada", resume=True))
            greeting
            >>> result.output
            'hello Ada'
        """
        scope = calling_step()
        if scope is None:
            return self._execute(inputs, store, execution_id, resume, wait, distributed, core_url, name, tags, refresh)
        options: dict[str, Any] = {"store": store, "execution_id": execution_id, "resume": resume, "wait": wait}
        options |= {"distributed": distributed, "core_url": core_url, "name": name, "tags": tags, "refresh": refresh}
        return offer_child(scope, self, "execute", inputs, options)

    async def _execute(
        self,
        inputs: Inputs | None,
        store: Store | None,
        execution_id: str | None,
        resume: Resume,
        wait: bool,
        distributed: bool,
        core_url: str | None,
        name: str | None,
        tags: Collection[str],
        refresh: Collection[str],
    ) -> Result:
        __tracebackhide__ = True
        if distributed or core_url is not None:
            executor = _executor(core_url)
            result: Result = await executor.execute(
                self, inputs, execution_id=execution_id, store=store, resume=resume, name=name, tags=tags
            )
            return result
        labels = Labels.of(name, tags)
        await watch_holder(execution_id, resume, store)
        make = partial(
            launch_once, self, inputs, store, execution_id, resume=resume, wait=wait, labels=labels, refresh=refresh
        )
        return await (await prepared(partial(reading, self, store), make)).foreground()

    async def output_of(self, inputs: Inputs) -> Any:
        """Run it as a child of the current step, and return its output."""
        scope = calling_step()
        assert scope is not None, "a workflow on a timeline is run by a step"
        return (await run_child(scope, self, inputs, keep=False)).output

    async def undo_children(self) -> None:
        """Roll back the children of the step that the current attempt undoes."""
        scope = calling_step()
        assert scope is not None, "children are undone by a step"
        await undo_children(scope, self)

    def run(
        self,
        inputs: Inputs | None = None,
        *,
        store: Store | None = None,
        execution_id: str | None = None,
        resume: Resume = False,
        wait: bool = False,
        name: str | None = None,
        tags: Collection[str] = (),
        refresh: Collection[str] = (),
        distributed: bool = False,
        core_url: str | None = None,
    ) -> Result:
        """Run it and wait, from sync code: a script, or a cell.

        In a cell it runs on a separate loop in a thread, so that nothing needs patching. Inside a plain step it runs as
        a child, as with :meth:`execute`.

        Raises:
            CerebelumError: it was called inside an async step, which it would block.
            KeyboardInterrupt: it was stopped with Ctrl-C in a script; the execution is paused and can be resumed. On a
                cluster it continues.
            Otherwise as :meth:`execute`.
        """
        __tracebackhide__ = True
        if (scope := calling_step()) is not None:
            if is_loop_running():
                refuse_in_step(self, "run")
            options: dict[str, Any] = {"store": store, "execution_id": execution_id, "resume": resume, "wait": wait}
            options |= {"name": name, "tags": tags, "refresh": refresh}
            options |= {"distributed": distributed, "core_url": core_url}
            child: Result = offer_child(scope, self, "run", inputs, options)
            return child
        run = partial(
            self.execute,
            store=store,
            execution_id=execution_id,
            resume=resume,
            wait=wait,
            name=name,
            tags=tags,
            refresh=refresh,
            distributed=distributed,
            core_url=core_url,
        )
        return run_sync(lambda: run(inputs))

    def start(
        self,
        inputs: Inputs | None = None,
        *,
        store: Store | None = None,
        execution_id: str | None = None,
        resume: Resume = False,
        wait: bool = False,
        name: str | None = None,
        tags: Collection[str] = (),
        refresh: Collection[str] = (),
    ) -> Run:
        """Run it in the background: return at once, with a handle that can be awaited, watched, stopped and cancelled.

        The arguments are those of :meth:`execute`; with ``wait`` it stays in this process through every wait.

        Raises:
            CerebelumError: no event loop is running here (use :meth:`run` in a script).
            Otherwise as :meth:`execute`, for what is known before it runs.
        """
        self._require_loop("in the background", "start")
        labels = Labels.of(name, tags)
        make = partial(
            launch_once, self, inputs, store, execution_id, resume=resume, wait=wait, labels=labels, refresh=refresh
        )
        return briefly(make).background()

    async def resume(
        self,
        execution_id: ExecutionLike | None = None,
        skip_completed_steps: bool = True,
        inputs: Inputs | None = None,
        *,
        rerun: str | Collection[str] = (),
        repeat: Collection[str] = (),
        mark_done: Mapping[str, Any] | None = None,
        wait: bool = False,
        store: Store | None = None,
        distributed: bool = False,
        core_url: str | None = None,
    ) -> Result:
        """Resume an execution that failed, was stopped, or whose process died; finished steps are not run again.

        Args:
            execution_id: its id or an unambiguous prefix; None takes the newest that can be resumed.
            skip_completed_steps: False runs everything again under the same id.
            inputs: replace the recorded inputs with these names, or supply secrets again.
            rerun: names of completed steps to run again with what depends on them; ``"stale"`` means those whose
                code changed.
            repeat: steps with ``effect="external"`` that may run again although their outcome is unknown.
            mark_done: steps that need not run (again), with their results: ``{"charge": receipt}``.
            wait: as in :meth:`execute`.
            store: the log; by default the session's.
            distributed: True resumes it on a cluster, wherever it ran before.
            core_url: as in :meth:`execute`.

        Returns:
            As :meth:`execute`.

        Raises:
            OutcomeUnknownError: it would repeat an external effect that may have happened: give ``repeat`` or
                ``mark_done``.
            ResumeError: it cannot be resumed: it is completed, or a completed step is no longer on the timeline.
            ExecutionBusyError: it is running, here or elsewhere. If this cannot be known at once (another machine or
                container), its heartbeat is watched first, for up to the 30 s of a lease.
            ExecutionNotFoundError: there is no such execution.
            Otherwise as :meth:`execute`.

        Example:
            >>> import asyncio
            >>> from cerebelum_nb import WorkflowError, step
            >>> from cerebelum_nb.testing import MemoryStore
            >>> room = []
            >>> @step
            ... def ship():
            ...     return room[0]
            >>> @workflow
            ... def release(wf):
            ...     wf.timeline(ship)
            >>> log = MemoryStore()
            >>> try:
            ...     release.run(store=log)
            ... except WorkflowError:
            ...     room.append("ams3")
            >>> asyncio.run(release.resume(store=log)).output  # release.resume_sync(store=log) in a script
            'ams3'
        """
        __tracebackhide__ = True
        if distributed or core_url is not None:
            result: Result = await _executor(core_url).resume(
                self,
                execution_id,
                skip_completed_steps,
                inputs,
                rerun=rerun,
                repeat=repeat,
                mark_done=mark_done,
                store=store,
            )
            return result
        make = partial(
            prepare_resume,
            self,
            await wait_until_seen(self, execution_id, store),
            skip_completed_steps=skip_completed_steps,
            inputs=inputs,
            rerun=rerun,
            repeat=repeat,
            mark_done=mark_done,
            wait=wait,
            store=store,
        )
        return await (await prepared(partial(reading, self, store), make)).foreground()

    resume_sync = _make_sync(resume)

    def wake(self, execution_id: str, *, store: Store, reason: str, died: bool) -> Run | None:
        """Resume an execution that is due, or that a dead process left; for schedulers.

        Unlike :meth:`resume`, it makes no decision for a person: a failed step stays failed.

        Args:
            execution_id: its id.
            store: its log.
            reason: why, for the log.
            died: whether the process that ran it has died.

        Returns:
            The run, not yet started; None when there is nothing left to do.

        Raises:
            OutcomeUnknownError: it would repeat an external effect that may have happened.
            Otherwise as :meth:`resume`.
        """
        return wake(self, execution_id, store, reason, died=died)

    def begin(
        self,
        inputs: Inputs | None = None,
        *,
        store: Store | None = None,
        execution_id: str | None = None,
        resume: Resume = False,
    ) -> Stepper:
        """Record a start and run nothing; run it cell by cell with the handle it returns.

        Args:
            inputs: what steps receive as ``inputs``: a dict of names to values.
            store: the log to write; by default the session's.
            execution_id: an id of your own; by default a new short one.
            resume: True resumes the execution of that id, if there is one; as in :meth:`execute`.

        Returns:
            A handle with ``next``, ``run_to``, ``finish``, ``rerun``, ``back_to``, ``mark_done`` and ``plan``.

        Raises:
            As :meth:`start`.
        """
        self._require_loop("cell by cell", "begin")
        log = resolve_store(store)
        run = briefly(partial(launch_once, self, inputs, log, execution_id, resume=resume))
        run.execution.driver.limit = NoStage()
        run.background()
        error = run.execution.done.exception() if run.execution.done.done() else None
        if error is not None:
            raise error
        return self._stepper(run.execution_id, log)

    def attach(self, execution_id: ExecutionLike | None = None, *, store: Store | None = None) -> Stepper:
        """Continue an execution cell by cell: after a kernel restart, a stop or a failure.

        Args:
            execution_id: its id or an unambiguous prefix; None takes the newest that can be resumed.
            store: the log; by default the session's.

        Returns:
            A handle, as from :meth:`begin`.

        Raises:
            ResumeError: it belongs to another workflow, or there is nothing to resume.
            ExecutionNotFoundError: there is no such execution.
        """
        log = resolve_store(store)
        return self._stepper(find_execution(self, execution_id, log), log)

    def plan_resume(
        self,
        execution_id: ExecutionLike | None = None,
        *,
        inputs: Inputs | None = None,
        rerun: str | Collection[str] = (),
        store: Store | None = None,
    ) -> ResumePlan:
        """Show what a resume would do with each step, and why; runs nothing.

        Args:
            execution_id: its id or an unambiguous prefix; None takes the newest that can be resumed.
            inputs: the ``inputs`` of the resume.
            rerun: the ``rerun`` of the resume.
            store: the log; by default the session's.

        Returns:
            A table: run, keep, stale, may run or skip for each step, with the reasons.

        Raises:
            As :meth:`resume`, for what prevents a resume.
        """
        from .resume_plan import look_ahead

        plan, log = self.plan(), resolve_store(store)
        given = None if inputs is None else check_inputs(inputs)
        return look_ahead(plan, log, find_execution(self, execution_id, log), inputs=given, rerun=rerun)

    async def rollback(
        self,
        execution_id: ExecutionLike,
        to: object = None,
        *,
        inputs: Inputs | None = None,
        repeat: Collection[str] = (),
        mark_done: Mapping[str, Any] | None = None,
        wait: bool = False,
        store: Store | None = None,
        distributed: bool = False,
        core_url: str | None = None,
    ) -> Result:
        """Undo what an execution has done: completed steps with an ``on_rollback`` handler, the last one first.

        Its state is then ROLLED_BACK, and a resume runs the undone steps again. If a rollback fails or its process
        dies, call this again, or resume; nothing is undone twice.

        Args:
            execution_id: the execution: its id or an unambiguous prefix. It must not be running.
            to: the last step that stays done, or its name; what completed after it is undone. None undoes everything.
            inputs: replace the recorded inputs with these names, or supply secrets again.
            repeat: steps with ``effect="external"`` and unknown outcome whose effect did not happen; or such an undo
                (``"~charge"``), which may run again.
            mark_done: such steps whose effect did happen, with their results, to be undone too; or undos that you did
                by hand: ``{"~charge": None}``.
            wait: as in :meth:`execute`.
            store: the log; by default the session's.
            distributed: True rolls it back on a cluster, wherever it ran.
            core_url: as in :meth:`execute`.

        Returns:
            The execution, ROLLED_BACK; or, during a long wait of an undo, how far it is.

        Raises:
            WorkflowError: an undo failed; the message ends with the call that continues.
            OutcomeUnknownError: an external effect may have happened: give ``repeat`` or ``mark_done``.
            ResumeError: it is already rolled back, or ``to`` has not completed.
            ExecutionBusyError: it is running, here or elsewhere: stop it first.
            ExecutionNotFoundError: there is no such execution.

        Example:
            >>> import asyncio
            >>> from cerebelum_nb import step
            >>> from cerebelum_nb.testing import MemoryStore
            >>> @step
            ... def create_server():
            ...     return {"id": 42}
            >>> @create_server.on_rollback
            ... def destroy_server(create_server):
            ...     print("destroying", create_server["id"])
            >>> @workflow
            ... def deploy(wf):
            ...     wf.timeline(create_server)
            >>> log = MemoryStore()
            >>> done = deploy.run(store=log, execution_id="k3v9")
            >>> print(deploy.plan_rollback("k3v9", store=log))
            deploy, rollback of k3v9: 1 undo
            ↶ create_server  undo   destroy_server undoes it
            >>> asyncio.run(deploy.rollback("k3v9", store=log)).status
            destroying 42
            <ExecutionState.ROLLED_BACK: 'ROLLED_BACK'>
        """
        __tracebackhide__ = True
        if distributed or core_url is not None:
            there: Result = await _executor(core_url).rollback(
                self, execution_id, to, inputs=inputs, repeat=repeat, mark_done=mark_done, store=store
            )
            return there
        from .rollback import roll_back

        found = await wait_until_seen(self, execution_id, store)
        make = partial(
            roll_back, self, found, to, inputs=inputs, repeat=repeat, mark_done=mark_done, wait=wait, store=store
        )
        return await (await prepared(partial(reading, self, store), make)).foreground()

    rollback_sync = _make_sync(rollback)

    def plan_rollback(
        self, execution_id: ExecutionLike, to: object = None, *, store: Store | None = None
    ) -> ResumePlan:
        """Show what :meth:`rollback` would undo, in order, and what has no handler; runs nothing.

        Args:
            execution_id: the execution: its id or an unambiguous prefix.
            to: as in :meth:`rollback`.
            store: the log; by default the session's.

        Returns:
            A table: undo, no handler or keep for each step that is done, with the reasons.

        Raises:
            As :meth:`rollback`, for what prevents a rollback.
        """
        from .rollback import preview

        return preview(self, execution_id, to, store=store)

    async def fork(
        self,
        execution_id: ExecutionLike,
        from_step: object = None,
        inputs: Inputs | None = None,
        overrides: Mapping[Any, Any] | None = None,
        *,
        rerun: str | Collection[str] = (),
        fork_id: str | None = None,
        wait: bool = False,
        store: Store | None = None,
        distributed: bool = False,
        core_url: str | None = None,
    ) -> Result:
        """Start a new execution from a point of another one, which does not change, whatever its state.

        The fork keeps the results recorded before ``from_step``, and of steps parallel to it, and runs the rest with
        the workflow as it is now. Kept steps that read a changed input run again, as does everything that depends on
        them or on a given result.

        Args:
            execution_id: the execution to fork: its id or an unambiguous prefix.
            from_step: the first step that runs in the fork, or its name; the fork begins before its first visit. None:
                the first step with a given result, or else the point that the execution has reached.
            inputs: replace the recorded inputs with these names; give secrets again that this process does not have.
            overrides: results in place of what steps return, by step or name: ``{"build": "image-7"}``.
            rerun: names of kept steps to run again with what depends on them; ``"stale"`` means those whose code
                changed.
            fork_id: an id of your own; by default a new short one.
            wait: as in :meth:`execute`.
            store: the log of both; by default the session's.
            distributed: True runs the fork on a cluster, wherever the other execution ran.
            core_url: as in :meth:`execute`.

        Returns:
            As :meth:`execute`.

        Raises:
            OutcomeUnknownError: it would repeat an external effect that may have happened.
            ResumeError: the step has not run there, the execution is of another workflow, or nothing would run.
            ExecutionNotFoundError: there is no such execution.
            Otherwise as :meth:`execute`.

        Example:
            >>> import asyncio
            >>> from cerebelum_nb import step
            >>> from cerebelum_nb.testing import MemoryStore
            >>> @step
            ... def build(inputs):
            ...     return inputs["name"]
            >>> @step
            ... def ship(build):
            ...     return f"shipped {build}"
            >>> @workflow
            ... def release(wf):
            ...     wf.timeline(build >> ship)
            >>> log = MemoryStore()
            >>> done = asyncio.run(release.execute({"name": "web"}, store=log, execution_id="k3v9"))
            >>> print(release.plan_fork("k3v9", overrides={"build": "api"}, store=log))
            release, forked from k3v9 at event 1 (before step 'build'): 1 run, 1 keep
            ✓ build  keep   its result is given
            ▶ ship   run    runs from the fork on
            >>> asyncio.run(release.fork("k3v9", overrides={"build": "api"}, store=log)).output
            'shipped api'
        """
        __tracebackhide__ = True
        if distributed or core_url is not None:
            there: Result = await _executor(core_url).fork(
                self, execution_id, from_step, inputs, overrides, rerun=rerun, fork_id=fork_id, store=store
            )
            return there
        from .fork import fork

        run = fork(
            self,
            execution_id,
            from_step,
            inputs,
            overrides,
            rerun=rerun,
            fork_id=fork_id,
            wait=wait,
            store=store,
        )
        return await run.foreground()

    fork_sync = _make_sync(fork)

    def plan_fork(
        self,
        execution_id: ExecutionLike,
        from_step: object = None,
        inputs: Inputs | None = None,
        overrides: Mapping[Any, Any] | None = None,
        *,
        rerun: str | Collection[str] = (),
        store: Store | None = None,
    ) -> ResumePlan:
        """Show what :meth:`fork` with these arguments would do with each step, and why; runs nothing.

        Returns:
            A table: run, keep, stale, may run or skip for each step, with the reasons.

        Raises:
            As :meth:`fork`, for what prevents a fork.
        """
        from .fork import preview

        return preview(self, execution_id, from_step, inputs, overrides, rerun=rerun, store=store)

    async def sweep(
        self,
        at: object,
        overrides: Sequence[Mapping[Any, Any]] | None = None,
        inputs: Inputs | Sequence[Inputs] | None = None,
        *,
        execution_id: ExecutionLike | None = None,
        concurrency: int = 4,
        rerun: str | Collection[str] = (),
        store: Store | None = None,
        distributed: bool = False,
        core_url: str | None = None,
    ) -> pd.DataFrame:
        """Run a prefix once and variants of the rest side by side, and compare them in one table.

        The prefix is an execution too, which ends paused before ``at``. Each variant is a fork of it, an execution like
        any other: it is listed, and can be resumed and forked. A variant that fails does not stop the others.

        Args:
            at: the step before which the variants diverge, or its name.
            overrides: one entry per variant: results by step, as :meth:`fork` takes them.
            inputs: a list with one entry per variant, of the inputs that differ in it (the prefix runs with the first);
                or a dict of inputs for all of them.
            execution_id: an execution to use as the prefix: one that has reached ``at``, or the prefix of an earlier
                sweep, whose finished variants are kept and whose others are resumed.
            concurrency: how many variants run at once.
            rerun: steps of finished variants to run again, or ``"stale"``, as in :meth:`resume`.
            store: the log; by default the session's.
            distributed: True runs the prefix and the variants on a cluster.
            core_url: as in :meth:`execute`.

        Returns:
            A row per variant, in the order given: a column per overridden step and per ``inputs.name``, then
            ``execution_id``, ``state``, ``duration``, ``output`` (``output.name`` when all outputs are dicts) and
            ``error``.

        Raises:
            WorkflowError: the prefix failed; the message ends with the call that resumes it.
            ExecutionStoppedError: it was stopped; running variants are paused, and the message ends with the same call.
            ResumeError: the prefix does not reach ``at``.
            ValueError: there are no variants.

        Example:
            >>> import asyncio
            >>> from cerebelum_nb import step
            >>> from cerebelum_nb.testing import MemoryStore
            >>> @step
            ... def load():
            ...     return [3, 1, 2]
            >>> @step
            ... def top(load, inputs):
            ...     return sorted(load)[-inputs["n"] :]
            >>> @workflow
            ... def best(wf):
            ...     wf.timeline(load >> top)
            >>> table = asyncio.run(best.sweep(top, inputs=[{"n": 1}, {"n": 2}], store=MemoryStore()))
            >>> table[["inputs.n", "state", "output"]]
               inputs.n      state  output
            0         1  COMPLETED     [3]
            1         2  COMPLETED  [2, 3]
        """
        __tracebackhide__ = True
        from .sweep import sweep

        refuse_in_step(self)
        return await sweep(
            self,
            at,
            overrides,
            inputs,
            execution_id=execution_id,
            concurrency=concurrency,
            rerun=rerun,
            store=store,
            cluster=_executor(core_url, quiet=True) if distributed or core_url is not None else None,
        )

    sweep_sync = _make_sync(sweep)

    def schedule(
        self,
        *,
        cron: str | None = None,
        every: Duration | None = None,
        timezone: str = "UTC",
        inputs: Inputs | None = None,
        overlap: str = "skip",
        catch_up: Duration = "1h",
        schedule_id: str | None = None,
        store: Store | None = None,
    ) -> Schedule:
        """Start it repeatedly, at certain times; ``cerebelum scheduler`` or ``scheduler()`` starts and runs it.

        Each time is started once, however many schedulers run for the log and whichever of them die. Calling it again
        with the same id changes the schedule, or does nothing if nothing differs, so a notebook can be run again.

        Args:
            cron: when, as five fields of minute, hour, day, month and weekday: ``"0 6 * * 1-5"``.
            every: or the interval, counted from now: ``"2 hours"``, a timedelta, or seconds.
            timezone: the zone of ``cron``, such as ``"Europe/Madrid"``, and of the times that are shown.
            inputs: what each execution is started with. Secrets are refused: the log never holds them.
            overlap: what happens if the previous execution has not ended: ``"skip"`` starts nothing,
                ``"queue"`` queues the new one behind it. With a concurrency key, any execution with that value counts.
            catch_up: how late an execution may still start if no scheduler was running; after that it is missed.
            schedule_id: an id of your own; by default the workflow's name.
            store: the log; by default the session's.

        Returns:
            The schedule, which lists the coming times and can be paused, resumed and deleted.

        Raises:
            ValueError: the times or the time zone are invalid, or inputs cannot be stored.
            InputsError: the inputs do not fit what the workflow declares.
            WorkflowDefinitionError: the timeline cannot run.
            CerebelumError: another workflow's schedule has that id.

        Example:
            >>> from cerebelum_nb.testing import MemoryStore
            >>> made = release.schedule(every="2 hours", inputs={"size": "small"}, store=MemoryStore())
            >>> made.schedule_id, made.state, made.when
            ('release', 'ACTIVE', 'every 2h')
            >>> made.delete()
        """
        from .schedule import make_schedule

        return make_schedule(
            self,
            cron=cron,
            every=every,
            timezone=timezone,
            inputs=inputs,
            overlap=overlap,
            catch_up=catch_up,
            schedule_id=schedule_id,
            store=store,
        )

    async def cancel(
        self, execution_id: ExecutionLike, reason: str | None = None, *, store: Store | None = None
    ) -> None:
        """End an execution for good, wherever it runs; see :func:`cerebelum_nb._engine.cancel.cancel_execution`."""
        await cancel_execution(resolve_store(store), execution_id, reason=reason, by=None)

    def _require_loop(self, how: str, call: str) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise CerebelumError(
                f"no event loop is running here, so nothing can run {how}: use {self.variable}.run(...) in a script, "
                f"or call {call} from a cell or from async code"
            ) from None

    def _stepper(self, execution_id: str, log: Store) -> Stepper:
        def go_on(found: str, rerun: Collection[str], live: Collection[str]) -> Run:
            return prepare_resume(self, found, rerun=rerun, live=live, store=log)

        from .stepper import Stepper

        return Stepper(self, log, execution_id, go_on)


def _executor(core_url: str | None, **options: Any) -> Any:
    """Make the executor for a cluster, which is in a package above this one and needs an extra."""
    return load_cluster_module("executor").DistributedExecutor(core_url, **options)
