"""Which process holds which execution of a log: the ``holder`` table, and the leases in the ``execution`` table.

Nothing here waits for the disk: a power cut that undoes a lease or a heartbeat also ended the process that wrote it.
"""

from __future__ import annotations

import math
import os
import sqlite3
from typing import Any

from ..errors import ExecutionNotFoundError
from . import executions, refusals
from .base import ExecutionRow
from .connection import Durability, LogConnection
from .heartbeats import HeartbeatMonitor
from .holder import Holder, ProcessIdentity, Registration, is_registered, this_process

__all__ = ["SqliteLeases"]


class SqliteLeases(LogConnection):
    """The leases of a :class:`~.sqlite.SqliteStore`."""

    def __init__(
        self, path: str | os.PathLike[str], durability: Durability | None, trusted: bool | None, *, read_only: bool
    ) -> None:
        self.heartbeats = HeartbeatMonitor()
        self._registrations: dict[int, Registration] = {}
        super().__init__(path, durability, trusted, read_only=read_only)

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        super().close()
        self._registrations.clear()

    def _after_fork(self, *, in_child: bool) -> None:
        if in_child:
            self._registrations.clear()
        super()._after_fork(in_child=in_child)

    def _undo(self, db: sqlite3.Connection) -> None:
        for registration in self._registrations.values():
            registration.beat_at = -math.inf  # its heartbeat may be among what is rolled back
        super()._undo(db)

    def register(self, now: int, ttl: int, who: ProcessIdentity | None = None) -> int:
        """Record a holder (by default this process) and return its key."""
        registration = Registration(this_process() if who is None else who, ttl, self.location if self.path else "")
        with self._writing(synced=False) as db:
            self._clear_holders(db)
            key = self._insert_holder(db, None, registration, now, ttl)
        self._registrations[key] = registration
        return key

    def adopt(self, cluster: str, now: int) -> int:
        """Return the key of the holder that stands for a cluster."""
        who = ProcessIdentity(host=cluster, pid=0, boot_id="", started="")
        with self._writing(synced=False) as db:
            found = db.execute("SELECT key FROM holder WHERE host = ?", (cluster,)).fetchone()
            if found is not None:
                return int(found[0])
            return self._insert_holder(db, None, Registration(who), now, 0)

    def heartbeat(self, holder: int, now: int, ttl: int) -> None:
        """Record that ``holder``, registered by this store, is alive."""
        registration = self._registrations.get(holder)
        with self._writing(synced=False) as db:
            if not self._beat(db, holder, registration, now, ttl) and registration is not None:
                self._insert_holder(db, holder, registration, now, ttl)
            self._clear_holders(db)

    def _beat(self, db: sqlite3.Connection, holder: int, registration: Registration | None, now: int, ttl: int) -> bool:
        """Change the row of a holder, by which others see that it is alive; return False if it has none."""
        if registration is not None:
            registration.beat_at = self.heartbeats.monotonic()
        beat = "UPDATE holder SET beats = beats + 1, heartbeat_at = ?, expires_at = ? WHERE key = ?"
        return bool(db.execute(beat, (now, now + ttl, holder)).rowcount)

    def _insert_holder(
        self, db: sqlite3.Connection, key: int | None, registration: Registration, now: int, ttl: int
    ) -> int:
        who, registration.beat_at = registration.who, self.heartbeats.monotonic()
        made = db.execute(
            """INSERT INTO holder (key, host, pid, boot_id, started, heartbeat_at, expires_at, token)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
            (key, who.host, who.pid, who.boot_id, who.started, now, now + ttl, registration.token),
        )
        return int(made.lastrowid or 0)

    def _register_again(self, db: sqlite3.Connection, holder: int, now: int) -> None:
        """Show others that a holder is alive before it gets a lease.

        While it held nothing it did not beat: others may have deleted its row, or watched it for longer than a lease.
        """
        registration = self._registrations.get(holder)
        if registration is None:
            return
        if not db.execute("SELECT 1 FROM holder WHERE key = ?", (holder,)).fetchone():
            self._insert_holder(db, holder, registration, now, registration.ttl)
        elif registration.is_silent(self.heartbeats.monotonic()):
            self._beat(db, holder, registration, now, registration.ttl)

    def _clear_holders(self, db: sqlite3.Connection) -> None:
        """Delete the holders that are dead and hold nothing: nothing else would, and a log can outlive many."""
        looked_at = self.heartbeats.monotonic()
        idle = "SELECT * FROM holder WHERE NOT EXISTS (SELECT 1 FROM execution WHERE holder = holder.key)"
        for row in db.execute(idle).fetchall():
            if not self._left(row, looked_at):
                db.execute("DELETE FROM holder WHERE key = ?", row[:1])
                self.heartbeats.forget(row[0])

    def retire(self, holder: int) -> None:
        """Give back every lease of ``holder``."""
        with self._writing(synced=False) as db:
            db.execute("UPDATE execution SET holder = NULL WHERE holder = ?", (holder,))
            db.execute("DELETE FROM holder WHERE key = ?", (holder,))
        self._registrations.pop(holder, None)

    def claim(self, execution_id: str, holder: int, now: int) -> int | None:
        """Take the lease of an execution, unless another process holds it and is or may be alive."""
        looked_at = self.heartbeats.monotonic()
        with self._writing(synced=False) as db:
            found = self._row(db, execution_id)
            if found is None:
                raise self._not_found(db, execution_id)
            by = found.holder
            if by is not None and by.key != holder and (left := self._left_of(db, by.key, looked_at)):
                raise refusals.busy(execution_id, by, left, now)
            self._register_again(db, holder, now)
            db.execute("UPDATE execution SET holder = ? WHERE execution_id = ?", (holder, execution_id))
        return None if by is None or by.key == holder else by.heartbeat_at

    def release(self, execution_id: str, holder: int) -> None:
        """Give back one lease, if ``holder`` has it."""
        with self._writing(synced=False) as db:
            lease = (execution_id, holder)
            db.execute("UPDATE execution SET holder = NULL WHERE execution_id = ? AND holder = ?", lease)

    def holds(self, execution_id: str, holder: int) -> bool:
        """Whether ``holder`` has the lease of an execution now."""
        sql = "SELECT 1 FROM execution WHERE execution_id = ? AND holder = ?"
        with self._reading() as db:
            return db.execute(sql, (execution_id, holder)).fetchone() is not None

    def lease_left(self, holder: Holder) -> float:
        """Return for how many seconds the leases of ``holder`` must be respected."""
        looked_at = self.heartbeats.monotonic()
        with self._reading() as db:
            return self._left_of(db, holder.key, looked_at)

    def _left_of(self, db: sqlite3.Connection, key: int, looked_at: float) -> float:
        row = db.execute("SELECT * FROM holder WHERE key = ?", (key,)).fetchone()
        return 0.0 if row is None else self._left(row, looked_at)

    def _left(self, row: tuple[Any, ...], looked_at: float) -> float:
        """As :meth:`HeartbeatMonitor.left`; a log that is only read may lack the newer columns of a holder."""
        token = row[8] if len(row) > 8 and is_registered(row[8], self._identity) else ""
        return self.heartbeats.left(executions.to_holder(row[:7]), token, row, looked_at)

    def _row(self, db: sqlite3.Connection, execution_id: str) -> ExecutionRow | None:
        found = db.execute(f"{executions.SELECT} WHERE execution_id = ?", (execution_id,)).fetchone()
        return None if found is None else executions.to_row(found)

    def _not_found(self, db: sqlite3.Connection, execution_id: str) -> ExecutionNotFoundError:
        recent = db.execute(f"SELECT execution_id FROM execution ORDER BY {executions.STARTED} DESC LIMIT 500")
        return refusals.not_found(execution_id, [name for (name,) in recent])
