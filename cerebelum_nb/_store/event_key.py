"""The key of the table ``event``: one integer, the execution's key times 2**32 plus the event's version, and SQL by it.

A commit appends after the last event of its execution. With one integer as the key, SQLite finds that place and fills
the pages more cheaply than with two columns. The columns ``execution`` and ``version`` are computed from it when they
are read, and no index covers them: always search with the conditions written here.
"""

from __future__ import annotations

__all__ = ["LAST_VERSION", "event_at", "event_key", "event_of"]

LAST_VERSION = 2**32 - 1


def event_key(execution: int, version: int) -> int:
    """Return the key of an event.

    Example:
        >>> event_key(1, 7)
        4294967303
    """
    return (execution << 32) + version


def event_of(execution: str, event: str = "e", *, after: str = "0", upto: str = str(LAST_VERSION)) -> str:
    """Write the condition that ``event`` is one of an execution, with ``after < version <= upto``.

    The first term means the same as the second. It makes the search fast in an older log, keyed by (execution,
    version), that may only be read. With an equality instead, SQLite would index all events before joining them.
    """
    first, last = f"({execution} << 32) + {after} + 1", f"({execution} << 32) + {upto}"
    return f"{event}.execution BETWEEN {execution} AND {execution} AND {event}.key BETWEEN {first} AND {last}"


def event_at(execution: str, version: str, event: str) -> str:
    """Write the condition that ``event`` is the one with this version of an execution; as for ``event_of``."""
    both = f"{event}.execution = {execution} AND {event}.version = {version}"
    return f"{both} AND {event}.key = ({execution} << 32) + {version}"
