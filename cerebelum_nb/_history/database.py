"""``history.database``: the log as an sqlite-utils database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .sources import Source, connection, opened

if TYPE_CHECKING:
    from sqlite_utils import Database

__all__ = ["database"]


def database(*, store: Source | None = None) -> Database:
    """Open the log as a ``sqlite_utils.Database`` that can only read.

    It has its own connection and sees later commits; for a log in memory it reads a copy made now. The public
    tables are the views ``executions``, ``steps`` and ``events``.

    Args:
        store: the log, or its path; by default the session's.

    Returns:
        The database; close it, or use it in a ``with`` block. Writing raises ``sqlite3.OperationalError``.

    Raises:
        StoreError: there is no log at that path, or it cannot be read.

    Example:
        >>> from cerebelum_nb import history
        >>> from cerebelum_nb.testing import MemoryStore
        >>> with history.database(store=MemoryStore()) as db:
        ...     print(db.view_names(), list(db["executions"].rows))
        ['executions', 'steps', 'events', 'schedules'] []
    """
    from sqlite_utils import Database

    with opened(store) as log:
        return Database(connection(log), recursive_triggers=False, execute_plugins=False)
