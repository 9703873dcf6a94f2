"""Write a state (word, mark, colour), and read it from the command line."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from .._client.reading import INTERRUPTED
from .._core.state_name import ExecutionState
from .._text.style import MARKS, look_of
from .._text.terminal import Cell

__all__ = ["StateType", "state_cell"]


def state_cell(state: ExecutionState, *, interrupted: bool = False, short: bool = False) -> Cell:
    """Write a state in its colour; ``interrupted`` means that the process has died."""
    if interrupted:
        return Cell(INTERRUPTED, "red")
    text = "waiting" if short and state.startswith("WAITING") else state.words
    return Cell(text, MARKS[look_of(state)].terminal)


class StateType(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on
    """A state, in any case, or its beginning."""

    name = "state"

    def __init__(self, *, interrupted: bool = False) -> None:
        self._interrupted = interrupted  # whether "interrupted", which is not a state, is accepted too

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ExecutionState | str:
        """Read a state."""
        if isinstance(value, ExecutionState):
            return value
        if self._interrupted and value.strip() and INTERRUPTED.startswith(value.strip().lower()):
            return INTERRUPTED
        begun = [state for state in _OFFERED if _starts(state, str(value))]
        if len(begun) == 1:
            return begun[0]
        if begun and value.strip().upper() == "WAITING":
            return ExecutionState(value)
        if begun and str(value).strip():
            self.fail(f"{value!r} is short for several states: {', '.join(map(str.lower, begun))}", param, ctx)
        try:
            return ExecutionState(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete a state."""
        more = [INTERRUPTED] if self._interrupted and INTERRUPTED.startswith(incomplete.lower()) else []
        return [CompletionItem(name) for name in [*(s.lower() for s in _OFFERED if _starts(s, incomplete)), *more]]


_OFFERED = tuple(state for state in ExecutionState if state is not ExecutionState.UNSPECIFIED)


def _starts(state: ExecutionState, text: str) -> bool:
    return state.startswith(text.strip().upper().replace(" ", "_").replace("-", "_"))
