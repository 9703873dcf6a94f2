"""What a workflow is made of, as plain data: steps, policies, paths, routes, and the plan of them all."""

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
    "Path",
    "Plan",
    "Policy",
    "StepSpec",
    "Target",
    "describe_target",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How the attempts of one step are made.

    ``retries`` counts attempts after the first; ``retry_delay`` and ``timeout`` are seconds; the n-th retry
    waits ``retry_delay * backoff ** (n - 1)``, at most ``max_delay`` seconds, longer or shorter by up to the share
    ``jitter`` of it. ``checkpoint`` says where an attempt that was left is entered again: at its last wait
    (``"waits"``), or at its top (None).
    """

    retries: int = 0
    retry_delay: float = 0.0
    backoff: float = 1.0
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    timeout: float | None = None
    keep: bool = True
    effect: str | None = None
    checkpoint: str | None = "waits"
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
