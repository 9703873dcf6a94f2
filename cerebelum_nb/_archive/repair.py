"""``repair``: rebuild an execution's row from its events after another program has changed it.

The row only summarises the events, so nothing is lost. Executions whose events are not intact are not changed.
"""

from __future__ import annotations

from .._history.sources import Log
from .._store import executions, labels, results
from .files import file_log
from .verify import Check

__all__ = ["repair"]


def repair(execution_id: str | None = None, *, store: Log | None = None) -> tuple[str, ...]:
    """Rebuild the rows of executions that do not match their events, in one transaction.

    Only the rows of executions whose events are complete and unaltered are rebuilt; events and values are not changed.
    :func:`verify` lists these executions as ``repairable``.

    Args:
        execution_id: only this execution, by its whole id.
        store: the log, or its path; by default the session's.

    Returns:
        The executions whose row was rebuilt.

    Raises:
        StoreError: the log cannot be written.

    Example:
        >>> from cerebelum_nb._store.sqlite import SqliteStore
        >>> repair(store=SqliteStore(":memory:"))
        ()
    """
    where, values = ("", ()) if execution_id is None else (" WHERE execution_id = ?", (execution_id,))
    with file_log(store) as log, log.maintenance("repair") as db:
        check = Check(db)
        for columns in db.execute(f"{executions.SELECT}{where}", values).fetchall():
            check.execution(columns)
        for name, (version, shown) in check.misfits.items():
            db.execute(executions.REPAIR, executions.repaired(name, version, shown))
            (key,) = db.execute("SELECT key FROM execution WHERE execution_id = ?", (name,)).fetchone()
            labels.write(db, key, shown.started_at, shown)
        if execution_id is None:
            labels.rebuild(db)
            results.rebuild(db)
    return tuple(check.misfits)
