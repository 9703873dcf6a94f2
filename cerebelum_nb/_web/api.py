"""The JSON API: lists, statuses and events, with the field names of the status client."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from .._client.reading import status_of
from .._engine.clock import current_clock
from .._store.event_key import event_of
from .._text.json_text import parse
from .._text.times import timestamp
from .._workflow.schedule import schedule_to_dict
from .listing import Wanted, list_executions
from .names import from_path

if TYPE_CHECKING:
    from .logs import Logs

__all__ = ["Api"]

_LONGEST = 100_000
"""Characters of a value; a longer one is cut and returned as text. Its page has it whole."""
_EVENTS = 1_000


class Api:
    """Answers programs."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    def executions(self, request: Request) -> Response:
        """List executions, newest first; ``before`` asks for the next page."""
        log, wanted = self._logs.named(request.path_params["log"]), Wanted.of(request.query_params)
        found = list_executions(log, wanted)
        rows = [
            {
                "execution_id": entry.row.execution_id,
                "workflow_name": entry.row.summary.workflow,
                "name": entry.row.summary.name or None,
                "tags": entry.row.summary.tags,
                "status": entry.row.summary.state.value,
                "interrupted": entry.interrupted,
                "started_at": timestamp(entry.row.summary.started_at),
                "updated_at": timestamp(entry.row.summary.updated_at),
                "current_step_index": entry.row.summary.done_steps,
                "total_steps": entry.row.summary.total_steps,
                "current_step_name": entry.row.summary.current_step,
                "error": entry.row.summary.error,
            }
            for entry in found.entries
        ]
        return _json({"executions": rows, "before": found.before or None})

    def schedules(self, request: Request) -> Response:
        """List the schedules, as ``cerebelum schedule list --json`` does."""
        log = self._logs.named(request.path_params["log"])
        return _json({"schedules": [_bounded(schedule_to_dict(state)) for state in log.store.schedules()]})

    def execution(self, request: Request) -> Response:
        """Return an execution, as ``cerebelum status --json`` does, without unpickling anything."""
        log = self._logs.named(request.path_params["log"])
        row = log.store.execution(from_path(request.path_params["id"]))
        return _json(_bounded(status_of(log.store, row, current_clock.get().now()).to_dict()))

    def events(self, request: Request) -> Response:
        """Return up to a thousand events after a version, in order."""
        log = self._logs.named(request.path_params["log"])
        given = request.query_params.get("after", "0")
        if not (given.isascii() and given.isdecimal() and len(given) <= 15):
            raise ValueError(f"after must be the number of an event, not {given[:20]!r}")
        row, after = log.store.execution(from_path(request.path_params["id"])), int(given)
        sql = f"""SELECT e.version, type, step, visit, attempt, at, data
            FROM execution x JOIN event e ON {event_of("x.key", after=":after")} WHERE x.execution_id = :id
            ORDER BY e.key LIMIT :most"""
        with log.query() as db:
            found = db.execute(sql, {"id": row.execution_id, "after": after, "most": _EVENTS}).fetchall()
        events = [
            {
                "version": version,
                "type": type_,
                "step": step,
                "visit": visit,
                "attempt": attempt,
                "at": timestamp(at),
                "data": _data(data),
            }
            for version, type_, step, visit, attempt, at, data in found
        ]
        last = events[-1]["version"] if events else after
        return _json({"execution_id": row.execution_id, "events": events, "after": last, "total": row.version})


def _data(text: str | None) -> Any:
    if text is None:
        return None
    if len(text) > _LONGEST:
        return text[:_LONGEST]
    try:
        return parse(text)
    except ValueError:
        return text


def _bounded(data: Any, depth: int = 0) -> Any:
    """Cut what is too long or too deep, and replace numbers that JSON does not have by null."""
    match data:
        case dict() if depth < 100:
            return {str(name): _bounded(value, depth + 1) for name, value in data.items()}
        case list() if depth < 100:
            return [_bounded(value, depth + 1) for value in data]
        case float():
            return data if math.isfinite(data) else None
        case str():
            return data[:_LONGEST]
        case dict() | list():
            return "..."
        case _:
            return data


def _json(data: Any) -> Response:
    return Response(json.dumps(data, ensure_ascii=True), media_type="application/json")
