"""The tables ``label`` and ``tag``: names and tags of executions, as SQL.

An execution with neither has no row in them. Triggers update ``tag`` with ``label`` (schema.py). Both hold when the
execution started, so that an index finds the newest with a name or tag, however many there are.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from .._core.labels import Labels
from .._core.summary import Summary

__all__ = ["Chosen", "are_tags", "chosen", "disagreements", "read", "rebuild", "tags_of", "write"]


def write(db: sqlite3.Connection, key: int, at: int, shown: Labels | Summary) -> None:
    """Replace the name and tags of the execution with this key; ``at`` is when it started, µs."""
    db.execute("DELETE FROM label WHERE execution = ?", (key,))
    if shown.name or shown.tags:
        row = key, at, shown.name or None, json.dumps(shown.tags, ensure_ascii=False)
        db.execute("INSERT INTO label (execution, at, name, tags) VALUES (?, ?, ?, ?)", row)


def read(db: sqlite3.Connection, key: int) -> Labels:
    """Read the name and the tags of the execution with this key."""
    found = db.execute("SELECT name, tags FROM label WHERE execution = ?", (key,)).fetchone()
    return Labels() if found is None else Labels(found[0] or "", tags_of(found[1]))


def tags_of(text: str | None) -> tuple[str, ...]:
    """Parse the column ``tags``."""
    return tuple(json.loads(text)) if text else ()


def are_tags(text: object) -> bool:
    """Whether the column ``tags`` can be parsed."""
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return False
    return found is None or (isinstance(found, list) and all(isinstance(tag, str) for tag in found))


def disagreements(db: sqlite3.Connection) -> list[str]:
    """Name the executions whose tags differ between the tables ``tag`` and ``label``; "" for a deleted execution."""
    wanted = """SELECT l.execution, l.at, t.value FROM label l, json_each(l.tags) t
        WHERE l.at = (SELECT x.started_at FROM execution x WHERE x.key = l.execution)"""
    kept = "SELECT execution, at, tag FROM tag"
    sql = f"""SELECT DISTINCT coalesce((SELECT x.execution_id FROM execution x WHERE x.key = d.execution), '') FROM (
        SELECT * FROM ({wanted} EXCEPT {kept}) UNION ALL SELECT * FROM ({kept} EXCEPT {wanted})) d"""
    return [name for (name,) in db.execute(sql)]


def rebuild(db: sqlite3.Connection) -> None:
    """Build the table ``tag`` again from ``label``."""
    db.execute("DELETE FROM label WHERE execution NOT IN (SELECT key FROM execution)")
    db.execute("UPDATE label SET at = (SELECT x.started_at FROM execution x WHERE x.key = execution)")
    db.execute("DELETE FROM tag")
    db.execute("INSERT INTO tag SELECT t.value, l.at, l.execution FROM label l, json_each(l.tags) t")


class Chosen(NamedTuple):
    """How to find executions by name or tags.

    ``source`` is the table to begin with, "" if there is no such condition; its columns ``execution`` and ``at`` give
    the order. ``terms`` are conditions, ``values`` their parameters.
    """

    source: str
    terms: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


def chosen(name: str | None, tags: Sequence[str]) -> Chosen:
    """Return how to find the executions with this name (``*`` stands for any characters) and all of these tags.

    Example:
        >>> chosen("nightly", ["eu"]).terms
        ('chosen.tag = ?', 'EXISTS (SELECT 1 FROM label n WHERE n.execution = chosen.execution AND n.name = ?)')
    """
    named, pattern = "{}.name = ?", name
    if name is not None and "*" in name:
        named, pattern = "{}.name GLOB ?", "".join(f"[{sign}]" if sign in "[?" else sign for sign in name)
    if not tags:
        return Chosen("") if name is None else Chosen("label", (named.format("chosen"),), (str(pattern),))
    first, *others = tags
    terms, values = ["chosen.tag = ?"], [first]
    for other in others:
        terms.append(
            "EXISTS (SELECT 1 FROM tag o WHERE o.tag = ? AND o.at = chosen.at AND o.execution = chosen.execution)"
        )
        values.append(other)
    if name is not None:
        which = named.format("n")
        terms.append(f"EXISTS (SELECT 1 FROM label n WHERE n.execution = chosen.execution AND {which})")
        values.append(str(pattern))
    return Chosen("tag", tuple(terms), tuple(values))
