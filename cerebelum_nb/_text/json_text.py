"""JSON that anybody may have written: parsed and laid out without ever raising RecursionError.

Every reader of recorded JSON comes by here: a log from elsewhere may hold a value that is nested as deeply as its
author liked.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["indented", "parse"]


def parse(text: str | bytes) -> Any:
    """Parse JSON; of what is nested too deeply for Python say so.

    Raises:
        ValueError: it is no JSON, or too deep.

    Example:
        >>> parse("[" * 100_000)
        Traceback (most recent call last):
        ValueError: its JSON is nested too deeply to be read
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply to be read") from None


def indented(text: str) -> str:
    """Lay JSON out for a reader; what cannot be parsed stays as it is.

    Example:
        >>> print(indented("[1]"))
        [
          1
        ]
    """
    try:
        return json.dumps(parse(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
