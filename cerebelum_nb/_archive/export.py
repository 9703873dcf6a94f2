"""``export``: write an execution as a document or a table, for people and programs without the log."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from .._client.reading import status_from_row
from .._engine.clock import current_clock
from .._engine.plan_payloads import parts_kept
from .._history.sources import Log, snapshot
from .._store.event_key import event_at
from .._store.rows import decode
from .._store.sqlite import SqliteStore
from ..errors import StoreError
from .files import check_export, file_log, file_name, write_file
from .record import read

__all__ = ["FORMATS", "Format", "Table", "export", "exported"]

Format = Literal["html", "jsonl", "csv", "parquet"]
Table = Literal["steps", "events"]
FORMATS: tuple[Format, ...] = ("html", "jsonl", "csv", "parquet")


def export(
    execution_id: str,
    path: str | os.PathLike[str] | None = None,
    *,
    format: Format | None = None,  # noqa: A002  # the option's name
    table: Table = "steps",
    store: Log | None = None,
) -> Path:
    """Write an execution to a file that needs no log.

    - ``html``: a runbook on one page: graph, steps with their attempts and errors, values, output, code, events.
    - ``jsonl``: every event, one JSON object per line, with its hash; nothing is left out.
    - ``csv``, ``parquet``: one row per attempt of a step, or per event.

    Secrets are masked, as in the log. Values that are not JSON are shown as previews; `pack` includes them.

    Args:
        execution_id: the execution; its id may be shortened.
        path: the file; an earlier export is overwritten, any other file is refused. By default the id with the
            format's ending, in the working directory.
        format: the format; by default the extension of the file, else html.
        table: ``"steps"`` or ``"events"``, for csv and parquet.
        store: the log, or its path; by default the session's.

    Returns:
        The file.

    Raises:
        ExecutionNotFoundError: there is no such execution.
        ValueError: there is no such format or table.
        ImportError: parquet needs pyarrow: ``pip install 'cerebelum_nb[arrow]'``.
        StoreError: the log cannot be read, or the file cannot be written.

    Example:
        >>> log = connect("example.db")
        >>> run = release.run(execution_id="exported-1")
        >>> archive.export("exported-1", "report.html")
        PosixPath('report.html')
    """
    ending = Path(path).suffix.removeprefix(".") if path is not None else ""
    named: Format = next((known for known in FORMATS if known == ending), "html")
    chosen = format or named
    with file_log(store) as log:
        full = log.execution(execution_id).execution_id
        target = Path(path) if path is not None else Path(f"{file_name(full)}.{chosen}")
        try:
            check_export(target)
            write_file(target, exported(log, full, chosen, table), log)
        except OSError as exc:
            raise StoreError(f"The file {target} cannot be written ({exc.strerror}). Name another one.") from exc
    return target


def exported(log: SqliteStore, execution_id: str, format: Format, table: Table = "steps") -> bytes:  # noqa: A002
    """Return the content that `export` writes; the id must be complete."""
    if format not in FORMATS:
        raise ValueError(f"there is no format {format!r}. Available: {', '.join(FORMATS)}")
    if table not in ("steps", "events"):
        raise ValueError(f"there is no table {table!r}. There are: steps, events")
    match format:
        case "html":
            return _html(log, execution_id).encode("utf-8", "backslashreplace")
        case "jsonl":
            return "".join(_lines(log, execution_id)).encode()
        case "csv":
            return _csv(log, execution_id, table).encode()
        case "parquet":
            return _parquet(log, execution_id, table)


def _html(log: SqliteStore, execution_id: str) -> str:
    from .._views.watch import Reading
    from .runbook import Source, runbook

    with snapshot(log) as db:
        record = read(db, execution_id)
    rows = [stored for stored, _ in record.events]
    events = decode(rows)
    row = log.execution(execution_id)
    codes = {code for event in events if (code := getattr(event, "code", None)) is not None}
    return runbook(
        Source(
            row=row,
            card=Reading(log, execution_id).look(),
            events=events,
            rows=rows,
            code={code: parts for code in codes if (parts := parts_kept(log, code)) is not None},
            head=record.events[-1][1].hex(),
            interrupted=status_from_row(log, row, current_clock.get().now()).interrupted,
            made_at=datetime.now(UTC),
            version=version("cerebelum_nb"),
        )
    )


def _lines(log: SqliteStore, execution_id: str) -> Iterator[str]:
    columns = ("execution_id", "version", "type", "step", "visit", "attempt", "at")
    sql = f"""SELECT {", ".join(f"e.{name}" for name in columns)}, e.data, hex(h.hash)
        FROM events e JOIN execution x ON x.execution_id = e.execution_id
        JOIN event h ON {event_at("x.key", "e.version", "h")}
        WHERE e.execution_id = ? ORDER BY e.version"""
    with snapshot(log) as db:
        for *header, data, hashed in db.execute(sql, (execution_id,)):
            fields = json.dumps(dict(zip(columns, header, strict=True)), ensure_ascii=False)
            yield f'{fields[:-1]}, "data": {data}, "hash": "{hashed.lower()}"}}\n'  # data is already JSON


def _csv(log: SqliteStore, execution_id: str, table: Table) -> str:
    text = io.StringIO()
    with snapshot(log) as db:
        found = db.execute(f"SELECT * FROM {table} WHERE execution_id = ?", (execution_id,))
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(column[0] for column in found.description)
        writer.writerows([_escape_formula(cell) for cell in row] for row in found)
    return text.getvalue()


def _escape_formula(cell: object) -> object:
    """Put a quote before text that a spreadsheet would take for a formula; numbers stay numbers."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def _parquet(log: SqliteStore, execution_id: str, table: Table) -> bytes:
    if find_spec("pyarrow") is None:  # the error of pandas names other packages
        raise ImportError("parquet files are written by pyarrow: pip install 'cerebelum_nb[arrow]'")
    from .._history import tables

    frame = tables.steps(execution_id, store=log) if table == "steps" else tables.events(execution_id, store=log)
    data = io.BytesIO()
    frame.to_parquet(data, engine="pyarrow", index=False)
    return data.getvalue()
