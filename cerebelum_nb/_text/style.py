"""The look of each state of a step or an execution: a sign, a shape and colours. Nothing else defines looks.

The colours are Okabe and Ito's, which colour-blind people can distinguish; no state is shown by its colour alone. A
step's box has its own light background and dark text, so it is legible on white and on black pages.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MARKS", "Mark", "look_of"]


@dataclass(frozen=True, slots=True)
class Mark:
    """A state's sign in text, its strong colour, its background, its colour on a terminal, and its shape.

    The shape is an SVG path in a box of 10 by 10.
    """

    sign: str
    colour: str
    ground: str
    terminal: str
    shape: str
    filled: bool = False


MARKS = {
    "completed": Mark("✓", "#00795a", "#d8f0e7", "green", "M1 5l3 3.5l5-7"),
    "failed": Mark("✗", "#b84a00", "#fbdfce", "red", "M1.5 1.5l7 7m0-7l-7 7"),
    "running": Mark("▶", "#0065a8", "#d5e8f7", "cyan", "M2 .5l7 4.5l-7 4.5z", filled=True),
    "sleeping": Mark(
        "☾", "#4a5aa8", "#e0e3f5", "yellow", "M6.5 1a4.2 4.2 0 1 0 2.6 6.6a3.6 3.6 0 0 1-2.6-6.6z", filled=True
    ),
    "approval": Mark("?", "#8a6100", "#fbeecb", "yellow", "M2.5 3a2.5 2.3 0 1 1 3.6 2q-1 .6-1 1.9m0 1.8v.6"),
    "retrying": Mark("↻", "#8a6100", "#fbeecb", "yellow", "M8.6 5a3.6 3.6 0 1 1-1.3-2.8m.3-2v2.6h-2.6"),
    "interrupted": Mark("‖", "#9b4a78", "#f6e0ec", "yellow", "M2.5 1h1.6v8h-1.6zM6 1h1.6v8h-1.6z", filled=True),
    "skipped": Mark("-", "#757575", "#f0f0f0", "dim", "M2 5h6"),
    "waiting": Mark("·", "#757575", "#f0f0f0", "dim", "M3.6 5a1.4 1.4 0 1 0 2.8 0a1.4 1.4 0 1 0-2.8 0z", filled=True),
}

_LOOKS = {
    "COMPLETED": "completed",
    "FAILED": "failed",
    "CANCELLED": "skipped",
    "ROLLED_BACK": "skipped",
    "PAUSED": "interrupted",
    "QUEUED": "waiting",
    "SLEEPING": "sleeping",
    "WAITING_FOR_APPROVAL": "approval",
    "WAITING_FOR_SIGNAL": "sleeping",
    "WAITING_FOR_CHILD": "sleeping",
    "UNSPECIFIED": "waiting",
}


def look_of(state: str) -> str:
    """Return which of `MARKS` an execution in this state has.

    Example:
        >>> MARKS[look_of("PAUSED")].sign
        '‖'
    """
    return _LOOKS.get(state, "running")
