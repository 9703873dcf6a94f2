"""What a workflow is made of, as plain data: values, errors, steps, paths, routes, the plan.

No behaviour that touches a clock, a file or an event loop lives here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .._text.duration import LONGEST, backed_off
from .._text.text import as_stage

__all__ = [
    "Action",
    "ActionKind",
    "Branch",
    "Diverge",
    "ErrorInfo",
    "ExecutionState",
    "Path",
    "Plan",
    "Policy",
    "StepSpec",
    "Target",
    "Value",
    "describe_target",
]


class ExecutionState(StrEnum):
    """The state of an execution, as its events tell it.

    A state is found by its name in any case, or by a beginning that no other has: ``"waiting"``.

    Raises:
        ValueError: there is no state of that name; near ones are suggested.

    Example:
        >>> ExecutionState("waiting for approval")
        <ExecutionState.WAITING_FOR_APPROVAL: 'WAITING_FOR_APPROVAL'>
        >>> ExecutionState.FAILED.is_final
        True
    """

    UNSPECIFIED = "UNSPECIFIED"
    RUNNING = "RUNNING"
    SLEEPING = "SLEEPING"
    WAITING_FOR_APPROVAL = "WAITING_FOR_APPROVAL"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @classmethod
    def _missing_(cls, value: object) -> ExecutionState:
        if not isinstance(value, str):
            raise TypeError(f"a state is an ExecutionState or its name, not {value!r}")
        name = value.strip().upper().replace(" ", "_").replace("-", "_")
        if name in cls.__members__:
            return cls[name]
        known = [state.value for state in cls if state is not cls.UNSPECIFIED]
        begun = [state for state in known if state.startswith(name)]
        if len(begun) == 1:
            return cls(begun[0])
        from .._text.text import did_you_mean  # late: it takes a while, and most names are right

        hint = did_you_mean(name, known, f"There are: {', '.join(known)}.")
        raise ValueError(f"There is no state {value!r}. {hint}")

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens unless somebody asks for it."""
        return self in _FINAL

    @property
    def words(self) -> str:
        """How it is written in a sentence: ``waiting for approval``."""
        return self.value.replace("_", " ").lower()


_FINAL = frozenset({ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Value:
    """An encoded value as the log holds it.

    ``codec`` is ``"json"`` (then ``json`` is its text), ``"tagged"`` (JSON with tags for what JSON lacks, such as
    ``{"$date": "2026-01-02"}``), ``"cloudpickle"`` or ``"arrow"`` (then ``digest``
    names the payload, stored once per content) or ``"none"`` (not kept: only type and preview are known).
    ``masked`` lists the paths at which a secret stood; such a value cannot be restored whole.
    """

    codec: str
    json: str = ""
    type: str = ""
    preview: str = ""
    digest: str = ""
    size: int = 0
    masked: tuple[str, ...] = ()
    payload: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def is_json(self) -> bool:
        """Whether it is a JSON text, with or without tags."""
        return self.codec == "json" or self.codec == "tagged"

    @property
    def restorable(self) -> bool:
        """Whether the log holds the whole value."""
        return self.codec != "none" and not self.masked

    @property
    def text(self) -> str:
        """What a person is shown of it: its JSON text, or its preview; its type when there is no preview.

        Example:
            >>> Value("json", json="[1, 2]").text, Value("none", type="socket.socket").text
            ('[1, 2]', 'socket.socket')
        """
        return self.json if self.is_json else self.preview or self.type


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """A failure as the log keeps it.

    ``mro`` names the exception's classes (``module.qualname``, most derived first), so that a route by
    exception class still matches after the process that raised it is gone. ``reason`` is set when the step
    returned ``{"error": reason}`` instead of raising. ``str`` of it is the reason, else ``type: message``.
    """

    type: str
    message: str
    traceback: str = ""
    mro: tuple[str, ...] = ()
    reason: str | None = None

    def __str__(self) -> str:
        return self.reason if self.reason is not None else f"{self.type}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How the attempts of one step are made.

    ``retries`` counts attempts after the first; ``retry_delay`` and ``timeout`` are seconds; the n-th retry
    waits ``retry_delay * backoff ** (n - 1)``, at most ``max_delay`` seconds, longer or shorter by up to the share
    ``jitter`` of it.
    """

    retries: int = 0
    retry_delay: float = 0.0
    backoff: float = 1.0
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    timeout: float | None = None
    keep: bool = True
    effect: str | None = None
    max_delay: float | None = None
    jitter: float = 0.0

    def delay(self, failures: int, chance: float) -> float:
        """Return the seconds to wait after a failure.

        Args:
            failures: how many there were before it.
            chance: a random number from 0 up to 1; what it made of the delay is recorded as the time of the next try.

        Example:
            >>> Policy(retry_delay=1, backoff=2, max_delay=5, jitter=0.5).delay(1, chance=0.25)
            1.5
        """
        longest = LONGEST if self.max_delay is None else self.max_delay
        delay = min(backed_off(self.retry_delay, self.backoff, failures), longest)
        return min(delay * (1 + self.jitter * (2 * chance - 1)), longest)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """A step as the engine sees it: a name, what it needs, and a function to call.

    ``requires`` and ``optional`` are names of other steps; ``takes_rest`` is true when it has ``**kwargs``.
    """

    name: str
    fn: Callable[..., Any]
    is_async: bool
    requires: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    takes_rest: bool = False
    takes_context: bool = False
    takes_inputs: bool = False
    policy: Policy = Policy()
    code: str | None = None

    @property
    def takes_anything(self) -> bool:
        """Whether its function has parameters at all."""
        return bool(self.requires or self.optional or self.takes_rest or self.takes_context or self.takes_inputs)


Path = tuple[tuple[str, ...], ...]
"""Stages in order; a stage of several names runs in parallel and joins."""


class ActionKind(StrEnum):
    """What a route can do other than run a path."""

    BACK_TO = "back_to"
    SKIP_TO = "skip_to"
    RETRY = "retry"
    FAIL = "fail"
    END = "end"
    PROCEED = "proceed"


@dataclass(frozen=True, slots=True)
class Action:
    """A flow action: where to go instead of on."""

    kind: ActionKind
    step: str | None = None
    max_attempts: int = 0
    reason: str = ""

    def __str__(self) -> str:
        argument = self.step or self.reason or (self.max_attempts or "")
        return f"{self.kind.value}({argument})"


Target = Path | Action


def describe_target(target: Target) -> str:
    """Write a target as people read it.

    Example:
        >>> describe_target((("a",), ("b", "c")))
        'a >> [b, c]'
    """
    if isinstance(target, Action):
        return str(target)
    return " >> ".join(map(as_stage, target))


@dataclass(frozen=True, slots=True)
class Branch:
    """After ``step``, ``predicate(result)`` decides which path runs in between."""

    step: str
    predicate: Callable[[Any], object]
    when_true: Target
    when_false: Target


@dataclass(frozen=True, slots=True)
class Diverge:
    """The outcome of ``step`` is held against patterns in order; the first match leaves the timeline.

    ``choices`` maps each pattern's label, which is what the log records, to the pattern and its target.
    """

    step: str
    choices: Mapping[str, tuple[Any, Target]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A validated workflow: which steps, in which order, with which routes. Immutable and without clock."""

    workflow: str
    timeline: Path
    steps: Mapping[str, StepSpec]
    branches: Mapping[str, Branch] = field(default_factory=dict)
    diverges: Mapping[str, Diverge] = field(default_factory=dict)
    max_jumps: int = 1000
    stage_of: Mapping[str, int] = field(default_factory=dict)

    def routed(self, step: str) -> bool:
        """Whether the outcome of ``step`` has to be held against a branch or a diverge."""
        return step in self.diverges or step in self.branches
