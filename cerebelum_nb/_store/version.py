"""Whose database a file is, and of which version of the schema: two numbers in its header."""

from __future__ import annotations

import sqlite3

__all__ = ["APPLICATION_ID", "SCHEMA_VERSION", "versions"]

APPLICATION_ID = 0x43524242  # "CRBB", at byte 68 of the file
SCHEMA_VERSION = 10  # the number of the last migration in schema.py


def versions(connection: sqlite3.Connection) -> tuple[int, int]:
    """Read the application id and the schema version of a database."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application, version
