"""Python source as a syntax tree, in any thread."""

from __future__ import annotations

import ast

__all__ = ["parse_python"]

_TRIES = 50
"""Python 3.11 counts the depth of a tree in one place for all threads. So a parse beside another, or beside a garbage
collection that parses, may end with a SystemError although the source is fine (CPython's issue 106905)."""


def parse_python(source: str | bytes, filename: str = "<unknown>") -> ast.Module:
    """Return the tree of a module.

    Raises:
        SyntaxError: it is not Python, or not that of this version.
        ValueError: it holds null bytes.

    Example:
        >>> from cerebelum_nb._text.syntax import parse_python
        >>> len(parse_python("x = 1; y = 2").body)
        2
    """
    for _ in range(_TRIES):
        try:
            return ast.parse(source, filename)
        except SystemError:
            continue
    return ast.parse(source, filename)
