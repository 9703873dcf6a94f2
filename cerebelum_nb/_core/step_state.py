"""The state of one step: its phase, its operations, the items of a foreach."""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum
from typing import NamedTuple

from . import events as e
from .record import mutable
from .value import ErrorInfo, Value

__all__ = ["Checkpoint", "Items", "Operation", "Phase", "StepState", "waits_for_signal"]


class Phase(StrEnum):
    """The phase of a step in its current visit."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"  # an attempt failed, the next one is due
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


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
    done: bool = False  # the result is recorded and is returned instead of running again
    child: str = ""  # the execution that runs for it
    ended: bool = False  # that execution has ended; how, its own history says

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
        """Whether it is the wait of a decorator, before the step's own code begins."""
        return self.op.partition(":")[2].startswith("@")


def waits_for_signal(op: str, name: str) -> bool:
    """Whether an operation waits for signals of this name, in a step or in a decorator.

    Example:
        >>> waits_for_signal("signal:payment:0:0", "payment"), waits_for_signal("signal:@payment:0:0", "payment")
        (True, True)
    """
    return op.startswith((f"signal:{name}:", f"signal:@{name}:"))


class Checkpoint(NamedTuple):
    """A statement at which the next attempt of a step may be entered; ``number`` of the ``counts`` are before it."""

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
    inputs: Value | None = None  # what the execution was given when it started
    by_hand: bool = False
    source: str = ""  # the execution that its result was taken from
    worker: str = ""  # the worker that ran its last attempt, on a cluster
    diverge: str | None = None  # label of the pattern that matched
    diverge_chosen: bool = False
    branch: bool | None = None
    route_retries: int = 0
    settled_at: int = 0  # the version of the event that was its outcome
    routed_at: int = 0  # the version of the event that was its choice
    interrupted: bool = False
    percent: float | None = None
    message: str = ""
    printed: str = ""  # the end of what this attempt wrote to stdout and stderr
    notes: dict[str, Value] | None = None  # what it published; replaced, never changed
    operations: dict[str, Operation] = field(default_factory=dict)
    checkpoints: list[Checkpoint] | tuple[()] = ()  # the last at each place, the newest last; most steps have none
    counts: list[dict[str, int]] | tuple[()] = ()  # what checkpoints so far say of operations
    dropped: str = ""  # why the checkpoint after these does not hold any more
    children: tuple[str, ...] = ()  # the executions that ran for it, oldest first
    items: Items | None = None  # of a foreach, once they are listed
    before: Items | None = None  # those of the last visit, while it is being listed again

    def counts_at(self, checkpoint: Checkpoint) -> dict[str, int]:
        """Return how many operations of each name were begun before a checkpoint."""
        return {name: count for counts in self.counts[: checkpoint.number] for name, count in counts.items()}

    @property
    def settled(self) -> bool:
        """Whether this visit has its outcome."""
        return self.phase is Phase.COMPLETED or self.phase is Phase.FAILED

    @property
    def moves(self) -> bool:
        """Whether an attempt of it is in flight; for a foreach, one for any of its items."""
        in_flight = self.phase is Phase.RUNNING or self.phase is Phase.RETRYING
        return in_flight or (self.items is not None and bool(self.items.running))

    @property
    def has_result(self) -> bool:
        """Whether consumers may read ``output``."""
        return self.phase is Phase.COMPLETED


@mutable
class Items:
    """The items of a foreach in its current visit, counted as they settle."""

    keys: dict[str, int]  # in order, each with its index
    digests: dict[str, str] = field(default_factory=dict)
    steps: dict[str, StepState] = field(default_factory=dict)  # the steps that have begun for them, by name
    done: int = 0
    failed: dict[str, None] = field(default_factory=dict)  # names of steps that failed for them
    running: dict[str, None] = field(default_factory=dict)  # names of steps in flight for them

    @property
    def settled(self) -> int:
        """How many of them have their outcome."""
        return self.done + len(self.failed)
