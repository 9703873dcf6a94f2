"""A page in parts: each has an id and a hash, and a viewer is sent only what changed since it looked last."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any

from markupsafe import Markup

__all__ = ["Document", "Hashes"]

Hashes = Mapping[str, str]
"""The hash of each part by its id."""

_TICKING = re.compile(r'(<time data-(?:since|until)="\d+"[^>]*>)[^<]*')
"""What a viewer's script counts by itself: its text is no change."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """What a page shows at one moment.

    Attributes:
        parts: the HTML of each part by its id; the part's element bears the id.
        lists: which parts stand in a list, in their order, by the id of the list's element.
        over: whether nothing more is to be expected.
    """

    parts: Mapping[str, str]
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    over: bool = False

    @cached_property
    def hashes(self) -> Hashes:
        """The hash of every part and of every list's order."""
        made = {name: _hash(_TICKING.sub(r"\1", html)) for name, html in self.parts.items()}
        return {**made, **{name: _hash("\0".join(order)) for name, order in self.lists.items()}}

    @cached_property
    def digest(self) -> str:
        """What names this moment."""
        return _hash("".join(f"{name}{told}" for name, told in self.hashes.items()))

    def since(self, seen: Hashes) -> dict[str, Any]:
        """Return what differs from what somebody has seen; empty when nothing does."""
        parts = {name: html for name, html in self.parts.items() if seen.get(name) != self.hashes[name]}
        lists = {name: order for name, order in self.lists.items() if seen.get(name) != self.hashes[name]}
        return {"parts": parts, "lists": lists} if parts or lists else {}

    def part(self, name: str) -> Markup:
        """Return a part for the page's first view; nothing when there is no such part."""
        return Markup(self.parts.get(name, ""))  # rendered by an escaping template

    def rows(self, name: str) -> Markup:
        """Return the parts of a list."""
        return Markup("").join(map(self.part, self.lists.get(name, ())))


def _hash(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
