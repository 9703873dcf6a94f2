"""A page in parts: each has an id and a hash, and a viewer is sent only the parts that changed."""

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
"""Times that a viewer's script updates itself: their text does not count as a change."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """The contents of a page at one moment.

    Attributes:
        parts: the HTML of each part by id; the part's element has the id.
        lists: the ids of the parts in a list, in order, by the id of the list's element.
        over: whether nothing will change any more.
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
        """The hash of the whole document."""
        return _hash("".join(f"{name}{part}" for name, part in self.hashes.items()))

    def since(self, seen: Hashes) -> dict[str, Any]:
        """Return the parts and lists that differ from those a viewer has seen; empty if none does."""
        parts = {name: html for name, html in self.parts.items() if seen.get(name) != self.hashes[name]}
        lists = {name: order for name, order in self.lists.items() if seen.get(name) != self.hashes[name]}
        return {"parts": parts, "lists": lists} if parts or lists else {}

    def part(self, name: str) -> Markup:
        """Return a part for the first view of the page; nothing if there is no such part."""
        return Markup(self.parts.get(name, ""))  # a template that escapes has rendered it

    def rows(self, name: str) -> Markup:
        """Return the parts of a list."""
        return Markup("").join(map(self.part, self.lists.get(name, ())))


def _hash(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
