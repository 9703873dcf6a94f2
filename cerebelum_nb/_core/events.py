"""The closed union of events: everything that can be known about an execution.

An event says what happened, in the past tense, with everything a later reader needs: no fold consults a clock, a plan
or a random number. Times are integer microseconds since the epoch, UTC. Events never change; a new field gets a
default, so that older logs can still be read.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .record import maker, record
from .value import ErrorInfo, Value

__all__ = [
    "EVENT_TYPES",
    "HEADER",
    "SIGNALS",
    "ApprovalReceived",
    "ApprovalRefused",
    "ApprovalRejected",
    "ApprovalRequested",
    "ApprovalTimedOut",
    "BranchTaken",
    "CancelRequested",
    "ChildEnded",
    "ChildStarted",
    "DivergeTaken",
    "Event",
    "ItemsListed",
    "Jumped",
    "OperationCompleted",
    "OperationFailed",
    "OperationMismatched",
    "PollAttempted",
    "PollStarted",
    "RetryAttempted",
    "RollbackStarted",
    "SignalAwaited",
    "SignalReceived",
    "SignalTaken",
    "SleepCompleted",
    "SleepStarted",
    "StepCheckpointed",
    "StepCompleted",
    "StepFailed",
    "StepInterrupted",
    "StepNoted",
    "StepPrinted",
    "StepProgressed",
    "StepRetried",
    "StepStarted",
    "WorkflowAdmitted",
    "WorkflowAwakened",
    "WorkflowCancelled",
    "WorkflowCompleted",
    "WorkflowFailed",
    "WorkflowForked",
    "WorkflowHibernated",
    "WorkflowPaused",
    "WorkflowQueued",
    "WorkflowResumed",
    "WorkflowRolledBack",
    "WorkflowStarted",
    "WorkflowTagged",
    "is_signal",
    "make_completed",
    "make_started",
]


@record
class WorkflowEvent:
    """An event of the whole execution."""

    at: int


@record
class StepEvent:
    """An event of one attempt of one visit of one step. Visits and attempts count from 1."""

    at: int
    step: str
    visit: int = 1
    attempt: int = 1


@record
class OperationEvent(StepEvent):
    """An event of a durable operation in a step; ``op`` is its identity within the step's visit."""

    op: str


# -- the execution ------------------------------------------------------------------------------------------


@record
class WorkflowStarted(WorkflowEvent):
    """The execution begins; the step ``caller_step`` of ``caller`` started it if it is a child.

    ``depth`` counts the callers above it. ``slot`` is the workflow with the value of its concurrency key: only one
    execution at a time may have a slot.
    ``scheduled_at`` is the time for which a schedule started it, µs since the epoch, in the zone ``timezone``.
    """

    workflow: str
    inputs: Value
    total_steps: int
    module: str = ""
    qualname: str = ""
    source: str = ""
    plan: str = ""
    origin: str = ""
    caller: str = ""
    caller_step: str = ""
    depth: int = 0
    slot: str = ""
    name: str = ""
    tags: tuple[str, ...] = ()
    refresh: tuple[str, ...] = ()
    scheduled_at: int | None = None
    timezone: str = ""


@record
class WorkflowQueued(WorkflowEvent):
    """The execution waits for its slot, behind the execution ``behind``. A second such event keeps its place."""

    behind: str = ""


@record
class WorkflowAdmitted(WorkflowEvent):
    """The execution was queued, and now has its slot."""


@record
class WorkflowPaused(WorkflowEvent):
    reason: str


@record
class TakenUpEvent(WorkflowEvent):
    """A recorded history continues.

    Steps in ``retried`` run again in the same visit (their finished operations stay); ``revisited`` start from scratch;
    ``rerouted`` keep their result but choose their route again; ``restored`` run again only because their value was not
    kept, and keep their route; ``relisted`` list their items again, and keep the results of unchanged items. ``plan``
    is the digest of the current plan; ``slot`` is the new slot if it changed.
    """

    retried: tuple[str, ...] = ()
    revisited: tuple[str, ...] = ()
    rerouted: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    relisted: tuple[str, ...] = ()
    inputs: Value | None = None
    total_steps: int = 0
    plan: str = ""
    slot: str | None = None


@record
class WorkflowResumed(TakenUpEvent):
    """The same execution continues."""


@record
class WorkflowHibernated(WorkflowEvent):
    """No process runs it until ``wake_at`` (None: until an answer or a signal comes)."""

    wake_at: int | None = None


@record
class WorkflowAwakened(WorkflowEvent):
    """The execution continues, and nobody resumed it; ``died`` says that the process that ran it had died."""

    reason: str = ""
    died: bool = False


@record
class WorkflowCompleted(WorkflowEvent):
    """``last_step`` is the step whose value is the execution's output; None if nothing ran."""

    last_step: str | None = None


@record
class WorkflowFailed(WorkflowEvent):
    """``failed_step`` is the step whose failure or whose route failed the execution, if any."""

    error: ErrorInfo
    failed_step: str | None = None


@record
class CancelRequested(WorkflowEvent):
    """A signal: the process that runs the execution cancels it when it sees this."""

    reason: str | None = None
    by: str | None = None


@record
class SignalReceived(WorkflowEvent):
    """A signal was sent, and waits for a step that takes it. Another signal with the same ``signal_id`` is ignored."""

    name: str
    data: Value
    signal_id: str = ""
    by: str | None = None


@record
class WorkflowTagged(WorkflowEvent):
    """Somebody added or removed tags, at any time, even after the execution has ended."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    by: str | None = None


@record
class WorkflowCancelled(WorkflowEvent):
    reason: str | None = None
    by: str | None = None


@record
class WorkflowForked(TakenUpEvent):
    """Another execution's history continues in this one, which begins with a copy of it up to ``parent_version``.

    Of later events only those are copied that end members of a parallel group. ``from_step`` is the step before which
    the history was cut.
    """

    parent: str
    parent_version: int
    from_step: str | None = None


@record
class RollbackStarted(WorkflowEvent):
    """Completed steps are undone, in the order of ``todo``; the attempts that undo ``deploy`` belong to ``~deploy``.

    ``to`` is the last step that stays done, None to undo everything; ``error`` is why the execution had failed, if it
    had. ``inputs`` replace the earlier inputs, and ``plan`` is the digest of the current plan.
    """

    todo: tuple[str, ...]
    to: str | None = None
    error: ErrorInfo | None = None
    failed_step: str | None = None
    inputs: Value | None = None
    plan: str = ""


@record
class WorkflowRolledBack(WorkflowEvent):
    """Everything to undo is undone; steps that are not kept no longer count as done, with or without a handler."""


# -- steps --------------------------------------------------------------------------------------------------


@record
class StepStarted(StepEvent):
    code: str | None = None


@record
class StepCompleted(StepEvent):
    """``worker`` is the worker of a cluster that ran it, in every event that ends an attempt; "" in a kernel.

    ``key`` is the key of a cached result, and ``source`` the execution it was taken from, if any. They come first in a
    row, where _store/results.py finds them.
    """

    output: Value
    key: str = ""
    source: str = ""
    by_hand: bool = False
    worker: str = ""


@record
class StepFailed(StepEvent):
    """The step failed for good. ``output`` is set if it returned ``{"error": ...}``."""

    error: ErrorInfo
    output: Value | None = None
    worker: str = ""


@record
class StepRetried(StepEvent):
    """This attempt failed; the next one starts at ``due_at``."""

    error: ErrorInfo
    due_at: int
    worker: str = ""


@record
class StepInterrupted(StepEvent):
    """This attempt ended without an outcome (a stop, or its process died); it does not count as a failure.

    ``ended_at`` is when its process was last known to be alive, if another process records this. It is a separate
    field because ``at`` never goes backwards within an execution, and others may have appended a signal since.
    """

    reason: str
    ended_at: int | None = None
    worker: str = ""


@record
class StepProgressed(StepEvent):
    percent: float
    message: str = ""


@record
class StepNoted(StepEvent):
    """A small value that the step publishes while it runs; a later one with the same name replaces it."""

    name: str
    value: Value


@record
class StepPrinted(StepEvent):
    """Lines the step wrote to stdout and stderr, without secrets; ``dropped`` says that earlier lines were left out."""

    text: str
    dropped: bool = False


@record
class StepCheckpointed(StepEvent):
    """The statement at which a step waits or raised: the next attempt is entered at ``place`` with these variables.

    Attributes:
        place: the digest of the code before the statement.
        line: the line of the statement in its file.
        counts: how many operations of each name the step had begun before the statement; only names whose count changed
            since the last checkpoint, so that many operations do not make long events.
        arguments: the digest of the arguments of the step.
        groups: the names of the variables in ``kept``, together if they share an object.
        kept: the values of variables that are not JSON.
        given: arguments that have not changed, so that the next call supplies them.
        secrets: variables that the log must not hold, each with the path in the arguments at which it is found.
        missing: variables that could not be kept, each with the reason; no statement after the place reads them.
        reason: if set, the checkpoints after ``place`` are no longer valid; without a place none is, and the step
            starts at its top.
        raised: the class of the exception that the statement raised.
        code: the digest of the step's code at the time.
        helpers: digests of the functions and classes that the statements before it use: if one of them is fixed, the
            variables must be computed again.
        variables: the values of variables that are JSON.
    """

    place: str = ""
    line: int = 0
    counts: dict[str, int] | None = None
    arguments: str = ""
    groups: tuple[list[str], ...] = ()
    kept: tuple[Value, ...] = ()
    given: tuple[str, ...] = ()
    secrets: dict[str, list[str | int]] | None = None
    missing: dict[str, str] | None = None
    reason: str = ""
    raised: str = ""
    code: str = ""
    helpers: dict[str, str] | None = None
    variables: Value | None = None


@record
class ItemsListed(StepEvent):
    """A foreach begins: the keys of its items, in order. An item is the value at that index of the recorded source.

    ``digests`` tell whether two items with the same key are equal, if the key alone does not. Events of an item have
    the step ``deploy[ams3]``. A foreach ends like any step, with StepCompleted or StepFailed.
    """

    keys: tuple[str, ...]
    digests: tuple[str, ...] = ()
    code: str | None = None


@record
class DivergeTaken(StepEvent):
    """``choice`` is the label of the pattern that matched; None if none did."""

    choice: str | None
    target: str = ""


@record
class BranchTaken(StepEvent):
    choice: bool
    target: str = ""


@record
class Jumped(StepEvent):
    """The run went from ``step`` to ``to``; the steps in ``reset`` begin a new visit."""

    kind: str
    to: str
    reset: tuple[str, ...] = ()


# -- operations in steps ------------------------------------------------------------------------------------


@record
class SleepStarted(OperationEvent):
    duration_ms: int
    due_at: int
    data: Value | None = None


@record
class SleepCompleted(OperationEvent):
    pass


@record
class PollStarted(OperationEvent):
    deadline: int | None = None
    max_attempts: int | None = None


@record
class PollAttempted(OperationEvent):
    """Check ``number`` did not satisfy the condition; the next is due at ``due_at``."""

    number: int
    due_at: int
    result: str = ""


@record
class RetryAttempted(OperationEvent):
    """Attempt ``number`` raised ``error``; the next is due at ``due_at``."""

    number: int
    due_at: int
    error: ErrorInfo


@record
class OperationCompleted(OperationEvent):
    """A poll, a retry or a ``context.run`` is done; ``number`` counts its attempts."""

    output: Value
    number: int = 1


@record
class OperationFailed(OperationEvent):
    error: ErrorInfo
    number: int = 1


@record
class OperationMismatched(OperationEvent):
    """A recorded operation of this kind and name has other arguments than ``op``, which therefore runs."""

    recorded: str


@record
class ApprovalRequested(OperationEvent):
    approval_type: str
    data: Value | None = None
    due_at: int | None = None
    digest: str = ""
    validated: bool = False


@record
class ApprovalReceived(OperationEvent):
    """``digest`` is the hash of what was shown. If the request is ``validated``, the step must accept the response."""

    response: Value
    by: str | None = None
    digest: str = ""
    reason: str | None = None


@record
class ApprovalRejected(OperationEvent):
    reason: str
    by: str | None = None
    digest: str = ""


@record
class ApprovalRefused(OperationEvent):
    """The step's ``validate`` did not accept the response; the approval is open again."""

    message: str
    by: str | None = None


@record
class ApprovalTimedOut(OperationEvent):
    pass


@record
class SignalAwaited(OperationEvent):
    """The step waits for a signal of this name, until ``due_at`` (None: forever)."""

    name: str
    due_at: int | None = None


@record
class SignalTaken(OperationEvent):
    """The step takes the signal that the event with version ``received`` recorded; no other step gets it."""

    received: int


@record
class ChildStarted(OperationEvent):
    """The step runs another workflow as the execution ``child``, and waits for its end."""

    child: str
    workflow: str


@record
class ChildEnded(OperationEvent):
    """The child that the step waits for has ended; the outcome is in the child's own history."""


Event = (
    WorkflowStarted
    | WorkflowQueued
    | WorkflowAdmitted
    | WorkflowPaused
    | WorkflowResumed
    | WorkflowHibernated
    | WorkflowAwakened
    | WorkflowCompleted
    | WorkflowFailed
    | CancelRequested
    | SignalReceived
    | WorkflowTagged
    | WorkflowCancelled
    | WorkflowForked
    | RollbackStarted
    | WorkflowRolledBack
    | StepStarted
    | StepCompleted
    | StepFailed
    | StepRetried
    | StepInterrupted
    | StepProgressed
    | StepNoted
    | StepPrinted
    | StepCheckpointed
    | ItemsListed
    | DivergeTaken
    | BranchTaken
    | Jumped
    | SleepStarted
    | SleepCompleted
    | PollStarted
    | PollAttempted
    | RetryAttempted
    | OperationCompleted
    | OperationFailed
    | OperationMismatched
    | ApprovalRequested
    | ApprovalReceived
    | ApprovalRejected
    | ApprovalRefused
    | ApprovalTimedOut
    | SignalAwaited
    | SignalTaken
    | ChildStarted
    | ChildEnded
)

make_started, make_completed = maker(StepStarted), maker(StepCompleted)
"""Functions that make these two: nearly all events are of their types."""

EVENT_TYPES: dict[str, type[Any]] = {cls.__name__: cls for cls in Event.__args__}
"""Every event class by name, as in the log's ``type`` column."""

HEADER = ("at", "step", "visit", "attempt")
"""Fields that have their own columns; the others are the event's payload."""

PAYLOAD_FIELDS: dict[type[Any], tuple[str, ...]] = {
    cls: tuple(f.name for f in fields(cls) if f.name not in HEADER) for cls in EVENT_TYPES.values()
}

SIGNALS: frozenset[type[Any]] = frozenset(
    {CancelRequested, ApprovalReceived, ApprovalRejected, SignalReceived, WorkflowTagged, ChildEnded}
)


def is_signal(event: Event) -> bool:
    """Whether any process may append this event to an execution that another process is running."""
    return type(event) in SIGNALS
