"""``@step(checkpoint="lines")``: a checkpoint before every statement, each in a separate commit.

Whatever stops the step, its next attempt is entered at the statement that ran last, with the variables as they were
before it. After an exception that left a `try` or a `with`, it is entered at the beginning of that block.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from .._checkpoint.cursor import Lines
from .._checkpoint.places import Place
from .._checkpoint.variables import Snapshot
from .checkpoints import Checkpoints

__all__ = ["LineCheckpoints"]

_FIELDS = ("place", "line", "arguments", "groups", "kept", "given", "secrets", "missing", "variables")


class LineCheckpoints(Checkpoints):
    """The checkpoints of one attempt with ``checkpoint="lines"``."""

    def _lines(self) -> Lines | None:
        return self

    def check(self) -> None:
        """Raise Suspension once the attempt is over."""
        self._scope.check()

    def line_begins(self, place: Place, found: Snapshot | None) -> Awaitable[None] | None:
        """Record the checkpoint of a statement that begins; an async function awaits the returned object."""
        self._counts.update(self._since)  # of the previous statement
        self._since = {}
        fields = self._fields(place, found) if found is not None and self._is_alone() else None
        if self._twin.statements.is_async:
            return _nothing() if fields is None else self._scope.record_checkpoint(fields)
        if fields is not None:
            self._scope.record_checkpoint_now(fields)
        return None

    def raised(self, error: BaseException) -> list[dict[str, Any]]:
        """Return the fields of the checkpoints to record before a failure, at the beginning of a statement."""
        stood = self.cursor.raising(error.__traceback__) if self._alone else None
        known = [checkpoint.event for checkpoint in self._scope.known.checkpoints]
        if stood is None or not known:
            return []
        back = self._twin.statements.back_from(stood)
        inside = {place.digest for place in self._twin.statements.inside(back)}
        begun = next((event for event in reversed(known) if event.place not in inside), None)
        where = {"place": "", "line": back.line} if begun is None else {"place": begun.place, "line": begun.line}
        cut = [] if begun is known[-1] else [where | {"reason": f"line {stood.line} raised {type(error).__name__}"}]
        if begun is None or begun.place != back.digest:
            return cut  # that statement could not be recorded: the checkpoint before it is used
        entered = self._entered is not None and begun.place == self._entered.place
        same = (begun.raised, begun.code) == (type(error).__name__, self._scope.known.code or "")
        if entered and same and begun.attempt < self._scope.attempt:  # it failed there with the same variables before
            return [self._drop(begun)]
        return [*cut, {name: getattr(begun, name) for name in _FIELDS} | self._failure(back, error)]


async def _nothing() -> None:
    """Return at once; for a statement that records no checkpoint."""
