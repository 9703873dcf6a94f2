"""Every error this library raises, as one tree.

    CerebelumError
    ├── StepDefinitionError        a @step cannot be what it says
    ├── WorkflowDefinitionError    a timeline that cannot run (.errors, .warnings)
    ├── WorkflowError              an execution failed (.execution_id, .failed_step)
    ├── ExecutionStoppedError      a person or a cancellation stopped it; it can be resumed
    ├── ExecutionCancelledError    somebody cancelled it for good
    ├── DependencyError            a step needs a result which does not exist
    ├── StepTimeoutError           a step took longer than its policy allows (also a TimeoutError)
    ├── PollTimeoutError           a poll ran out of attempts or time (also a TimeoutError)
    ├── ApprovalRejectedError      a person said no
    ├── ApprovalTimeoutError       nobody answered in time (also a TimeoutError)
    ├── ApprovalError              there is nothing to approve or reject there
    │   ├── ApprovalDecidedError   somebody else was first (.by, .at)
    │   └── ApprovalRefusedError   the step did not take the response
    ├── ExecutionNotFoundError     no such id (.suggestions)
    ├── ExecutionBusyError         somebody else is running it (.holder, .free_at)
    ├── ResumeError                the execution cannot be resumed as asked
    │   └── OutcomeUnknownError    it would repeat an external effect that may have happened (.steps)
    ├── WorkflowNotFoundError      the code of a recorded execution is not where it was
    ├── StoreError                 the log is locked, full, corrupt, newer or read-only
    └── SerializationError         a value cannot be stored or restored (.path)
        ├── UntrustedValueError    it would have to be unpickled, and that is not allowed here
        └── SecretMissingError     a secret is not in this process; give it again

A message says what happened, to which step of which execution, and what to do next.
"""

from __future__ import annotations

from datetime import datetime

from .callers import own_frames

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
    "OutcomeUnknownError",
    "PollTimeoutError",
    "ResumeError",
    "SecretMissingError",
    "SerializationError",
    "StepDefinitionError",
    "StepTimeoutError",
    "StoreError",
    "UntrustedValueError",
    "WorkflowDefinitionError",
    "WorkflowError",
    "WorkflowNotFoundError",
]


class CerebelumError(Exception):
    """Base of every error of this library."""

    def _render_traceback_(self) -> list[str]:
        """Show it in IPython without the library's frames, which tell a user nothing."""
        told = "\n".join([f"{type(self).__name__}: {self}", *getattr(self, "__notes__", ())])
        return [*self._frames(), *told.splitlines()]

    def _frames(self) -> list[str]:
        return own_frames(self)


class _OutcomeError(CerebelumError):
    """The outcome of a run: it says all there is to say, so a notebook shows the step's own frames and the message."""

    details: str = ""

    def _frames(self) -> list[str]:
        lines = self.details.rstrip().splitlines()
        return [*lines, ""] if lines else []


class StepDefinitionError(CerebelumError):
    """A ``@step`` (or a decorator under it) was given something it cannot be made from."""


class WorkflowDefinitionError(CerebelumError):
    """A workflow's timeline cannot run.

    Attributes:
        errors: every problem found, each a sentence with its fix.
        warnings: what is odd but can run.
    """

    def __init__(self, message: str = "", *, errors: tuple[str, ...] = (), warnings: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.errors = errors
        self.warnings = warnings


class WorkflowError(_OutcomeError):
    """An execution failed; what was finished is kept. ``__cause__`` is the step's own exception.

    Attributes:
        execution_id: the execution that failed.
        failed_step: the step it failed in, or None when a route or the timeline failed it.
        resume_hint: the call that goes on from there.
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
    """An execution was stopped (stop button, Ctrl-C) and is PAUSED; it can be resumed."""

    def __init__(self, message: str = "", *, execution_id: str = "", resume_hint: str = "") -> None:
        super().__init__(message)
        self.execution_id = execution_id
        self.resume_hint = resume_hint


class ExecutionCancelledError(_OutcomeError):
    """An execution was cancelled with ``cancel()``; it does not go on."""

    def __init__(self, message: str = "", *, execution_id: str = "") -> None:
        super().__init__(message)
        self.execution_id = execution_id


class DependencyError(CerebelumError):
    """A step needs the result of a step that has none (it was skipped, or it failed)."""

    def __init__(self, message: str = "", *, step: str = "", dependency: str = "") -> None:
        super().__init__(message)
        self.step = step
        self.dependency = dependency


class StepTimeoutError(CerebelumError, TimeoutError):
    """A step took longer than its ``timeout``."""


class PollTimeoutError(CerebelumError, TimeoutError):
    """A poll ran out of attempts or time.

    Attributes:
        attempts: how many checks were made.
        elapsed: seconds spent.
        last_result: what the last check returned.
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
    """A person rejected what the step asked for."""

    def __init__(self, message: str = "", *, reason: str = "", by: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.by = by


class ApprovalTimeoutError(CerebelumError, TimeoutError):
    """Nobody decided an approval in time."""


class ApprovalError(CerebelumError):
    """An approval cannot be decided: nothing waits for one, or it has to be said which."""


class ApprovalDecidedError(ApprovalError):
    """An approval was decided already.

    Attributes:
        by: who decided it; None when its time ran out or nobody was named.
        at: when, UTC.
    """

    def __init__(self, message: str = "", *, by: str | None = None, at: datetime | None = None) -> None:
        super().__init__(message)
        self.by = by
        self.at = at


class ApprovalRefusedError(ApprovalError):
    """The step's ``validate`` did not take the response; the approval is still open."""


class ExecutionNotFoundError(CerebelumError):
    """No execution of this log has that id, or several share that prefix.

    Attributes:
        suggestions: ids that come near.
    """

    def __init__(self, message: str = "", *, suggestions: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.suggestions = suggestions


class ExecutionBusyError(CerebelumError):
    """Another run holds this execution; two never run it at once.

    Attributes:
        execution_id: the execution that is held.
        holder: who holds it, as ``process 4711 on host``.
        free_at: when the hold ends by itself if its holder is dead; None when it is this process.
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
    """An execution cannot be resumed as asked: it is completed, or its timeline lost a finished step."""


class WorkflowNotFoundError(CerebelumError):
    """The code of a recorded execution cannot be found or imported from here."""


class OutcomeUnknownError(ResumeError):
    """A step with ``effect="external"`` was interrupted: whether its effect happened, only a person can say.

    Attributes:
        steps: the steps in question.
    """

    def __init__(self, message: str = "", *, steps: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.steps = steps


class StoreError(CerebelumError):
    """The log cannot be read or written: locked, full, corrupt, read-only, or of a newer schema."""


class SerializationError(CerebelumError):
    """A value cannot be stored in, or restored from, the log.

    Attributes:
        path: where in the value the trouble is, such as ``output['rows'][3]``.
    """

    def __init__(self, message: str = "", *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class UntrustedValueError(SerializationError):
    """A value would have to be unpickled, which this log does not allow."""


class SecretMissingError(SerializationError):
    """A secret was never written to the log and is not in this process; give it again."""
