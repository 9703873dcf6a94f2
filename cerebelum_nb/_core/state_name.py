"""The state of an execution, by its name."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["ACTIVE", "ExecutionState"]


class ExecutionState(StrEnum):
    """The state of an execution.

    A state is found by its name in any case, or by an unambiguous prefix of it.

    Raises:
        ValueError: there is no state of that name; similar ones are suggested.

    Example:
        >>> ExecutionState("waiting for approval")
        <ExecutionState.WAITING_FOR_APPROVAL: 'WAITING_FOR_APPROVAL'>
        >>> ExecutionState.FAILED.is_final
        True
    """

    UNSPECIFIED = "UNSPECIFIED"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SLEEPING = "SLEEPING"
    WAITING_FOR_APPROVAL = "WAITING_FOR_APPROVAL"
    WAITING_FOR_SIGNAL = "WAITING_FOR_SIGNAL"
    WAITING_FOR_CHILD = "WAITING_FOR_CHILD"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    ROLLED_BACK = "ROLLED_BACK"

    @classmethod
    def _missing_(cls, value: object) -> ExecutionState:
        if not isinstance(value, str):
            raise TypeError(f"a state must be an ExecutionState or its name, not {value!r}")
        name = value.strip().upper().replace(" ", "_").replace("-", "_")
        if name in cls.__members__:
            return cls[name]
        known = [state.value for state in cls if state is not cls.UNSPECIFIED]
        begun = [state for state in known if state.startswith(name)]
        if len(begun) == 1 or (begun and name == "WAITING"):  # callers used this name when it was unambiguous
            return cls(begun[0])
        from .._text.text import did_you_mean  # imported here: it takes time, and most names are right

        hint = did_you_mean(name, known, f"Available: {', '.join(known)}.")
        raise ValueError(f"There is no state {value!r}. {hint}")

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens unless somebody resumes the execution."""
        return self in _FINAL

    @property
    def words(self) -> str:
        """Its name for a sentence: ``waiting for approval``."""
        return self.value.replace("_", " ").lower()


ACTIVE = (
    ExecutionState.RUNNING,
    ExecutionState.SLEEPING,
    ExecutionState.WAITING_FOR_APPROVAL,
    ExecutionState.WAITING_FOR_SIGNAL,
    ExecutionState.WAITING_FOR_CHILD,
)
"""States in which a process should be running an execution, or will wake it."""

_FINAL = frozenset(
    {ExecutionState.COMPLETED, ExecutionState.FAILED, ExecutionState.CANCELLED, ExecutionState.ROLLED_BACK}
)
