"""The world outside a program: what was done to it stays done, whichever process did it, and however it ended."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from .._text.html import Html
from .language import say

__all__ = ["World"]


class World:
    """Side effects, one line of a file each.

    It holds nothing but the path, so that a process that is started for a crash notes its effects in the same file.

    Args:
        path: the file; it is created if it does not exist.

    Example:
        >>> import tempfile
        >>> world = World(Path(tempfile.mkdtemp(), "world.txt"))
        >>> world.note("charge 40 EUR")
        >>> world.note("charge 40 EUR")
        >>> world
        2 x charge 40 EUR
        >>> world.count("charge 40 EUR"), world.count("ship")
        (2, 0)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.path.touch()

    def note(self, what: str) -> None:
        """Do something that cannot be undone: it is on disk when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(what.replace("\n", " ") + "\n")
            file.flush()
            os.fsync(file.fileno())

    def count(self, what: str) -> int:
        """Return how often something was done."""
        return self.counts().get(what, 0)

    def counts(self) -> dict[str, int]:
        """Return how often each thing was done, in the order of the first time."""
        return dict(Counter(self.path.read_text(encoding="utf-8").splitlines()))

    def clear(self) -> None:
        """Begin again with a world to which nothing was done."""
        self.path.write_text("")

    def __repr__(self) -> str:
        return "\n".join(f"{times} x {what}" for what, times in self.counts().items()) or say("nothing has happened")

    def _repr_html_(self) -> str:
        return Html("<pre>{}</pre>").format(repr(self))
