"""Every error this library raises, as one tree.

::

    CerebelumError
    ├── StepDefinitionError        a @step is not valid
    ├── WorkflowDefinitionError    a timeline cannot run (.errors, .warnings)
    ├── InputsError                inputs do not fit the class that their workflow declares (.problems)
    ├── WorkflowError              an execution failed (.execution_id, .failed_step)
    ├── ExecutionStoppedError      a person or a cancellation stopped it; it can be resumed
    ├── ExecutionCancelledError    an execution was cancelled for good
    ├── ItemError                  items of a foreach failed; with on_error="collect", one of them (.item)
    ├── DependencyError            a step needs a result that does not exist
    ├── OperationError             an operation was not awaited, or was called where no step can record it
    ├── ExecutionTimeoutError      an execution took longer than its workflow allows (also a TimeoutError)
    ├── StepTimeoutError           a step took longer than its policy allows (also a TimeoutError)
    ├── StepProcessError           the process of a step died (.exitcode)
    ├── PollTimeoutError           a poll ran out of attempts or time (also a TimeoutError)
    ├── ApprovalRejectedError      a person rejected an approval
    ├── ApprovalTimeoutError       it was not answered in time (also a TimeoutError)
    ├── ApprovalError              there is nothing to approve or reject
    │   ├── ApprovalDecidedError   it was already decided (.by, .at)
    │   └── ApprovalRefusedError   the step did not accept the response
    ├── SignalError                a signal cannot be sent there
    ├── SignalTimeoutError         no signal came in time (also a TimeoutError)
    ├── ExecutionNotFoundError     no such id (.suggestions)
    ├── ExecutionBusyError         another process is running it (.holder, .free_at)
    ├── ResumeError                the execution cannot be resumed as asked
    │   └── OutcomeUnknownError    a resume would repeat an external effect that may have happened (.steps)
    ├── ScheduleNotFoundError      no schedule has this id
    ├── WorkflowNotFoundError      the code of a recorded execution is not where it was
    ├── StoreError                 the log is locked, full, corrupt, newer or read-only
    └── SerializationError         a value cannot be stored or restored (.path)
        ├── UntrustedValueError    it would have to be unpickled, but the log is not trusted
        └── SecretMissingError     a secret is not in this process; pass it again

A message says what happened, to which step of which execution, and what to do next.
"""

from __future__ import annotations

from datetime import datetime

from ._host.caller import own_frames

__all__ = [
    "ApprovalDecidedError",
    "ApprovalError",
    "ApprovalRefusedError",
    "ApprovalRejectedError",
    "ApprovalTimeoutError",
    "CerebelumError",
    "DependencyError",
    "ExecutionBusyError",
    "ExecutionCancelledError",
    "ExecutionNotFoundError",
    "ExecutionStoppedError",
    "ExecutionTimeoutError",
    "InputsError",
    "ItemError",
    "OperationError",
    "OutcomeUnknownError",
    "PollTimeoutError",
    "ResumeError",
    "ScheduleNotFoundError",
    "SecretMissingError",
    "SerializationError",
    "SignalError",
    "SignalTimeoutError",
    "StepDefinitionError",
    "StepProcessError",
    "StepTimeoutError",
    "StoreError",
    "UntrustedValueError",
    "WorkflowDefinitionError",
    "WorkflowError",
    "WorkflowNotFoundError",
]


class CerebelumError(Exception):
    """Base of every error of this library.

    Example:
        >>> try:
        ...     MemoryStore().execution("k1")
        ... except CerebelumError as error:
        ...     print(error)
        There is no execution 'k1' in this log. List what there is with `cerebelum list`.
    """

    def _render_traceback_(self) -> list[str]:
        """Show it in IPython without the library's own frames."""
        text = "\n".join([f"{type(self).__name__}: {self}", *getattr(self, "__notes__", ())])
        return [*self._frames(), *text.splitlines()]

    def _frames(self) -> list[str]:
        return own_frames(self)


class _OutcomeError(CerebelumError):
    """The outcome of a run: a notebook shows the step's own frames and the message."""

    details: str = ""

    def _frames(self) -> list[str]:
        lines = self.details.rstrip().splitlines()
        return [*lines, ""] if lines else []


class StepDefinitionError(CerebelumError):
    """A ``@step``, or a decorator under it, has an invalid argument or function.

    Example:
        >>> try:
        ...     step(retries="twice")(print)
        ... except StepDefinitionError as error:
        ...     print(error)
        @step of 'print': retries (how often to try again) must be a whole number from 0, not 'twice'
    """


class WorkflowDefinitionError(CerebelumError):
    """A workflow's timeline cannot run.

    Attributes:
        errors: every problem found, each a sentence with its fix.
        warnings: what looks wrong but does not prevent a run.

    Example:
        >>> @workflow
        ... def empty(wf):
        ...     pass
        >>> try:
        ...     empty.run()
        ... except WorkflowDefinitionError as error:
        ...     error.errors
        ("the timeline is empty: call wf.timeline(first >> second) in workflow 'empty'",)
    """

    def __init__(self, message: str = "", *, errors: tuple[str, ...] = (), warnings: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.errors = errors
        self.warnings = warnings


class WorkflowError(_OutcomeError):
    """An execution failed; finished steps are kept. ``__cause__`` is the step's own exception.

    Attributes:
        execution_id: the execution that failed.
        failed_step: the step that failed, or None when a route or the timeline failed the execution.
        resume_hint: the call that resumes it.

    Example:
        >>> @step
        ... def ship():
        ...     raise ValueError("no room")
        >>> @workflow
        ... def release(wf):
        ...     wf.timeline(ship)
        >>> try:
        ...     release.run(store=MemoryStore())
        ... except WorkflowError as error:
        ...     error.failed_step, error.__cause__
        ('ship', ValueError('no room'))
    """

    def __init__(
        self,
        message: str = "",
        *,
        execution_id: str = "",
        failed_step: str | None = None,
        resume_hint: str = "",
    ) -> None:
        super().__init__(message)
        self.execution_id = execution_id
        self.failed_step = failed_step
        self.resume_hint = resume_hint


class ExecutionStoppedError(_OutcomeError):
    """An execution was stopped (stop button, Ctrl-C) and is PAUSED; it can be resumed.

    Example:
        >>> async def main():
        ...     run = backup.start(store=MemoryStore(), execution_id="k1")
        ...     run.stop()
        ...     await run
        >>> try:
        ...     asyncio.run(main())
        ... except ExecutionStoppedError as error:
        ...     error.resume_hint
        'await backup.resume("k1")'
    """

    def __init__(self, message: str = "", *, execution_id: str = "", resume_hint: str = "") -> None:
        super().__init__(message)
        self.execution_id = execution_id
        self.resume_hint = resume_hint


class ExecutionCancelledError(_OutcomeError):
    """An execution was cancelled with ``cancel()``; it cannot be resumed.

    Example:
        >>> async def main():
        ...     run = backup.start(store=MemoryStore(), execution_id="k1")
        ...     run.cancel("the disk is full")
        ...     await run
        >>> try:
        ...     asyncio.run(main())
        ... except ExecutionCancelledError as error:
        ...     error.execution_id
        'k1'
    """

    def __init__(self, message: str = "", *, execution_id: str = "") -> None:
        super().__init__(message)
        self.execution_id = execution_id


class ItemError(CerebelumError):
    """An item of a ``foreach`` failed; with ``on_error="collect"`` the next step receives this in its place.

    Attributes:
        item: the item's key.
        step: what failed, such as ``"deploy[ams3]"``.
        type: the name of the exception's class.
        message: its message.

    Example:
        >>> ItemError(item="ams3", step="deploy[ams3]", type="TimeoutError", message="no answer")
        ItemError('deploy[ams3]: TimeoutError: no answer')
    """

    def __init__(self, item: str, step: str, type: str, message: str) -> None:  # noqa: A002 - as in the log
        super().__init__(f"{step}: {type}: {message}")
        self.item, self.step, self.type, self.message = item, step, type, message

    def __reduce__(self) -> tuple[object, ...]:
        return ItemError, (self.item, self.step, self.type, self.message)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ItemError) and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash(self.__reduce__())


class InputsError(CerebelumError, ValueError):
    """Inputs do not fit the class that their workflow declares; nothing has run.

    Attributes:
        problems: every problem, each with the input it is about.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Size:
        ...     count: int
        >>> @step
        ... def ship(inputs):
        ...     return inputs.count
        >>> @workflow(inputs=Size)
        ... def release(wf):
        ...     wf.timeline(ship)
        >>> try:
        ...     release.run({"count": "many"}, store=MemoryStore())
        ... except InputsError as error:
        ...     error.problems
        ("count is 'many', not a whole number",)
    """

    def __init__(self, message: str = "", *, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class DependencyError(CerebelumError):
    """A step needs the result of a step that has none, because it was skipped or failed.

    Example:
        >>> @step
        ... def build():
        ...     return "small"
        >>> @step
        ... def test(build):
        ...     return "fine"
        >>> @step
        ... def ship(test):
        ...     return test
        >>> @workflow
        ... def release(wf):
        ...     wf.timeline(build >> test >> ship)
        ...     wf.diverge(from_step=build, patterns={"small": flow.skip_to(ship)})
        >>> try:
        ...     release.run(store=MemoryStore())
        ... except WorkflowError as error:
        ...     error.__cause__.step, error.__cause__.dependency
        ('ship', 'test')
    """

    def __init__(self, message: str = "", *, step: str = "", dependency: str = "") -> None:
        super().__init__(message)
        self.step = step
        self.dependency = dependency


class OperationError(CerebelumError):
    """An operation was used without ``await``, or was called where it cannot be recorded under a step.

    Example:
        >>> operation = poll(lambda: True)
        >>> try:
        ...     "ready" if operation else "not ready"
        ... except OperationError as error:
        ...     print(error)
        poll(...) was used before it was awaited: write await poll(...). A helper that calls it must be async def too
        >>> operation.close()
    """


class StepProcessError(CerebelumError):
    """The process of a step with ``process=True`` died, or the step's exception cannot be restored here.

    Attributes:
        exitcode: its exit code; ``-N`` if signal N killed it, None if it raised.

    Example:
        >>> @step(process=True)
        ... def crash():
        ...     import os
        ...     os._exit(3)
        >>> @workflow
        ... def fragile(wf):
        ...     wf.timeline(crash)
        >>> try:
        ...     fragile.run(store=MemoryStore())
        ... except WorkflowError as error:
        ...     print(error.__cause__)
        the process of step 'crash' ended with exit code 3 before the step returned
    """

    def __init__(self, message: str, *, exitcode: int | None = None) -> None:
        super().__init__(message)
        self.exitcode = exitcode


class StepTimeoutError(CerebelumError, TimeoutError):
    """A step took longer than its ``timeout``.

    Example:
        >>> @step(timeout="10ms")
        ... async def ask():
        ...     await asyncio.sleep(60)
        >>> @workflow
        ... def survey(wf):
        ...     wf.timeline(ask)
        >>> try:
        ...     survey.run(store=MemoryStore())
        ... except WorkflowError as error:
        ...     isinstance(error.__cause__, StepTimeoutError), isinstance(error.__cause__, TimeoutError)
        (True, True)
    """


class ExecutionTimeoutError(CerebelumError, TimeoutError):
    """An execution took longer than the ``timeout`` of its workflow. A resume starts the timeout again.

    Example:
        >>> @step
        ... async def ask():
        ...     await asyncio.sleep(60)
        >>> @workflow(timeout="10ms")
        ... def survey(wf):
        ...     wf.timeline(ask)
        >>> try:
        ...     survey.run(store=MemoryStore())
        ... except WorkflowError as error:
        ...     isinstance(error.__cause__, ExecutionTimeoutError), isinstance(error.__cause__, TimeoutError)
        (True, True)
    """


class PollTimeoutError(CerebelumError, TimeoutError):
    """A poll ran out of attempts or time.

    Attributes:
        attempts: how many checks were made.
        elapsed: seconds spent.
        last_result: what the last check returned.

    Example:
        >>> try:
        ...     asyncio.run(poll(lambda: 0, interval=1, max_attempts=2))
        ... except PollTimeoutError as error:
        ...     error.attempts, error.last_result
        (2, 0)
    """

    def __init__(
        self,
        message: str = "",
        *,
        attempts: int = 0,
        elapsed: float = 0.0,
        last_result: object = None,
    ) -> None:
        super().__init__(message)
        self.attempts = attempts
        self.elapsed = elapsed
        self.last_result = last_result


class ApprovalRejectedError(CerebelumError):
    """A person rejected an approval that a step requested.

    Example:
        >>> try:
        ...     with answering(reject="too dear"):
        ...         asyncio.run(wait_for_approval("budget"))
        ... except ApprovalRejectedError as error:
        ...     error.reason
        'too dear'
    """

    def __init__(self, message: str = "", *, reason: str = "", by: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.by = by


class ApprovalTimeoutError(CerebelumError, TimeoutError):
    """Nobody decided an approval in time.

    Example:
        >>> try:
        ...     with FakeClock():
        ...         purchase.run(store=MemoryStore())
        ... except WorkflowError as error:
        ...     isinstance(error.__cause__, ApprovalTimeoutError)
        True
    """


class ApprovalError(CerebelumError):
    """An approval cannot be decided: none is open, or several are and none was named.

    Example:
        >>> client, result = ExecutionClient(log), release.run(execution_id="k1")
        >>> try:
        ...     client.run_sync(client.approve("k1"))
        ... except ApprovalError as error:
        ...     print(error)
        execution k1 is not waiting for an approval: it is COMPLETED
    """


class ApprovalDecidedError(ApprovalError):
    """An approval was already decided.

    Attributes:
        by: who decided it; None when it timed out or no name was given.
        at: when, UTC.

    Example:
        >>> async def main():
        ...     log = MemoryStore()
        ...     run, client = purchase.start(store=log, execution_id="k1"), ExecutionClient(log)
        ...     while run.status != "WAITING_FOR_APPROVAL":
        ...         await asyncio.sleep(0)
        ...     await client.approve("k1", by="ana")
        ...     await client.reject("k1", "too dear", by="ben")
        >>> try:
        ...     asyncio.run(main())
        ... except ApprovalDecidedError as error:
        ...     error.by
        'ana'
    """

    def __init__(self, message: str = "", *, by: str | None = None, at: datetime | None = None) -> None:
        super().__init__(message)
        self.by = by
        self.at = at


class ApprovalRefusedError(ApprovalError):
    """The step's ``validate`` did not accept the response; the approval stays open.

    Example:
        >>> async def main():
        ...     log = MemoryStore()
        ...     run, client = purchase.start(store=log, execution_id="k1"), ExecutionClient(log)
        ...     while run.status != "WAITING_FOR_APPROVAL":
        ...         await asyncio.sleep(0)
        ...     try:
        ...         await client.approve("k1", 5)
        ...     except ApprovalRefusedError:
        ...         await client.approve("k1", 2)
        ...     return await run
        >>> asyncio.run(main()).output
        2
    """


class SignalError(CerebelumError):
    """A signal cannot be sent: the execution has ended, or has too many that no step has taken.

    Example:
        >>> log = MemoryStore()
        >>> run = release.run(store=log, execution_id="r1")
        >>> try:
        ...     asyncio.run(ExecutionClient(log).send_signal("r1", "payment"))
        ... except SignalError as error:
        ...     print(error)
        execution r1 is COMPLETED: it no longer takes signals
    """


class SignalTimeoutError(CerebelumError, TimeoutError):
    """No signal came within the ``timeout`` of ``wait_for_signal``.

    Example:
        >>> isinstance(SignalTimeoutError("no payment"), TimeoutError)
        True
    """


class ExecutionNotFoundError(CerebelumError):
    """No execution of this log has that id, or several share that prefix.

    Attributes:
        suggestions: similar ids.

    Example:
        >>> result = release.run(execution_id="monday")
        >>> try:
        ...     log.execution("munday")
        ... except ExecutionNotFoundError as error:
        ...     error.suggestions
        ('monday',)
    """

    def __init__(self, message: str = "", *, suggestions: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.suggestions = suggestions


class ExecutionBusyError(CerebelumError):
    """Another process or run is running this execution.

    Attributes:
        execution_id: the execution that is held.
        holder: who holds it, as ``process 4711 on host``.
        free_at: when the lease expires if no heartbeat of its holder is seen; None when the holder is known to be
            alive, as on this machine.

    Example:
        >>> async def main():
        ...     log = MemoryStore()
        ...     run = backup.start(store=log, execution_id="k1")
        ...     try:
        ...         await backup.resume("k1", store=log)
        ...     finally:
        ...         run.cancel()
        >>> try:
        ...     asyncio.run(main())
        ... except ExecutionBusyError as error:
        ...     error.holder
        'this process'
    """

    def __init__(
        self,
        message: str = "",
        *,
        execution_id: str = "",
        holder: str = "",
        free_at: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.execution_id = execution_id
        self.holder = holder
        self.free_at = free_at


class ResumeError(CerebelumError):
    """An execution cannot be resumed as asked: it is completed, or a finished step is no longer on its timeline.

    Example:
        >>> result = release.run(execution_id="k1")
        >>> try:
        ...     release.resume_sync("k1")
        ... except ResumeError as error:
        ...     "there is nothing to resume" in str(error)
        True
    """


class WorkflowNotFoundError(CerebelumError):
    """The code of a recorded execution cannot be found or imported from here.

    Example:
        >>> async def main():
        ...     scheduler(MemoryStore(), modules=["no_such_module"])
        >>> try:
        ...     asyncio.run(main())
        ... except WorkflowNotFoundError as error:
        ...     "no_such_module" in str(error)
        True
    """


class ScheduleNotFoundError(CerebelumError):
    """No schedule of the log has this id, or several begin with it.

    Example:
        >>> client = ExecutionClient(MemoryStore())
        >>> try:
        ...     client.run_sync(client.get_schedule("nightly"))
        ... except ScheduleNotFoundError as error:
        ...     print(error)
        there is no schedule 'nightly' in this log. This log has no schedules
    """


class OutcomeUnknownError(ResumeError):
    """A step with ``effect="external"`` was interrupted: only a person can say whether its effect happened.

    Attributes:
        steps: the steps in question.

    Example:
        >>> @step(effect="external")
        ... async def charge():
        ...     await asyncio.sleep(60)
        >>> @workflow
        ... def pay(wf):
        ...     wf.timeline(charge)
        >>> async def main():
        ...     log = MemoryStore()
        ...     run = pay.start(store=log, execution_id="k1")
        ...     await asyncio.sleep(0)
        ...     run.stop()
        ...     try:
        ...         await run
        ...     except ExecutionStoppedError:
        ...         await pay.resume("k1", store=log)
        >>> try:
        ...     asyncio.run(main())
        ... except OutcomeUnknownError as error:
        ...     error.steps
        ('charge',)
    """

    def __init__(self, message: str = "", *, steps: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.steps = steps


class StoreError(CerebelumError):
    """The log cannot be read or written: locked, full, corrupt, read-only, or of a newer schema.

    Attributes:
        transient: whether the same call may succeed soon, for example when another program holds the write lock.

    Example:
        >>> try:
        ...     ExecutionClient("none.db")
        ... except StoreError as error:
        ...     print(error)
        There is no log at none.db: give the path of a log that exists.
    """

    def __init__(self, message: str = "", *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class SerializationError(CerebelumError):
    """A value cannot be stored in, or restored from, the log.

    Attributes:
        path: where in the value the problem is, such as ``output['rows'][3]``.

    Example:
        >>> import threading
        >>> @step
        ... def build():
        ...     return {"lock": threading.Lock()}
        >>> @workflow
        ... def release(wf):
        ...     wf.timeline(build)
        >>> try:
        ...     release.run(store=MemoryStore())
        ... except WorkflowError as error:
        ...     error.__cause__.path
        "output['lock']"
    """

    def __init__(self, message: str = "", *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class UntrustedValueError(SerializationError):
    """A value would have to be unpickled, and this log is not trusted.

    Example:
        >>> @step
        ... def build():
        ...     return slice(3)
        >>> @step
        ... def ship(build):
        ...     return "abcde"[build]
        >>> @workflow
        ... def release(wf):
        ...     wf.timeline(build >> ship)
        >>> log = MemoryStore()
        >>> result = release.run(store=log, execution_id="k1")
        >>> log.trusted = False
        >>> try:
        ...     release.resume_sync("k1", rerun="ship", store=log)
        ... except WorkflowError as error:
        ...     isinstance(error.__cause__, UntrustedValueError)
        True
    """


class SecretMissingError(SerializationError):
    """A secret is never written to the log and is not in this process; pass it again.

    Example:
        >>> try:
        ...     Secret.missing("token").reveal()
        ... except SecretMissingError as error:
        ...     error.path
        'token'
    """
