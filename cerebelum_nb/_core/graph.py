"""The parts of a workflow, as plain data: steps, policies, paths, routes, and the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from enum import StrEnum
from typing import Any

from .._text.duration import LONGEST, backed_off
from .._text.text import as_stage
from .record import frozen, record

__all__ = [
    "PLAIN",
    "UNDO",
    "Action",
    "ActionKind",
    "Branch",
    "Diverge",
    "Each",
    "Path",
    "Plan",
    "Policy",
    "StepSpec",
    "Target",
    "describe_target",
    "key_of",
    "of_item",
    "owner_of",
    "step_of",
    "undo_of",
    "undone_by",
]


@record
class Policy:
    """How the attempts of one step are made.

    ``retries`` counts attempts after the first; ``retry_delay`` and ``timeout`` are seconds; the n-th retry
    waits ``retry_delay * backoff ** (n - 1)``, at most ``max_delay`` seconds, varied by up to the fraction ``jitter``
    of it. ``checkpoint`` says where an interrupted attempt continues: at its last wait (``"waits"``), at its last
    statement (``"lines"``), or at its top (None). A result that is at most ``cache`` seconds old is taken instead of
    running. ``process`` says that it runs in its own process, ``pure`` that it only computes its result.
    """

    retries: int = 0
    retry_delay: float = 0.0
    backoff: float = 1.0
    retry_on: tuple[type[BaseException], ...] | Callable[[Exception], object] = (Exception,)
    timeout: float | None = None
    keep: bool = True
    effect: str | None = None
    checkpoint: str | None = "waits"
    max_delay: float | None = None
    jitter: float = 0.0
    cache: float | None = None
    process: bool = False
    pure: bool = False

    def delay(self, failures: int, chance: float) -> float:
        """Return the seconds to wait after a failure.

        Args:
            failures: the number of failures before this one.
            chance: a random number from 0 to 1, passed in to keep this pure.

        Example:
            >>> Policy(retry_delay=1, backoff=2, max_delay=5, jitter=0.5).delay(1, chance=0.25)
            1.5
        """
        longest = LONGEST if self.max_delay is None else self.max_delay
        delay = min(backed_off(self.retry_delay, self.backoff, failures), longest)
        return min(delay * (1 + self.jitter * (2 * chance - 1)), longest)


PLAIN = Policy()
"""The policy of a step without options; all such steps share this object."""


@record
class StepSpec:
    """A step as the engine sees it: a name, what it depends on, and a function to call.

    ``requires`` and ``optional`` are names of other steps; ``takes_rest`` is true if it has ``**kwargs``. ``workflow``
    names the workflow that it runs as a child, if it is one.
    """

    name: str
    fn: Callable[..., Any]
    is_async: bool
    requires: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    takes_rest: bool = False
    takes_context: bool = False
    takes_inputs: bool = False
    takes_error: bool = False
    policy: Policy = PLAIN
    code: str | None = None
    workflow: str = ""

    @property
    def takes_anything(self) -> bool:
        """Whether its function has parameters."""
        results = self.requires or self.optional or self.takes_rest
        return bool(results or self.takes_context or self.takes_inputs or self.takes_error)


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


@frozen
class Action:
    """A flow action: where to go instead of the next step."""

    kind: ActionKind
    step: str | None = None
    max_attempts: int = 0
    reason: str = ""

    def __str__(self) -> str:
        argument = self.step or self.reason or (self.max_attempts or "")
        return f"{self.kind.value}({argument})"


Target = Path | Action


def describe_target(target: Target) -> str:
    """Describe a target.

    Example:
        >>> describe_target((("a",), ("b", "c")))
        'a >> [b, c]'
    """
    if isinstance(target, Action):
        return str(target)
    return " >> ".join(map(as_stage, target))


@frozen
class Branch:
    """After ``step``, ``predicate(result)`` decides which path runs before the timeline continues."""

    step: str
    predicate: Callable[[Any], object]
    when_true: Target
    when_false: Target


@frozen
class Diverge:
    """The outcome of ``step`` is matched against patterns in order; the first match leaves the timeline.

    ``choices`` maps each pattern's label, which the log records, to the pattern and its target.
    """

    step: str
    choices: Mapping[str, tuple[Any, Target]]


@record
class Each:
    """A *foreach*: what runs once for every item of a list that is known only at run time.

    On a path it is one step, named after the last step of its ``body``; its result is the list of the items' results.
    :func:`of_item` names what it does for an item. ``source`` is a step, or ``inputs.NAME``; ``at_once`` limits how
    many items run at a time; with ``collect`` a failed item does not fail the foreach.
    """

    source: str
    parameter: str
    body: Mapping[str, StepSpec]
    at_once: int
    collect: bool = False
    key: Callable[[Any], object] | None = None


@frozen
class Concurrency:
    """Only one execution with the same value of ``key`` runs at a time.

    ``key`` names an input, or is a function of the inputs; ``on_conflict`` is "queue", "cancel" or "refuse".
    """

    key: str | Callable[[Any], object]
    on_conflict: str = "queue"


@record
class Plan:
    """A validated workflow: its steps, their order, and its routes. Immutable.

    ``undo`` holds the handlers, by step; with ``rolls_back`` a failed execution is rolled back at once. ``shape``
    checks the inputs, and makes the object that steps receive. ``timeout`` is how long an execution may take from its
    start or last resume, seconds.
    """

    workflow: str
    timeline: Path
    steps: Mapping[str, StepSpec]
    branches: Mapping[str, Branch] = field(default_factory=dict)
    diverges: Mapping[str, Diverge] = field(default_factory=dict)
    max_jumps: int = 1000
    stage_of: Mapping[str, int] = field(default_factory=dict)
    each: Mapping[str, Each] = field(default_factory=dict)
    undo: Mapping[str, StepSpec] = field(default_factory=dict)
    rolls_back: bool = False
    shape: Any = None
    timeout: float | None = None
    concurrency: Concurrency | None = None

    def routed(self, step: str) -> bool:
        """Whether the outcome of ``step`` must be matched against a branch or a diverge."""
        return step in self.diverges or step in self.branches

    def parts(self, name: str) -> tuple[StepSpec, ...]:
        """Return the steps whose functions run under this name: the body of a foreach, else the step itself."""
        if name in self.each:
            return tuple(self.each[name].body.values())
        return (self.steps[name],)

    def body_of(self, name: str) -> StepSpec | None:
        """Return the step whose function runs for ``deploy[ams3]``, as it is declared; None if there is none.

        For ``~deploy`` and ``~deploy[ams3]`` it is the handler that undoes ``deploy``.
        """
        if name[:1] == UNDO:
            return self.undo.get(step_of(name[1:]))
        each = self.each.get(owner_of(name)) if "[" in name else None
        return None if each is None else each.body.get(step_of(name))

    def spec(self, name: str) -> StepSpec | None:
        """Return the step that an attempt of this name runs; for ``deploy[ams3]``, the step under that name."""
        if "[" not in name and name[:1] != UNDO:
            return self.steps.get(name)
        spec = self.body_of(name)
        return None if spec is None else replace(spec, name=name)


UNDO = "~"
"""The prefix of the names of attempts that undo a step."""


def undo_of(name: str) -> str:
    """Return the name of the undo of a step, or of one item.

    Example:
        >>> undo_of("deploy[ams3]")
        '~deploy[ams3]'
    """
    return UNDO + name


def undone_by(name: str) -> str:
    """Return the step, or the step for one item, that an attempt of this name undoes; empty if it undoes nothing.

    Example:
        >>> undone_by("~deploy[ams3]"), undone_by("deploy")
        ('deploy[ams3]', '')
    """
    return name[1:] if name[:1] == UNDO else ""


def of_item(owner: str, key: str, step: str = "") -> str:
    """Return the name of what a foreach does for one item; ``step`` is a step of its body, by default the last.

    Example:
        >>> of_item("deploy", "ams3"), of_item("parse", "a.html", "fetch")
        ('deploy[ams3]', 'parse[a.html].fetch')
    """
    return f"{owner}[{key}].{step}" if step and step != owner else f"{owner}[{key}]"


def owner_of(name: str) -> str:
    """Return the step on a path to which a name belongs; names of steps have no brackets.

    Example:
        >>> owner_of("parse[a.html].fetch"), owner_of("report")
        ('parse', 'report')
    """
    return name.partition("[")[0]


def key_of(name: str) -> str:
    """Return the key of the item in a name; empty if there is none.

    Example:
        >>> key_of("parse[a.html].fetch"), key_of("report")
        ('a.html', '')
    """
    return name.partition("[")[2].rpartition("]")[0]


def step_of(name: str) -> str:
    """Return the step whose function an attempt of this name runs.

    Example:
        >>> step_of("parse[a.html].fetch"), step_of("deploy[ams3]"), step_of("~parse[a.html].fetch")
        ('fetch', 'deploy', '~fetch')
    """
    if undone := undone_by(name):
        return undo_of(step_of(undone))
    return name.rpartition("]")[2].removeprefix(".") or owner_of(name)
