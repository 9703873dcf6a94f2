"""``Note``: a line that says what happened to a step, and which variables were restored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .._text.html import Html

__all__ = ["Note"]


@dataclass(frozen=True)
class Note:
    """A line about a step."""

    step: str
    what: str
    restored: tuple[str, ...] = ()

    def __repr__(self) -> str:
        restored = f"; restored {', '.join(self.restored)}" if self.restored else ""
        return f"{self.step}: {self.what}{restored}"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        rest = repr(self).removeprefix(self.step)
        return {"text/plain": repr(self), "text/html": Html("<b>{}</b>{}").format(self.step, rest)}
