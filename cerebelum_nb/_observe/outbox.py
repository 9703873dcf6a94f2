"""What was sent and what is still to be sent: a small file next to the log, never in it.

Notifiers of one log share the file, so one of them sends each piece of news. It claims it first; a claim older than
five minutes belongs to a notifier that died.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from .._store.log_file import create_private
from ..errors import CerebelumError
from .news import News

__all__ = ["Due", "Outbox"]

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS news (
        execution_id TEXT NOT NULL, version INTEGER NOT NULL, kind TEXT NOT NULL, news TEXT NOT NULL,
        next_at INTEGER NOT NULL, tries INTEGER NOT NULL DEFAULT 0, reached TEXT NOT NULL DEFAULT '[]',
        claimed_at INTEGER, told_at INTEGER, PRIMARY KEY (execution_id, version, kind)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS untold ON news (next_at) WHERE told_at IS NULL",
    "CREATE TABLE IF NOT EXISTS setting (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
)
_CLAIM = 300_000_000
_GIVE_UP = 86_400_000_000
_LONGEST_PAUSE = 3_600_000_000
_FIRST_PAUSE = 30_000_000
_KEPT = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """News to be sent now; ``reached`` names the destinations that already have it."""

    news: News
    reached: frozenset[str]


class Outbox:
    """The file of one log's news; used by one thread at a time. Times are µs since the epoch.

    Raises:
        CerebelumError: the file cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        try:
            create_private(self.path)
            self._db = sqlite3.connect(self.path, timeout=10, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        try:
            with self._transaction():
                for statement in _SCHEMA:
                    self._db.execute(statement)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @property
    def seen(self) -> int | None:
        """The time up to which the log was followed; None if it was not followed yet."""
        with self._explain_errors():
            found = self._db.execute("SELECT value FROM setting WHERE name = 'seen'").fetchone()
        return None if found is None else int(found[0])

    @seen.setter
    def seen(self, at: int) -> None:
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO setting (name, value) VALUES ('seen', ?)", (at,))

    def add(self, news: Iterable[News], now: int) -> None:
        """Add news to send; known ones do not change."""
        rows = [(one.execution_id, one.version, one.kind, json.dumps(asdict(one)), now) for one in news]
        if not rows:
            return
        with self._transaction() as db:
            sql = "INSERT OR IGNORE INTO news (execution_id, version, kind, news, next_at) VALUES (?, ?, ?, ?, ?)"
            db.executemany(sql, rows)
            (count,) = db.execute("SELECT count(*) FROM news").fetchone()
            if count > 2 * _KEPT:
                db.execute(
                    """DELETE FROM news WHERE told_at IS NOT NULL AND told_at < (
                        SELECT told_at FROM news WHERE told_at IS NOT NULL ORDER BY told_at DESC LIMIT 1 OFFSET ?)""",
                    (_KEPT,),
                )

    def waiting(self, now: int) -> dict[str, int]:
        """Count the news to be sent now, by kind."""
        sql = f"SELECT kind, count(*) FROM news WHERE {_READY} GROUP BY kind"
        with self._explain_errors():
            return dict(self._db.execute(sql, (now, now - _CLAIM)).fetchall())

    def claim(self, kind: str, now: int, limit: int) -> list[Due]:
        """Take the news of one kind that are due, the oldest first; no other notifier sends them."""
        with self._transaction() as db:
            sql = f"""SELECT execution_id, version, news, reached FROM news WHERE {_READY} AND kind = ?
                ORDER BY next_at, execution_id, version LIMIT ?"""
            found = db.execute(sql, (now, now - _CLAIM, kind, limit)).fetchall()
            claim = "UPDATE news SET claimed_at = ? WHERE execution_id = ? AND version = ? AND kind = ?"
            db.executemany(claim, [(now, execution_id, version, kind) for execution_id, version, *_ in found])
        return [
            Due(news=News(**json.loads(news)), reached=frozenset(json.loads(reached))) for *_, news, reached in found
        ]

    def delivered(self, news: Sequence[News], now: int) -> None:
        """Record that every destination has received them."""
        with self._transaction() as db:
            sql = """UPDATE news SET told_at = ?, claimed_at = NULL
                WHERE execution_id = ? AND version = ? AND kind = ?"""
            db.executemany(sql, [(now, *_key(one)) for one in news])

    def failed(self, news: Sequence[News], reached: frozenset[str], now: int) -> bool:
        """Record that a destination could not be reached, to try again later; return False after a day."""
        again = False
        with self._transaction() as db:
            for one in news:
                where = "WHERE execution_id = ? AND version = ? AND kind = ?"
                (tries,) = db.execute(f"SELECT tries FROM news {where}", _key(one)).fetchone()
                pause = min(_FIRST_PAUSE * 2 ** min(tries, 20), _LONGEST_PAUSE)
                over = now - one.at > _GIVE_UP and tries >= 3
                again = again or not over
                sql = f"""UPDATE news SET tries = tries + 1, next_at = ?, claimed_at = NULL, reached = ?, told_at = ?
                    {where}"""
                db.execute(sql, (now + pause, json.dumps(sorted(reached)), now if over else None, *_key(one)))
        return again

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._explain_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> CerebelumError:
        return CerebelumError(
            f"what was sent cannot be recorded in {self.path} ({error}): make its folder writable, or delete the file "
            "if it is damaged"
        )


_READY = "told_at IS NULL AND next_at <= ? AND (claimed_at IS NULL OR claimed_at < ?)"


def _key(news: News) -> tuple[str, int, str]:
    return news.execution_id, news.version, news.kind
