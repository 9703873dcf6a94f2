"""The state of one step: its phase, its operations, the items of a foreach."""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum
from typing import NamedTuple

from . import events as e
from .record import mutable
from .value import ErrorInfo, Value

__all__ = [
    "COMPLETED",
    "FAILED",
    "RUNNING",
    "Checkpoint",
    "Items",
    "Operation",
    "Phase",
    "StepState",
    "waits_for_signal",
]


class Phase(StrEnum):
    """The phase of a step in its current visit."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"  # an attempt failed, the next one is due
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


RUNNING, COMPLETED, FAILED = Phase.RUNNING, Phase.COMPLETED, Phase.FAILED
"""The same phases for loops over all steps: on Python 3.11, reading a member off its class takes as long as a call."""


@mutable
class Operation:
    """A durable operation in a step: the sleep, poll, retry, approval or side effect recorded under ``op``."""

    op: str
    at: int = 0
    number: int = 0  # attempts made
    due_at: int | None = None  # when the wait ends, or the next attempt starts
    deadline: int | None = None
    duration_ms: int | None = None
    data: Value | None = None
    approval_type: str = ""
    result: Value | None = None
    error: ErrorInfo | None = None
    rejected_by: str | None = None
    digest: str = ""
    validated: bool = False  # the step must accept the response before it counts
    done: bool = False  # the result is recorded, and is returned instead of running the operation again
    child: str = ""  # the execution that runs for it
    ended: bool = False  # that execution has ended; its own history says how

    @property
    def kind(self) -> str:
        """``sleep``, ``poll``, ``retry``, ``approval``, ``signal``, ``child`` or ``run``."""
        return self.op.partition(":")[0]

    @property
    def signal(self) -> str:
        """The name of the signal that this waits for."""
        return self.op.partition(":")[2].partition(":")[0].removeprefix("@")

    @property
    def is_decided(self) -> bool:
        """Whether its wait is over: somebody answered, it timed out, or the child ended."""
        return self.done or self.ended or self.result is not None or self.error is not None

    @property
    def is_before_body(self) -> bool:
        """Whether it is a wait in a decorator, before the step's own code begins."""
        return self.op.partition(":")[2].startswith("@")


def waits_for_signal(op: str, name: str) -> bool:
    """Whether an operation waits for signals of this name, in a step's code or in a decorator.

    Example:
        >>> waits_for_signal("signal:payment:0:0", "payment"), waits_for_signal("signal:@payment:0:0", "payment")
        (True, True)
    """
    return op.startswith((f"signal:{name}:", f"signal:@{name}:"))


class Checkpoint(NamedTuple):
    """A statement at which the next attempt of a step may be entered; the first ``number`` of the ``counts`` hold."""

    event: e.StepCheckpointed
    number: int


@mutable
class StepState:
    """The state of one step in its current visit."""

    visit: int = 1
    attempt: int = 0
    failures: int = 0  # failed attempts that count against the policy's retries
    phase: Phase = Phase.PENDING
    began_at: int = 0  # when its first attempt since the last resume or visit started
    started_at: int = 0
    ended_at: int = 0
    due_at: int | None = None
    output: Value | None = None
    error: ErrorInfo | None = None
    code: str | None = None
    inputs: Value | None = None  # the inputs of the execution when this step started
    by_hand: bool = False
    source: str = ""  # the execution that its result was taken from
    worker: str = ""  # the worker that ran its last attempt, on a cluster
    diverge: str | None = None  # label of the pattern that matched
    diverge_chosen: bool = False
    branch: bool | None = None
    route_retries: int = 0
    settled_at: int = 0  # the version of the event with its outcome
    routed_at: int = 0  # the version of the event with its choice of a route
    interrupted: bool = False
    percent: float | None = None
    message: str = ""
    printed: str = ""  # the end of what this attempt wrote to stdout and stderr
    notes: dict[str, Value] | None = None  # the dict is replaced, never changed
    operations: dict[str, Operation] = field(default_factory=dict)
    checkpoints: list[Checkpoint] | tuple[()] = ()  # the last at each place, the newest last; most steps have none
    counts: list[dict[str, int]] | tuple[()] = ()  # the counts of operations in the checkpoints so far
    dropped: str = ""  # why the checkpoint after these is no longer valid
    children: tuple[str, ...] = ()  # the executions that ran for it, oldest first
    items: Items | None = None  # of a foreach, once they are listed
    before: Items | None = None  # of a foreach that is listed again: the items of its last visit

    def counts_at(self, checkpoint: Checkpoint) -> dict[str, int]:
        """Return how many operations of each name had begun before a checkpoint."""
        return {name: count for counts in self.counts[: checkpoint.number] for name, count in counts.items()}

    @property
    def settled(self) -> bool:
        """Whether this visit has its outcome."""
        return self.phase is COMPLETED or self.phase is FAILED

    @property
    def is_active(self) -> bool:
        """Whether an attempt is in flight; for a foreach, an attempt for any of its items."""
        in_flight = self.phase is Phase.RUNNING or self.phase is Phase.RETRYING
        return in_flight or (self.items is not None and bool(self.items.running))

    @property
    def has_result(self) -> bool:
        """Whether other steps may read ``output``."""
        return self.phase is COMPLETED


@mutable
class Items:
    """The items of a foreach in its current visit, counted as they settle."""

    keys: dict[str, int]  # in order, each with its index
    digests: dict[str, str] = field(default_factory=dict)
    steps: dict[str, StepState] = field(default_factory=dict)  # the steps that have begun for items, by name
    done: int = 0
    failed: dict[str, None] = field(default_factory=dict)  # names of steps that failed for an item
    running: dict[str, None] = field(default_factory=dict)  # names of steps in flight for an item

    @property
    def settled(self) -> int:
        """How many items have their outcome."""
        return self.done + len(self.failed)
