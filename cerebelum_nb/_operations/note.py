"""``context.note``: small values that a step publishes while it runs."""

from __future__ import annotations

from typing import Any

from .._engine.scope import Scope
from .._text.text import cut

__all__ = ["LARGEST_NOTE", "MOST_NOTES", "note"]

LARGEST_NOTE = 4_000
"""The most characters of JSON in the value of a note."""

MOST_NOTES = 100
"""The most notes of one step."""

_LONGEST_NAME = 100


def note(scope: Scope | None, name: str, value: Any) -> None:
    """Publish a note under a scope; without one, as in a test, only check it."""
    if not isinstance(name, str):
        raise TypeError(f"context.note(name, value): the name is text, such as 'url', not {name!r}")
    if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise ValueError(
            f"context.note: the name of a note must be one line of at most {_LONGEST_NAME} printable characters, such "
            "as "
            f"'url', not {cut(repr(name), 80)}"
        )
    if scope is None:
        return
    made = scope.execution.encode(value, path=f"the note {name!r}")
    if made.codec != "json":
        raise TypeError(
            f"context.note({name!r}, ...): a note must be a small value that JSON can hold, such as text or a number, "
            "not "
            f"{made.type or type(value).__name__}. Return it from the step, or publish a text about it"
        )
    if len(made.json) > LARGEST_NOTE:
        raise ValueError(
            f"context.note({name!r}, ...): the value has {len(made.json):,} characters, and a note can have "
            f"{LARGEST_NOTE:,}. Return it from the step, or write it to a file and publish the path"
        )
    known = {**(scope.known.notes or {}), **(scope.notes or {})}
    if name not in known and len(known) >= MOST_NOTES:
        raise ValueError(
            f"context.note({name!r}, ...): this step has published {MOST_NOTES} notes. Reuse a name, or print what "
            f"nobody needs later"
        )
    scope.note(scope.execution.redactor.mask(name), made)
