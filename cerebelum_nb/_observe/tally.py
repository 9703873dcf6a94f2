"""Counts events: the numbers behind the metrics, independent of where events come from and how they are shown.

This module does not know Prometheus. Counts only grow; labels are the names of workflows and steps, up to a limit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from .._text.text import cut
from .follow import Header

__all__ = ["OTHER", "Count", "Durations", "Tally"]

OTHER = "other"
_PAIRS = 2_000
"""The most pairs of workflow and step; further ones are counted as ``other``."""
_LONGEST = 120
"""Characters of a label."""
_OPEN = 100_000
"""The number of executions whose starts of attempts are cached; others are looked up in the log."""

_ATTEMPTS = {
    "StepCompleted": "completed",
    "StepFailed": "failed",
    "StepRetried": "retried",
    "StepInterrupted": "interrupted",
}
_ENDS = {
    "WorkflowCompleted": "completed",
    "WorkflowFailed": "failed",
    "WorkflowCancelled": "cancelled",
    "WorkflowRolledBack": "rolled back",
}
_STARTS = ("WorkflowStarted", "WorkflowForked")
_GOES_ON = ("WorkflowResumed", "WorkflowAwakened")
_DECIDED = ("ApprovalReceived", "ApprovalRejected")

_STEP_SECONDS = (0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, 86400)
_RUN_SECONDS = (0.1, 1, 10, 60, 300, 1800, 7200, 43200, 86400, 604800)
_COMMIT_SECONDS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)

Labels = tuple[str, ...]


@dataclass(slots=True)
class Count:
    """A counter: a number for each combination of labels."""

    labels: Labels
    values: dict[Labels, int] = field(default_factory=dict)

    def begin(self, *labels: str) -> None:
        """Show these labels with 0: Prometheus sees no increase in a series that appears with 1."""
        self.values.setdefault(labels, 0)

    def add(self, *labels: str) -> None:
        """Add one."""
        self.values[labels] = self.values.get(labels, 0) + 1


@dataclass(slots=True)
class Durations:
    """A histogram: for each combination of labels, the durations per bucket, and their sum."""

    labels: Labels
    bounds: tuple[float, ...]
    values: dict[Labels, tuple[list[int], list[float]]] = field(default_factory=dict)

    def add(self, seconds: float, *labels: str) -> None:
        """Count a duration; a negative one, after a clock was set back, counts as zero."""
        found = self.values.get(labels)
        if found is None:
            found = self.values[labels] = [0] * (len(self.bounds) + 1), [0.0]
        seconds = max(0.0, seconds)
        found[0][bisect_left(self.bounds, seconds)] += 1
        found[1][0] += seconds


_Key = Hashable
_Lookup = Callable[[_Key, Header | None], int | None]


class Tally:
    """Counts events, execution by execution and in order.

    Args:
        lookup: returns the start of the attempt that an event ends (for None, the start of the execution with this
            key), if it was not counted here; µs since the epoch, None if the log does not have it.
    """

    def __init__(self, lookup: _Lookup) -> None:
        self.started = Count(("workflow",))
        self.ended = Count(("workflow", "outcome"))
        self.resumed = Count(("workflow", "why"))
        self.attempts = Count(("workflow", "step", "outcome"))
        self.step_seconds = Durations(("workflow", "step"), _STEP_SECONDS)
        self.run_seconds = Durations(("workflow", "outcome"), _RUN_SECONDS)
        self.approval_seconds = Durations(("workflow",), _RUN_SECONDS)
        self.commit_seconds = Durations((), _COMMIT_SECONDS)
        self._lookup = lookup
        self._attempts: dict[_Key, dict[tuple[str | None, ...], int]] = {}
        self._asked: dict[_Key, tuple[str, dict[tuple[str, int, str], int]]] = {}
        self._resting: set[_Key] = set()
        self._names: dict[str, str] = {}
        self._pairs: dict[tuple[str, str], tuple[str, str]] = {}

    def workflow(self, name: str) -> str:
        """Return a workflow's name as a label."""
        label = self._names.get(name)
        if label is None:
            if len(self._names) >= _PAIRS:
                return OTHER
            label = self._names[name] = cut(name, _LONGEST)
            self.started.begin(label)
            for outcome in _ENDS.values():
                self.ended.begin(label, outcome)
        return label

    def add(self, key: _Key, workflow: str, event: Header) -> None:
        """Count an event of the execution ``key``."""
        kind = event.type
        if event.by_hand:
            self._revisited(key, event)
        elif kind in _ATTEMPTS:
            self._ended(key, workflow, event)
        elif kind == "StepStarted":
            self._open(key)[_attempt(event)] = event.at
            self._pair(workflow, event.step or "")
            self._revisited(key, event)
        elif kind.startswith("Approval"):
            self._approval(key, workflow, event)
        elif kind in _STARTS:
            self.started.add(self.workflow(workflow))
            self._open(key)[()] = event.at
        elif kind in _GOES_ON:
            why = "asked" if kind == "WorkflowResumed" else "died" if event.died else "due"
            self.resumed.add(self.workflow(workflow), why)
            self._resting.discard(key)
        elif kind in _ENDS:
            self._over(key, workflow, event)
        elif kind == "WorkflowPaused":
            self._resting.add(key)

    def approvals(self) -> dict[str, list[int]]:
        """Return when each open approval was requested, by workflow."""
        found: dict[str, list[int]] = {}
        for key, (workflow, asked) in self._asked.items():
            if key not in self._resting:
                found.setdefault(self.workflow(workflow), []).extend(asked.values())
        return found

    def take_open_approvals(self, other: Tally) -> None:
        """Take over the open approvals of another tally, but not its counts."""
        self._asked.update(other._asked)
        self._resting.update(other._resting)

    # -- attempts -------------------------------------------------------------------------------------------

    def _open(self, key: _Key) -> dict[tuple[str | None, ...], int]:
        found = self._attempts.get(key)
        if found is None:
            if len(self._attempts) >= _OPEN:
                self._attempts.clear()
            found = self._attempts[key] = {}
        return found

    def _ended(self, key: _Key, workflow: str, event: Header) -> None:
        began = self._open(key).pop(_attempt(event), None)
        if began is None:
            began = self._lookup(key, event)
        if began is None:  # a damaged log
            return
        labels = self._pair(workflow, event.step or "")
        self.attempts.add(*labels, _ATTEMPTS[event.type])
        if event.type != "StepInterrupted":
            self.step_seconds.add((event.at - began) / 1e6, *labels)
        if event.type == "StepCompleted":
            self._revisited(key, event)

    def _pair(self, workflow: str, step: str) -> tuple[str, str]:
        labels = self._pairs.get((workflow, step))
        if labels is None:
            if len(self._pairs) >= _PAIRS:
                return OTHER, OTHER
            labels = self._pairs[workflow, step] = self.workflow(workflow), cut(step, _LONGEST)
            for outcome in _ATTEMPTS.values():
                self.attempts.begin(*labels, outcome)
        return labels

    def _over(self, key: _Key, workflow: str, event: Header) -> None:
        began = self._attempts.pop(key, {}).get(())
        if began is None:
            began = self._lookup(key, None)
        labels = self.workflow(workflow), _ENDS[event.type]
        self.ended.add(*labels)
        if began is not None:
            self.run_seconds.add((event.at - began) / 1e6, *labels)
        if event.type == "WorkflowFailed":  # a resume may find its approvals still open
            self._resting.add(key)
        else:
            self._asked.pop(key, None)
            self._resting.discard(key)

    # -- approvals ------------------------------------------------------------------------------------------

    def _approval(self, key: _Key, workflow: str, event: Header) -> None:
        _, asked = self._asked.setdefault(key, (workflow, {}))
        request = (event.step or "", event.visit or 0, event.op or "")
        if event.type in ("ApprovalRequested", "ApprovalRefused"):
            asked.setdefault(request, event.at)
            return
        since = asked.pop(request, None)
        if event.type in _DECIDED and since is not None:
            self.approval_seconds.add((event.at - since) / 1e6, self.workflow(workflow))
        if not asked:
            del self._asked[key]

    def _revisited(self, key: _Key, event: Header) -> None:
        """Forget the approvals of a step's earlier visit."""
        if key in self._asked:
            _, asked = self._asked[key]
            over = (event.visit or 0) + (event.type == "StepCompleted")
            for request in [request for request in asked if request[0] == event.step and request[1] < over]:
                del asked[request]
            if not asked:
                del self._asked[key]


def _attempt(event: Header) -> tuple[str | None, ...]:
    return event.step, str(event.visit), str(event.attempt)
