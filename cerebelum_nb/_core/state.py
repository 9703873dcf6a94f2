"""The state of an execution: the fold of its events, and nothing else.

Only fold.py changes it, so resume, status, history, time travel and tests all use it. The state of a single step is in
step_state.py; invariants.py has the invariants.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field

from . import events as e
from .graph import UNDO, owner_of
from .record import mutable
from .state_name import ExecutionState
from .step_state import Items, StepState
from .value import ErrorInfo, Value

__all__ = ["Rollback", "State"]


@mutable
class Rollback:
    """A rollback: what is still to be undone, the attempts by ``~step``, and the states of the undone steps."""

    todo: dict[str, None]
    to: str | None = None  # the last step that stays done
    error: ErrorInfo | None = None  # why the execution had failed, if it had
    failed_step: str | None = None
    steps: dict[str, StepState] = field(default_factory=dict)
    undone: dict[str, StepState] = field(default_factory=dict)  # as they were: other undos may use their results
    is_over: bool = False


@mutable
class State:
    """The fold of the events of one execution. Times are µs since the epoch."""

    version: int = 0
    lifecycle: ExecutionState = ExecutionState.UNSPECIFIED
    workflow: str = ""
    module: str = ""
    qualname: str = ""
    source: str = ""
    plan: str = ""  # the digest of the plan it last used
    origin: str = ""  # the notebook or script that started it
    slot: str = ""  # its slot, which only one execution at a time may have
    queued_at: int | None = None  # since when it has been waiting for its slot
    scheduled_at: int | None = None  # the time for which a schedule started it
    timezone: str = ""  # of that schedule
    behind: str = ""  # the execution that it was queued behind
    name: str = ""
    tags: tuple[str, ...] = ()  # sorted
    refresh: tuple[str, ...] = ()  # steps that must not use a cached result
    inputs: Value | None = None
    total_steps: int = 0
    started_at: int = 0
    resumed_at: int = 0  # when it was last started, forked or resumed, but not woken: its timeout counts from then
    updated_at: int = 0
    active_at: int = 0  # the time of the last event that is not a signal, which only the process that runs it appends
    completed_at: int | None = None
    steps: dict[str, StepState] = field(default_factory=dict)
    finished: dict[str, None] = field(default_factory=dict)  # completed steps, in order of completion
    in_flight: dict[str, None] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)  # the open waits: "OP@STEP" -> the step
    waiters: dict[str, int] = field(default_factory=dict)  # step -> its number of open waits
    waits: dict[str, int] = field(default_factory=dict)  # "sleep", "signal", "child", ... -> the number of open waits
    current_step: str | None = None  # the last step to begin of those that are not done
    last_step: str | None = None
    jumps: int = 0
    landings: dict[str, int] = field(default_factory=dict)  # the target of each jump back -> the version of the jump
    restoring: dict[str, None] = field(default_factory=dict)  # steps that run again only to restore their value
    rollback: Rollback | None = None  # kept when it is over, until the execution is resumed
    error: ErrorInfo | None = None
    failed_step: str | None = None
    reason: str | None = None  # why it is paused or cancelled
    cancel: e.CancelRequested | None = None
    signals: dict[int, e.SignalReceived] = field(default_factory=dict)  # received, but not taken, by version
    signal_ids: dict[str, None] = field(default_factory=dict)
    last_signal: int = 0  # the version of the last signal
    hibernated: bool = False  # no process runs it, and none should before wake_at
    wake_at: int | None = None
    deaths: int = 0  # processes in a row that died without finishing anything
    parent: str | None = None
    parent_version: int | None = None
    forked_at: str | None = None  # the step before which the parent's history was cut
    caller: str = ""  # the execution whose step started this one, and waits for it
    caller_step: str = ""
    depth: int = 0  # how many callers are above it
    shared: dict[str, StepState] = field(default_factory=dict, compare=False, repr=False)
    # Steps as another state has them, which are copied before they change: see `continued` in state_copy.py.

    @property
    def status(self) -> ExecutionState:
        """The execution's state: if it runs and every step in flight waits, SLEEPING or one of WAITING_FOR_..."""
        if self.lifecycle is not ExecutionState.RUNNING or not (self.waiting or self.hibernated):
            return self.lifecycle
        if self.hibernated:
            return self._waits_for()
        if len(self.waiters) < len(self.in_flight) or "child" in self.waits:  # the child is running
            return ExecutionState.RUNNING
        return self._waits_for()

    def _waits_for(self) -> ExecutionState:
        if "approval" in self.waits:
            return ExecutionState.WAITING_FOR_APPROVAL
        if "signal" in self.waits:
            return ExecutionState.WAITING_FOR_SIGNAL
        return ExecutionState.WAITING_FOR_CHILD if "child" in self.waits else ExecutionState.SLEEPING

    @property
    def is_rolling_back(self) -> bool:
        """Whether a rollback has begun and is not over, running or not."""
        return self.rollback is not None and not self.rollback.is_over

    def step(self, name: str) -> StepState | None:
        """Return what is known of a step, of a step for an item, ``deploy[ams3]``, or of an undo, ``~deploy``."""
        found = self.steps.get(name)
        if found is None and name[:1] == UNDO:
            return None if self.rollback is None else self.rollback.steps.get(name)
        if found is not None or "[" not in name:
            return found
        owner = self.steps.get(owner_of(name))
        return None if owner is None or owner.items is None else owner.items.steps.get(name)

    def attempted(self) -> Iterator[tuple[str, StepState]]:
        """Yield everything that has attempts, by name: steps, steps for items, and undos."""
        for name, step in self.steps.items():
            yield name, step
            if step.items is not None:
                yield from step.items.steps.items()
        if self.rollback is not None:
            yield from self.rollback.steps.items()

    def last_alive_at(self, last_heartbeat: int | None, now: int) -> int:
        """Return when the dead process that ran this was last known to be alive, µs.

        Args:
            last_heartbeat: its last heartbeat, µs, if known. Its clock may be wrong, so the heartbeat only counts
                between the last event it recorded and ``now``.
            now: the time, µs since the epoch.
        """
        return min(max(self.active_at, last_heartbeat or 0), now)

    @property
    def outputs(self) -> dict[str, Value]:
        """The values of the completed steps by name, in order of completion."""
        return {name: value for name in self.finished if (value := self.steps[name].output) is not None}

    @property
    def output(self) -> Value | None:
        """The value of the last step, once completed."""
        return self.steps[self.last_step].output if self.last_step is not None else None

    def items_of(self, name: str) -> Items:
        """Return the items of the foreach that a step for an item belongs to."""
        items = self.steps[owner_of(name)].items
        assert items is not None, f"the items of {name} are not listed"
        return items

    def start_wait(self, key: str, step: str) -> None:
        """Note that a step waits; ``key`` is the operation and the step: ``sleep:5s:0@deploy``."""
        if key not in self.waiting:
            self.waiting[key] = step
            self.waiters[step] = self.waiters.get(step, 0) + 1
            kind = key.partition(":")[0]
            self.waits[kind] = self.waits.get(kind, 0) + 1

    def end_wait(self, key: str) -> None:
        """Note that a wait is over; does nothing if it is not open."""
        step = self.waiting.pop(key, None)
        if step is not None:
            for counts, what in (self.waiters, step), (self.waits, key.partition(":")[0]):
                counts[what] -= 1
                if not counts[what]:
                    del counts[what]

    def end_waits(self, name: str, step: StepState) -> None:
        """Note that all waits of a step are over."""
        if self.waiting and step.operations:
            for op in step.operations:
                self.end_wait(f"{op}@{name}")
