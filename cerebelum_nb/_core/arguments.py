"""Checks of arguments: names that may be mistyped, states, a count, an execution."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from .._text.text import did_you_mean
from .state_name import ExecutionState

__all__ = ["ExecutionLike", "HasExecutionId", "count", "id_of", "names", "states", "workflow_name"]


class HasExecutionId(Protocol):
    """An object that belongs to an execution: a result, a run, an error."""

    @property
    def execution_id(self) -> str | None:
        """The id of the execution."""
        ...


ExecutionLike = str | HasExecutionId
"""The id of an execution, the beginning of its id, or an object that belongs to it."""


def id_of(given: ExecutionLike) -> str:
    """Return the id of an execution that is given by its id or by an object that belongs to it.

    Raises:
        TypeError: it is not text and has no id.

    Example:
        >>> id_of("k3v9")
        'k3v9'
    """
    found = given if isinstance(given, str) else getattr(given, "execution_id", None)
    if not isinstance(found, str):
        raise TypeError(f"an execution id must be text, such as 'k3v9x2ma4t', not {given!r}")
    return found


def names(given: str | Iterable[str] | None, known: Iterable[str], what: str) -> tuple[str, ...]:
    """Return names as they are written in the log; () means all.

    Args:
        given: one name or several, in any case; an enum member is accepted.
        known: all names.
        what: the noun for messages, ``"type of event"``.

    Raises:
        ValueError: a name is unknown; similar names are suggested.

    Example:
        >>> names("stepfailed", ["StepStarted", "StepFailed"], "type of event")
        ('StepFailed',)
    """
    if given is None:
        return ()
    asked = _several(given, what)
    by_fold = {str(name).casefold(): str(name) for name in known}
    found = []
    for name in asked:
        if not isinstance(name, str):
            raise TypeError(f"a {what} is text, such as {next(iter(by_fold.values()))!r}, not {name!r}")
        if name.casefold() not in by_fold:
            hint = did_you_mean(name, by_fold.values(), f"Available: {', '.join(by_fold.values())}.")
            raise ValueError(f"There is no {what} {str(name)!r}. {hint}")
        found.append(by_fold[name.casefold()])
    return tuple(dict.fromkeys(found))


def states(given: str | Iterable[str] | None) -> tuple[ExecutionState, ...]:
    """Return states by their names in any case; () means all.

    Raises:
        ValueError: a name is unknown; similar names are suggested.

    Example:
        >>> states("waiting for approval")
        (<ExecutionState.WAITING_FOR_APPROVAL: 'WAITING_FOR_APPROVAL'>,)
    """
    if given is None:
        return ()
    return tuple(dict.fromkeys(map(ExecutionState, _several(given, "state"))))


def _several(given: str | Iterable[str], what: str) -> list[str]:
    """Return the names as a list, also if a single name is given."""
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Iterable):
        raise TypeError(f"a {what} is given by its name, or several by theirs, not {given!r}")
    return list(given)


def workflow_name(given: object) -> str | None:
    """Return the name of a workflow; None means all.

    Args:
        given: its name, or the workflow itself.

    Raises:
        TypeError: it is neither.

    Example:
        >>> workflow_name("deploy")
        'deploy'
    """
    found = given if given is None or isinstance(given, str) else getattr(given, "name", given)
    if found is None or isinstance(found, str):
        return found
    limit = f"; for the newest {given}, write limit={given}" if isinstance(given, int) else ""
    raise TypeError(f"workflow= must be the name of a workflow, or the workflow itself, not {given!r}{limit}")


def count(given: int, what: str) -> int:
    """Check a whole number that is zero or more, and return it.

    Raises:
        TypeError: it is not a whole number.
        ValueError: it is below 0.

    Example:
        >>> count(5, "limit")
        5
    """
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"{what} must be a whole number, not {given!r}")
    if given < 0:
        raise ValueError(f"{what} must be zero or more, not {given!r}")
    return given
