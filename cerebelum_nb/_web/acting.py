"""What a page may do to an execution. Each action opens the log itself; the connections that show pages never write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from .._engine.approvals import decide_approval
from .._engine.cancel import cancel_execution
from .._engine.signals import deliver
from .._engine.tagging import tag as change_tags
from .._store.sqlite import SqliteStore
from .._text.json_text import parse

if TYPE_CHECKING:
    from .logs import ShownLog

__all__ = [
    "Fields",
    "PrivateInput",
    "Runs",
    "actor_of",
    "cancel",
    "command_options",
    "decide",
    "read_fields",
    "signal",
    "tag",
    "wait_for_fork",
]

Fields = Mapping[str, Any]
"""The fields of a form or a JSON object: values under ``response``, ``data`` and ``inputs``, texts under others."""

_VIA = "via dashboard"
_VALUES = ("response", "data", "inputs")
_VERBS = {"run": "run", "resume": "resume", "fork": "fork", "rollback": "roll back"}
_START_SECONDS = 10.0
_MOST_OUTPUT = 4_000


def decide(log: ShownLog, execution_id: str, fields: Fields, who: str, *, approve: bool) -> None:
    """Approve or reject what a step asks for.

    Raises:
        ApprovalError: nothing waits for it any more; the message says who decided, and how.
    """
    with SqliteStore(log.path) as store:
        decide_approval(
            store,
            execution_id,
            approve=approve,
            response=fields.get("response") if approve else None,
            reason=fields.get("reason") or None,
            step=fields.get("step") or None,
            by=actor_of(fields, who),
        )


def signal(log: ShownLog, execution_id: str, fields: Fields, who: str) -> bool:
    """Send a signal; return False if one with the same ``signal_id`` was sent before.

    Raises:
        SignalError: the execution has ended.
        ValueError: the name is invalid.
    """
    with SqliteStore(log.path) as store:
        return deliver(
            store,
            execution_id,
            fields.get("name", ""),
            fields.get("data"),
            fields.get("signal_id") or None,
            actor_of(fields, who),
        )


def tag(log: ShownLog, execution_id: str, fields: Fields, who: str) -> tuple[str, ...]:
    """Add and remove tags, written ``+eu -test``; return the tags after that.

    Raises:
        ValueError: a tag is invalid, or both added and removed.
    """
    words = fields.get("change", "").replace(",", " ").split()
    removed = [word[1:] for word in words if word.startswith("-")]
    added = [word.removeprefix("+") for word in words if not word.startswith("-")]
    with SqliteStore(log.path) as store:
        return change_tags(store, execution_id, added, removed, actor_of(fields, who))


async def cancel(log: ShownLog, execution_id: str, fields: Fields, who: str) -> None:
    """Cancel an execution.

    Raises:
        ResumeError: it has ended already.
    """
    with SqliteStore(log.path) as store:
        await cancel_execution(store, execution_id, reason=fields.get("reason") or None, by=actor_of(fields, who))


def command_options(what: str, fields: Fields) -> list[str]:
    """Return the options of the command for a resume, a fork or a rollback.

    Raises:
        ValueError: the inputs are not names with values.
    """
    if what == "rollback":
        return [f"--to={fields['to']}"] if fields.get("to") else []
    if what != "fork":
        return []
    found = [f"--from={fields['step']}"] if fields.get("step") else []
    inputs = fields.get("inputs")
    if inputs is not None:
        if not isinstance(inputs, dict):
            raise ValueError('inputs must be a JSON object of names and values, such as {"size": "small"}')
        found.append(f"--inputs={json.dumps(inputs)}")
    return found


def read_fields(body: bytes, kind: str) -> Fields:
    """Read the fields that a form or a program sent.

    Args:
        body: the body of the request.
        kind: its content type. JSON must be an object; in a form, a value is JSON or else text.

    Raises:
        ValueError: the body is invalid, or a field that must be text is not.
    """
    if kind.partition(";")[0].strip().lower() != "application/json":
        form = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=1_000)
        return {name: _value(text.strip()) if name in _VALUES else text for name, text in form}
    found = parse(body.decode() or "{}")
    if not isinstance(found, dict):
        raise ValueError('the body must be a JSON object, such as {"reason": "tests are green"}')
    for name, value in found.items():
        if name not in _VALUES and not isinstance(value, str):
            raise ValueError(f"{name[:40]!r} must be text")
    return found


def _value(text: str) -> Any:
    """Read a value of a form: JSON, else the text itself; None if it is empty."""
    if not text:
        return None
    try:
        return parse(text)
    except ValueError:
        return text


def actor_of(fields: Fields, who: str) -> str:
    """Return the name of the person who acts, for the log."""
    name = (who or fields.get("by", "")).strip()[:100]
    return f"{name} {_VIA}" if name else _VIA.removeprefix("via ")


# -- processes that run workflows -----------------------------------------------------------------------------


@dataclass(frozen=True)
class PrivateInput:
    """Input of a process that no other user can see: its standard input and its environment."""

    typed: bytes = b""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    what: str
    code: int | None = None
    output: str = ""

    def wait(self, output: IO[bytes]) -> None:
        """Wait until the process has ended; if it failed, keep the end of its output."""
        with output:
            code = self.process.wait()
            if code:
                output.seek(max(0, output.seek(0, os.SEEK_END) - _MOST_OUTPUT))
                self.output = output.read().decode("utf-8", "replace").strip()
            self.code = code


class Runs:
    """The ``cerebelum`` processes that pages started; they outlive the dashboard.

    No code of a workflow ever runs in the process that serves pages.
    """

    def __init__(self) -> None:
        self._children: dict[tuple[str, str], _Child] = {}
        self._lock = threading.Lock()

    def start(
        self, log: ShownLog, execution_id: str, what: str, options: list[str], given: PrivateInput | None = None
    ) -> None:
        """Start a ``cerebelum`` command for an execution, unless the same resume or rollback is still running."""
        key, given = (log.name, execution_id), given or PrivateInput()
        with self._lock:
            child = self._children.get(key)
            if child is not None and child.process.poll() is None and child.what == what != "fork":
                return
            output = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the process has ended
            command = [sys.executable, "-m", "cerebelum_nb", what, f"--db={log.path}", *options]
            command += [f"--id={execution_id}"] if what == "run" else ["--", execution_id]
            with tempfile.TemporaryFile() as typed:
                typed.write(given.typed)
                typed.seek(0)
                process = subprocess.Popen(
                    command,
                    stdin=typed,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env={**os.environ, **given.environment},
                )
            child = self._children[key] = _Child(process, what)
        threading.Thread(target=child.wait, args=(output,), daemon=True, name="cerebelum-wait").start()

    def describe(self, log: ShownLog, execution_id: str) -> str:
        """Describe the last process for an execution; "" if there was none, or it has succeeded."""
        child = self._children.get((log.name, execution_id))
        if child is None:
            return ""
        what = _VERBS[child.what]
        if child.code is None:
            return f"A process ({child.process.pid}) has been started to {what} it."
        return (
            f"The process that was started to {what} it ended with code {child.code}:\n{child.output}"
            if child.code
            else ""
        )

    @staticmethod
    def is_recorded(log: ShownLog, execution_id: str) -> bool:
        """Whether the log has an execution of exactly this id."""
        with log.query() as db:
            found = db.execute("SELECT 1 FROM execution WHERE execution_id = ?", (execution_id,)).fetchone()
        return found is not None

    def wait_for_start(self, log: ShownLog, execution_id: str) -> str | None:
        """Wait until a new execution is recorded; return the reason if it failed, None if its code is still loading."""
        child = self._children[log.name, execution_id]
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            is_over = child.code is not None
            if self.is_recorded(log, execution_id):
                return None
            if is_over:
                return child.output or f"its process ended with code {child.code}"
            time.sleep(0.1)
        return None


def wait_for_fork(log: ShownLog, execution_id: str, since: int) -> str | None:
    """Wait for a fork of an execution that began after ``since``, µs, and return its id; None if there is none."""
    until = time.monotonic() + _START_SECONDS
    sql = "SELECT execution_id FROM execution WHERE parent = ? AND started_at >= ? ORDER BY key DESC LIMIT 1"
    while time.monotonic() < until:
        with log.query() as db:
            found = db.execute(sql, (execution_id, since)).fetchone()
        if found is not None:
            return str(found[0])
        time.sleep(0.1)
    return None
