"""``pack(..., for_tests=True)``: write an execution as a text file for the tests of its workflow.

The first line identifies the file. Then follows a line for each event and each value that is not JSON, so that changes
are readable in a review. Where the execution ran, who answered and what was printed is left out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from .._core.events import Event, StepPrinted, WorkflowStarted
from .._core.fold import fold
from .._core.value import ErrorInfo, Value
from .._store import rows
from .._text.json_text import parse
from ..errors import StoreError
from .record import Record

__all__ = ["NAMES", "SUFFIX", "History", "check", "lines", "read_history"]

SUFFIX = ".jsonl"

NAMES = ("api_key", "apikey", "authorization", "credentials", "password", "passwd", "secret", "token")
"""These are masked in every such file, because it is kept with the code."""

_FORMAT = "cerebelum_history"


class History:
    """An execution read from such a file: its events and their values."""

    def __init__(self, path: Path, execution_id: str, events: list[Event], payloads: list[Value]) -> None:
        self.path, self.execution_id, self.events, self.payloads = path, execution_id, events, payloads
        self.state = fold(events)


def lines(record: Record) -> Iterator[str]:
    """Yield the lines of the file."""
    events = list(_anonymous(list(rows.decode(row for row, _ in record.events))))
    yield _line({_FORMAT: 1, "execution_id": record.id, "workflow": fold(events).workflow})
    for version, (kind, step, visit, attempt, at, data) in enumerate(map(rows.encode, events), start=1):
        fields = {"version": version, "type": kind, "step": step, "visit": visit, "attempt": attempt, "at": at}
        head = json.dumps({name: value for name, value in fields.items() if value is not None}, ensure_ascii=False)
        yield head + "\n" if data is None else f'{head[:-1]}, "data": {data}}}\n'  # data is already JSON
    for digest, (codec, kept) in record.payloads.items():
        yield _line({"payload": digest, "codec": codec, "base64": base64.b64encode(kept).decode()})


def check(target: Path) -> None:
    """Raise StoreError if the target exists and is not such a file."""
    if target.is_file() and target.stat().st_size and not _is_history(target):
        raise StoreError(f"The file {target} exists and is not a test history. Name another one with -o.")


def read_history(path: Path) -> History:
    """Read a file.

    Raises:
        ValueError: it is not such a file, or is incomplete.
    """
    try:
        head, *rest = path.read_text(encoding="utf-8").splitlines()
        found = parse(head)
        if found.get(_FORMAT) != 1:
            raise ValueError
        stored: list[rows.Row] = []
        payloads: list[Value] = []
        for line in rest:
            fields = parse(line)
            if "payload" in fields:
                data = base64.b64decode(fields["base64"])
                payloads.append(Value(fields["codec"], digest=fields["payload"], payload=data, size=len(data)))
            else:
                stored.append(_row(fields, line))
        events = list(rows.decode(stored))
        if not events:
            raise ValueError
        return History(path, found["execution_id"], events, payloads)
    except OSError as error:
        raise ValueError(f"the history {path} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, StoreError) as error:
        raise ValueError(
            f"{path} is not a test history. Make one with `cerebelum pack --for-tests ID -o {path.name}`"
        ) from error


def _row(fields: dict[str, Any], line: str) -> rows.Row:
    data = line.partition(', "data": ')[2][:-1] if "data" in fields else None
    return fields["type"], fields.get("step"), fields.get("visit"), fields.get("attempt"), fields["at"], data


def _anonymous(events: list[Event]) -> Iterator[Event]:
    """Remove where the execution ran and who answered, also from the texts of errors."""
    people = {person for event in events if (person := getattr(event, "by", None))}
    for event in events:
        match event:
            case WorkflowStarted(source=source, origin=origin):
                yield replace(event, source=PurePath(source).name, origin=PurePath(origin).name)
            case StepPrinted():
                yield replace(event, text="")
            case _ if isinstance(error := getattr(event, "error", None), ErrorInfo):
                message = error.message
                for person in people:
                    message = message.replace(f" was rejected by {person}:", " was rejected:")
                yield replace(event, error=replace(error, message=message, traceback=""))  # type: ignore[arg-type]  # it has one
            case _:
                yield replace(event, by=None) if getattr(event, "by", None) else event  # type: ignore[arg-type]  # the events with this field accept None


def _is_history(target: Path) -> bool:
    with target.open("rb") as file:
        return _FORMAT.encode() in file.readline(200)


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
