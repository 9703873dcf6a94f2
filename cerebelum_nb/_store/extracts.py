"""SQL that extracts a value or an error from an event's ``data``, whose layout rows.py defines.

The views of every log contain this text: changing it takes a migration.
"""

from __future__ import annotations

__all__ = ["ended_at", "error", "error_type", "iso", "item_in", "source", "step_in", "type_in", "value", "worker"]


def iso(micros: str) -> str:
    """Write a time, integer µs, as ISO 8601 in UTC. The text sorts as the times do."""
    seconds = f"strftime('%Y-%m-%dT%H:%M:%S', {micros} / 1000000, 'unixepoch')"
    return f"{seconds} || printf('.%06dZ', {micros} % 1000000)"


def value(data: str, name: str, *, otherwise: str = "") -> str:
    """Cut a value's JSON text out of an event unparsed, so that JSON which SQLite cannot parse (NaN) works too.

    Args:
        data: the column, such as ``e.data``.
        name: the value's field in the event.
        otherwise: for a value that is not JSON, the part of its description to take, such as ``".preview"``; by
            default all of it.
    """
    start, lead = f"instr({data}, '\"{name}\":')", len(name) + 3
    text = f"substr({data}, {start} + {lead}, length({data}) - {start} - {lead})"
    return f"CASE WHEN {start} THEN {text} ELSE json_extract({data}, '$.{name}_ref{otherwise}') END"


def error(data: str) -> str:
    """Write the error of an event as the reason that a step returned, else as ``type: message``."""
    return f"""CASE WHEN json_valid({data}) THEN coalesce(json_extract({data}, '$.error.reason'),
                   json_extract({data}, '$.error.type') || ': ' || json_extract({data}, '$.error.message')) END"""


def error_type(data: str) -> str:
    """Extract the type of an event's error, such as ``ValueError``."""
    return f"CASE WHEN json_valid({data}) THEN json_extract({data}, '$.error.type') END"


def ended_at(event: str) -> str:
    """Write when the attempt that ``event`` ended was over, µs: earlier than the event if its process had died."""
    died = f"{event}.type = 'StepInterrupted' AND json_valid({event}.data)"
    return f"coalesce(CASE WHEN {died} THEN json_extract({event}.data, '$.ended_at') END, {event}.at)"


def worker(data: str) -> str:
    """Extract the cluster worker that ran an attempt from the event that ended it; NULL if none did."""
    there = f"instr({data}, '\"worker\":') AND json_valid({data})"
    return f"CASE WHEN {there} THEN json_extract({data}, '$.worker') END"


def source(data: str) -> str:
    """Cut out the execution whose cached result an event used; NULL for a result that was computed."""
    there = f'substr({data}, 1, 8) = \'{{"key":"\' AND substr({data}, 42, 11) = \',"source":"\''
    return f"CASE WHEN {there} THEN substr({data}, 53, instr(substr({data}, 53), '\"') - 1) END"


def step_in(name: str) -> str:
    """Cut the step out of the name of an attempt: ``deploy`` of ``deploy[ams3]``, ``fetch`` of ``parse[a.html].fetch``.

    The compensation of a step keeps its ``~``: ``~fetch``.
    """
    undo = f"CASE WHEN substr({name}, 1, 1) = '~' THEN '~' ELSE '' END"
    last = f"CASE WHEN substr({name}, -1) = ']' THEN substr({name}, 1, instr({name}, '[') - 1) END"
    return (
        f"CASE WHEN instr({name}, '[') THEN coalesce({last}, {undo} || substr({name}, instr({name}, '].') + 2)) "
        f"ELSE {name} END"
    )


def item_in(name: str) -> str:
    """Cut the item's key out of the name of an attempt; NULL if it is not for an item."""
    return (
        f"CASE WHEN instr({name}, '[') "
        f"THEN substr({name}, instr({name}, '[') + 1, instr({name}, ']') - instr({name}, '[') - 1) END"
    )


def type_in(error: str) -> str:
    """Cut the type out of an error in the ``execution`` table, ``type: message``."""
    return f"CASE WHEN instr({error}, ': ') THEN substr({error}, 1, instr({error}, ': ') - 1) END"
